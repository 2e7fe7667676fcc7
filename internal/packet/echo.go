package packet

import (
	"encoding/binary"
	"net/netip"
)

// EchoRequest makes an ICMP or ICMPv6 echo request (RFC 792, RFC 4443 section
// 4.1) of length bytes in all, IP header included and never less than the
// headers; its data is zero, and IPv4 may not be fragmented. Both addresses are of
// one family. owned: the caller's.
func EchoRequest(src, dst netip.Addr, tos uint8, id, seq uint16, length int) []byte {
	word := uint32(id)<<16 | uint32(seq)
	if src.Is4() {
		b := make([]byte, max(length, IPv4Len+ICMPLen))
		PutIPv4(b[:IPv4Len], tos, len(b), 64, ProtoICMP, src.As4(), dst.As4())
		PutICMP(b[IPv4Len:], Echo, 0, word)
		return b
	}
	b := make([]byte, max(length, IPv6Len+ICMPLen))
	PutIPv6(b[:IPv6Len], tos, 0, len(b)-IPv6Len, 64, ProtoICMPv6, src.As16(), dst.As16())
	b[IPv6Len] = Echo6
	binary.BigEndian.PutUint32(b[IPv6Len+4:], word)
	PutTransportChecksum(b, IPv6Len, ProtoICMPv6)
	return b
}

// EchoID returns identifier and sequence number of an echo message, of which
// the header is present.
func EchoID(b []byte) (id, seq uint16) {
	return binary.BigEndian.Uint16(b[4:6]), binary.BigEndian.Uint16(b[6:8])
}
