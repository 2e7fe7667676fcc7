package relay

import (
	"encoding/binary"
	"net/netip"

	"github.com/sluicegw/sluice/internal/packet"
)

// Inside an overlay the gateway addresses of a VPC are ours, so we answer ARP
// and neighbour solicitations for them. The answer goes back the way the
// question came, to the same VTEP: there is nothing to look up, and a host that is
// in no table yet can find its gateway.

// arp answers a request for a gateway address; Mizar's nodes ask us for
// addresses of other sites too. f is the ARP packet.
func (w *worker) arp(f *frame, o overlay, outer int) {
	request, bad := packet.ParseARP(f.data())
	if bad != packet.Fine {
		w.drop(f, BadARP)
		return
	}
	vpc := &w.state.vpcs[f.vpc]
	ours := vpc.gateways.has4(request.TargetIP[:])
	heard := w.heard(f, o, outer, netip.AddrFrom4(request.SenderIP), request.SenderMAC, ours && request.Op == packet.ARPReply)
	var block mizarBlock
	options := w.mizarAnswer(f, o, outer, &block)
	if !ours && options != nil && request.SenderIP != request.TargetIP {
		ours = w.bounces(f, request.TargetIP[:])
	}
	if request.Op != packet.ARPRequest || !ours {
		if heard {
			w.drop(f, Heard)
		} else {
			w.drop(f, ARPNotOurs)
		}
		return
	}
	var answer [packet.ARPLen]byte
	packet.PutARPReply(answer[:], request, vpc.mac)
	w.reflect(f, o, outer, request.SenderMAC, packet.TypeARP, answer[:], options)
}

// neighbourDiscovery says that the ICMPv6 packet f is one of RFC 4861's
// messages (133 to 137), none of which a router forwards.
func neighbourDiscovery(f *frame) bool {
	b := f.data()
	return f.ip.HeaderLen < f.ip.Len && b[f.ip.HeaderLen] >= 133 && b[f.ip.HeaderLen] <= 137
}

// discovery takes a message of neighbour discovery. f is the IPv6 packet, with
// an Ethernet header in front at offset ethernet.
func (w *worker) discovery(f *frame, o overlay, outer, ethernet int) {
	from := [6]byte(f.chunk[ethernet+6:])
	switch f.data()[f.ip.HeaderLen] {
	case packet.NeighbourSolicit:
		w.solicit(f, o, outer, from)
	case packet.NeighbourAdvert:
		w.advert(f, o, outer, from)
	default:
		w.drop(f, NDNotOurs)
	}
}

// advert takes a neighbour advertisement: an answer to a question of ours, or a
// host that says where it is.
func (w *worker) advert(f *frame, o overlay, outer int, from [6]byte) {
	b := f.data()
	a, bad := packet.ParseAdvert(b, &f.ip)
	if bad != packet.Fine {
		w.drop(f, BadND)
		return
	}
	if a.HasMAC {
		from = a.MAC
	}
	if !w.heard(f, o, outer, netip.AddrFrom16(a.Target), from, w.state.vpcs[f.vpc].gateways.hasDst(6, b)) {
		w.drop(f, NDNotOurs)
		return
	}
	w.drop(f, Heard)
}

// solicit answers a neighbour solicitation for a gateway address, which came
// from that MAC address.
func (w *worker) solicit(f *frame, o overlay, outer int, mac [6]byte) {
	b := f.data()
	s, bad := packet.ParseSolicit(b, &f.ip)
	if bad != packet.Fine {
		w.drop(f, BadND)
		return
	}
	vpc := &w.state.vpcs[f.vpc]
	if !vpc.gateways.has6(s.Target[:]) {
		w.drop(f, NDNotOurs)
		return
	}
	// A duplicate address probe has no source to answer to: all nodes hear
	// that the address is taken (RFC 4861 section 7.2.4).
	to := [16]byte(b[8:24])
	solicited := to != [16]byte{}
	if !solicited {
		to = [16]byte{0: 0xff, 1: 0x02, 15: 1}
		mac = packet.GroupMAC(to[:])
	} else {
		if s.HasMAC {
			mac = s.SourceMAC
		}
		w.heard(f, o, outer, f.ip.Src(b), mac, false)
	}
	var answer [packet.IPv6Len + packet.NDAdvertLen]byte
	packet.PutIPv6(answer[:packet.IPv6Len], 0, 0, packet.NDAdvertLen, 255, packet.ProtoICMPv6, s.Target, to)
	packet.PutAdvert(answer[packet.IPv6Len:], s.Target, vpc.mac, solicited)
	packet.PutTransportChecksum(answer[:], packet.IPv6Len, packet.ProtoICMPv6)
	w.reflect(f, o, outer, mac, packet.TypeIPv6, answer[:], nil)
}

// reflect sends an answer back in the overlay to where f came from. The whole
// packet is written anew over the old one, whose outer IP header is at offset
// outer with Ethernet in front. options are those of Geneve.
func (w *worker) reflect(f *frame, o overlay, outer int, to [6]byte, etherType uint16, answer, options []byte) {
	w.count(Answered)
	w.made++
	vpc := &w.state.vpcs[f.vpc]
	ip := f.chunk[outer:]
	version := ip[0] >> 4
	from := [6]byte(f.chunk[f.start+6:]) // not always right in front of outer: there may be a priority tag
	ipLen := packet.IPv4Len
	if version == 6 {
		ipLen = packet.IPv6Len
	}
	length := ipLen + packet.UDPLen + packet.GeneveLen + len(options) + packet.EthernetLen + len(answer)
	f.off, f.end = outer-packet.EthernetLen, outer+length
	if f.end > len(f.chunk) {
		w.drop(f, NoRoom)
		return
	}
	mac := w.state.ports[w.queues[f.slot].port].mac
	packet.PutEthernet(f.chunk[f.off:outer], from, mac, etherTypeOf(version))
	ip = ip[:length]
	udp := ip[ipLen:]
	if version == 4 {
		src, dst := [4]byte(ip[12:16]), [4]byte(ip[16:20])
		packet.PutIPv4(ip[:ipLen], 0, length, 64, packet.ProtoUDP, dst, src)
	} else {
		src, dst := [16]byte(ip[8:24]), [16]byte(ip[24:40])
		packet.PutIPv6(ip[:ipLen], 0, 0, length-ipLen, 64, packet.ProtoUDP, dst, src)
	}
	packet.PutUDP(udp[:packet.UDPLen], packet.EntropyPort(binary.BigEndian.Uint32(to[2:])), o.udp, length-ipLen)
	header := udp[packet.UDPLen : packet.UDPLen+packet.GeneveLen] // VXLANLen is the same
	if o.kind == VXLAN {
		packet.PutVXLAN(header, vpc.vni)
	} else {
		packet.PutGeneve(header, packet.TypeEthernet, vpc.vni, len(options), false)
	}
	inner := udp[packet.UDPLen+packet.GeneveLen:]
	inner = inner[copy(inner, options):]
	packet.PutEthernet(inner[:packet.EthernetLen], to, vpc.mac, etherType)
	copy(inner[packet.EthernetLen:], answer)
	if version == 6 {
		packet.PutTransportChecksum(ip, ipLen, packet.ProtoUDP)
	}
	w.send(f, f.slot, Originated)
}
