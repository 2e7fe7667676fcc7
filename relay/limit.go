package relay

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Limits are token buckets. A bucket is shared by all workers, who take from it
// in grants, so that it is touched once per many packets; what a worker has been
// granted it spends without asking. All grants of a bucket are of one size, and
// who asks first gets: workers with enough to send share evenly. Time is the
// worker's, read once per turn.
//
// Every bucket knows four classes of packets, by DSCP. A lower class may only
// take what is above a floor, so when there is more to send than the rate
// allows, the bucket is low and the lowest classes are refused first.

// Limit is how much may pass. The zero value limits nothing.
type Limit struct {
	Bits    uint64        // per second; 0: any
	Packets uint64        // per second; 0: any
	Burst   time.Duration // how long's worth may pass at once; 0: 100 ms. Never less than 32 KiB and 32 packets.
}

// Limits are those of both directions.
type Limits struct{ FromSite, ToSite Limit }

// What we chose: the default burst, and the least that a bucket holds, so that
// the longest packet of the lowest class always fits.
const (
	defaultBurst    = 100 * time.Millisecond
	leastBurst      = 32 << 10 // bytes
	leastBurstCount = 32       // packets
)

// NumClasses is how many classes of packets there are.
const NumClasses = 4

// classFloor is the part of a full bucket, in sixteenths, that each class leaves
// to those above it. Chosen: enough to carry the higher classes over a burst.
var classFloor = [NumClasses]int64{0, 2, 4, 8}

// classOf is the class of a DSCP, after RFC 4594 and RFC 8622.
var classOf = func() (c [64]uint8) {
	for dscp := range c {
		switch {
		case dscp >= 40: // CS5, voice (EF, 44), network control (CS6, CS7)
			c[dscp] = 0
		case dscp >= 24: // CS3, AF31 to AF43, CS4: video and signalling
			c[dscp] = 1
		case dscp == 1 || dscp == 8: // LE, CS1: least effort
			c[dscp] = 3
		default:
			c[dscp] = 2
		}
	}
	return c
}()

// bucket is one token bucket, in time: how far the moment until which its
// tokens are spent lies ahead of now minus its depth (the generic cell rate
// algorithm). Times are sixteenths of a nanosecond, which hold 18 years.
type bucket struct {
	spent atomic.Int64
	_     [56]byte
	per   int64 // time for one token, times 65536
	depth int64 // time that a full bucket is worth
}

const fraction = 16 // bits of bucket.per behind the point

// newBucket makes a full bucket of rate tokens per second.
func newBucket(rate float64, burst time.Duration, least float64) *bucket {
	if burst == 0 {
		burst = defaultBurst
	}
	tokens := max(burst.Seconds()*rate, least)
	per := 16e9 / rate
	b := &bucket{per: int64(math.Ceil(per * (1 << fraction))), depth: int64(math.Ceil(tokens * per))}
	b.spent.Store(math.MinInt64 / 4) // full, whatever the clock says
	return b
}

// cost is the time of n tokens, rounded up.
func (b *bucket) cost(n int64) int64 {
	hi, lo := bits.Mul64(uint64(n), uint64(b.per))
	lo, carry := bits.Add64(lo, 1<<fraction-1, 0)
	return int64((hi+carry)<<(64-fraction) | lo>>fraction)
}

// tokens is how many the bucket holds when it is full.
func (b *bucket) tokens() int64 {
	return int64(float64(b.depth) * (1 << fraction) / float64(b.per))
}

// take takes want tokens, or as many as there are above the class's floor, if
// these are at least need. now is in nanoseconds. Any goroutine may call it.
func (b *bucket) take(now, need, want int64, class uint8) int64 {
	floor := b.depth / 16 * classFloor[class]
	for {
		spent := b.spent.Load()
		from := max(spent, now<<4-b.depth)
		room := now<<4 - from - floor
		n := max(want, need)
		if b.cost(n) > room {
			if n = need; b.cost(n) > room {
				return 0
			}
		}
		if b.spent.CompareAndSwap(spent, from+b.cost(n)) {
			return n
		}
	}
}

// limiter is a limit in force.
type limiter struct {
	key     MeterKey
	limit   Limit
	bytes   *bucket // nil: any
	packets *bucket // nil: any
	// grants, in bytes and packets
	grant [2]int64
	meter int32 // of the first class: what was refused
}

// credit is what a worker has been granted and not spent, by class: bytes and packets.
type credit [NumClasses][2]int64

// limiter adds a limit to the state and returns its number, from 1; 0 when it limits nothing.
func (c *compiler) limiter(key MeterKey, l Limit) int32 {
	if l.Bits == 0 && l.Packets == 0 {
		return 0
	}
	n := limiter{key: key, limit: l, meter: int32(len(c.out.meters))}
	for class := range uint8(NumClasses) {
		key.Class = class
		c.meter(key)
	}
	c.out.limiters = append(c.out.limiters, n)
	return int32(len(c.out.limiters))
}

// fill gives the limiters of a new state their buckets: those of the state
// before, where the limit is the same, so that a reload grants no second burst.
func (s *state) fill(before *state, workers int) {
	known := make(map[MeterKey]*limiter)
	if before != nil {
		for i := range before.limiters {
			known[before.limiters[i].key] = &before.limiters[i]
		}
	}
	for i := range s.limiters {
		l := &s.limiters[i]
		if old := known[l.key]; old != nil && old.limit == l.limit {
			l.bytes, l.packets = old.bytes, old.packets
		} else {
			if l.limit.Bits > 0 {
				l.bytes = newBucket(float64(l.limit.Bits)/8, l.limit.Burst, leastBurst)
			}
			if l.limit.Packets > 0 {
				l.packets = newBucket(float64(l.limit.Packets), l.limit.Burst, leastBurstCount)
			}
		}
		// What all workers together may hold back is a sixteenth of the bucket.
		for j, b := range [...]*bucket{l.bytes, l.packets} {
			if b != nil {
				l.grant[j] = b.tokens() / int64(16*NumClasses*workers)
			}
		}
	}
}

// within takes a packet's tokens. It says whether there were enough; if not the
// packet is counted under its class.
func (w *worker) within(number int32, tos uint8, size int) bool {
	l, class := &w.state.limiters[number-1], classOf[tos>>2]
	c := &w.credits[number-1][class]
	if l.bytes != nil && c[0] < int64(size) {
		c[0] += l.bytes.take(w.now, int64(size)-c[0], l.grant[0], class)
	}
	if l.packets != nil && c[1] < 1 {
		c[1] += l.packets.take(w.now, 1, l.grant[1], class)
	}
	if l.bytes != nil && c[0] < int64(size) || l.packets != nil && c[1] < 1 {
		w.meters.add(l.meter+int32(class), size)
		return false
	}
	if l.bytes != nil {
		c[0] -= int64(size)
	}
	if l.packets != nil {
		c[1]--
	}
	return true
}

// adoptLimits forgets the grants of the old state: at most a sixteenth of a bucket.
func (w *worker) adoptLimits(s *state) {
	if len(s.limiters) > 0 || w.credits != nil {
		w.credits = make([]credit, len(s.limiters))
	}
}
