// Package gateway assembles one instance of Sluice: it is the only package that knows all the others.
//
// One goroutine (Run's) owns everything that changes: it compares what the configuration wants with what is there and
// mends the difference (reconcile). Whatever happens - a reload, an interface that comes or goes, an address, a name
// that resolves to a new endpoint - ends in the same call, so there is one way to reach a state and not one per event.
//
//	configuration + links ──compile──▶ relay.Snapshot (what workers forward by)
//	                                └▶ xdp.State      (what the XDP program picks out)
//
// The API reads an immutable view that reconcile publishes, and counters where they are; it never waits for the
// assembly.
//
//	gw, err := gateway.New(gateway.Options{ConfigPath: "/etc/sluice/sluice.yaml"})
//	if err != nil { ... }
//	err = gw.Run(ctx) // until ctx ends; everything is detached when it returns
package gateway
