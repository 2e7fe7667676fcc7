package tun

import (
	"sync/atomic"
)

const (
	// ringSize is how many packets wait in each direction: one 64 KiB segment that
	// the kernel hands over at once makes 49 of the usual length. A power of two.
	ringSize = 512
	// batchSize is what the device is read and written by at a time. The library
	// refuses segments that make more packets than it is given room for.
	batchSize = 128
	// writeRoom is what the library wants in front of a packet that is written, for
	// the virtio header (10 bytes).
	writeRoom = 16
)

// ring is a queue of packets with one producer and one consumer, in memory of its
// own. Neither side takes a lock; the side that may wait sleeps on its bell.
type ring struct {
	slots [ringSize][]byte
	sizes [ringSize]int
	_     [64]byte
	tail  atomic.Uint32 // packets put in, written by the producer
	_     [60]byte
	head  atomic.Uint32 // packets taken out, written by the consumer
	_     [60]byte

	asleep atomic.Bool
	bell   chan struct{}
}

func newRing(slotSize int) *ring {
	r := &ring{bell: make(chan struct{}, 1)}
	memory := make([]byte, ringSize*slotSize)
	for i := range r.slots {
		r.slots[i] = memory[i*slotSize : (i+1)*slotSize : (i+1)*slotSize]
	}
	return r
}

// used is how many packets are in the ring, and free how many more it takes.
func (r *ring) used() int { return int(r.tail.Load() - r.head.Load()) }
func (r *ring) free() int { return ringSize - r.used() }

// at is the slot number of the i-th packet behind a counter.
func at(counter *atomic.Uint32, i int) int { return int(counter.Load()+uint32(i)) % ringSize }

// put publishes n packets that the producer has written into the slots from tail on.
func (r *ring) put(n int) { r.tail.Add(uint32(n)) }

// took gives the slots of the n oldest packets back.
func (r *ring) took(n int) { r.head.Add(uint32(n)) }

// ring wakes the side that waits, if it does. It never blocks.
func (r *ring) wake() {
	if r.asleep.Swap(false) {
		select {
		case r.bell <- struct{}{}:
		default: // it rings already
		}
	}
}

// wait sleeps until enough is true or done is closed; it says which of both.
func (r *ring) wait(enough func() bool, done <-chan struct{}) bool {
	for !enough() {
		r.asleep.Store(true)
		if enough() { // it became true before the other side could see that we sleep
			r.asleep.Store(false)
			return true
		}
		select {
		case <-r.bell:
		case <-done:
			return false
		}
	}
	return true
}
