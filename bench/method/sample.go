package method

import "context"

// Metric names a figure of a slice. Of all metrics but PPS and Bits less is better.
type Metric string

// The metrics.
const (
	PPS       Metric = "pps"         // packets per second that arrived
	DUTNs     Metric = "dutNs"       // CPU time of the threads under test per packet
	MachineNs Metric = "machineNs"   // the whole machine's CPU time per packet
	PacketNs  Metric = "nsPerPacket" // thread time per packet, in memory
	Bits      Metric = "bitsPerSecond"
	P50       Metric = "p50Ns"  // one-way latency that half of the packets have at most
	P99       Metric = "p99Ns"  // that all but one of a hundred have at most
	P999      Metric = "p999Ns" // that all but one of a thousand have at most
)

// MoreIsBetter says in which direction a metric is good.
func (m Metric) MoreIsBetter() bool { return m == PPS || m == Bits }

// Sample is what one slice gave.
type Sample struct {
	Values map[Metric]float64 `json:"values"`
	// Dirty says what disturbed it; empty: nothing.
	Dirty string `json:"dirty,omitempty"`
}

// Side is one of two that are compared. Measure takes one slice.
type Side struct {
	Name    string
	Measure func(context.Context) (Sample, error)
}
