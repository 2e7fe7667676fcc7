package relay

import (
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// encap puts an inner packet into the format between gateways and collects it
// for Seal. The default VPC's packets travel as they are; others in Geneve
// between tunnel addresses, with the VNI in the peer's numbering.
func (w *worker) encap(f *frame, id uint32) {
	peer := &w.state.peers[id]
	if peer.wireguard == nil {
		w.drop(f, NoPeer)
		return
	}
	f.peer = id
	adj := w.peerAdjacency(id)
	if adj.state != ready {
		w.notReady(f, adj)
		return
	}
	// The longest plaintext whose message fits the path. Padding stops there
	// too (Packet.MaxLen), so it costs the path's MTU nothing.
	limit := adj.mtu - adj.ipLen - packet.UDPLen - wireguard.Overhead
	f.inner = f.off
	if f.vpc != w.state.defaultVPC {
		vpc := &w.state.vpcs[f.vpc]
		ipLen := packet.IPv4Len
		four := w.state.tunnel4.IsValid() && peer.tunnel4.IsValid()
		if !four {
			if !w.state.tunnel6.IsValid() || !peer.tunnel6.IsValid() {
				w.drop(f, NoTunnel)
				return
			}
			ipLen = packet.IPv6Len
		}
		header := ipLen + packet.UDPLen + packet.GeneveLen + f.optsLen
		if f.ip.Len+header > limit {
			w.tooBig(f, limit-header)
			return
		}
		if !f.room(header) {
			w.drop(f, NoRoom)
			return
		}
		length := f.ip.Len + header
		carryOptions(f, f.off)
		f.off -= header
		b := f.data()
		if four {
			packet.PutIPv4(b[:packet.IPv4Len], f.ip.TOS, length, 64, packet.ProtoUDP, w.state.tunnel4.As4(), peer.tunnel4.As4())
		} else {
			packet.PutIPv6(b[:packet.IPv6Len], f.ip.TOS, f.flow, length-packet.IPv6Len, 64, packet.ProtoUDP, w.state.tunnel6.As16(), peer.tunnel6.As16())
		}
		// No UDP checksum, in IPv6 too (RFC 6935): what is inside was
		// authenticated by the tunnel around it.
		packet.PutUDP(b[ipLen:ipLen+packet.UDPLen], packet.EntropyPort(f.flow), packet.PortGeneve, length-ipLen)
		packet.PutGeneve(b[ipLen+packet.UDPLen:ipLen+packet.UDPLen+packet.GeneveLen], etherTypeOf(f.ip.Version), peer.remoteVNI(vpc.vni), f.optsLen, f.critical)
	} else {
		if f.critical {
			w.drop(f, CriticalOption)
			return
		}
		if f.ip.Len > limit {
			w.tooBig(f, limit)
			return
		}
	}
	if f.off < wireguard.HeaderSize || cap(f.chunk)-f.end < wireguard.MaxPadding+16 {
		w.drop(f, NoRoom)
		return
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
