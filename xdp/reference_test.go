package xdp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
)

// reference is the slow twin of the program in bpf/: written from the table in doc.go, with plain slices instead of
// maps and cursors. It knows no handshake limit.
func reference(s State, ifindex int, socket bool, packet []byte) Verdict {
	v := referenceClass(s, ifindex, packet)
	if v >= DivertGeneve && v < DirectToPeer && !socket {
		return PassNoSocket
	}
	return v
}

func be16(b []byte) int { return int(binary.BigEndian.Uint16(b)) }

func referenceClass(s State, ifindex int, b []byte) Verdict {
	if len(b) < 14 {
		return PassBadEthernet
	}
	dst, kind, b := b[:6], be16(b[12:]), b[14:]
	var tags []uint16
	for n := 0; kind == 0x8100 || kind == 0x88a8; n++ {
		if n == 2 {
			return PassUnknownVLAN
		}
		if len(b) < 4 {
			return PassBadEthernet
		}
		if id := uint16(be16(b) & 0xfff); id != 0 {
			tags = append(tags, id)
		}
		kind, b = be16(b[2:]), b[4:]
	}
	tags = append(tags, 0, 0)
	i := slices.IndexFunc(s.Ports, func(p Port) bool {
		return p.Ifindex == ifindex && p.VLAN == tags[0] && p.InnerVLAN == tags[1]
	})
	switch {
	case i < 0 && tags[0] == 0:
		return PassNoPort
	case i < 0:
		return PassUnknownVLAN
	case kind != 0x0800 && kind != 0x86dd:
		return PassNotIP
	}
	port := s.Ports[i]
	if !bytes.Equal(dst, port.MAC[:]) {
		p, ok := referenceIP(kind, b)
		if ok && dst[0]&1 == 1 && port.Routed && longest(s.Groups, port.VNI, p.dst) >= 0 {
			return DivertRouted
		}
		return PassOtherMAC
	}
	p, ok := referenceIP(kind, b)
	if !ok {
		return PassBadIP
	}
	if !slices.Contains(s.Local, p.dst) {
		if !port.Routed {
			return PassNotOurs
		}
		return referenceRoute(s, port.VNI, p.dst, DivertRouted, PassNoRoute, PassLinkScope)
	}
	switch {
	case p.fragment:
		return referenceFragment(s, port, p)
	case p.dst.Is6() && slices.Contains([]byte{0, 43, 51, 60, 135, 139, 140}, p.protocol):
		return PassExtension
	case p.protocol != 17:
		return PassLocal
	case len(p.payload) < 8 || be16(p.payload[4:]) < 8 || be16(p.payload[4:]) > len(p.payload):
		return PassBadUDP
	}
	to, data := uint16(be16(p.payload[2:])), p.payload[8:be16(p.payload[4:])]
	switch {
	case slices.Contains(s.WireGuard, to):
		return referenceWireGuard(data)
	case slices.Contains(s.Direct, to):
		return referenceDirect(s, p.src, data)
	case slices.Contains(s.Geneve, to) && port.Overlay:
		return referenceGeneve(s, data)
	case slices.Contains(s.VXLAN, to) && port.Overlay:
		return referenceVXLAN(s, data)
	}
	return PassLocal
}

// referenceDirect says who may send to the port of direct peers, and what.
func referenceDirect(s State, src netip.Addr, b []byte) Verdict {
	switch {
	case !slices.ContainsFunc(s.DirectPeers, func(p DirectPeer) bool { return p.Addr == src }):
		return DropDirectStranger
	case len(b) < 8, b[0]>>6 != 0, b[1]&0x80 != 0, len(b) < 8+4*int(b[0]&0x3f), be16(b[2:]) != 0x0800 && be16(b[2:]) != 0x86dd:
		return DropBadDirect
	}
	if _, ok := referenceIP(be16(b[2:]), b[8+4*int(b[0]&0x3f):]); !ok {
		return DropBadDirect
	}
	return DivertDirect
}

type referencePacket struct {
	src      netip.Addr
	dst      netip.Addr
	protocol byte
	hopLimit byte
	fragment bool
	later    bool // IPv4: not the first fragment
	payload  []byte
}

func referenceFragment(s State, port Port, p referencePacket) Verdict {
	protocol, payload := p.protocol, p.payload
	if p.dst.Is6() {
		if len(payload) < 8 || be16(payload[2:])>>3 != 0 {
			return PassFragment
		}
		protocol, payload = payload[0], payload[8:]
	}
	if p.later || protocol != 17 || len(payload) < 8 || !port.Overlay {
		return PassFragment
	}
	if to := uint16(be16(payload[2:])); slices.Contains(s.Geneve, to) || slices.Contains(s.VXLAN, to) {
		return PassOverlayFragment
	}
	return PassFragment
}

func referenceIP(kind int, b []byte) (p referencePacket, ok bool) {
	if kind == 0x86dd {
		if len(b) < 40 || b[0]>>4 != 6 || be16(b[4:]) > len(b)-40 {
			return p, false
		}
		src, _ := netip.AddrFromSlice(b[8:24])
		dst, _ := netip.AddrFromSlice(b[24:40])
		return referencePacket{src, dst, b[6], b[7], b[6] == 44, false, b[40 : 40+be16(b[4:])]}, true
	}
	if len(b) < 20 {
		return p, false
	}
	header, total := int(b[0]&0xf)*4, be16(b[2:])
	if b[0]>>4 != 4 || header < 20 || header > total || total > len(b) {
		return p, false
	}
	sum := 0
	for i := 0; i < header; i += 2 {
		sum += be16(b[i:])
	}
	if sum == 0 || sum%0xffff != 0 {
		return p, false
	}
	src, _ := netip.AddrFromSlice(b[12:16])
	dst, _ := netip.AddrFromSlice(b[16:20])
	return referencePacket{src, dst, b[9], b[8], be16(b[6:])&0x3fff != 0, be16(b[6:])&0x1fff != 0, b[header:total]}, true
}

