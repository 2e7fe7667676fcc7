package traffic

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBucketsJoinWithoutGapsAndAreNarrow(t *testing.T) {
	for i := range numBuckets - 1 {
		end := uint64(bucketEnd(i))
		if bucketOf(end) != i || bucketOf(end+1) != i+1 {
			t.Fatalf("bucket %d ends at %d, which is in bucket %d, and the next in %d", i, end, bucketOf(end), bucketOf(end+1))
		}
		if width := uint64(bucketEnd(i+1)) - end; width > 1 && width*subBuckets > end+1 {
			t.Fatalf("bucket %d from %d is %d wide", i+1, end+1, width)
		}
	}
	if got := bucketOf(1 << 60); got != numBuckets-1 {
		t.Errorf("a very long time is in bucket %d", got)
	}
}

func TestQuantilesAreThoseOfTheSortedTimes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	times := make([]time.Duration, 10_000)
	h := Histogram{buckets: make([]uint64, numBuckets)}
	for i := range times {
		times[i] = time.Duration(r.ExpFloat64() * 50_000)
		h.buckets[bucketOf(uint64(times[i]))]++
		h.Count++
		h.Sum += times[i]
	}
	slices.Sort(times)
	h.Min, h.Max = times[0], times[len(times)-1]
	for _, q := range []float64{0, 0.5, 0.9, 0.99, 0.999, 0.9999, 1} {
		want := times[max(int(q*float64(len(times)))-1, 0)]
		if got := h.Quantile(q); got < want || float64(got) > float64(want)*(1+1.0/subBuckets)+1 {
			t.Errorf("quantile %v is %v, want %v to 3 %% more", q, got, want)
		}
	}
	var merged Histogram
	merged.Merge(h)
	merged.Merge(Histogram{})
	merged.Merge(h)
	if merged.Count != 2*h.Count || merged.Quantile(0.9) != h.Quantile(0.9) || merged.Mean() != h.Mean() || merged.Min != h.Min || merged.Max != h.Max {
		t.Errorf("merged with itself: %d packets, p90 %v", merged.Count, merged.Quantile(0.9))
	}
	var sum uint64
	last := time.Duration(-1)
	for end, n := range h.Buckets() {
		if end <= last {
			t.Fatalf("bucket %v after %v", end, last)
		}
		sum, last = sum+n, end
	}
	if sum != h.Count {
		t.Errorf("the buckets have %d of %d packets", sum, h.Count)
	}
	if got := (Histogram{}).Quantile(0.5) + (Histogram{}).Mean(); got != 0 {
		t.Errorf("an empty histogram says %v", got)
	}
}
