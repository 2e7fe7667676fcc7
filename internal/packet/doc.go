// Package packet knows wire formats and nothing else: where the fields of
// Ethernet, ARP, IPv4, IPv6, ICMP, neighbour discovery, UDP, TCP, Geneve and
// VXLAN are, how to check them, how to write them, and their checksums.
//
// It is not a decoder into objects: a parser looks at bytes and returns a
// small value of lengths, offsets and numbers. Nothing is allocated, nothing is
// kept: all slices are borrowed for the call, and any goroutine may call
// anything as long as the bytes are its own.
//
// A parser returns a Problem instead of an error, because its caller turns it
// into a counter, not into text.
//
//	var ip packet.IP
//	if bad := ip.Parse(b); bad != packet.Fine {
//		return bad
//	}
//	transport := b[ip.HeaderLen:ip.Len]
package packet

// Problem says why bytes are not the packet they claim to be.
type Problem uint8

// The problems.
const (
	Fine        Problem = iota
	Short               // ends before its header does
	BadVersion          // not the version that the parser knows
	BadLength           // a length field contradicts another or the bytes present
	BadChecksum         // header checksum does not match
	BadField            // a field has a value that the specification forbids
)

// String names the problem.
func (p Problem) String() string {
	switch p {
	case Fine:
		return "fine"
	case Short:
		return "short"
	case BadVersion:
		return "bad version"
	case BadLength:
		return "bad length"
	case BadChecksum:
		return "bad checksum"
	case BadField:
		return "bad field"
	}
	return "unknown problem"
}
