package relay

import (
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// encap puts an inner packet into the format between gateways and collects it
// for Seal. The default VPC's packets travel as they are; others in Geneve
// between tunnel addresses, with the VNI in the peer's numbering.
func (w *worker) encap(f *frame, id uint32) {
	peer := &w.state.peers[id]
	if !peer.exists() {
		w.drop(f, NoPeer)
		return
	}
	f.peer = id
	back := noSYN
	if f.syn() {
		back = w.backLimit(f) // while the source is still the site's own
	}
	if t := w.state.vpcs[f.vpc].translate; t != nil {
		w.translateOut(f, t)
	}
	adj := w.peerAdjacency(id)
	if w.trace != nil {
		w.trace.way(w, "encap", "peer "+w.trace.snapshot.Peers[id].Name, adj)
	}
	if adj.state != ready && !w.goesThrough(f, adj) {
		return
	}
	if peer.wireguard == nil {
		w.encapDirect(f, id, adj, back)
		return
	}
	// The longest plaintext whose message fits the path. Padding stops there
	// too (Packet.MaxLen), so it costs the path's MTU nothing.
	limit := adj.inner
	if w.trace != nil {
		w.trace.encap(f, peer, limit)
	}
	f.inner = f.off
	if f.vpc != w.state.defaultVPC {
		tunnel := &peer.tunnel
		if tunnel.len == 0 {
			w.drop(f, NoTunnel)
			return
		}
		header := tunnel.len + f.optsLen
		if back != noSYN {
			w.clampMSS(f, limit-header, back, peer.mss)
		}
		if f.ip.Len+header > limit && !w.inPieces(f) {
			w.tooLong(f, limit-header, fib.NextHop{Kind: fib.Remote, ID: id})
			return
		}
		if !f.room(header) {
			w.drop(f, NoRoom)
			return
		}
		carryOptions(f, f.off)
		f.off -= header
		b := f.data()
		tunnel.put(b, f.ip.TOS, f.flow, 0, nil)
		packet.PutGeneve(b[tunnel.len-packet.GeneveLen:tunnel.len], etherTypeOf(f.ip.Version), peer.remoteVNI(w.state.vpcs[f.vpc].vni), f.optsLen, f.critical)
	} else {
		if f.critical {
			w.drop(f, CriticalOption)
			return
		}
		if back != noSYN {
			w.clampMSS(f, limit, back, peer.mss)
		}
		if f.ip.Len > limit && !w.inPieces(f) {
			w.tooLong(f, limit, fib.NextHop{Kind: fib.Remote, ID: id})
			return
		}
	}
	w.collect(f, peer, adj, limit)
}

// collect takes a packet in the format between gateways to Seal. limit is where
// its padding ends.
func (w *worker) collect(f *frame, peer *peerState, adj *adjacency, limit int) {
	if f.off < wireguard.HeaderSize || cap(f.chunk)-f.end < wireguard.MaxPadding+16 {
		w.drop(f, NoRoom)
		return
	}
	if w.state.shaped && !w.shape(f, peer, adj, wireguard.Overhead) {
		return
	}
	if len(w.sealing) == cap(w.sealPackets) { // a batch may have grown by copies
		w.sealAll()
	}
	w.sealing = append(w.sealing, f)
	w.sealPackets = w.sealPackets[:len(w.sealing)]
	p := &w.sealPackets[len(w.sealing)-1]
	p.Buf, p.Peer, p.MaxLen = f.chunk[f.off-wireguard.HeaderSize:f.end], peer.wireguard, limit
}

// carryOptions moves the packet's Geneve options to where they end at offset
// end: in front of the payload of the header to be written.
func carryOptions(f *frame, end int) {
	if f.optsLen == 0 {
		return
	}
	copy(f.chunk[end-f.optsLen:end], f.chunk[f.options:f.options+f.optsLen])
	f.options = end - f.optsLen
}