func referenceGateway(s State, vni uint32, a netip.Addr) bool {
	return slices.Contains(s.Gateways, Gateway{vni, a})
}

func referenceRoute(s State, vni uint32, dst netip.Addr, hit, miss, link Verdict) Verdict {
	first := dst.AsSlice()[0]
	switch {
	case referenceGateway(s, vni, dst):
		return DivertGateway
	case longest(s.Groups, vni, dst) >= 0:
		return hit
	case dst.IsMulticast(), dst.IsLoopback(), dst.IsLinkLocalUnicast(), dst.IsUnspecified(), dst.Is4In6(),
		dst.Is4() && (first == 0 || dst == netip.AddrFrom4([4]byte{255, 255, 255, 255})):
		return link
	case longest(s.Remote, vni, dst) > longest(s.Site, vni, dst):
		return hit
	}
	return miss
}

// longest is the length of the longest prefix that contains dst, -1 when there is none.
func longest(prefixes []Prefix, vni uint32, dst netip.Addr) int {
	length := -1
	for _, p := range prefixes {
		if p.VNI == vni && p.Prefix.Contains(dst) {
			length = max(length, p.Prefix.Bits())
		}
	}
	return length
}

func referenceWireGuard(b []byte) Verdict {
	if len(b) >= 4 && b[1] == 0 && b[2] == 0 && b[3] == 0 {
		switch {
		case b[0] == 1 && len(b) == 148, b[0] == 2 && len(b) == 92, b[0] == 3 && len(b) == 64:
			return DivertHandshake
		case b[0] == 4 && len(b) >= 32:
			return DivertTransport
		}
	}
	return DropBadWireGuard
}

func referenceGeneve(s State, b []byte) Verdict {
	if len(b) < 8 || b[0]>>6 != 0 || len(b) < 8+4*int(b[0]&0x3f) {
		return PassBadGeneve
	}
	options, vni, kind := 4*int(b[0]&0x3f), binary.BigEndian.Uint32(b[4:])>>8, be16(b[2:])
	switch {
	case b[1]&0x80 != 0:
		return PassGeneveControl
	case !slices.Contains(s.VNIs, vni):
		return PassUnknownVNI
	case kind == 0x6558:
		return referenceFrame(s, vni, b[8+options:], DivertGeneve)
	case kind == 0x0800, kind == 0x86dd:
		return referenceInner(s, vni, kind, b[8+options:], DivertGeneve)
	}
	return PassInnerOther
}

func referenceVXLAN(s State, b []byte) Verdict {
	if len(b) < 8 || b[0]&8 == 0 {
		return PassBadVXLAN
	}
	vni := binary.BigEndian.Uint32(b[4:]) >> 8
	if !slices.Contains(s.VNIs, vni) {
		return PassUnknownVNI
	}
	return referenceFrame(s, vni, b[8:], DivertVXLAN)
}

func referenceFrame(s State, vni uint32, b []byte, hit Verdict) Verdict {
	if len(b) < 14 {
		return PassBadInner
	}
	kind, b := be16(b[12:]), b[14:]
	switch kind {
	case 0x8100, 0x88a8:
		return PassInnerVLAN
	case 0x0800, 0x86dd:
		return referenceInner(s, vni, kind, b, hit)
	case 0x0806:
		if len(b) < 28 {
			return PassBadInner
		}
		target, _ := netip.AddrFromSlice(b[24:28])
		announced := slices.Contains(s.Learn, vni) && bytes.Equal(b[14:18], b[24:28])
		asked := slices.Contains(s.Bounce, vni) && b[7] == 1 && longest(s.Remote, vni, target) > longest(s.Site, vni, target)
		if bytes.Equal(b[:7], []byte{0, 1, 8, 0, 6, 4, 0}) && (b[7] == 1 || b[7] == 2) && (referenceGateway(s, vni, target) || announced || asked) {
			return DivertNeighbour
		}
		return PassInnerARP
	}
	return PassInnerOther
}

func referenceInner(s State, vni uint32, kind int, b []byte, hit Verdict) Verdict {
	p, ok := referenceIP(kind, b)
	if !ok {
		return PassBadInner
	}
	if p.dst.Is6() && p.protocol == 58 && p.hopLimit == 255 && len(p.payload) >= 24 && p.payload[0] == 135 && p.payload[1] == 0 {
		if target, _ := netip.AddrFromSlice(p.payload[8:24]); referenceGateway(s, vni, target) {
			return DivertNeighbour
		}
	}
	if p.dst.Is6() && p.protocol == 58 && p.hopLimit == 255 && len(p.payload) >= 24 && p.payload[0] == 136 && p.payload[1] == 0 {
		if referenceGateway(s, vni, p.dst) || slices.Contains(s.Learn, vni) && p.dst == netip.MustParseAddr("ff02::1") {
			return DivertNeighbour
		}
	}
	return referenceRoute(s, vni, p.dst, hit, PassInnerNoRoute, PassInnerLinkScope)
}
