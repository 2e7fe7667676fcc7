package xdp

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/sluicegw/sluice/internal/packet"
)

// referenceForward is the slow twin of bpf/forward.h: it takes a packet and what reference says of it, and gives the
// verdict and the packet that leaves. It computes every checksum from the bytes.
func referenceForward(s State, ifindex int, b []byte, v Verdict) (Verdict, []byte) {
	w, ok := referenceWay(s, ifindex, b, v)
	if !ok {
		return v, b
	}
	hop := hopOf(s, w.to)
	back := backOf(s, w)
	if hop == nil || !hop.Resolved() || back == nil || hop.Ifindex != loopback { // no other interface exists in the tests
		return v, b
	}
	inner := slices.Clone(w.inner)
	if len(inner) > hop.MTU || !referenceTransport(s, w, inner, hop, hopOf(s, back)) {
		return v, b
	}
	packet.DecrementTTL(inner)
	out, ok := referenceHeaders(hop, w, inner)
	if !ok {
		return v, b
	}
	if w.peer != 0 {
		return DirectToSite, out
	}
	return DirectToPeer, out
}

type referenceFound struct {
	inner    []byte // the IP packet, without padding
	ip       packet.IP
	src, dst netip.Addr
	vni      uint32
	peer     uint32  // that sent it
	to       *Prefix // the destination's
	virtual  bool
}

// referenceWay takes the outer headers off. Not ok: a packet that only the relay understands.
func referenceWay(s State, ifindex int, b []byte, v Verdict) (w referenceFound, ok bool) {
	if v != DivertGeneve && v != DivertVXLAN && v != DivertRouted && v != DivertDirect {
		return w, false
	}
	kind, tags, rest := be16(b[12:]), []uint16{}, b[14:]
	for kind == 0x8100 || kind == 0x88a8 {
		if id := uint16(be16(rest) & 0xfff); id != 0 {
			tags = append(tags, id)
		}
		kind, rest = be16(rest[2:]), rest[4:]
	}
	tags = append(tags, 0, 0)
	port := s.Ports[slices.IndexFunc(s.Ports, func(p Port) bool {
		return p.Ifindex == ifindex && p.VLAN == tags[0] && p.InnerVLAN == tags[1]
	})]
	w.vni, w.virtual = port.VNI, port.Virtual
	tos := uint8(0)
	if v != DivertRouted {
		var outer packet.IP
		outer.Parse(rest)
		src := outer.Src(rest)
		tos = outer.TOS
		rest = rest[outer.HeaderLen:outer.Len]
		rest = rest[8:be16(rest[4:])] // UDP
		w.vni = binary.BigEndian.Uint32(rest[4:]) >> 8
		switch kind = be16(rest[2:]); {
		case v == DivertVXLAN:
			kind = 0x6558
		case rest[0] != 0 || rest[1] != 0: // options, or a critical bit
			return w, false
		}
		rest = rest[8:]
		if kind == 0x6558 {
			rest = rest[14:]
		}
		if v == DivertDirect {
			for _, p := range s.DirectPeers {
				if p.Addr == src {
					w.peer = p.ID
				}
			}
		}
	}
	if w.ip.Parse(rest) != packet.Fine {
		return w, false
	}
	w.inner = rest[:w.ip.Len]
	w.src, w.dst = w.ip.Src(rest), w.ip.Dst(rest)
	outer, inner := tos&3, w.ip.TOS&3
	marked := outer == 3 && inner != 3 || outer == 1 && inner == 2
	if !w.ip.Plain() || w.ip.TTL <= 1 || marked || w.ip.Fragment && w.ip.Proto == packet.ProtoTCP {
		return w, false
	}
	w.to = destinationOf(s, w)
	return w, w.to != nil
}

