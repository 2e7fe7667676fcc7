package traffic

import (
	"errors"

	"github.com/sluicegw/sluice/internal/netnstest"
)

// SinkOptions of a Sink.
type SinkOptions struct {
	Host *netnstest.Host // default: the namespace of the thread that calls
	Link string          // the interface that packets come to. Required.

	// Generic attaches to the generic hook, for drivers without XDP.
	Generic bool
	// WireGuard is the UDP port of sealed packets, of which only their own counters can be read. Default 51820.
	WireGuard uint16
	// SumEvery is of how many packets one has its UDP checksum computed. Default 64; 1: all; -1: none. IPv4 headers are
	// checked always.
	SumEvery int
	// Sent is the frames that arrive, where these carry no time of their own (see Peer.Seal).
	Sent *Frames
}

// Counts is what a Sink has seen since the last Reset. Packets of nobody's are passed to the kernel.
type Counts struct {
	Packets uint64 // stamped ones and sealed ones, duplicates included
	Bytes   uint64 // whole frames, without checksum
	Sealed  uint64 // of Packets: WireGuard messages, whose counter is the sequence

	Gaps       uint64 // times that numbers were left out
	Missing    uint64 // numbers left out and not seen until now
	Reordered  uint64 // arrived after one with a higher number of the same flow
	Duplicates uint64
	Late       uint64 // too old to tell which of both

	Summed    uint64 // had their UDP checksum computed
	BadSums   uint64 // UDP checksum or IPv4 header checksum wrong
	Malformed uint64 // stamped, but lengths or headers contradict each other
	Passed    uint64 // not ours: left to the kernel

	First, Last int64 // CLOCK_MONOTONIC of the first and the last packet, ns
}

// Sink counts and drops packets.
type Sink struct{}

// NewSink attaches a sink.
func NewSink(o SinkOptions) (*Sink, error) { return nil, errors.ErrUnsupported }

// Read reads the counters, while packets flow or not.
func (s *Sink) Read() (Counts, error) { return Counts{}, errors.ErrUnsupported }

// Latency reads the histogram of one-way latencies: from the stamp to the sink's program, on one clock.
func (s *Sink) Latency() (Histogram, error) { return Histogram{}, errors.ErrUnsupported }

// Reset forgets counters, latencies and where each flow is. Not while packets flow.
func (s *Sink) Reset() error { return errors.ErrUnsupported }

// Close detaches the sink.
func (s *Sink) Close() error { return nil }
