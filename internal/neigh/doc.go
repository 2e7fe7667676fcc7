// Package neigh is what the kernel knows about getting a packet out of the host: for an outer destination the egress
// interface, the addresses of both ends (IP and MAC) and the MTU; and what interfaces there are.
//
// It is not a routing daemon and sends no ARP or neighbour discovery itself: the kernel has the routes and does the
// asking, this package reads its answers over netlink and follows them as they change.
//
// Tables, entries and links are immutable; readers keep them as long as they like. Lookup, Use, Table, Links and Resolve
// may be called from any goroutine and never block. Everything else happens in the goroutine of Kernel.Run.
//
//	k, err := neigh.Watch(neigh.Options{OnChange: relay.Wake})
//	go k.Run(ctx)
//	key := neigh.Key{Dst: netip.MustParseAddr("198.51.100.2")}
//	if e := k.Table().Lookup(key); e == nil || e.State != neigh.Resolved {
//		k.Resolve(key) // and park or drop the packet
//	} else {
//		e.Use()
//	}
package neigh
