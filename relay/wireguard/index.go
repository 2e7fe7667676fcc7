package wireguard

import (
	"crypto/rand"
	"encoding/binary"
	"sync/atomic"
)

// indexTable finds a session by the receiver index of a message.
//
// The low bits of an index are its slot, the others are random: a lookup is one
// load from an array and one comparison, without lock or hashing, and an index
// tells nothing about the order of sessions. The array doubles when it is half
// full; two sessions that had different slots keep different slots then, as one
// more bit of the index counts.
//
// lookup may be called by anyone; the rest needs the Device's lock.
type indexTable struct {
	slots atomic.Pointer[[]atomic.Pointer[session]]
	used  int
}

const (
	firstSlots = 256
	maxSlots   = 1 << 22 // 32 MiB; a peer has six indexes at most, so 350 000 peers
)

func (t *indexTable) init() {
	slots := make([]atomic.Pointer[session], firstSlots)
	t.slots.Store(&slots)
}

// lookup returns the session with that index, or nil. It may be one whose
// handshake is not done yet (session.live).
func (t *indexTable) lookup(index uint32) *session {
	slots := *t.slots.Load()
	s := slots[int(index)&(len(slots)-1)].Load()
	if s == nil || s.localIndex != index {
		return nil
	}
	return s
}

// add gives s an index of its own. False: the table is full.
func (t *indexTable) add(s *session) bool {
	slots := *t.slots.Load()
	if t.used >= len(slots)/2 {
		if len(slots) == maxSlots {
			return false
		}
		slots = t.grow(slots)
	}
	for { // at least every other slot is free
		var b [4]byte
		rand.Read(b[:]) // never fails, it would end the program (crypto/rand)
		s.localIndex = binary.LittleEndian.Uint32(b[:])
		if slots[int(s.localIndex)&(len(slots)-1)].CompareAndSwap(nil, s) {
			t.used++
			return true
		}
	}
}

// remove takes s out; it may have been taken out before.
func (t *indexTable) remove(s *session) {
	slots := *t.slots.Load()
	if slots[int(s.localIndex)&(len(slots)-1)].CompareAndSwap(s, nil) {
		t.used--
	}
}

// grow doubles the array. Whoever still looks at the old one may find a session
// that was removed since; that is not live.
func (t *indexTable) grow(old []atomic.Pointer[session]) []atomic.Pointer[session] {
	slots := make([]atomic.Pointer[session], 2*len(old))
	for i := range old {
		if s := old[i].Load(); s != nil {
			slots[int(s.localIndex)&(len(slots)-1)].Store(s)
		}
	}
	t.slots.Store(&slots)
	return slots
}
