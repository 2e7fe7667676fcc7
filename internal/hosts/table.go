package hosts

import (
	"iter"
	"maps"
	"net/netip"
	"sync/atomic"

	"github.com/gaissmai/bart"
)

// Segment names an overlay attachment: a VNI on a UDP port of an interface.
type Segment struct {
	VNI     uint32
	Ifindex uint32
	UDP     uint16
}

// Key is an address in a segment.
type Key struct {
	Segment
	Addr netip.Addr
}

// Place is where a host is: the VTEP of its node, and its own MAC address.
type Place struct {
	VTEP netip.Addr
	MAC  [6]byte
}

// Entry is what is known about a key. Only its marks change.
type Entry struct {
	checkAt atomic.Int64 // who sends to it after this asks for it
	seenAt  atomic.Int64 // Options.Clock when the host last sent something
	Key
	Place
	// Silent: nobody answers for the address; Place is empty.
	Silent bool
	// Told: the control plane says so; what is seen elsewhere does not count.
	Told bool
}

// Saw marks that the host was seen in its place just now.
func (e *Entry) Saw(now int64) {
	e.seenAt.Store(now)
	e.checkAt.Store(now + quietAfter)
}

// Quiet says, once in a while, that somebody sends to a host that has not been seen lately: time to Ask for it.
func (e *Entry) Quiet(now int64) bool {
	if e.Told || now < e.checkAt.Load() {
		return false
	}
	e.checkAt.Store(now + askAgain)
	return true
}

// Table maps keys to entries. It never changes: a change makes another that shares with it what stays. The zero value
// is empty.
type Table struct {
	segments map[Segment]*bart.Table[*Entry]
}

// Lookup returns the entry of k, or nil when nothing is known. It does not allocate.
func (t *Table) Lookup(k Key) *Entry {
	s := t.segments[k.Segment]
	if s == nil {
		return nil
	}
	e, _ := s.Lookup(k.Addr)
	return e
}

// All yields the entries, by segment in no order.
func (t *Table) All() iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for _, s := range t.segments {
			for _, e := range s.All() {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// Len is the number of entries.
func (t *Table) Len() (n int) {
	for _, s := range t.segments {
		n += s.Size()
	}
	return n
}

// cloneShare: from this share of a segment on a change copies it once and works in the copy, instead of copying the
// way to each entry (compare internal/fib).
const cloneShare = 64

// with returns a table in which every key of changes has its entry, or none where that is nil.
func (t *Table) with(changes map[Key]*Entry) *Table {
	count := make(map[Segment]int)
	for k := range changes {
		count[k.Segment]++
	}
	next := &Table{segments: maps.Clone(t.segments)}
	if next.segments == nil {
		next.segments = make(map[Segment]*bart.Table[*Entry])
	}
	for segment, n := range count {
		s := next.segments[segment]
		switch {
		case s == nil:
			s = new(bart.Table[*Entry])
		case n > s.Size()/cloneShare:
			s = s.Clone()
		default:
			continue
		}
		next.segments[segment] = s
		count[segment] = -1 // ours to change
	}
	for k, e := range changes {
		s, prefix := next.segments[k.Segment], netip.PrefixFrom(k.Addr, k.Addr.BitLen())
		switch own := count[k.Segment] < 0; {
		case own && e != nil:
			s.Insert(prefix, e)
		case own:
			s.Delete(prefix)
		case e != nil:
			next.segments[k.Segment] = s.InsertPersist(prefix, e)
		default:
			next.segments[k.Segment] = s.DeletePersist(prefix)
		}
	}
	for segment := range count {
		if next.segments[segment].Size() == 0 {
			delete(next.segments, segment)
		}
	}
	return next
}
