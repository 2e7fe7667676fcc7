package relay

import (
	"net/netip"

	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/internal/packet"
)

// A direct peer is spoken to in the clear: what goes to it is the Geneve that other
// peers get inside WireGuard, in UDP between the gateways' own addresses, for every
// VPC, the default one with VNI 0. Its address is all that tells it from a stranger;
// what it may send is the business of admit, as with any peer.
//
// A peer is direct because it has no WireGuard half, and compile refuses one that
// has both: a packet for a peer with a key cannot come here.

// exists says that the peer is no hole.
func (p *peerState) exists() bool { return p.wireguard != nil || p.direct.IsValid() }

// directIn takes the UDP payload of a packet to the port of direct peers.
func (w *worker) directIn(f *frame, outer []byte) {
	id, ok := w.state.directs[f.ip.Src(outer)]
	if !ok {
		w.drop(f, DirectStranger)
		return
	}
	f.origin, f.peer = fromPeer, id
	if w.geneveFromPeer(f) {
		w.meters.add(w.state.peers[id].received, f.ip.Len)
		w.inner(f)
	}
}

// encapDirect puts an inner packet into Geneve and the outer headers, and sends it.
func (w *worker) encapDirect(f *frame, id uint32, adj *adjacency, back int) {
	peer := &w.state.peers[id]
	limit := adj.limit - f.optsLen
	if w.trace != nil {
		w.trace.encapDirect(f, peer, limit)
	}
	if back != noSYN {
		w.clampMSS(f, limit, back, peer.mss)
	}
	if f.ip.Len > limit {
		w.tooLong(f, limit, fib.NextHop{Kind: fib.Remote, ID: id})
		return
	}
	if !f.room(adj.headers.len + f.optsLen) {
		w.drop(f, NoRoom)
		return
	}
	carryOptions(f, f.off)
	f.off -= f.optsLen
	if w.state.shaped && !w.shape(f, peer, adj, 0) {
		return
	}
	v := ToDirect
	if f.origin == fromRelay {
		v = Originated
	} else {
		w.vpcCount(f).toPeer(f.ip.Len)
		w.routeCount(f)
	}
	w.meters.add(peer.sent, f.ip.Len)
	f.off -= adj.headers.len
	b := f.data()
	adj.headers.put(b, f.ip.TOS, f.flow, 0, nil)
	packet.PutGeneve(b[adj.headers.len-packet.GeneveLen:adj.headers.len], etherTypeOf(f.ip.Version), peer.remoteVNI(w.state.vpcs[f.vpc].vni), f.optsLen, f.critical)
	w.sendingToPeer = true
	w.send(f, adj.slot, v)
	w.sendingToPeer = false
}

// buildDirect makes a the way to a direct peer. The source address is the kernel's
// choice for the route; the peer must know us by it. There is no UDP checksum, in
// IPv6 neither: both ends are ours and agree (RFC 6935, and RFC 6936 section 4: the inner
// packet has sums of its own, and a Geneve header that is damaged on the way leads to a VPC
// that the packet's addresses do not fit, or to none).
func (w *worker) buildDirect(a *adjacency, to netip.AddrPort) {
	w.build(a, neigh.Key{Dst: to.Addr()})
	if a.state != ready {
		return
	}
	w.tunnelHeaders(a, netip.Addr{}, to.Addr(), 0, to.Port())
	a.headers.checksum = false
	a.headers.entropy()
	a.headers.add(packet.GeneveLen)
	a.limit -= packet.GeneveLen
}

// direct takes in a peer that is spoken to in the clear.
func (c *compiler) direct(id uint32, p *Peer, ps *peerState) {
	to := netip.AddrPortFrom(p.Direct.Addr().Unmap().WithZone(""), p.Direct.Port())
	switch {
	case p.WireGuard != nil:
		c.problem("peer %s: is both encrypted and direct", p.Name)
		return
	case to.Port() == 0 || to.Addr().IsUnspecified() || to.Addr().IsMulticast():
		c.problem("peer %s: %v is no address of a direct peer", p.Name, p.Direct)
		return
	case c.in.DirectPort == 0:
		c.problem("peer %s: is direct, and there is no UDP port for direct peers", p.Name)
	}
	if c.out.directs == nil {
		c.out.directs = make(map[netip.Addr]uint32)
	}
	if other, taken := c.out.directs[to.Addr()]; taken {
		c.problem("peer %s: %v is the address of direct peer %s already", p.Name, to.Addr(), c.in.Peers[other].Name)
	}
	c.out.directs[to.Addr()] = id
	ps.direct = to
	ps.sent = c.meter(MeterKey{Kind: DirectPeerMeter, ID: id, Direction: DirectionFromSite})
	ps.received = c.meter(MeterKey{Kind: DirectPeerMeter, ID: id, Direction: DirectionToSite})
}
