package relay

import (
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/packet"
)

// The MSS that a SYN or SYN-ACK announces is what its sender will be sent in
// one segment, so it has to fit the way back; and because hosts cap what they
// send by what they announce, the way there counts as well. Both legs that meet
// here, the tunnel and the site's own, are held against it, and the smaller
// one decides, whichever direction the packet takes.

// minMSS is the least that a clamp makes of an announcement: TCP_MIN_MSS of
// Linux, which takes nothing lower seriously.
const minMSS = 88

// syn says that the packet opens a TCP connection (SYN or SYN-ACK).
func (f *frame) syn() bool {
	if f.ip.Proto != packet.ProtoTCP || !f.ip.First || f.ip.Len < f.ip.HeaderLen+packet.TCPLen {
		return false
	}
	return f.chunk[f.off+f.ip.HeaderLen+13]&packet.TCPSyn != 0
}

// noSYN stands for backLimit of a packet that opens no connection.
const noSYN = -1

// clampMSS lowers what the SYN f announces to what fits into limit, the longest
// inner packet on the leg ahead, and into back, that of the leg it came from
// (backLimit). policy is that of the peer on the way: see Peer.MSS; 0 when there is none.
func (w *worker) clampMSS(f *frame, limit, back, policy int) {
	vpc := w.state.vpcs[f.vpc].mss
	if vpc < 0 || policy < 0 {
		return
	}
	if back > 0 {
		limit = min(limit, back)
	}
	mss := limit - packet.IPv4Len - packet.TCPLen
	if f.ip.Version == 6 {
		mss = limit - packet.IPv6Len - packet.TCPLen
	}
	for _, most := range [...]int{vpc, policy} {
		if most > 0 {
			mss = min(mss, most)
		}
	}
	if packet.ClampMSS(f.data()[f.ip.HeaderLen:f.ip.Len], uint16(min(max(mss, minMSS), 0xffff))) {
		w.clamped++
	}
}

// senderMSS is the policy of the peer that sent f, if one did and is still there.
func (w *worker) senderMSS(f *frame) int {
	if f.origin != fromPeer || int(f.peer) >= len(w.state.peers) {
		return 0
	}
	return w.state.peers[f.peer].mss
}

// backLimit is the longest inner packet on the way back to where f came from:
// the least of all next hops, as the answers may take any of them; 0 when that is
// not known.
func (w *worker) backLimit(f *frame) int {
	if f.origin == fromPeer {
		return w.peerLimit(f, f.peer)
	}
	route := w.routes.route(w.state.vpcs, f.vpc, f.ip.SrcBytes(f.data()))
	if route == nil {
		return 0
	}
	least := 0
	for _, hop := range route.NextHops {
		limit := 0
		if hop.Kind == fib.Local {
			limit = w.deliveryLimit(f, hop.ID)
		} else {
			limit = w.peerLimit(f, hop.ID)
		}
		if limit > 0 && (least == 0 || limit < least) {
			least = limit
		}
	}
	return least
}

// peerLimit is the longest inner packet of f's VPC that fits the path to peer
// id, 0 while the path is not known. Options count as if the answers had as many.
func (w *worker) peerLimit(f *frame, id uint32) int {
	if int(id) >= len(w.state.peers) || !w.state.peers[id].exists() {
		return 0
	}
	adj := w.peerAdjacency(id)
	if adj.state != ready && adj.state != through {
		return 0
	}
	if w.state.peers[id].wireguard == nil {
		return max(adj.limit-f.optsLen, 0)
	}
	limit := adj.inner
	if f.vpc != w.state.defaultVPC {
		limit -= w.state.peers[id].tunnel.len + f.optsLen
	}
	return max(limit, 0)
}

// deliveryLimit is the longest inner packet that fits on the way to delivery id
// of this site: as its port allows, or the route to its VTEP once that is known.
func (w *worker) deliveryLimit(f *frame, id uint32) int {
	d := &w.state.deliveries[id]
	limit := 0
	if d.kind != Routed {
		if adj := w.hostAdjacency(id); adj.state == ready {
			limit = adj.limit
		}
	}
	if limit == 0 {
		for i := range w.state.ports {
			if w.state.ports[i].ifindex == d.ifindex {
				limit = w.state.ports[i].mtu - d.overhead()
			}
		}
	}
	if limit == 0 || d.kind == Routed {
		return limit
	}
	limit -= packet.EthernetLen
	switch {
	case d.mizar != nil: // whatever f carries, what goes there has all of them
		limit -= packet.MizarLen
	case d.kind == Geneve:
		limit -= f.optsLen
	}
	return max(limit, 0)
}

// overhead is what the outer headers of a delivery take, inner Ethernet and
// options not counted.
func (d *deliveryState) overhead() int {
	switch {
	case d.kind == Routed:
		return 0
	case d.vtep.Is4():
		return packet.IPv4Len + packet.UDPLen + packet.VXLANLen // GeneveLen is the same
	}
	return packet.IPv6Len + packet.UDPLen + packet.VXLANLen
}
