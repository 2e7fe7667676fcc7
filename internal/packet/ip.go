package packet

import (
	"encoding/binary"
	"net/netip"
)

// Protocol numbers (IANA) that somebody here looks at.
const (
	ProtoHopByHop = 0
	ProtoICMP     = 1
	ProtoTCP      = 6
	ProtoUDP      = 17
	ProtoDCCP     = 33
	ProtoRouting  = 43
	ProtoFragment = 44
	ProtoAH       = 51
	ProtoICMPv6   = 58
	ProtoNone     = 59
	ProtoDestOpts = 60
	ProtoMobility = 135
	ProtoUDPLite  = 136
	ProtoHIP      = 139
	ProtoShim6    = 140
)

// Header lengths without options.
const (
	IPv4Len = 20
	IPv6Len = 40
)

// maxExtensions bounds the walk over IPv6 extension headers. RFC 8200 section
// 4.1 lets each occur once, destination options twice; more is an attack.
const maxExtensions = 8

// IP is a parsed IPv4 or IPv6 header.
type IP struct {
	Version   uint8
	Proto     uint8 // of what follows the header and IPv6 extension headers
	TOS       uint8 // DSCP and ECN
	TTL       uint8 // or hop limit
	DF        bool  // don't fragment; always for IPv6
	Fragment  bool  // a part of a fragmented packet
	First     bool  // the transport header is here: no fragment, or the first
	HeaderLen int   // up to what Proto names, IPv6 extension headers included
	Len       int   // of the packet; what is behind it is padding
}

// Parse reads an IPv4 or IPv6 header, by its version. It is a method, and IP is
// passed by pointer everywhere, because a struct of small fields is slow to
// copy: written byte by byte and read in words, it stalls the processor's store
// buffer (a third of the relay's own time per packet, when it was like that).
func (ip *IP) Parse(b []byte) Problem {
	if len(b) == 0 {
		return Short
	}
	switch b[0] >> 4 {
	case 4:
		return ip.Parse4(b)
	case 6:
		return ip.Parse6(b)
	}
	return BadVersion
}

// Parse4 reads an IPv4 header (RFC 791) and verifies its checksum.
func (ip *IP) Parse4(b []byte) Problem {
	if len(b) < IPv4Len {
		return Short
	}
	if b[0]>>4 != 4 {
		return BadVersion
	}
	ip.Version, ip.TOS, ip.TTL, ip.Proto = 4, b[1], b[8], b[9]
	ip.HeaderLen, ip.Len = int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:4]))
	if ip.HeaderLen < IPv4Len || ip.Len < ip.HeaderLen || ip.Len > len(b) {
		return BadLength
	}
	if ip.HeaderLen == IPv4Len {
		if sum20(b) != 0xffff {
			return BadChecksum
		}
	} else if Sum(0, b[:ip.HeaderLen]) != 0xffff {
		return BadChecksum
	}
	frag := binary.BigEndian.Uint16(b[6:8])
	ip.DF = frag&0x4000 != 0
	ip.Fragment = frag&0x3fff != 0
	ip.First = frag&0x1fff == 0
	return Fine
}

// Parse6 reads an IPv6 header (RFC 8200) and walks its extension headers up
// to the transport header or, in a later fragment, up to the fragment's data.
// An ESP header ends the walk like a transport header.
func (ip *IP) Parse6(b []byte) Problem {
	if len(b) < IPv6Len {
		return Short
	}
	if b[0]>>4 != 6 {
		return BadVersion
	}
	ip.Version, ip.TOS, ip.TTL, ip.Proto = 6, b[0]<<4|b[1]>>4, b[7], b[6]
	ip.DF, ip.Fragment, ip.First = true, false, true
	ip.HeaderLen, ip.Len = IPv6Len, IPv6Len+int(binary.BigEndian.Uint16(b[4:6]))
	if ip.Len > len(b) {
		return BadLength
	}
	if ip.Proto == ProtoUDP || ip.Proto == ProtoTCP {
		return Fine
	}
	return ip.extensions(b[:ip.Len])
}

func (ip *IP) extensions(b []byte) Problem {
	for range maxExtensions {
		var length int
		switch ip.Proto {
		case ProtoHopByHop, ProtoRouting, ProtoDestOpts, ProtoMobility, ProtoHIP, ProtoShim6, ProtoAH, ProtoFragment:
			if len(b) < ip.HeaderLen+8 {
				return Short
			}
			length = (int(b[ip.HeaderLen+1]) + 1) * 8
		default:
			return Fine
		}
		switch ip.Proto {
		case ProtoAH: // counts in words of 4, minus 2 (RFC 4302 section 2.2)
			length = (int(b[ip.HeaderLen+1]) + 2) * 4
		case ProtoFragment: // the second byte is reserved
			length = 8
			frag := binary.BigEndian.Uint16(b[ip.HeaderLen+2:])
			ip.Fragment = frag&0xfff9 != 0 // an "atomic" fragment (RFC 6946) is a whole packet
			ip.First = frag&0xfff8 == 0
		}
		if len(b) < ip.HeaderLen+length {
			return BadLength
		}
		ip.Proto = b[ip.HeaderLen]
		ip.HeaderLen += length
		if !ip.First {
			return Fine
		}
	}
	return BadField
}

