package relay

import (
	"encoding/binary"
	"net/netip"

	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// A peer may have several paths (wireguard.Peer.SetPaths). The one in use is the
// peer's endpoint, which its adjacency is built from: a packet for a peer with
// ten paths costs what any other does. Here is what is sent over another one:
// probes that control code makes (PeerPacket.Over), and the answers to a peer's
// probes, which go back over the path that the question came by, or the peer
// would measure something else.
//
// A peer that knows but one place of ours follows us to wherever our messages come from. It must
// not follow a probe of a path that we do not use, so these have identifiers of
// their own.

// StandbyEcho and the 15 identifiers after it are those of echo requests, and their
// answers, over paths that the sender does not use for anything else: messages with them say nothing
// about where it is.
const StandbyEcho = 0x5350

const standbyMask = 0xfff0

// standby says whether the message f, opened in place, holds a probe of a path that is not in use, or its answer.
func (w *worker) standby(f *frame) bool {
	b := f.chunk[f.off+wireguard.HeaderSize : f.end]
	if len(b) < packet.IPv6Len+packet.ICMPLen {
		return false
	}
	switch {
	case b[0] == 0x45 && b[9] == packet.ProtoICMP:
		b = b[packet.IPv4Len:]
		if b[0] != packet.Echo && b[0] != packet.EchoReply {
			return false
		}
	case b[0]>>4 == 6 && b[6] == packet.ProtoICMPv6:
		b = b[packet.IPv6Len:]
		if b[0] != packet.Echo6 && b[0] != packet.EchoReply6 {
			return false
		}
	default:
		return false
	}
	return binary.BigEndian.Uint16(b[4:6])&standbyMask == StandbyEcho
}

// cameFrom is where the message came from that f was in, and the interface that it came in through: the outer headers are still in front of it.
func (w *worker) cameFrom(f *frame) (from wireguard.Endpoint, ok bool) {
	if w.doubled.inside {
		return w.enclosedFrom(f)
	}
	if w.trace != nil || f.slot < 0 || f.start >= f.off {
		return from, false
	}
	b := f.chunk[f.start:f.off]
	eth, bad := packet.ParseEthernet(b)
	if bad != packet.Fine || len(b) < eth.Len {
		return from, false
	}
	b = b[eth.Len:]
	var src, dst netip.Addr
	switch {
	case eth.Type == packet.TypeIPv4 && len(b) >= packet.IPv4Len:
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		b = b[min(int(b[0]&15)*4, len(b)):]
	case eth.Type == packet.TypeIPv6 && len(b) >= packet.IPv6Len:
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		b = b[packet.IPv6Len:] // of messages with extension headers the kernel has made new ones
	default:
		return from, false
	}
	if len(b) < packet.UDPLen {
		return from, false
	}
	return wireguard.Endpoint{Remote: netip.AddrPortFrom(src, binary.BigEndian.Uint16(b)), Local: dst, Ifindex: w.queues[f.slot].ifindex}, true
}

// wayBack is the way that the answer to f takes; usual: the one that all takes to the peer that sent it.
func (w *worker) wayBack(f *frame) (to wireguard.Endpoint, usual bool) {
	from, ok := w.cameFrom(f)
	if !ok {
		return from, true
	}
	return w.state.peers[f.peer].wireguard.AnswerTo(from)
}

// toPeerOver sends an inner packet of our own to a peer by a way that may not be the one in use. It
// never waits. It is sealed apart from the batch, so that the rest of the worker knows one way to each peer.
func (w *worker) toPeerOver(f *frame, id uint32, to wireguard.Endpoint) {
	f.vpc, f.slot, f.peer, f.inner = -1, -1, id, f.off
	if int(id) >= len(w.state.peers) || w.state.peers[id].wireguard == nil {
		w.drop(f, NoPeer)
		return
	}
	peer := &w.state.peers[id]
	f.flow = packet.FlowHash(f.data(), &f.ip)
	var adj adjacency
	w.buildPeer(&adj, to)
	w.keepAlive(&adj)
	switch {
	case adj.state != ready && adj.state != through:
		w.drop(f, notReadyVerdicts[adj.state])
		return
	case f.ip.Len > adj.limit-wireguard.Overhead:
		w.drop(f, TooBig)
		return
	case f.off < wireguard.HeaderSize || cap(f.chunk)-f.end < wireguard.MaxPadding+16:
		w.drop(f, NoRoom)
		return
	case w.state.shaped && !w.shape(f, peer, &adj, wireguard.Overhead):
		return
	}
	w.alone[0] = wireguard.Packet{Buf: f.chunk[f.off-wireguard.HeaderSize : f.end], Peer: peer.wireguard, MaxLen: f.ip.Len}
	w.batch.Seal(w.alone[:], w.now)
	p := &w.alone[0]
	if p.Result != wireguard.OK {
		w.drop(f, sealVerdicts[p.Result])
		return
	}
	f.off -= wireguard.HeaderSize
	f.end = f.off + len(p.Buf)
	p.Buf = nil
	f.cut = adj.state == through
	w.sendingToPeer = true
	w.outer(f, &adj, f.ip.TOS, Originated)
	w.sendingToPeer = false
	if adj.state == through {
		w.sealThrough()
	}
}

// sealVerdicts end what could not be sealed and does not wait.
var sealVerdicts = [wireguard.NumResults]Verdict{
	wireguard.NoSession: NoSession,
	wireguard.Expired:   NoSession,
	wireguard.NoPeer:    NoPeer,
	wireguard.NoRoom:    NoRoom,
}
