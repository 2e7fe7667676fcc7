package relay

import (
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// sealAll seals what encap has collected, puts the outer headers in front and
// queues the messages for sending.
func (w *worker) sealAll() {
	if len(w.sealing) == 0 {
		return
	}
	w.batch.Seal(w.sealPackets, w.now)
	for i, f := range w.sealing {
		w.sealed(f, &w.sealPackets[i])
	}
	w.sealing, w.sealPackets = w.sealing[:0], w.sealPackets[:0]
}

func (w *worker) sealed(f *frame, p *wireguard.Packet) {
	switch p.Result {
	case wireguard.OK:
	case wireguard.NoSession, wireguard.Expired:
		f.off, f.end = f.inner, f.inner+f.ip.Len // Seal left the bytes alone
		w.parkForSession(f)
		return
	case wireguard.NoPeer:
		w.drop(f, NoPeer)
		return
	default:
		w.drop(f, NoRoom)
		return
	}
	f.off -= wireguard.HeaderSize
	f.end = f.off + len(p.Buf)
	v := ToPeer
	if f.origin == fromRelay {
		v = Originated
	} else {
		w.vpcCount(f).toPeer(f.ip.Len)
	}
	w.outer(f, &w.peers[f.peer].adjacency, f.ip.TOS, v)
}

// outer puts an adjacency's headers in front of a UDP payload and sends it.
//
// The UDP checksum stays zero over IPv4, as it may (RFC 768): WireGuard's tag
// protects the payload, and an overlay's inner packets have sums of their own.
// Over IPv6 it is computed: kernels refuse zero unless told otherwise.
func (w *worker) outer(f *frame, adj *adjacency, tos uint8, v Verdict) {
	if !f.room(adj.headerLen) {
		w.drop(f, NoRoom)
		return
	}
	f.off -= adj.headerLen
	b := f.data()
	copy(b[:adj.headerLen], adj.header[:adj.headerLen])
	adj.finishOuter(b, tos)
	w.send(f, adj.slot, v)
}

// finishOuter fills in what the template of Ethernet, IP and UDP leaves open:
// lengths, DSCP, ECN and checksums.
func (a *adjacency) finishOuter(b []byte, tos uint8) {
	length := len(b) - packet.EthernetLen
	ip := b[packet.EthernetLen:]
	udp := ip[a.ipLen:]
	udp[4], udp[5] = uint8((length-a.ipLen)>>8), uint8(length-a.ipLen)
	if a.ipLen == packet.IPv4Len {
		ip[1] = tos
		ip[2], ip[3] = uint8(length>>8), uint8(length)
		sum := uint32(a.sum) + uint32(tos) + uint32(length)
		sum = sum>>16 + sum&0xffff
		sum = ^(sum>>16 + sum)
		ip[10], ip[11] = uint8(sum>>8), uint8(sum)
		return
	}
	ip[0] |= tos >> 4
	ip[1] |= tos << 4
	ip[4], ip[5] = uint8((length-packet.IPv6Len)>>8), uint8(length-packet.IPv6Len)
	packet.PutTransportChecksum(ip, packet.IPv6Len, packet.ProtoUDP)
}
