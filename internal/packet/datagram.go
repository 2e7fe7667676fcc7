package packet

import "net/netip"

// Datagram makes a whole UDP packet. Both addresses are of one family. owned: the caller's.
func Datagram(src, dst netip.Addr, tos uint8, from, to uint16, payload []byte) []byte {
	length := UDPLen + len(payload)
	if src.Is4() {
		b := make([]byte, IPv4Len+length)
		PutIPv4(b[:IPv4Len], tos, len(b), 64, ProtoUDP, src.As4(), dst.As4())
		PutUDP(b[IPv4Len:], from, to, length)
		copy(b[IPv4Len+UDPLen:], payload)
		PutTransportChecksum(b, IPv4Len, ProtoUDP)
		return b
	}
	b := make([]byte, IPv6Len+length)
	PutIPv6(b[:IPv6Len], tos, 0, length, 64, ProtoUDP, src.As16(), dst.As16())
	PutUDP(b[IPv6Len:], from, to, length)
	copy(b[IPv6Len+UDPLen:], payload)
	PutTransportChecksum(b, IPv6Len, ProtoUDP)
	return b
}
