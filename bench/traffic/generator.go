package traffic

import (
	"context"
	"errors"
	"time"

	"github.com/sluicegw/sluice/internal/netnstest"
)

// Options of a Generator.
type Options struct {
	Host *netnstest.Host // default: the namespace of the thread that calls
	Link string          // the interface that packets leave by. Required.
	CPU  int             // that the generator runs on; -1: wherever the scheduler wants

	Flow   Flow    // the packets,
	Frames *Frames // or these, one after the other

	// Rate is packets per second, kept by a token bucket; 0: as many as possible.
	Rate float64
	// Burst is the depth of the token bucket in packets: what may follow at once when the generator was held up.
	// Default 64.
	Burst int
	// Count ends a Run after so many packets; 0: only time does.
	Count uint64
	// Batch is how many packets the kernel makes before it delivers them. Default 64, at most 256; with a Rate 8, for what waits for
	// its batch is not on its way.
	Batch int
	// Payload has the whole packet written anew on every run, not only its headers and stamp: for receivers that
	// change the payload in place.
	Payload bool
}

// Sent is what a Run has sent.
type Sent struct {
	Packets  uint64        // given to the link
	Bytes    uint64        // whole frames, without checksum
	Refused  uint64        // of Packets: the link had no room for them
	Duration time.Duration // from the first to the last packet
	Held     uint64        // runs of the program that made no packet, since it was too early for one
}

// Rate is packets per second.
func (s Sent) Rate() float64 {
	if s.Packets < 2 || s.Duration <= 0 {
		return 0
	}
	return float64(s.Packets-1) / s.Duration.Seconds()
}

// Generator sends packets.
type Generator struct{}

// NewGenerator loads a generator. Nothing is sent before Run.
func NewGenerator(o Options) (*Generator, error) { return nil, errors.ErrUnsupported }

// Run sends for a while; sequence numbers go on where the last Run ended. It returns early, without an error, when ctx is done or
// Count or the frames are used up.
func (g *Generator) Run(ctx context.Context, d time.Duration) (Sent, error) {
	return Sent{}, errors.ErrUnsupported
}

// SetRate changes the rate for the following Runs.
func (g *Generator) SetRate(pps float64) {}

// SetCount changes the number of packets of each of the following Runs; 0: only time ends them.
func (g *Generator) SetCount(n uint64) {}

// Close releases what the generator has. It must not be running.
func (g *Generator) Close() error { return nil }
