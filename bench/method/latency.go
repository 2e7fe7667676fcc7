package method

import "time"

// Quantiles are those that are reported.
var quantiles = []float64{0.5, 0.9, 0.99, 0.999, 0.9999}

// Quantile of a latency distribution.
type Quantile struct {
	Of float64       `json:"of"` // 0.99
	At time.Duration `json:"atNs"`
}

// Quantiles of buckets: p50, p90, p99, p99.9 and p99.99, as upper bounds. A quantile that
// fewer than ten packets are above says nothing and is left out.
func Quantiles(buckets []Bucket) (out []Quantile) {
	var total uint64
	for _, b := range buckets {
		total += b.Count
	}
	for _, q := range quantiles {
		if float64(total)*(1-q) < 10 {
			break
		}
		var sum uint64
		for _, b := range buckets {
			sum += b.Count
			if float64(sum) >= q*float64(total) {
				out = append(out, Quantile{Of: q, At: b.UpTo})
				break
			}
		}
	}
	return out
}

// Sample makes the values of a slice from a trial's counts.
func (c Counts) Sample() Sample {
	s := Sample{Values: map[Metric]float64{PPS: c.PPS()}, Dirty: c.Disturbed()}
	if c.Received > 0 && c.Usage.DUT > 0 {
		s.Values[DUTNs] = float64(c.Usage.DUT) / float64(c.Received)
	}
	if c.Received > 0 && c.Usage.Busy > 0 {
		s.Values[MachineNs] = float64(c.Usage.Busy) / float64(c.Received)
	}
	return s
}
