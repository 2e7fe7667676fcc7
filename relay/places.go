package relay

import (
	"encoding/binary"
	"net/netip"

	"github.com/sluicegw/sluice/internal/hosts"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// Hosts whose place nobody has configured are looked up in a table that the
// learner publishes apart from the state, because it changes whenever a host
// moves: a delivery with Learned set says only which attachment they are behind.

// placesSlots take 128 KiB.
const placesSlots = 2048

// placeCache is what a worker remembers of the table: a direct-mapped cache of
// hosts in front of it, and the way to each VTEP. It exists only while there is
// a learned delivery, and is made anew with each state.
type placeCache struct {
	hosts [placesSlots]place
	vteps map[vtepKey]*adjacency
}

// place is a host, as of a table. One cache line.
type place struct {
	hi, lo uint64
	where  uint64 // delivery+1 and the IP version, so that zero is an empty slot
	table  *hosts.Table
	entry  *hosts.Entry
	adj    *adjacency
	mac    [6]byte
	_      [10]byte
}

type vtepKey struct {
	delivery uint32
	vtep     netip.Addr
}

// maxVTEPsKept is when the ways to VTEPs are collected anew: those that are gone leave theirs behind.
const maxVTEPsKept = 4096

// ask wants to know of a host; a trace asks nobody.
func (w *worker) ask(key hosts.Key) {
	if w.trace == nil {
		w.learner.Ask(key)
	}
}

// takeHosts takes up the learner's table. Packets may wait for it.
func (w *worker) takeHosts() {
	if t := w.learner.Table(); t != w.known {
		w.known = t
		w.park.retryAt = 0
	}
}

// learnedAdjacency returns the way to the host that f is for, behind delivery
// id, and the host's MAC address; nil when the packet's way ended here, because
// the host is asked for or does not exist.
func (w *worker) learnedAdjacency(f *frame, id uint32) (*adjacency, [6]byte) {
	if w.places == nil { // a relay without a learner
		w.unreachable(f, NoHost)
		return nil, [6]byte{}
	}
	var hi, lo uint64
	where := uint64(id+1) << 8
	a := f.ip.DstBytes(f.data())
	if len(a) == 4 {
		lo = uint64(binary.BigEndian.Uint32(a))
	} else {
		hi, lo, where = binary.BigEndian.Uint64(a), binary.BigEndian.Uint64(a[8:]), where|1
	}
	p := &w.places.hosts[(lo^hi^where<<40)*0x9e3779b97f4a7c15>>53]
	if p.table != w.known || p.lo != lo || p.hi != hi || p.where != where {
		if !w.findPlace(f, id, p) {
			return nil, [6]byte{}
		}
		p.hi, p.lo, p.where, p.table = hi, lo, where, w.known
	}
	if w.trace != nil {
		w.trace.host(p.entry)
	}
	if p.entry.Quiet(w.now) {
		w.ask(p.entry.Key)
	}
	return w.vtepAdjacency(p.adj, &w.state.deliveries[id], p.adj.key.Dst), p.mac
}

// findPlace looks a host up in the table. A packet for one that is not there ends or waits.
func (w *worker) findPlace(f *frame, id uint32, p *place) bool {
	key := hosts.Key{Segment: w.state.deliveries[id].segment, Addr: f.ip.Dst(f.data())}
	p.where = 0
	p.entry = w.known.Lookup(key)
	switch {
	case p.entry == nil:
		w.ask(key)
		w.parkFor(f, parkKey{host: key}, wireguard.Endpoint{})
		return false
	case p.entry.Silent:
		w.unreachable(f, NoHost)
		return false
	}
	p.adj, p.mac = w.wayTo(id, p.entry.VTEP), p.entry.MAC
	return true
}

// wayTo returns the adjacency of a VTEP of a learned delivery, which the caller refreshes by vtepAdjacency.
func (w *worker) wayTo(id uint32, vtep netip.Addr) *adjacency {
	key := vtepKey{id, vtep}
	adj := w.places.vteps[key]
	if adj == nil {
		if len(w.places.vteps) >= maxVTEPsKept {
			clear(w.places.vteps)
		}
		adj = &adjacency{key: neigh.Key{Dst: vtep}}
		w.places.vteps[key] = adj
	}
	return adj
}

// adoptPlaces begins anew for a new state.
func (w *worker) adoptPlaces(s *state) {
	w.places, w.glimpses = nil, nil
	if w.learner != nil && len(s.segments) > 0 {
		w.places = &placeCache{vteps: make(map[vtepKey]*adjacency)}
		w.glimpses = new([glimpseSlots]glimpse)
	}
}

// SendQuestion sends a frame of the learner (hosts.Options.Send) into an
// overlay. It never blocks; false means that the mailbox was full, or that there
// is no such attachment.
func (r *Relay) SendQuestion(q hosts.Question) bool {
	w := r.workers[int(r.next.Add(1))%len(r.workers)]
	if !w.mailbox.postQuestion(q) {
		return false
	}
	w.waker.wake()
	return true
}

// question wraps a frame of the learner and sends it. One to a VTEP whose
// neighbour entry is not there yet is dropped: the learner asks again.
func (w *worker) question(f *frame, q *hosts.Question) {
	w.made++
	if !w.posted(f, fromRelay, q.Frame) {
		return
	}
	id, ok := w.state.segments[q.Segment]
	if !ok || w.places == nil {
		w.drop(f, NoRoute)
		return
	}
	adj := w.vtepAdjacency(w.wayTo(id, q.VTEP), &w.state.deliveries[id], q.VTEP)
	switch adj.state {
	case ready:
		f.off -= adj.headers.len
		adj.headers.put(f.data(), 0, uint32(q.VNI), 0, nil)
		w.send(f, adj.slot, Originated)
	case unresolved:
		w.drop(f, VTEPUnresolved)
	case noNeighbour:
		w.drop(f, NoNeighbour)
	case noPort:
		w.drop(f, NoPort)
	default:
		w.drop(f, NeighbourUnreachable)
	}
}