// Plain says that the header has neither options nor extension headers.
func (ip *IP) Plain() bool {
	return ip.HeaderLen == IPv4Len || ip.HeaderLen == IPv6Len && ip.Version == 6
}

// FragmentOffset is where the fragment b belongs in its packet, in bytes from
// the end of the part that is not fragmented. Of an IPv6 packet, only a later
// fragment may be asked: the walk over its headers has ended behind the fragment
// header.
func (ip *IP) FragmentOffset(b []byte) int {
	if ip.Version == 4 {
		return int(binary.BigEndian.Uint16(b[6:8])&0x1fff) * 8
	}
	return int(binary.BigEndian.Uint16(b[ip.HeaderLen-6:]) &^ 7)
}

// Src returns the source address of the IP packet b, of which the header is present.
func (ip *IP) Src(b []byte) netip.Addr {
	if ip.Version == 4 {
		return netip.AddrFrom4([4]byte(b[12:16]))
	}
	return netip.AddrFrom16([16]byte(b[8:24]))
}

// Dst returns the destination address of the IP packet b, of which the header is present.
func (ip *IP) Dst(b []byte) netip.Addr {
	if ip.Version == 4 {
		return netip.AddrFrom4([4]byte(b[16:20]))
	}
	return netip.AddrFrom16([16]byte(b[24:40]))
}

// SrcBytes are the 4 or 16 bytes of the source address of the IP packet b.
func (ip *IP) SrcBytes(b []byte) []byte {
	if ip.Version == 4 {
		return b[12:16]
	}
	return b[8:24]
}

// DstBytes are the 4 or 16 bytes of the destination address of the IP packet b.
func (ip *IP) DstBytes(b []byte) []byte {
	if ip.Version == 4 {
		return b[16:20]
	}
	return b[24:40]
}

// DecrementTTL lowers the TTL or hop limit of the IP packet b, which is at least
// 1, by one and updates the IPv4 checksum (RFC 1141: the TTL is the high byte
// of its word, so the sum grows by 0x0100). Of the two zeros of one's complement
// it writes the one that a computed sum has (RFC 1624 section 3).
func DecrementTTL(b []byte) {
	if b[0]>>4 == 6 {
		b[7]--
		return
	}
	b[8]--
	sum := uint32(binary.BigEndian.Uint16(b[10:12])) + 0x0100
	binary.BigEndian.PutUint16(b[10:12], uint16(sum+(sum+1)>>16))
}

// SetTOS writes DSCP and ECN of the IP packet b and updates the IPv4 checksum.
func SetTOS(b []byte, tos uint8) {
	if b[0]>>4 == 6 {
		b[0] = b[0]&0xf0 | tos>>4
		b[1] = b[1]&0x0f | tos<<4
		return
	}
	old := binary.BigEndian.Uint16(b[0:2])
	b[1] = tos
	sum := Update(binary.BigEndian.Uint16(b[10:12]), old, binary.BigEndian.Uint16(b[0:2]))
	binary.BigEndian.PutUint16(b[10:12], sum)
}

// PutIPv4 writes a header without options and with its checksum; b has IPv4Len
// bytes, length is that of the whole packet. The identification is 0, which
// RFC 6864 section 4.1 allows for packets that must not be fragmented: DF is set.
func PutIPv4(b []byte, tos uint8, length int, ttl, proto uint8, src, dst [4]byte) {
	_ = b[IPv4Len-1]
	b[0], b[1] = 0x45, tos
	binary.BigEndian.PutUint16(b[2:4], uint16(length))
	b[4], b[5], b[6], b[7] = 0, 0, 0x40, 0
	b[8], b[9], b[10], b[11] = ttl, proto, 0, 0
	copy(b[12:16], src[:])
	copy(b[16:20], dst[:])
	binary.BigEndian.PutUint16(b[10:12], ^sum20(b))
}

// PutIPv6 writes a header; b has IPv6Len bytes, payload is the length behind
// it. The flow label carries 20 bits of flow (RFC 6438: entropy for tunnels).
func PutIPv6(b []byte, tos uint8, flow uint32, payload int, ttl, proto uint8, src, dst [16]byte) {
	_ = b[IPv6Len-1]
	binary.BigEndian.PutUint32(b[0:4], 6<<28|uint32(tos)<<20|flow&0xfffff)
	binary.BigEndian.PutUint16(b[4:6], uint16(payload))
	b[6], b[7] = proto, ttl
	copy(b[8:24], src[:])
	copy(b[24:40], dst[:])
}
