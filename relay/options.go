package relay

import (
	"encoding/binary"

	"github.com/sluicegw/sluice/internal/packet"
)

// IPv4 options that somebody here looks at (IANA, with the copied flag).
const (
	optionEnd               = 0
	optionNop               = 1
	optionLooseSourceRoute  = 131
	optionStrictSourceRoute = 137
)

// options looks at the options or extension headers of the inner packet f and
// says whether it may travel. Options travel as they are: we record no
// route and stamp no time (RFC 7126 lets a router ignore both). What the sender
// may not do is choose the way: source routes lead around everything that
// routes and access lists say.
func (w *worker) options(f *frame) bool {
	b := f.data()[:f.ip.HeaderLen]
	if f.ip.Version == 6 {
		if routedByType0(b) {
			w.drop(f, SourceRouted)
			return false
		}
		return true
	}
	for at := packet.IPv4Len; at < len(b); {
		switch b[at] {
		case optionEnd:
			return true
		case optionNop:
			at++
			continue
		}
		if at+1 >= len(b) || b[at+1] < 2 || at+int(b[at+1]) > len(b) {
			w.icmpError(f, BadOption, packet.ParameterProblem, 0, uint32(at)<<24)
			return false
		}
		if b[at] == optionLooseSourceRoute || b[at] == optionStrictSourceRoute {
			w.drop(f, SourceRouted)
			return false
		}
		at += int(b[at+1])
	}
	return true
}

// routedByType0 looks for a routing header of type 0 (RFC 5095) that has
// somewhere to go. b ends behind the last extension header, and packet.IP.Parse6 has
// walked it before.
func routedByType0(b []byte) bool {
	next, at := b[6], packet.IPv6Len
	for at+8 <= len(b) {
		length := (int(b[at+1]) + 1) * 8
		switch next {
		case packet.ProtoRouting:
			if b[at+2] == 0 && b[at+3] > 0 {
				return true
			}
		case packet.ProtoAH:
			length = (int(b[at+1]) + 2) * 4
		case packet.ProtoFragment:
			if binary.BigEndian.Uint16(b[at+2:])&0xfff8 != 0 {
				return false // what follows is in the first fragment
			}
			length = 8
		}
		next, at = b[at], at+length
	}
	return false
}