// destinationOf is the prefix that the packet is for, if it is one that the program may send this packet to.
func destinationOf(s State, w referenceFound) *Prefix {
	if referenceRoute(s, w.vni, w.dst, DivertRouted, PassNoRoute, PassLinkScope) == PassLinkScope ||
		referenceGateway(s, w.vni, w.dst) || longest(s.Groups, w.vni, w.dst) >= 0 {
		return nil
	}
	remote, site := longest(s.Remote, w.vni, w.dst), longest(s.Site, w.vni, w.dst)
	switch {
	case w.peer == 0 && remote > site:
		return prefixOf(s.Remote, w.vni, w.dst, remote)
	case w.peer != 0 && site >= remote:
		return prefixOf(s.Site, w.vni, w.dst, site)
	}
	return nil
}

// backOf is the prefix of the source, if the packet may have it.
func backOf(s State, w referenceFound) *Prefix {
	first := w.src.AsSlice()[0]
	if w.src.IsLoopback() || w.src.IsUnspecified() || w.src.Is4() && (first == 0 || first == 127 || first >= 224) ||
		w.src.Is6() && (first == 0xff || w.src.IsLinkLocalUnicast()) || referenceGateway(s, w.vni, w.src) {
		return nil
	}
	remote, site := longest(s.Remote, w.vni, w.src), longest(s.Site, w.vni, w.src)
	if w.peer == 0 && site >= remote {
		return prefixOf(s.Site, w.vni, w.src, site)
	}
	if w.peer != 0 && remote > site {
		p := prefixOf(s.Remote, w.vni, w.src, remote)
		if hop := hopOf(s, p); hop != nil && hop.Peer == w.peer {
			return p
		}
	}
	return nil
}

func prefixOf(prefixes []Prefix, vni uint32, a netip.Addr, length int) *Prefix {
	for i, p := range prefixes {
		if p.VNI == vni && p.Prefix.Bits() == length && p.Prefix.Contains(a) {
			return &prefixes[i]
		}
	}
	return nil
}

func hopOf(s State, p *Prefix) *Hop {
	for i := range s.Hops {
		if p.Hop != 0 && s.Hops[i].ID == p.Hop {
			return &s.Hops[i]
		}
	}
	return nil
}

// referenceTransport lowers the MSS; false: the relay's.
func referenceTransport(s State, w referenceFound, inner []byte, hop, back *Hop) bool {
	segment := inner[w.ip.HeaderLen:]
	if w.ip.Fragment {
		return true
	}
	least := map[uint8]int{packet.ProtoTCP: 20, packet.ProtoUDP: 8}[w.ip.Proto]
	if len(segment) < least || w.virtual && packet.Unfinished(inner, &w.ip) {
		return false
	}
	if w.ip.Proto != packet.ProtoTCP || segment[13]&2 == 0 {
		return true
	}
	if back == nil || !back.Resolved() {
		return false
	}
	if hop.NoClamp || back.NoClamp || segment[12]>>4 <= 5 {
		return true
	}
	if len(segment) < 24 || segment[20] != 2 || segment[21] != 4 {
		return false
	}
	mss := min(hop.MTU, back.MTU) - w.ip.HeaderLen - 20
	for _, most := range []uint16{hop.MaxMSS, back.MaxMSS} {
		if most != 0 {
			mss = min(mss, int(most))
		}
	}
	mss = max(mss, 88)
	if have := be16(segment[22:]); have > mss {
		binary.BigEndian.PutUint16(segment[22:], uint16(mss))
		binary.BigEndian.PutUint16(segment[16:], packet.Update(uint16(be16(segment[16:])), uint16(have), uint16(mss)))
	}
	return true
}

