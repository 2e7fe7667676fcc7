package relay

import (
	"encoding/binary"
	"net/netip"

	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/hosts"
	"github.com/sluicegw/sluice/internal/packet"
)

// glimpse is a host that a worker has seen lately: as long as it is the same
// and not too long ago there is nothing to tell. One cache line.
type glimpse struct {
	hi, lo         uint64 // inner source address
	vtepHi, vtepLo uint64 // outer source address
	mac            uint64 // inner Ethernet source, and the EtherType behind it
	where          uint64 // VPC, queue, UDP port, IP version; never zero
	until          int64
	_              uint64
}

// glimpseSlots take 128 KiB.
const glimpseSlots = 2048

const (
	// seenEvery is how often a host that sends is marked as seen, in ns: several times while it may be quiet.
	seenEvery = 100_000_000
	// toldEvery is how soon a host that is not where the table says is spoken of again.
	toldEvery = 50_000_000
	// notLearned is how long a source that nobody learns is left alone.
	notLearned = 1_000_000_000
	// tellBudget bounds what one worker tells the learner per millisecond.
	tellBudget = 64
)

// see notes where the inner packet f comes from. o is the overlay it came by,
// outer the offset of the outer IP header, ethernet that of the inner Ethernet
// header.
func (w *worker) see(f *frame, o overlay, outer, ethernet int) {
	chunk := f.chunk
	inner, ip := chunk[f.off:f.off+packet.IPv4Len], chunk[outer:outer+packet.IPv4Len] // IPv6 is longer, but its source begins in there
	mac := binary.LittleEndian.Uint64(chunk[ethernet+6 : ethernet+14])
	where := uint64(f.vpc)<<40 | uint64(uint8(f.slot))<<24 | uint64(o.udp)<<8 | uint64(f.ip.Version)
	lo, vtepLo := uint64(binary.LittleEndian.Uint32(inner[12:])), uint64(binary.LittleEndian.Uint32(ip[12:]))
	var hi, vtepHi uint64
	if f.ip.Version != 4 {
		hi, lo = binary.LittleEndian.Uint64(chunk[f.off+8:]), binary.LittleEndian.Uint64(chunk[f.off+16:])
	}
	if ip[0]>>4 != 4 {
		vtepHi, vtepLo = binary.LittleEndian.Uint64(chunk[outer+8:]), binary.LittleEndian.Uint64(chunk[outer+16:])
	}
	g := &w.glimpses[(lo^hi^where<<20)*0x9e3779b97f4a7c15>>53]
	if (g.lo^lo)|(g.mac^mac)|(g.vtepLo^vtepLo)|(g.where^where)|(g.hi^hi)|(g.vtepHi^vtepHi) == 0 && w.now < g.until {
		return
	}
	now := glimpse{hi: hi, lo: lo, vtepHi: vtepHi, vtepLo: vtepLo, mac: mac, where: where}
	w.sight(f, o, outer, ethernet, g, &now)
}

// looksOut says whether the sources of a batch of n packets from q are looked
// at: of full batches one in four is. A worker that has its hands full sees a
// host that matters often enough, and ARP and neighbour discovery are always
// heard.
func (w *worker) looksOut(q *queue, n int) bool {
	q.looks = q.looks*1664525 + 1013904223 // which one must not go in step with the traffic
	return w.glimpses != nil && (n < batchSize || q.looks>>30 == 0)
}

// sight takes in a host that is new, or was not looked at for a while.
func (w *worker) sight(f *frame, o overlay, outer, ethernet int, g, now *glimpse) {
	ip := f.chunk[outer:]
	s := hosts.Sighting{Key: hosts.Key{Addr: f.ip.Src(f.data())}, Place: hosts.Place{VTEP: outerSource(ip), MAC: [6]byte(f.chunk[ethernet+6:])}}
	*g = *now
	_, g.until = w.tell(f, o, &s)
}

// outerSource is the source address of the outer IP packet.
func outerSource(ip []byte) netip.Addr {
	if ip[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(ip[12:16]))
	}
	return netip.AddrFrom16([16]byte(ip[8:24]))
}

// heard takes in what ARP or neighbour discovery says of a host: addr is at
// mac. It says whether the attachment learns such addresses.
func (w *worker) heard(f *frame, o overlay, outer int, addr netip.Addr, mac [6]byte, answer bool) bool {
	if !o.learn || w.glimpses == nil {
		return false
	}
	s := hosts.Sighting{Key: hosts.Key{Addr: addr}, Place: hosts.Place{VTEP: outerSource(f.chunk[outer:]), MAC: mac}, Answer: answer}
	learned, _ := w.tell(f, o, &s)
	return learned
}

// tell marks a host as seen, or tells the learner when it is not where the
// table says. It says whether such hosts are learned here, and until when there
// is no need to come again with the same.
func (w *worker) tell(f *frame, o overlay, s *hosts.Sighting) (learned bool, until int64) {
	d := w.learnedHere(f, o, s.Addr)
	switch {
	case d == nil || w.state.local.has(s.VTEP):
		return false, w.now + notLearned
	case w.trace != nil: // nobody has sent it
		return true, 0
	}
	s.Segment = d.segment
	e := w.known.Lookup(s.Key)
	if e != nil && !e.Silent && e.Place == s.Place {
		e.Saw(w.now)
		return true, w.now + seenEvery
	}
	if !d.listen && !s.Answer {
		return true, w.now + notLearned
	}
	if w.now >= w.toldAt+1_000_000 {
		w.toldAt, w.told = w.now, 0
	}
	if w.told >= tellBudget || !w.learner.Saw(s) {
		w.untold++
		return true, 0
	}
	if w.told++; e != nil && e.Told { // it is only counted
		return true, w.now + notLearned
	}
	return true, w.now + toldEvery
}

// learnedHere returns the learned delivery that the address belongs to, if that is the attachment which f came by.
func (w *worker) learnedHere(f *frame, o overlay, a netip.Addr) *deliveryState {
	var buf [16]byte
	b := buf[:]
	if a.Is4() {
		four := a.As4()
		b = buf[:copy(buf[:], four[:])]
	} else {
		buf = a.As16()
	}
	r := w.routes.route(w.state.vpcs, f.vpc, b)
	if r == nil || r.NextHops[0].Kind != fib.Local || w.state.vpcs[f.vpc].gateways.has(a) {
		return nil
	}
	d := &w.state.deliveries[r.NextHops[0].ID]
	if !d.learned || d.udp != o.udp || d.ifindex != w.queues[f.slot].ifindex {
		return nil
	}
	return d
}
