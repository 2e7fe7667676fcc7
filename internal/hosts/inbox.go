package hosts

import "sync"

// Sighting is a host that a worker has seen somewhere else than the table says.
type Sighting struct {
	Key
	Place
	// Answer: it said so in an ARP reply or a neighbour advertisement; otherwise it just sent something.
	Answer bool
}

// inboxSize bounds the sightings, and the questions, that wait for Run.
const inboxSize = 4096

// inbox is the way from the workers to Run. Nobody waits for its lock: who does not get it at once comes again with a
// later packet. Run holds it for as long as it takes to exchange two slices.
type inbox struct {
	wake chan struct{} // capacity 1: there is something

	mu        sync.Mutex
	sightings []Sighting
	questions []Key
	lost      uint64 // for want of room
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

func (b *inbox) saw(s *Sighting) bool {
	if !b.mu.TryLock() {
		return false
	}
	ok := len(b.sightings) < inboxSize
	if ok {
		b.sightings = append(b.sightings, *s)
	} else {
		b.lost++
	}
	b.mu.Unlock()
	b.ring()
	return ok
}

func (b *inbox) ask(k Key) bool {
	if !b.mu.TryLock() {
		return false
	}
	ok := len(b.questions) < inboxSize
	if ok {
		b.questions = append(b.questions, k)
	} else {
		b.lost++
	}
	b.mu.Unlock()
	b.ring()
	return ok
}

func (b *inbox) ring() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take empties the inbox and leaves it the memory of the slices given.
func (b *inbox) take(sightings []Sighting, questions []Key) ([]Sighting, []Key, uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, q := b.sightings, b.questions
	b.sightings, b.questions = sightings[:0], questions[:0]
	return s, q, b.lost
}
