package pair

import (
	"math"
	"sync"
	"time"

	"github.com/sluicegw/sluice/bench/method"
)

// counts are what a receiver saw of a trial.
type counts struct {
	Received   uint64 `json:"received"` // without duplicates
	Bytes      uint64 `json:"bytes"`    // of IP packets, or of TCP's payload
	Duplicates uint64 `json:"duplicates,omitempty"`
	// Reordered arrived after a later one of its flow (RFC 4737).
	Reordered uint64 `json:"reordered,omitempty"`
	// Overrun is what this host's socket had no room for: lost here, not on the path.
	Overrun uint64 `json:"overrun,omitempty"`
	// Window is from the first to the last arrival.
	Window time.Duration `json:"windowNs"`
	Steal  time.Duration `json:"stealNs,omitempty"`
	// Variation of the one-way delay: how far above the least of the trial.
	Variation []method.Bucket `json:"variation,omitempty"`
}

// validate refuses what cannot be the counts of a trial in which so many packets were sent.
func (c counts) validate(s sent) bool {
	if c.Received > s.Packets || c.Reordered > c.Received || c.Window < 0 || c.Steal < 0 || len(c.Variation) > maxBuckets {
		return false
	}
	last, sum := time.Duration(-1), uint64(0)
	for _, b := range c.Variation {
		if b.UpTo <= last || b.Count > c.Received {
			return false
		}
		last = b.UpTo
		sum += b.Count
	}
	return sum <= c.Received
}

// maxSamples of the delay are kept for a trial: beyond that, one of every few packets.
const maxSamples = 1 << 20

// receiver counts the packets of a trial. Several sockets feed it; they lock once for each batch.
type receiver struct {
	mu          sync.Mutex
	trial       trial
	flows       []flow
	most        uint64 // sequence numbers per flow that can be
	got         counts
	first, last int64
	least       int64   // delay, offset of the clocks included
	delays      []int64 // a sample of them
	stride      uint64
}

// flow is what a receiver knows of one.
type flow struct {
	seen []uint64 // a bit for each sequence number
	next uint64   // one more than the highest seen
}

func newReceiver(t trial) *receiver {
	expected := t.Rate * t.Duration.Seconds()
	r := &receiver{trial: t, flows: make([]flow, t.Flows), least: math.MaxInt64}
	// Rounding and the burst that a late sender may catch up with.
	r.most = uint64(expected/float64(t.Flows)*1.1) + 1000
	r.stride = uint64(expected)/maxSamples + 1
	return r
}

// take counts packets that came together; the caller holds mu.
func (r *receiver) take(h header, size int, at int64) {
	if h.Trial != r.trial.ID || int(h.Flow) >= len(r.flows) || h.Seq >= r.most || size != r.trial.Size {
		return // a late one of an earlier trial, or none of ours
	}
	f := &r.flows[h.Flow]
	if f.seen == nil {
		f.seen = make([]uint64, r.most/64+1)
	}
	word, bit := h.Seq/64, uint64(1)<<(h.Seq%64)
	if f.seen[word]&bit != 0 {
		r.got.Duplicates++
		return
	}
	f.seen[word] |= bit
	if h.Seq < f.next {
		r.got.Reordered++
	} else {
		f.next = h.Seq + 1
	}
	r.got.Received++
	r.got.Bytes += uint64(size)
	if r.first == 0 {
		r.first = at
	}
	r.last = at
	delay := at - h.Sent
	r.least = min(r.least, delay)
	if r.got.Received%r.stride == 0 && len(r.delays) < maxSamples {
		r.delays = append(r.delays, delay)
	}
}

// received is how many there are so far.
func (r *receiver) received() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got.Received
}

// finish is the result, when no more packets come.
func (r *receiver) finish() counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.got
	c.Window = time.Duration(max(r.last-r.first, 0))
	h := histogram{}
	for _, d := range r.delays {
		h.add(time.Duration(d - r.least))
	}
	c.Variation = h.buckets()
	return c
}

// The time to wait for the last packets: until none has come for quietFor, at most drainFor.
const (
	quietFor = 100 * time.Millisecond
	drainFor = 2 * time.Second
)

// drain waits for the last packets.
func (r *receiver) drain() {
	end := time.Now().Add(drainFor)
	for before := r.received(); time.Now().Before(end); {
		time.Sleep(quietFor)
		now := r.received()
		if now == before {
			return
		}
		before = now
	}
}
