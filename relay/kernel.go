package relay

import (
	"net/netip"
)

// The kernel of the host has an address inside the tunnels, by a port whose
// queues lead to a TUN device (Snapshot.TunPort). What a peer sends to our tunnel
// address goes to the kernel, where neither the Geneve of a VPC nor an echo
// request is meant: those the relay sees to itself. What the kernel sends goes to
// the peer whose tunnel address it is for. All of it is the default VPC's plain
// format, of no VPC, and asks no route.

// kernelPort is the port of queues that lead to the kernel: what they carry is
// bare IP packets.
const kernelPort = -2

// bindKernel finds the queue that leads to the kernel.
func (w *worker) bindKernel() {
	w.kernel = -1
	if w.state.tun == 0 {
		return
	}
	if slot := w.slotOf(w.state.tun); slot >= 0 {
		w.queues[slot].port, w.kernel = kernelPort, int32(slot)
	}
}

// toHost takes what a peer has sent to our tunnel address and the relay does not
// speak. The source is one of the peer's tunnel addresses.
func (w *worker) toHost(f *frame) {
	if w.kernel < 0 {
		w.gateway(f)
		return
	}
	f.vpc = -1
	if len(w.taps) > 0 {
		w.tapInner(f)
	}
	w.send(f, w.kernel, ToKernel)
}

// fromHost takes a packet that the kernel has sent.
func (w *worker) fromHost(f *frame) {
	f.origin = fromKernel
	b := f.data()
	if len(b) == 0 {
		w.drop(f, BadInnerIP)
		return
	}
	if v := parseInner(f, etherTypeOf(b[0]>>4)); v != pending {
		w.drop(f, v)
		return
	}
	f.end = f.off + f.ip.Len
	if len(w.taps) > 0 {
		w.tapInner(f)
	}
	src, dst := f.ip.Src(b), f.ip.Dst(b)
	peer, known := w.state.tunnelPeers[dst]
	switch {
	case unroutable(f.ip.Version, b): // neighbour discovery, multicast DNS: a kernel tries on any link
		w.drop(f, Multicast)
	case src != w.state.tunnel4 && src != w.state.tunnel6:
		w.drop(f, TunnelMismatch) // the peer would not take it
	case !known:
		w.unreachable(f, NoRoute)
	default:
		w.toPeer(f, peer)
	}
}

// tellKernel sends an ICMP error about a packet of the kernel's back to it.
func (w *worker) tellKernel(f *frame) {
	if w.kernel < 0 {
		w.drop(f, NoPort)
		return
	}
	f.vpc = -1
	w.send(f, w.kernel, Originated)
}

// tunnelOwners is who has which tunnel address.
func tunnelOwners(peers []peerState) map[netip.Addr]uint32 {
	owners := make(map[netip.Addr]uint32)
	for id := range peers {
		for _, a := range []netip.Addr{peers[id].tunnel4, peers[id].tunnel6} {
			if a.IsValid() {
				owners[a] = uint32(id)
			}
		}
	}
	return owners
}
