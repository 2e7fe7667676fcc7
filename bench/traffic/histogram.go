package traffic

import (
	"iter"
	"math"
	"math/bits"
	"time"
)

// The buckets of a histogram: below 32 ns one per nanosecond, then 32 per power of two up to 2^36 ns (69 s), so that a
// bucket is at most 1/32 (3 %) wide. What is longer counts in the last one. bpf/counts.h has the same numbers.
const (
	subBits    = 5
	subBuckets = 1 << subBits
	maxExp     = 35
	numBuckets = (maxExp - subBits + 2) * subBuckets
)

// Histogram is how often packets took how long. The zero value is empty.
type Histogram struct {
	Count    uint64
	Min, Max time.Duration // exact
	Sum      time.Duration // of all, for the mean
	buckets  []uint64
}

// bucketOf is where a latency counts.
func bucketOf(ns uint64) int {
	if ns < subBuckets {
		return int(ns)
	}
	exp := bits.Len64(ns) - 1
	if exp > maxExp {
		return numBuckets - 1
	}
	return (exp-subBits)*subBuckets + int(ns>>(exp-subBits))
}

// bucketEnd is the largest latency of a bucket.
func bucketEnd(i int) time.Duration {
	if i < subBuckets {
		return time.Duration(i)
	}
	shift := i/subBuckets - 1
	return time.Duration((uint64(i%subBuckets+subBuckets)+1)<<shift - 1)
}

// Quantile is the latency that a share q (0 to 1) of the packets did not exceed: the upper end of its bucket, which
// is at most 3 % too much, and never more than Max. 0 without packets.
func (h Histogram) Quantile(q float64) time.Duration {
	if h.Count == 0 {
		return 0
	}
	want := max(uint64(math.Ceil(q*float64(h.Count))), 1)
	var seen uint64
	for i, n := range h.buckets {
		if seen += n; seen >= want {
			return max(min(bucketEnd(i), h.Max), h.Min)
		}
	}
	return h.Max
}

// Mean is the mean latency.
func (h Histogram) Mean() time.Duration {
	if h.Count == 0 {
		return 0
	}
	return h.Sum / time.Duration(h.Count)
}

// Buckets goes through the buckets that are not empty, upwards: the largest latency of each and how many packets
// it has. Plots are made of it.
func (h Histogram) Buckets() iter.Seq2[time.Duration, uint64] {
	return func(yield func(time.Duration, uint64) bool) {
		for i, n := range h.buckets {
			if n > 0 && !yield(bucketEnd(i), n) {
				return
			}
		}
	}
}

// Merge adds another histogram's packets.
func (h *Histogram) Merge(o Histogram) {
	if o.Count == 0 {
		return
	}
	if h.Count == 0 {
		h.Min = o.Min
	}
	h.Min, h.Max = min(h.Min, o.Min), max(h.Max, o.Max)
	h.Count += o.Count
	h.Sum += o.Sum
	if h.buckets == nil {
		h.buckets = make([]uint64, numBuckets)
	}
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
}
