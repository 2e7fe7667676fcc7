// Package relay moves packets between the ports of a gateway: what a site
// sends to another site is taken out of its overlay, sealed with WireGuard and
// sent over the WAN; what a peer sends is opened, checked and delivered.
//
// The files follow the packet.
//
// Out, from the site to the WAN: worker.go receives a batch; classify.go looks
// at the outside and knows the attachment by port, UDP port and VNI; decap.go
// takes the overlay off (arpnd.go answers what asks for the gateway itself);
// lookup.go looks the destinations of the whole batch up in their VPCs, picks
// peers by flow hash, asks policy.go whether the VPC lets the packet pass (acl.go), finishes unfinished checksums and lowers the TTL; encap.go
// holds the length against the path's MTU and writes the format between
// gateways; seal.go encrypts the whole batch in place and puts the outer headers
// in front; send.go hands it to the port.
//
// In, from the WAN to the site: classify.go tells tunnel data from handshakes;
// open.go decrypts the batch in place and finds the VPC; lookup.go as above, and
// asks open.go whether this peer may be the source of that address in that VPC;
// deliver.go puts the packet into its attachment's format; send.go.
//
// paths.go sends over another path than the one in use; through.go carries messages inside the
// tunnel of a peer between, and passes on those of others.
//
// What the host's own kernel says to peers, and they to it, is in kernel.go.
//
// Packets that control code makes for a peer, and what peers send to our tunnel
// addresses, are in control.go.
//
// A peer without encryption gets what others get inside WireGuard as it is:
// direct.go takes the place of seal.go and open.go.
//
// Where a site is known by other addresses than its own, translate.go rewrites
// them: right after decap or open, and right before encap.
//
// A packet that cannot go on yet, for want of a session or a neighbour, waits
// in park.go and comes back to lookup.go. ICMP errors (icmp.go) are written over
// the packet they complain about, and travel like any other.
//
// What it is not: it programs no NIC, reads no configuration, and speaks no
// routing protocol. It cuts IPv4 packets that may be cut (fragment.go), and puts none
// together: tunnel packets that came in fragments the kernel has put together, and
// they enter through arrival.go, as if the port had received them whole.
//
// One goroutine per worker, on a locked thread, runs everything to completion;
// workers share nothing but the immutable state that Update publishes, the
// WireGuard Device and the neighbour source. A worker owns its queues and the
// pool of its UMEM: a frame comes out of a receive ring or the pool, is at one
// worker, and leaves to a transmit ring or back to the pool. Every packet ends in
// exactly one Verdict.
//
//	r, err := relay.New(relay.Options{Device: device, Neighbours: kernel, UMEMs: []*afxdp.UMEM{umem}})
//	err = r.SetQueues(0, []relay.PortQueue{{Ifindex: 2, Queue: site}, {Ifindex: 3, Queue: wan}})
//	err = r.Update(&snapshot)
//	err = r.Run(ctx)
package relay
