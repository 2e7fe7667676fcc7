// Package routing speaks BGP with the routers of a site and with other gateways, by GoBGP in process: it learns which
// prefixes the site has and which the others have, and tells each side of the other.
//
// It is not a forwarding table and knows nothing of packets: the gateway takes the routes in force from it (Router.Take)
// and compiles them into what workers read. GoBGP's types never leave the package.
//
// Each port with neighbours has a Speaker of its own, one GoBGP server whose sockets are bound to that interface: VPCs
// cannot see each other's sessions, also where their addresses are the same. What neighbours send is kept as it came
// (by VPC, prefix and neighbour); import policy, what a site may not announce, and the choice of the best paths are pure
// functions over that, so a change of policy needs no new session, and `sluice bgp` can say of every route why it is or
// is not in force. GoBGP's own table holds only what we announce; export policy is its policy engine, told in its words.
//
// The gateways are behind a Port of their own, the TUN device, with EVPN routes of all VPCs (evpn.go). What is told to
// one side of the other follows what was taken (Pass).
//
// All methods may be called from any goroutine. Callbacks run on goroutines of the package's own and must not block.
//
//	r := routing.New(routing.Options{OnChange: wake})
//	err := r.Set(ctx, routing.Config{ASN: 65001, ...}) // again with every change; what stays the same is not touched
//	for vpc, changes := range r.Take() { ... }         // after OnChange
//	err = r.Pass()                                     // after Take
package routing
