package relay

import (
	"encoding/binary"
	"net/netip"

	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// openAll opens what classify has collected and takes each packet on.
func (w *worker) openAll() {
	if len(w.opening) == 0 {
		return
	}
	w.batch.Open(w.openPackets, w.now)
	for i, f := range w.opening {
		w.opened(f, &w.openPackets[i])
	}
	w.opening, w.openPackets = w.opening[:0], w.openPackets[:0]
	if len(w.doubled.in) > 0 {
		w.openEnclosed()
	}
}

// locate is wireguard.Batch.Locate: the outer headers are still in front of the message, and f.ip is still theirs.
func (w *worker) locate(i int, from *wireguard.Endpoint) {
	if w.doubled.inside {
		*from = w.doubled.in[i].from
		return
	}
	f := w.opening[i]
	if w.standby(f) {
		*from = wireguard.Endpoint{} // where the peer's traffic comes from, it does not say
		return
	}
	udp := f.off - packet.UDPLen
	outer := f.chunk[udp-f.ip.HeaderLen:]
	*from = wireguard.Endpoint{Remote: netip.AddrPortFrom(f.ip.Src(outer), binary.BigEndian.Uint16(f.chunk[udp:])), Local: f.ip.Dst(outer)}
}

var openVerdicts = [wireguard.NumResults]Verdict{
	wireguard.OK:        pending,
	wireguard.Keepalive: Keepalive,
	wireguard.NoSession: UnknownIndex,
	wireguard.NoPeer:    UnknownPeer,
	wireguard.NoRoom:    BadWireGuard,
	wireguard.Malformed: BadWireGuard,
	wireguard.BadIndex:  UnknownIndex,
	wireguard.BadAuth:   BadAuth,
	wireguard.Replay:    Replayed,
	wireguard.Expired:   SessionExpired,
}

// opened takes a packet that came out of a tunnel: whose it is, which VPC it
// belongs to, and whether that peer may send it.
func (w *worker) opened(f *frame, p *wireguard.Packet) {
	if v := openVerdicts[p.Result]; v != pending {
		w.drop(f, v)
		return
	}
	f.origin = fromPeer
	f.peer = p.Peer.ID()
	if int(f.peer) >= len(w.state.peers) || w.state.peers[f.peer].wireguard != p.Peer {
		w.drop(f, UnknownPeer)
		return
	}
	f.off += wireguard.HeaderSize
	f.end = f.off + len(p.Buf)
	b := f.data()
	if len(b) == 0 || (b[0]>>4 != 4 && b[0]>>4 != 6) {
		w.drop(f, BadPayload)
		return
	}
	if verdict := parseInner(f, etherTypeOf(b[0]>>4)); verdict != pending {
		w.drop(f, verdict)
		return
	}
	f.end = f.off + f.ip.Len // what is behind is WireGuard's padding
	if !w.congestion(f) {
		return
	}
	f.vpc = w.state.defaultVPC
	if w.state.inward.hasDst(f.ip.Version, b) {
		w.tunnelled(f)
		return
	}
	w.inner(f)
}

// tunnelled takes a packet to our own tunnel address: the Geneve of a VPC that
// is not the default one, or a ping.
func (w *worker) tunnelled(f *frame) {
	ip, b := &f.ip, f.data()
	peer := &w.state.peers[f.peer]
	if src := ip.Src(b); src != peer.tunnel4 && src != peer.tunnel6 {
		if !w.enclosed(f, src) {
			w.drop(f, TunnelMismatch)
		}
		return
	}
	if w.state.passes && !w.state.tunnel.hasDst(ip.Version, b) {
		w.passOn(f)
		return
	}
	if ip.Proto != packet.ProtoUDP || ip.Fragment {
		w.toTunnelAddress(f)
		return
	}
	udp, bad := packet.ParseUDP(b[ip.HeaderLen:])
	if bad != packet.Fine {
		w.drop(f, BadUDP)
		return
	}
	if udp.Dst != packet.PortGeneve {
		w.datagram(f, &udp)
		return
	}
	f.tos = ip.TOS
	f.end = f.off + ip.HeaderLen + udp.Len
	f.off += ip.HeaderLen + packet.UDPLen
	if w.geneveFromPeer(f) {
		w.inner(f)
	}
}

// geneveFromPeer takes the Geneve between gateways off, which names the VPC in our
// numbering. Out of a tunnel none is the default one: its packets travel as they
// are there. False: the packet has met its end.
func (w *worker) geneveFromPeer(f *frame) bool {
	g, verdict := parseGeneve(f)
	if verdict != pending {
		w.drop(f, verdict)
		return false
	}
	if f.vpc = w.state.vniVPC.find(uint64(g.VNI)); f.vpc < 0 || g.VNI == 0 && w.state.peers[f.peer].wireguard != nil {
		w.drop(f, UnknownVNI)
		return false
	}
	f.off += g.Len
	etherType, alive := w.stripEthernet(f, g.Type)
	if !alive {
		return false
	}
	if verdict = parseInner(f, etherType); verdict != pending {
		w.drop(f, verdict)
		return false
	}
	f.end = f.off + f.ip.Len
	return w.congestion(f)
}

// admit is the cryptokey check: the route back to the inner source, in this
// VPC (nil: none), must lead to the peer that sent the packet, or have it to spare. So no peer can pretend to
// be another, to be a host of ours, or us. A peer's tunnel addresses are its own
// without a route.
func (w *worker) admit(f *frame, back *fib.Route) bool {
	if w.state.vpcs[f.vpc].ours && w.isOurs(f) {
		return false
	}
	if back != nil && (leadsTo(back, f.peer) || w.spare(f, back)) {
		f.source = back.Counter
		return true
	}
	return w.ownTunnel(f, f.ip.Src(f.data()))
}

func (w *worker) ownTunnel(f *frame, src netip.Addr) bool {
	peer := &w.state.peers[f.peer]
	return f.vpc == w.state.defaultVPC && (src == peer.tunnel4 || src == peer.tunnel6)
}

func etherTypeOf(version uint8) uint16 {
	if version == 4 {
		return packet.TypeIPv4
	}
	return packet.TypeIPv6
}

// martian says that no host can have the source address of the IP packet b.
func martian(version uint8, b []byte) bool {
	if version == 4 {
		return b[12] == 0 || b[12] == 127 || b[12] >= 224
	}
	return b[8] == 0xff || linkLocal6(b[8:]) || binary.BigEndian.Uint64(b[8:16]) == 0 && binary.BigEndian.Uint64(b[16:24]) <= 1
}

// unroutable says that the destination of the IP packet b is multicast,
// broadcast, loopback or link-local.
func unroutable(version uint8, b []byte) bool {
	if version == 4 {
		return b[16] == 0 || b[16] == 127 || b[16] >= 224 || b[16] == 169 && b[17] == 254
	}
	return b[24] == 0xff || linkLocal6(b[24:]) || binary.BigEndian.Uint64(b[24:32]) == 0 && binary.BigEndian.Uint64(b[32:40]) <= 1
}

func linkLocal6(b []byte) bool { return b[0] == 0xfe && b[1]&0xc0 == 0x80 }
