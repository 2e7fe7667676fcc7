// Package gatewayagent runs on a gateway's machine and makes the gateway what the
// Gateway, VPC and Subnet objects of its cluster's API server say.
//
//	API server: Gateways, VPCs, Subnets, Nodes ── watch ──▶ network.Compile ── Apply ──▶ gateway (unix socket)
//	            their status                    ◀── update ──────────┴────────── Status ── gateway
//
// It is a process of its own beside the gateway, which so links no Kubernetes client,
// and runs on with the last word when this one, or the API server, is gone: what was
// applied is in the gateway's configuration file. It is not part of the cluster's
// agent, which may run on any node, while the gateway's socket is on one machine.
//
// Private keys stay with the gateway: this process does not read them.
//
// All gateways of a cluster compile the same; the active one writes status, and every
// one who it is itself. Every status is written on the version that was read. Numbers of
// VPCs come from the cluster's agent. One goroutine does everything, for all objects at
// once.
package gatewayagent

// What it may do, see k8s/manifests/rbac/gateway.yaml: read these kinds and nodes,
// write their status.
