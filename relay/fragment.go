package relay

import (
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/packet"
)

// maxPieces is in how many fragments a packet is cut at most: a jumbo frame for a
// path of the smallest MTU that anybody has (68) would be hundreds.
const maxPieces = 32

// tooLong takes a packet that is longer than the path to its next hop allows:
// it is cut where the source lets us, IPv4 without DF (RFC 791 section 3.2), and
// refused otherwise. limit is the longest packet.
//
// The inner packet is cut, before the tunnel: the receiving host puts it together,
// and nobody on the way has to.
func (w *worker) tooLong(f *frame, limit int, hop fib.NextHop) {
	if f.ip.DF || f.flooded || !w.fragment(f, limit, hop) {
		w.tooBig(f, limit)
	}
}

// fragment cuts a packet and sends the pieces to its next hop. The first is the
// packet itself, the others are copies, which the relay has made. False: it cannot
// be, and nothing was done.
func (w *worker) fragment(f *frame, limit int, hop fib.NextHop) bool {
	b, header := f.data(), f.ip.HeaderLen
	var options [60 - packet.IPv4Len]byte
	later := packet.IPv4Len + packet.CopiedOptions(options[:header-packet.IPv4Len], b[packet.IPv4Len:header])
	whole, first, rest := f.ip.Len-header, (limit-header)&^7, (limit-later)&^7
	if first < 8 || rest < 8 {
		return false
	}
	pieces := 1 + (whole-first+rest-1)/rest
	if pieces > maxPieces {
		return false
	}
	if w.copied+pieces > len(w.copies) { // copyOf must not begin anew while we hold copies
		w.sealAll()
		w.copied = 0
	}
	var parts [maxPieces]*frame
	n := 0
	offset, more := packet.FragmentOffset(b)
	for at := first; at < whole; at += rest {
		c := w.copyOf(f)
		if c == nil {
			continue
		}
		end := min(at+rest, whole)
		c.off, c.end = f.off+header+at-later, f.off+header+end
		part := c.data()
		copy(part, b[:packet.IPv4Len])
		copy(part[packet.IPv4Len:later], options[:])
		part[0] = 4<<4 | byte(later/4)
		packet.SetFragment(part, offset+at, end < whole || more)
		c.ip.Parse4(part)
		parts[n] = c
		n++
	}
	f.end = f.off + header + first
	packet.SetFragment(f.data(), offset, true)
	f.ip.Parse4(f.data())
	w.again(f, hop)
	for _, c := range parts[:n] {
		w.again(c, hop)
	}
	return true
}

// again sends a piece where the packet was on its way to.
func (w *worker) again(f *frame, hop fib.NextHop) {
	switch {
	case f.origin == fromKernel:
		w.toPeer(f, hop.ID)
	case hop.Kind == fib.Local:
		w.deliver(f, hop.ID)
	default:
		w.encap(f, hop.ID)
	}
}
