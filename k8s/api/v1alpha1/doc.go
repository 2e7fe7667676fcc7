// Package v1alpha1 is Sluice's Kubernetes API, group sluice.dev: what a person
// writes (Mission, EdgeCluster, Gateway, VPC, Subnet; cluster-scoped), and what a
// child cluster tells its parent (MissionReport, ClusterReport; in one namespace
// per child at the parent).
//
// It holds types, names and nothing that acts. The schemas, the rules in CEL and
// the deep copies are generated from the comments here by `make generate`; all
// types are values of whoever made them.
//
// +kubebuilder:object:generate=true
// +groupName=sluice.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

//go:generate go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.23.0 object paths=. crd output:crd:dir=../../manifests/crd

// GroupVersion is the group and version of all types here.
var GroupVersion = schema.GroupVersion{Group: "sluice.dev", Version: "v1alpha1"}

// AddToScheme makes the types known to a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&Mission{}, &MissionList{},
		&EdgeCluster{}, &EdgeClusterList{},
		&Gateway{}, &GatewayList{},
		&VPC{}, &VPCList{},
		&Subnet{}, &SubnetList{},
		&MissionReport{}, &MissionReportList{},
		&ClusterReport{}, &ClusterReportList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
