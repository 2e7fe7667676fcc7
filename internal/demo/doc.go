// Package demo is `sluice demo`: two sites and a WAN made of network
// namespaces, two gateways at each that run the real program, real traffic, and a
// table of checks.
//
//	site oslo                                                  site bergen
//	node1 ─┐                                                      ┌─ node1
//	       ├─ switch ─ gateway 1 ═══ WAN router ═══ gateway 1 ─ switch
//	node2 ─┘            /          ║          ║          \         └─ node2
//	     host ─ router ─ gateway 2 ═╝          ╚═ gateway 2 ─ router ─ host
//
// Oslo's nodes are kernel VXLAN devices, bergen's are Open vSwitch with Geneve.
// Every node carries a pod of VPC red and a pod of VPC blue, with the same
// addresses in both VPCs. Red's VNI at bergen is blue's VNI at oslo, so that a
// gateway that forgets to translate hands packets to the wrong tenant. The hosts
// have no overlay and are in the default VPC. They are behind routers, FRR at oslo and
// BIRD at bergen, which learn by BGP from both gateways where the other site is, tell
// them where the host is, and share flows between them. Under traffic one gateway is
// drained, which loses nothing, and one is killed, and the table shows what that cost.
//
// The package is not a benchmark: the throughput that it shows is what this
// machine does while it also runs the pods, the nodes and a capture of the WAN.
// It changes nothing outside of its own namespaces and folder, and removes both.
//
//	err := demo.Run(ctx, demo.Options{Out: os.Stdout})
//
// Run may be called once at a time.
package demo
