// Package tun is the port between the relay and the kernel of the host: a TUN
// device with the gateway's addresses inside the tunnels. What the kernel sends
// to a peer's tunnel address comes out of the device as an IP packet, and what
// peers send to ours goes in.
//
// It is not a fast path: it is there for BGP, for scraping, for ping and ssh.
// Packets are copied between the relay's frames and two rings, on whose other
// sides goroutines read and write the device, because a write runs the kernel's
// whole receive path and may take its time. A full ring towards the kernel loses
// packets, as a NIC's does; a full ring towards the relay makes the reader wait,
// and the kernel's queue in front of the device fills.
//
// The library splits what the kernel hands over in one piece (TSO, USO) and
// finishes checksums, so every packet in the ring is complete.
//
// Open makes the device, Configure gives it addresses and routes and may be
// called again with others. Queue i belongs to worker i, who alone calls its
// methods; those of Port may be called from any goroutine. The device exists for
// as long as the port is open, and goes with the process.
//
//	p, err := tun.Open(tun.Options{Name: "sluice0", MTU: 1420, UMEMs: umems, Notify: r.Wake})
//	err = p.Configure(tun.Addresses{Own: own, Peers: peers})
//	err = r.SetQueues(0, []relay.PortQueue{{Ifindex: p.Ifindex(), Queue: p.Queue(0)}})
package tun
