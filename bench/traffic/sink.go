package traffic

import (
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

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
	// Sent is where the packets come from, if they were made in advance and so carry no time (see Peer.Seal).
	Sent *Frames
}

// Counts is what a Sink has seen since it was made or reset. Packets that are neither stamped nor sealed are the
// kernel's, and passed to it. Numbers that are lost before the first or behind the last packet of a flow leave no gap: whether
// anything was lost, say Sent.Packets and Packets.
type Counts struct {
	Packets    uint64 // stamped and sealed ones, duplicates included
	Bytes      uint64 // of whole frames, without checksum
	InnerBytes uint64 // of the inner IP packets; of sealed ones with their padding
	Sealed     uint64 // of Packets: WireGuard messages with a payload; their counter is the sequence

	Gaps       uint64 // times that numbers were left out
	Missing    uint64 // numbers left out and not seen until now
	Reordered  uint64 // came after one with a higher number of the same flow
	Duplicates uint64
	Late       uint64 // reordered or a duplicate, too late (about 1000 numbers) to tell which

	Summed    uint64 // had their UDP checksum computed
	BadSums   uint64 // wrong UDP checksum or IPv4 header checksum
	Malformed uint64 // lengths in the headers contradict each other
	Passed    uint64 // left to the kernel

	First, Last time.Duration // when the first and the last one came, CLOCK_MONOTONIC
	Silence     time.Duration // longest time without any, between the first and the last
}

// Duration is from the first to the last packet.
func (c Counts) Duration() time.Duration { return c.Last - c.First }

// Sink counts and drops packets.
type Sink struct {
	objs sinkObjects
	link link.Link
}

// NewSink attaches a sink.
func NewSink(o SinkOptions) (*Sink, error) {
	s, err := loadedSink(o)
	if err != nil {
		return nil, fmt.Errorf("sink on %s: %w", o.Link, err)
	}
	if s.link, err = attach(o.Host, o.Link, s.objs.Sink, o.Generic); err != nil {
		return nil, errors.Join(fmt.Errorf("sink on %s: %w", o.Link, err), s.Close())
	}
	return s, nil
}

// loadedSink is a sink that is not attached.
func loadedSink(o SinkOptions) (*Sink, error) {
	setDefault(&o.WireGuard, 51820)
	setDefault(&o.SumEvery, 64)
	spec, err := loadSink()
	if err != nil {
		return nil, err
	}
	replaced := make(map[string]*ebpf.Map)
	if o.Sent != nil {
		o.Sent.size(spec)
		replaced[sinkMapSentAt] = o.Sent.sentAt
	}
	if err := errors.Join(
		spec.Variables[sinkVarWireguardPort].Set(bits.ReverseBytes16(o.WireGuard)),
		spec.Variables[sinkVarSumEvery].Set(uint32(max(o.SumEvery, 0))),
	); err != nil {
		return nil, err
	}
	s := &Sink{}
	if err := spec.LoadAndAssign(&s.objs, &ebpf.CollectionOptions{MapReplacements: replaced}); err != nil {
		return nil, err
	}
	if err := s.Reset(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// attach attaches a program to an interface.
func attach(h *netnstest.Host, name string, p *ebpf.Program, generic bool) (l link.Link, err error) {
	found, err := findLink(h, name)
	if err != nil {
		return nil, err
	}
	flags := link.XDPDriverMode
	if generic {
		flags = link.XDPGenericMode
	}
	err = within(h, func() error {
		l, err = link.AttachXDP(link.XDPOptions{Program: p, Interface: found.Index, Flags: flags})
		return err
	})
	return l, err
}

// read reads the counters, the sums of all CPUs.
func (s *Sink) read() (n sinkCounts, err error) {
	var all []sinkCounts
	if err := s.objs.Counters.Lookup(uint32(0), &all); err != nil {
		return n, fmt.Errorf("read counters of sink: %w", err)
	}
	for _, c := range all {
		if c.Packets > 0 {
			if n.Packets == 0 || c.First < n.First {
				n.First = c.First
			}
			n.Last = max(n.Last, c.Last)
		}
		if c.Latencies > 0 {
			if n.Latencies == 0 || c.LatencyMin < n.LatencyMin {
				n.LatencyMin = c.LatencyMin
			}
			n.LatencyMax = max(n.LatencyMax, c.LatencyMax)
		}
		n.Silence = max(n.Silence, c.Silence)
		for _, add := range []struct {
			to *uint64
			n  uint64
		}{
			{&n.Packets, c.Packets}, {&n.Bytes, c.Bytes}, {&n.InnerBytes, c.InnerBytes}, {&n.Sealed, c.Sealed},
			{&n.Gaps, c.Gaps}, {&n.Missing, c.Missing}, {&n.Reordered, c.Reordered}, {&n.Duplicates, c.Duplicates}, {&n.Late, c.Late},
			{&n.Summed, c.Summed}, {&n.BadSums, c.BadSums}, {&n.Malformed, c.Malformed}, {&n.Passed, c.Passed},
			{&n.Latencies, c.Latencies}, {&n.LatencySum, c.LatencySum},
		} {
			*add.to += add.n
		}
	}
	return n, nil
}

// Read reads the counters, while packets flow or not.
func (s *Sink) Read() (Counts, error) {
	n, err := s.read()
	return Counts{
		Packets: n.Packets, Bytes: n.Bytes, InnerBytes: n.InnerBytes, Sealed: n.Sealed,
		Gaps: n.Gaps, Missing: n.Missing, Reordered: n.Reordered, Duplicates: n.Duplicates, Late: n.Late,
		Summed: n.Summed, BadSums: n.BadSums, Malformed: n.Malformed, Passed: n.Passed,
		First: time.Duration(n.First), Last: time.Duration(n.Last), Silence: time.Duration(n.Silence),
	}, err
}

// Latency reads the histogram of one-way latencies: from the stamp to the sink's program, on one clock.
func (s *Sink) Latency() (Histogram, error) {
	n, err := s.read()
	if err != nil || n.Latencies == 0 {
		return Histogram{}, err
	}
	var all []sinkHistogram
	if err := s.objs.Latencies.Lookup(uint32(0), &all); err != nil {
		return Histogram{}, fmt.Errorf("read latencies of sink: %w", err)
	}
	h := Histogram{
		Min: time.Duration(n.LatencyMin), Max: time.Duration(n.LatencyMax), Sum: time.Duration(n.LatencySum),
		buckets: make([]uint64, numBuckets),
	}
	for _, c := range all {
		for i, packets := range c.Bucket {
			h.buckets[i] += packets
			h.Count += packets
		}
	}
	return h, nil
}

// Reset forgets counters, latencies and where each flow is. Not while packets flow.
func (s *Sink) Reset() error {
	var epoch uint32
	if err := s.objs.Epoch.Get(&epoch); err != nil {
		return fmt.Errorf("reset sink: %w", err)
	}
	cpus, err := ebpf.PossibleCPU()
	if err == nil {
		err = errors.Join(
			s.objs.Epoch.Set(epoch+1),
			s.objs.LastAny.Set(uint64(0)),
			s.objs.Counters.Put(uint32(0), make([]sinkCounts, cpus)),
			s.objs.sinkMaps.Latencies.Put(uint32(0), make([]sinkHistogram, cpus)),
		)
	}
	if err != nil {
		return fmt.Errorf("reset sink: %w", err)
	}
	return nil
}

// Close detaches the sink.
func (s *Sink) Close() error {
	var err error
	if s.link != nil {
		err = s.link.Close()
	}
	err = errors.Join(err, s.objs.Close())
	return err
}