// referenceHeaders puts the hop's headers in front. Over IPv6 to a VTEP the UDP checksum is that of the packet with
// a right transport checksum inside: a packet that is broken must not become right on the way.
func referenceHeaders(hop *Hop, w referenceFound, inner []byte) ([]byte, bool) {
	six, etherType := hop.Dst.Is6(), uint16(0x0800)
	if w.ip.Version == 6 {
		etherType = 0x86dd
	}
	put := func(inner []byte) []byte {
		out := make([]byte, 14)
		copy(out, hop.DstMAC[:])
		copy(out[6:], hop.SrcMAC[:])
		if hop.Kind == ToRouted {
			binary.BigEndian.PutUint16(out[12:], etherType)
			return append(out, inner...)
		}
		tunnel := make([]byte, 8)
		switch hop.Kind {
		case ToPeer:
			packet.PutGeneve(tunnel, etherType, hop.RemoteVNI, 0, false)
		case ToGeneve:
			packet.PutGeneve(tunnel, 0x6558, hop.RemoteVNI, 0, false)
		case ToVXLAN:
			packet.PutVXLAN(tunnel, hop.RemoteVNI)
		}
		if hop.Kind != ToPeer {
			tunnel = slices.Concat(tunnel, hop.InnerDst[:], hop.InnerSrc[:], []byte{byte(etherType >> 8), byte(etherType)})
		}
		flow := referenceFlow(w)
		datagram := make([]byte, 8, 8+len(tunnel)+len(inner))
		packet.PutUDP(datagram, packet.EntropyPort(flow), hop.UDPPort, 8+len(tunnel)+len(inner))
		datagram = slices.Concat(datagram, tunnel, inner)
		var header []byte
		if six {
			binary.BigEndian.PutUint16(out[12:], 0x86dd)
			header = make([]byte, 40)
			packet.PutIPv6(header, w.ip.TOS, flow, len(datagram), 64, 17, hop.Src.As16(), hop.Dst.As16())
		} else {
			binary.BigEndian.PutUint16(out[12:], 0x0800)
			header = make([]byte, 20)
			packet.PutIPv4(header, w.ip.TOS, 20+len(datagram), 64, 17, hop.Src.As4(), hop.Dst.As4())
		}
		return slices.Concat(out, header, datagram)
	}
	out := put(inner)
	if !six || hop.Kind == ToPeer || hop.Kind == ToRouted {
		return out, true
	}
	right := slices.Clone(inner)
	if !referenceSummed(w, right) {
		return nil, false
	}
	whole := put(right)[14:]
	packet.PutTransportChecksum(whole, 40, 17)
	copy(out[14+40+6:], whole[40+6:40+8])
	return out, true
}

// referenceSummed makes the transport checksum of a packet right; false: it has none that covers all.
func referenceSummed(w referenceFound, inner []byte) bool {
	segment := inner[w.ip.HeaderLen:]
	if w.ip.Fragment {
		return false
	}
	switch proto := w.ip.Proto; {
	case (proto == packet.ProtoICMP || proto == packet.ProtoICMPv6) && len(segment) < 8:
		return false
	case proto == packet.ProtoICMP && w.ip.Version == 4:
		segment[2], segment[3] = 0, 0
		binary.BigEndian.PutUint16(segment[2:], ^packet.Sum(0, segment))
		return true
	case proto == packet.ProtoUDP && (be16(segment[6:]) == 0 || be16(segment[4:]) != len(segment)):
		return false
	case proto == packet.ProtoTCP, proto == packet.ProtoUDP, proto == packet.ProtoICMPv6 && w.ip.Version == 6:
		packet.PutTransportChecksum(inner, w.ip.HeaderLen, proto)
		return true
	}
	return false
}

// referenceFlow is the hash of the flow, as bpf/forward.h makes it from the words in memory.
func referenceFlow(w referenceFound) uint32 {
	mix := func(hash, word uint64) uint64 {
		x := (hash ^ word) * 0x9e3779b97f4a7c15
		return x>>32 ^ x&0xffffffff
	}
	word := func(at int) uint64 { return uint64(binary.LittleEndian.Uint32(w.inner[at:])) }
	pair := func(at int) uint64 { return word(at)<<32 | word(at+4) }
	var flow uint64
	if w.ip.Version == 4 {
		flow = mix(pair(12), uint64(w.ip.Proto))
	} else {
		flow = mix(mix(pair(8), pair(16)), mix(pair(24), pair(32))+uint64(w.ip.Proto)<<32)
	}
	if !w.ip.Fragment && (w.ip.Proto == packet.ProtoTCP || w.ip.Proto == packet.ProtoUDP) {
		flow = mix(flow, word(w.ip.HeaderLen))
	}
	return uint32(flow)
}
