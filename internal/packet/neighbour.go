package packet

import "encoding/binary"

// ARPLen is the length of ARP for IPv4 over Ethernet (RFC 826).
const ARPLen = 28

// ARP operations.
const (
	ARPRequest = 1
	ARPReply   = 2
)

// ARP is a parsed ARP packet for IPv4 over Ethernet.
type ARP struct {
	Op                 uint16
	SenderMAC          [6]byte
	SenderIP, TargetIP [4]byte
}

// ParseARP reads an ARP packet; bytes behind it are padding.
func ParseARP(b []byte) (ARP, Problem) {
	if len(b) < ARPLen {
		return ARP{}, Short
	}
	if binary.BigEndian.Uint64(b[0:8])>>16 != 0x0001_0800_0604 {
		return ARP{}, BadField
	}
	return ARP{Op: binary.BigEndian.Uint16(b[6:8]), SenderMAC: [6]byte(b[8:14]),
		SenderIP: [4]byte(b[14:18]), TargetIP: [4]byte(b[24:28])}, Fine
}

// PutARPReply writes the answer to a request: target's address is at mac. b
// has ARPLen bytes.
func PutARPReply(b []byte, request ARP, mac [6]byte) {
	_ = b[ARPLen-1]
	binary.BigEndian.PutUint64(b[0:8], 0x0001_0800_0604<<16|ARPReply)
	copy(b[8:14], mac[:])
	copy(b[14:18], request.TargetIP[:])
	copy(b[18:24], request.SenderMAC[:])
	copy(b[24:28], request.SenderIP[:])
}

// NDLen is the length of a solicitation or advertisement without options,
// NDAdvertLen that of one with the target's link-layer address.
const (
	NDLen       = 24
	NDAdvertLen = NDLen + 8
)

// Solicit is a parsed neighbour solicitation.
type Solicit struct {
	Target [16]byte
	// SourceMAC is the source link-layer address option, valid when HasMAC.
	SourceMAC [6]byte
	HasMAC    bool
}

// ParseSolicit validates and reads the neighbour solicitation in the IPv6
// packet b, parsed as ip, by all the rules of RFC 4861 section 7.1.1. One with
// the unspecified source is a duplicate address probe.
func ParseSolicit(b []byte, ip *IP) (Solicit, Problem) {
	if ip.Len > len(b) || ip.Len-ip.HeaderLen < NDLen {
		return Solicit{}, Short
	}
	m := b[ip.HeaderLen:ip.Len]
	if ip.TTL != 255 || m[0] != NeighbourSolicit || m[1] != 0 {
		return Solicit{}, BadField
	}
	if Sum(PseudoSum(b, ProtoICMPv6, len(m)), m) != 0xffff {
		return Solicit{}, BadChecksum
	}
	s := Solicit{Target: [16]byte(m[8:24])}
	if s.Target[0] == 0xff {
		return s, BadField
	}
	for rest := m[NDLen:]; len(rest) > 0; {
		if len(rest) < 8 {
			return s, Short
		}
		length := int(rest[1]) * 8
		if length == 0 || length > len(rest) {
			return s, BadLength
		}
		if rest[0] == 1 && length == 8 {
			s.SourceMAC, s.HasMAC = [6]byte(rest[2:8]), true
		}
		rest = rest[length:]
	}
	if [16]byte(b[8:24]) == ([16]byte{}) {
		solicited := [13]byte{0xff, 0x02, 10: 0, 11: 0x01, 12: 0xff}
		if s.HasMAC || [13]byte(b[24:37]) != solicited {
			return s, BadField
		}
	}
	return s, Fine
}

// PutAdvert writes a neighbour advertisement of target at mac, as a router, to
// overwrite what was known. b has NDAdvertLen bytes; the checksum is left to
// PutTransportChecksum, which needs the IPv6 header in front.
func PutAdvert(b []byte, target [16]byte, mac [6]byte, solicited bool) {
	_ = b[NDAdvertLen-1]
	b[0], b[1], b[2], b[3] = NeighbourAdvert, 0, 0, 0
	flags := uint32(0xa0000000) // router, override
	if solicited {
		flags |= 0x40000000
	}
	binary.BigEndian.PutUint32(b[4:8], flags)
	copy(b[8:24], target[:])
	b[24], b[25] = 2, 1 // target link-layer address, in units of 8 bytes
	copy(b[26:32], mac[:])
}
