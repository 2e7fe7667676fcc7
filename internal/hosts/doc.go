// Package hosts is where the hosts of overlay attachments are: for an inner address the VTEP that holds it and the MAC
// address it has there, learned from what the nodes send, found by asking them (ARP, neighbour discovery), and followed
// when it moves.
//
// It is not a forwarding table: which attachment an address belongs to is a route's business (internal/fib), and hosts
// that the configuration places are deliveries of the relay. It parses no packets: workers tell what they have seen.
//
// # Whom it believes
//
// An overlay has no authentication: the network between the nodes is trusted, what pods write into packets is not. A
// claim counts only for an address that the attachment's prefixes hold, and only from a VTEP of the attachment. A host
// that is known stays where it is for as long as it answers there: when another place claims its address the old one is
// asked first, and the move happens only when that has been silent for claimWait. So a pod that lies about its address
// can take that of a host that is gone, not that of one that is alive. An address that moves flapMoves times within
// flapWindow stays put for flapHold. The table is bounded for each VPC, and when it is full a VTEP that holds much
// makes room for one that holds little.
//
// # Threads
//
// Workers call Table, Saw and Ask: these never block, and may forget what they are told; whoever has not got what he
// needs calls again. Everything else happens in Run's goroutine under one lock, which only the other methods share.
// Tables are immutable; entries are too, but for their marks of time.
//
//	l := hosts.New(hosts.Options{Clock: device.Clock, Send: relay.SendQuestion, OnChange: relay.Wake})
//	l.SetAttachments(attachments)
//	go l.Run(ctx)
//	if e := l.Table().Lookup(key); e == nil {
//		l.Ask(key) // and park the packet
//	}
package hosts
