package packet

import "encoding/binary"

// Header lengths.
const (
	UDPLen  = 8
	TCPLen  = 20 // without options
	ICMPLen = 8  // echo and errors, of both families
)

// UDP is a parsed UDP header.
type UDP struct {
	Src, Dst uint16
	Len      int // header and data
}

// ParseUDP reads a UDP header (RFC 768); b is the IP packet's payload.
func ParseUDP(b []byte) (UDP, Problem) {
	if len(b) < UDPLen {
		return UDP{}, Short
	}
	u := UDP{Src: binary.BigEndian.Uint16(b[0:2]), Dst: binary.BigEndian.Uint16(b[2:4]), Len: int(binary.BigEndian.Uint16(b[4:6]))}
	if u.Len < UDPLen || u.Len > len(b) {
		return u, BadLength
	}
	return u, Fine
}

// PutUDP writes a header with the checksum field zero; b has UDPLen bytes and
// length counts header and data.
func PutUDP(b []byte, src, dst uint16, length int) {
	_ = b[UDPLen-1]
	binary.BigEndian.PutUint16(b[0:2], src)
	binary.BigEndian.PutUint16(b[2:4], dst)
	binary.BigEndian.PutUint16(b[4:6], uint16(length))
	b[6], b[7] = 0, 0
}

// TCP flags.
const (
	TCPFin = 1 << 0
	TCPSyn = 1 << 1
	TCPRst = 1 << 2
	TCPAck = 1 << 4
)

// TCP is a parsed TCP header.
type TCP struct {
	Src, Dst  uint16
	Flags     uint8
	HeaderLen int // with options
}

// ParseTCP reads a TCP header (RFC 9293); b is the IP packet's payload.
func ParseTCP(b []byte) (TCP, Problem) {
	if len(b) < TCPLen {
		return TCP{}, Short
	}
	t := TCP{Src: binary.BigEndian.Uint16(b[0:2]), Dst: binary.BigEndian.Uint16(b[2:4]), Flags: b[13], HeaderLen: int(b[12]>>4) * 4}
	if t.HeaderLen < TCPLen || t.HeaderLen > len(b) {
		return t, BadLength
	}
	return t, Fine
}

// ICMP types and codes that we read or write (IANA); those of ICMPv6 have a 6.
const (
	EchoReply         = 0
	Unreachable       = 3
	Redirect          = 5
	Echo              = 8
	TimeExceeded      = 11
	ParameterProblem  = 12
	CodeNetUnreach    = 0
	CodeHostUnreach   = 1
	CodePortUnreach   = 3
	CodeFragNeeded    = 4
	CodeProhibited    = 13 // RFC 1812 section 5.2.7.1
	Unreachable6      = 1
	TooBig6           = 2
	TimeExceeded6     = 3
	Echo6             = 128
	EchoReply6        = 129
	NeighbourSolicit  = 135
	NeighbourAdvert   = 136
	CodeNoRoute6      = 0
	CodeProhibited6   = 1
	CodeAddrUnreach6  = 3
	CodePortUnreach6  = 4
	firstInfoMessage6 = 128
)

// ICMP is a parsed ICMP or ICMPv6 header.
type ICMP struct {
	Type, Code uint8
}

// ParseICMP reads the header of an ICMP or ICMPv6 message; b is the payload of
// the IP packet. The checksum is not verified.
func ParseICMP(b []byte) (ICMP, Problem) {
	if len(b) < ICMPLen {
		return ICMP{}, Short
	}
	return ICMP{Type: b[0], Code: b[1]}, Fine
}

// Error says that the message reports an error: one must never be answered
// with another (RFC 1122 section 3.2.2, RFC 4443 section 2.4 e).
func (m ICMP) Error(version uint8) bool {
	if version == 6 {
		return m.Type < firstInfoMessage6
	}
	switch m.Type {
	case Unreachable, 4, Redirect, TimeExceeded, ParameterProblem:
		return true
	}
	return false
}

// PutICMP writes type, code and the second word and computes the checksum of
// an IPv4 ICMP message, which is all of b. (ICMPv6: PutTransportChecksum.)
func PutICMP(b []byte, typ, code uint8, word uint32) {
	_ = b[ICMPLen-1]
	b[0], b[1], b[2], b[3] = typ, code, 0, 0
	binary.BigEndian.PutUint32(b[4:8], word)
	binary.BigEndian.PutUint16(b[2:4], ^Sum(0, b))
}
