package packet

import (
	"encoding/binary"
	"math/bits"
)

// Kinds of TCP options (RFC 9293 section 3.2) that the walk needs to know.
const (
	tcpOptionEnd = 0
	tcpOptionNop = 1
	tcpOptionMSS = 2
)

// ClampMSS lowers the maximum segment size that the TCP segment b announces to
// mss, updates its checksum (RFC 1624), and says whether it changed anything. It
// never raises the figure and adds no option where there is none: without it a
// host sends 536 bytes to IPv4 and 1220 to IPv6 (RFC 9293 section 3.7.1), which
// fits every path that IPv6 may be sent over. A segment that is no SYN, or
// whose options are malformed before the one we look for, stays as it is.
func ClampMSS(b []byte, mss uint16) bool {
	t, bad := ParseTCP(b)
	if bad != Fine || t.Flags&TCPSyn == 0 {
		return false
	}
	changed := false
	for at := TCPLen; at < t.HeaderLen; {
		switch b[at] {
		case tcpOptionEnd:
			return changed
		case tcpOptionNop:
			at++
			continue
		}
		if at+1 >= t.HeaderLen {
			return changed
		}
		length := int(b[at+1])
		if length < 2 || at+length > t.HeaderLen {
			return changed
		}
		if b[at] == tcpOptionMSS && length == 4 && binary.BigEndian.Uint16(b[at+2:]) > mss {
			setMSS(b, at+2, mss)
			changed = true
		}
		at += length
	}
	return changed
}

// setMSS writes the figure at offset at. At an odd offset its bytes lie in two
// words of the sum, each in the other half: swapped, they count the same.
func setMSS(b []byte, at int, mss uint16) {
	old, now := binary.BigEndian.Uint16(b[at:]), mss
	binary.BigEndian.PutUint16(b[at:], mss)
	if at&1 != 0 {
		old, now = bits.ReverseBytes16(old), bits.ReverseBytes16(now)
	}
	binary.BigEndian.PutUint16(b[16:18], Update(binary.BigEndian.Uint16(b[16:18]), old, now))
}
