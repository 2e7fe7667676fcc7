// Package agent is what runs in every cluster of a tree. It has two sides.
//
// Towards the children it folds their reports into the status of Missions and
// EdgeClusters of this cluster, notices who is not heard of any more, and gives each
// child its namespace and permissions. The root has only this side.
//
// Towards the parent, whose API server it dials, it mirrors Missions into this
// cluster's own API server and reports up. What a Mission brings into this cluster
// is applied from the copy alone, so the parent may be away for any time.
//
//	parent's API server            this cluster's API server           children
//	  Missions ───── mirror ─────────▶ Missions ◀──────── mirror ──────── …
//	                                     │  ▲
//	                                 content  missions (fold)
//	                                     ▼  │
//	                                  objects   MissionReports ◀─ reporter ─ …
//	  MissionReports ◀── reporter ──── Missions' status
//	  ClusterReport  ◀── heartbeat ─── nodes, EdgeClusters, Gateways of here and below
//	  Gateways, VPCs, Subnets ─ copies ▶ the same ◀── gateways, numbers (what is said below; VNIs)
//
// Each of these is a file. All state is in API servers: an agent that is killed at
// any moment and started again goes on. One agent runs per cluster; two at once
// would only do everything twice.
//
// Everything that is written is written by server-side apply, each writer under a
// name of its own, so writers need not read first and cannot undo each other's work.
package agent

// What the agent may do in its own cluster, beside what Missions bring (that is up
// to whoever runs it, see docs/missions.md):
//
// +kubebuilder:rbac:groups=sluice.dev,resources=missions,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=sluice.dev,resources=missions/status,verbs=patch
// +kubebuilder:rbac:groups=sluice.dev,resources=gateways;vpcs;subnets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=sluice.dev,resources=gateways/status;vpcs/status,verbs=patch
// +kubebuilder:rbac:groups=sluice.dev,resources=edgeclusters,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=sluice.dev,resources=edgeclusters/status;clusterreports/status,verbs=patch
// +kubebuilder:rbac:groups=sluice.dev,resources=missionreports;clusterreports,verbs=get;list;watch;deletecollection
// +kubebuilder:rbac:groups="",resources=nodes,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=configmaps,namespace=sluice-system,verbs=get;create;patch
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=rolebindings,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=clusterroles,resourceNames="sluice:child-reports",verbs=bind
// +kubebuilder:rbac:groups="",resources=serviceaccounts,namespace=sluice-invitations,verbs=get;delete
// +kubebuilder:rbac:groups=certificates.k8s.io,resources=certificatesigningrequests,verbs=get;list;watch
// +kubebuilder:rbac:groups=certificates.k8s.io,resources=certificatesigningrequests/approval,verbs=update
// +kubebuilder:rbac:groups=certificates.k8s.io,resources=signers,resourceNames="kubernetes.io/kube-apiserver-client",verbs=approve

//go:generate go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.23.0 rbac:roleName=sluice:agent paths=. output:rbac:dir=../manifests/rbac
