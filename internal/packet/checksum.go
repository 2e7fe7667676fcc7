package packet

import (
	"encoding/binary"
	"math/bits"
)

// Sum adds the bytes of b as 16-bit big-endian words in one's complement
// arithmetic to initial and returns the folded sum, not its complement
// (RFC 1071). An odd last byte is padded with zero.
//
// It reads eight bytes at a time: in one's complement a carry out of 64 bits is
// worth the same as one out of 16. It reads them in the other byte order and
// swaps the sum in the end (RFC 1071 section 2 B), and keeps two sums, because an
// addition waits for the carry of the one before it.
func Sum(initial uint16, b []byte) uint16 {
	var even, odd, carry uint64
	if n := len(b) &^ 63; vectors && n >= sumVectors {
		even, b = sumBlocks(&b[0], n), b[n:]
	}
	for len(b) >= 64 {
		even, carry = bits.Add64(even, binary.LittleEndian.Uint64(b[0:8]), 0)
		even, carry = bits.Add64(even, binary.LittleEndian.Uint64(b[8:16]), carry)
		even, carry = bits.Add64(even, binary.LittleEndian.Uint64(b[16:24]), carry)
		even, carry = bits.Add64(even, binary.LittleEndian.Uint64(b[24:32]), carry)
		even += carry // cannot overflow: a carry leaves the sum below its maximum
		odd, carry = bits.Add64(odd, binary.LittleEndian.Uint64(b[32:40]), 0)
		odd, carry = bits.Add64(odd, binary.LittleEndian.Uint64(b[40:48]), carry)
		odd, carry = bits.Add64(odd, binary.LittleEndian.Uint64(b[48:56]), carry)
		odd, carry = bits.Add64(odd, binary.LittleEndian.Uint64(b[56:64]), carry)
		odd += carry
		b = b[64:]
	}
	for len(b) >= 8 {
		even, carry = bits.Add64(even, binary.LittleEndian.Uint64(b), 0)
		even += carry
		b = b[8:]
	}
	rest := uint64(bits.ReverseBytes16(initial))
	if len(b) >= 4 {
		rest += uint64(binary.LittleEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		rest += uint64(binary.LittleEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		rest += uint64(b[0])
	}
	even, carry = bits.Add64(even, odd, 0)
	even, carry = bits.Add64(even, rest, carry)
	return bits.ReverseBytes16(fold(even + carry))
}

// sumVectors is from how many bytes on vectors pay, measured.
const sumVectors = 128

// sum20 is Sum of an IPv4 header without options.
func sum20(b []byte) uint16 {
	_ = b[19]
	sum, carry := bits.Add64(binary.BigEndian.Uint64(b[0:8]), binary.BigEndian.Uint64(b[8:16]), 0)
	sum, carry = bits.Add64(sum, uint64(binary.BigEndian.Uint32(b[16:20])), carry)
	return fold(sum + carry)
}

// fold brings a one's complement sum from 64 down to 16 bits.
func fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}

// Update returns the checksum field that check becomes when a word that it
// covers changes from old to new (RFC 1624, equation 3).
func Update(check, old, new uint16) uint16 {
	return ^fold(uint64(^check) + uint64(^old) + uint64(new))
}

// PseudoSum is the sum of the pseudo-header (RFC 768, RFC 8200 section 8.1) of
// an IP packet whose header is at b, for a transport segment of this length.
func PseudoSum(b []byte, proto uint8, length int) uint16 {
	rest := uint64(proto) + uint64(length)
	if b[0]>>4 == 4 {
		return fold(rest + uint64(binary.BigEndian.Uint32(b[12:16])) + uint64(binary.BigEndian.Uint32(b[16:20])))
	}
	return Sum(fold(rest), b[8:40])
}

// checksumAt is where the checksum field of a transport header is, -1 when the
// protocol has none that covers a pseudo-header.
func checksumAt(proto uint8) int {
	switch proto {
	case ProtoTCP:
		return 16
	case ProtoUDP:
		return 6
	case ProtoICMPv6:
		return 2
	}
	return -1
}

// PutTransportChecksum computes and writes the checksum of the TCP, UDP or
// ICMPv6 segment of the IP packet b (header at 0, segment at off up to the end
// of b). A computed zero becomes 0xffff for UDP, where zero means "none".
func PutTransportChecksum(b []byte, off int, proto uint8) {
	at := off + checksumAt(proto)
	b[at], b[at+1] = 0, 0
	sum := ^Sum(PseudoSum(b, proto, len(b)-off), b[off:])
	if sum == 0 && proto == ProtoUDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[at:], sum)
}
