package packet

import (
	"encoding/binary"
	"math/bits"
)

// FlowHash hashes addresses, protocol and, where they are in this packet,
// ports of the IP packet b, parsed as ip. The same flow has the same hash for
// as long as this code stays as it is, on every gateway; a flow's fragments
// have one of their own, without ports (RFC 6438 section 3). The two
// directions of a connection differ.
func FlowHash(b []byte, ip *IP) uint32 {
	var ports uint64
	if ip.First && !ip.Fragment && ip.HeaderLen+4 <= ip.Len {
		switch ip.Proto {
		case ProtoTCP, ProtoUDP:
			ports = uint64(binary.BigEndian.Uint32(b[ip.HeaderLen:]))
		}
	}
	ports |= uint64(ip.Proto) << 32
	if ip.Version == 4 {
		return mix(binary.BigEndian.Uint64(b[12:20]), ports, 0)
	}
	h := mix(binary.BigEndian.Uint64(b[8:16]), binary.BigEndian.Uint64(b[16:24]), 0)
	return mix(binary.BigEndian.Uint64(b[24:32]), binary.BigEndian.Uint64(b[32:40])^ports, h)
}

// SourceHash hashes the source address of the IP packet b, parsed as ip.
func SourceHash(b []byte, ip *IP) uint32 {
	if ip.Version == 4 {
		return mix(uint64(binary.BigEndian.Uint32(b[12:16])), 0, 4)
	}
	return mix(binary.BigEndian.Uint64(b[8:16]), binary.BigEndian.Uint64(b[16:24]), 6)
}

// mix folds two words and a seed with one widening multiplication each way:
// fast, and good enough for spreading flows. It is not meant to resist an
// attacker, who can only crowd his own flows onto one path. The constants are
// the fractional parts of the golden ratio and of the square root of 3, made odd.
func mix(a, b uint64, seed uint32) uint32 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xbb67ae8584caa73b^uint64(seed))
	hi, lo = bits.Mul64(hi^lo, 0x9e3779b97f4a7c15)
	x := hi ^ lo
	return uint32(x>>32) ^ uint32(x)
}

// Rendezvous picks one of several next hops for a flow: the one whose id gives
// the highest weight with the flow's hash. When one of them goes, only its own
// flows move. weight is comparable among the ids of one flow only.
func Rendezvous(flow, id uint32) (weight uint32) {
	x := uint64(flow)<<32 | uint64(id)
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return uint32(x)
}

// EntropyPort turns a flow hash into a UDP source port of the dynamic range
// 49152-65535, as RFC 7348 section 5 and RFC 8926 section 3.3 recommend.
func EntropyPort(flow uint32) uint16 { return FlowPort(flow, EntropyFirst, EntropyCount) }

// The dynamic ports.
const (
	EntropyFirst = 0xc000
	EntropyCount = 0x4000
)

// FlowPort turns a flow hash into one of count ports from first on; count is a
// power of two.
func FlowPort(flow uint32, first, count uint16) uint16 {
	return first + uint16(flow^flow>>16)&(count-1)
}
