package relay

import (
	"math/bits"
	"sync/atomic"
)

// histogramBuckets is how many buckets a Histogram has.
const histogramBuckets = 24

// Histogram is a distribution in powers of two: Buckets[i] counts values in
// (2^(i-1), 2^i], the first also smaller ones, the last also larger ones.
type Histogram struct {
	Buckets [histogramBuckets]uint64
	Sum     uint64 // of all values
}

// Bound is the largest value that bucket i counts; the last bucket has none.
func (h *Histogram) Bound(i int) uint64 { return 1 << i }

// histogram is a worker's own, and what others see of it.
type histogram struct {
	own    Histogram
	shared [histogramBuckets]atomic.Uint64
	sum    atomic.Uint64
}

func (h *histogram) observe(v uint64) {
	at := 0
	if v > 1 {
		at = min(bits.Len64(v-1), histogramBuckets-1)
	}
	h.own.Buckets[at]++
	h.own.Sum += v
}

func (h *histogram) publish() {
	for i := range h.shared {
		store(&h.shared[i], h.own.Buckets[i])
	}
	store(&h.sum, h.own.Sum)
}

func (h *histogram) load() (out Histogram) {
	for i := range h.shared {
		out.Buckets[i] = h.shared[i].Load()
	}
	out.Sum = h.sum.Load()
	return out
}

// Distributions say how a worker's time is spent. Like counters of routes they
// are at most a millisecond old while it works.
type Distributions struct {
	// BatchSizes of what was received from one queue at once, in packets.
	BatchSizes Histogram
	// Turns in nanoseconds: from the clock reading in front of a look at the
	// mailbox, at what is parked and at every queue, to the one after all of it was
	// processed and handed to transmit rings; only turns that found something. It
	// bounds the time that a packet spends in the worker. Not in it: the time in
	// the receive ring before, and in the transmit ring after.
	Turns Histogram
}

// Distributions are those of worker i.
func (r *Relay) Distributions(i int) Distributions {
	w := r.workers[i]
	return Distributions{BatchSizes: w.batchSizes.load(), Turns: w.turnTimes.load()}
}
