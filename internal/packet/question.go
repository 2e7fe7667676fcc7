package packet

import "encoding/binary"

// Broadcast is the Ethernet address of everybody.
var Broadcast = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// PutARPRequest writes the question who has target, asked by sender at mac. b has ARPLen bytes.
func PutARPRequest(b []byte, mac [6]byte, sender, target [4]byte) {
	_ = b[ARPLen-1]
	binary.BigEndian.PutUint64(b[0:8], 0x0001_0800_0604<<16|ARPRequest)
	copy(b[8:14], mac[:])
	copy(b[14:18], sender[:])
	clear(b[18:24])
	copy(b[24:28], target[:])
}

// NDSolicitLen is the length of a solicitation with its sender's link-layer address.
const NDSolicitLen = NDLen + 8

// PutSolicit writes a neighbour solicitation for target, asked by mac. b has NDSolicitLen bytes; the checksum is left
// to PutTransportChecksum, which needs the IPv6 header in front.
func PutSolicit(b []byte, target [16]byte, mac [6]byte) {
	_ = b[NDSolicitLen-1]
	clear(b[:8])
	b[0] = NeighbourSolicit
	copy(b[8:24], target[:])
	b[24], b[25] = 1, 1 // source link-layer address, in units of 8 bytes
	copy(b[26:32], mac[:])
}

// SolicitedNode is the group that everybody with this address listens to (RFC 4291 section 2.7.1), and its Ethernet
// address (RFC 2464 section 7).
func SolicitedNode(target [16]byte) (group [16]byte, mac [6]byte) {
	group = [16]byte{0xff, 0x02, 11: 0x01, 12: 0xff, 13: target[13], 14: target[14], 15: target[15]}
	return group, [6]byte{0x33, 0x33, 0xff, target[13], target[14], target[15]}
}

// Advert is a parsed neighbour advertisement.
type Advert struct {
	Target [16]byte
	// MAC is the target link-layer address option, valid when HasMAC; an answer to a question by unicast may lack it.
	MAC    [6]byte
	HasMAC bool
}

// ParseAdvert validates and reads the neighbour advertisement in the IPv6 packet b, parsed as ip, by all the rules of
// RFC 4861 section 7.1.2.
func ParseAdvert(b []byte, ip *IP) (Advert, Problem) {
	if ip.Len > len(b) || ip.Len-ip.HeaderLen < NDLen {
		return Advert{}, Short
	}
	m := b[ip.HeaderLen:ip.Len]
	if ip.TTL != 255 || m[0] != NeighbourAdvert || m[1] != 0 {
		return Advert{}, BadField
	}
	if Sum(PseudoSum(b, ProtoICMPv6, len(m)), m) != 0xffff {
		return Advert{}, BadChecksum
	}
	a := Advert{Target: [16]byte(m[8:24])}
	solicited := m[4]&0x40 != 0
	if a.Target[0] == 0xff || b[24] == 0xff && solicited {
		return a, BadField
	}
	for rest := m[NDLen:]; len(rest) > 0; {
		if len(rest) < 8 {
			return a, Short
		}
		length := int(rest[1]) * 8
		if length == 0 || length > len(rest) {
			return a, BadLength
		}
		if rest[0] == 2 && length == 8 {
			a.MAC, a.HasMAC = [6]byte(rest[2:8]), true
		}
		rest = rest[length:]
	}
	return a, Fine
}
