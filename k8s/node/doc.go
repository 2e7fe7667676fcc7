// Package node brings the pods of an ordinary Kubernetes node to their cluster's
// gateway, and to nothing else: what they send to other clusters' Subnets goes there
// in VXLAN, with the pod's own address as its source.
//
//	API server: Gateway, VPCs, Subnets, this Node ─ watch ─▶ Plan ─▶ kernel: VXLAN link, routes in a table of ours,
//	kernel: addresses, links ────────────── watch ─────────────┘     a rule, an nftables table
//	kernel: whatever of it others change or delete ─ watch ──▶ repaired
//
// Plan is a pure function, with golden files. The Kernel finds out what differs, and
// changes that. It touches nothing that is not its own: VXLAN links of the name sluice and
// a number, the routing table of its number with the rules that lead there, and its
// nftables table; Remove removes all of that. What the kernel was told stays when the
// process ends, and goes on forwarding.
//
// It fails closed: each remote prefix has, beside the route to the gateway, one that
// refuses, so that no packet for another cluster leaves in the clear by the default route
// while there is no gateway or somebody has deleted the link.
//
// One goroutine plans and applies; two others only wake it.
package node
