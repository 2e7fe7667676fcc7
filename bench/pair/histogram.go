package pair

import (
	"math/bits"
	"time"

	"github.com/sluicegw/sluice/bench/method"
)

// histogram of times. Buckets are 32 per power of two, so at most 3 % wide. (That of bench/traffic
// is filled by an eBPF program, which has no place in the shipped binary.)
type histogram map[int]uint64

const (
	subBits = 5
	// maxExp bounds the exponent: 2^36 ns is more than a minute.
	maxExp = 35
	// maxBuckets there can be.
	maxBuckets = (maxExp - subBits + 2) << subBits
)

func (h histogram) add(d time.Duration) {
	ns := uint64(max(d, 0))
	exp := bits.Len64(ns) - 1
	switch {
	case exp < subBits:
		h[int(ns)]++
	case exp > maxExp:
		h[maxBuckets-1]++
	default:
		h[(exp-subBits)<<subBits+int(ns>>(exp-subBits))]++
	}
}

// buckets that are not empty, ascending.
func (h histogram) buckets() (all []method.Bucket) {
	for i := range maxBuckets {
		if n := h[i]; n > 0 {
			all = append(all, method.Bucket{UpTo: bucketEnd(i), Count: n})
		}
	}
	return all
}

// bucketEnd is the longest time of a bucket.
func bucketEnd(i int) time.Duration {
	if i < 1<<subBits {
		return time.Duration(i)
	}
	shift := i>>subBits - 1
	return time.Duration((uint64(i&(1<<subBits-1)+1<<subBits)+1)<<shift - 1)
}
