package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/traffic"
	"github.com/sluicegw/sluice/internal/netnstest"
)

// Run is gateways in their lab, with a generator and a sink.
type Run struct {
	Lab      *Lab
	Gateways Gateways

	wireGuard WireGuard       // nil: the gateways do not speak it
	peers     []*traffic.Peer // we are these
	shaken    time.Time       // when their sessions were made
	source    *netnstest.Link
	target    *netnstest.Link
	first     *netnstest.Link // where the gateway under test receives
	threads   []int           // of the kernel, that poll it where it is the contestant: CPU time is theirs
	flow      traffic.Flow
	frames    *traffic.Frames // what is sent in direction decrypt
	generator sources
	pass      *traffic.Pass // on the source, where it is a real interface
	sink      *traffic.Sink
}

// The run is all that package method can ask of one.
var (
	_ method.Run       = (*Run)(nil)
	_ method.Goodput   = (*Run)(nil)
	_ method.Recoverer = (*Run)(nil)
	_ method.Burster   = (*Run)(nil)
)

// open opens the way for packets: there are sessions, and the first link takes live frames.
func (r *Run) open(ctx context.Context) error {
	l := r.Lab
	r.source, r.target, r.flow = l.Ends[0].EndLink, l.Ends[1].EndLink, l.flow()
	first := l.Ends[0].Inside
	switch l.Scenario.Direction {
	case method.Encrypt:
		r.target = l.Taps[0]
	case method.Decrypt:
		r.source, first = l.Taps[1], l.Ends[1].WAN
	}
	r.first = first
	if err := r.poll(ctx); err != nil {
		return err
	}
	if l.standIn {
		return r.shake(ctx)
	}
	return l.Probe(ctx)
}

// poll makes the first link take live frames: XDP programs do that, else receive offload.
// Where the kernel does the work, it gets threads that do it.
func (r *Run) poll(ctx context.Context) error {
	device, err := r.first.Host.Netlink().LinkByName(r.first.Name)
	if err != nil {
		return err
	}
	_, bypass := r.Gateways.(Bypass)
	if xdp := device.Attrs().Xdp; xdp == nil || !xdp.Attached {
		if err := Ethtool(ctx, r.first, "gro", true); err != nil {
			return err
		}
	} else if !bypass || len(r.threads) > 0 {
		return nil
	}
	if len(r.Gateways.PIDs()) > 0 && !bypass {
		return nil
	}
	r.threads, err = r.Lab.thread(ctx, r.first)
	return err
}

// flow is what the generator sends.
func (l *Lab) flow() traffic.Flow {
	s := l.Scenario
	f := traffic.Flow{
		Inner: traffic.Layer{
			SrcMAC: [6]byte(EndMAC(1)), DstMAC: [6]byte(GatewayMAC(1)),
			Src: Inner(1, s.Attachment), Dst: Inner(2, s.Attachment), SrcPort: 1024, DstPort: DataPort,
		},
		Flows: s.Flows, Size: s.Size,
	}
	if l.Overlay() {
		f.Format = traffic.VXLAN
		f.Outer = traffic.Layer{
			SrcMAC: [6]byte(EndMAC(1)), DstMAC: [6]byte(GatewayMAC(1)),
			Src: Underlay(1, false), Dst: Underlay(1, true), DstPort: VXLANPort,
		}
		f.Inner.SrcMAC, f.Inner.DstMAC = [6]byte(PodMAC(1)), [6]byte(OverlayMAC())
		f.VNI, f.VNIs = VNI, s.VNIs
	}
	if n := l.many(); n > 0 {
		f.Inner.Dst = ManyPrefix.Addr()
		f.Destinations = traffic.Spread{Count: n}
	}
	if s.IMIX {
		f.Sizes = traffic.IMIX()
	}
	return f
}

// prepare loads generator and sink, which stay until something else needs the links.
func (r *Run) prepare() (err error) {
	if r.sink == nil {
		if r.sink, err = traffic.NewSink(traffic.SinkOptions{Host: r.target.Host, Link: r.target.Name}); err != nil {
			return fmt.Errorf("sink: %w", err)
		}
	}
	if r.pass == nil && len(r.Lab.nics) > 0 { // drivers make queues for what a program redirects when they have one themselves
		if r.pass, err = traffic.NewPass(r.source.Host, r.source.Name); err != nil {
			return err
		}
	}
	if r.generator == nil {
		s := r.Lab.Scenario
		r.generator, err = newSources(s.Workers, s.GeneratorCPU, traffic.Options{Host: r.source.Host, Link: r.source.Name, Flow: r.flow})
		if err != nil {
			return fmt.Errorf("generator: %w", err)
		}
	}
	return nil
}

// release ends what is ours.
func (r *Run) release() error {
	var errs []error
	for _, p := range r.peers {
		errs = append(errs, p.Close())
	}
	r.peers = nil
	return errors.Join(append(errs, r.detach())...)
}

// detach detaches generator and sink.
func (r *Run) detach() error {
	var errs []error
	if r.generator != nil {
		errs = append(errs, r.generator.Close())
		r.generator = nil
	}
	if r.pass != nil {
		errs = append(errs, r.pass.Close())
		r.pass = nil
	}
	if r.sink != nil {
		errs = append(errs, r.sink.Close())
		r.sink = nil
	}
	if r.frames != nil {
		errs = append(errs, r.frames.Close())
		r.frames = nil
	}
	return errors.Join(errs...)
}

// drain is how long the last packets may be on their way: longer than any queue here
// holds them.
const drain = 30 * time.Millisecond

// Offer sends for a time and counts what arrives.
func (r *Run) Offer(ctx context.Context, rate float64, d time.Duration) (method.Counts, error) {
	if r.Lab.Scenario.Direction == method.Decrypt {
		return r.offerSealed(ctx, rate, d)
	}
	if err := r.prepare(); err != nil {
		return method.Counts{}, err
	}
	r.generator.set(rate, 0)
	return r.offer(ctx, d)
}

// Burst sends packets back to back.
func (r *Run) Burst(ctx context.Context, packets int) (method.Counts, error) {
	if r.Lab.Scenario.Direction == method.Decrypt {
		return method.Counts{}, fmt.Errorf("burst: %w", errDirection)
	}
	if err := r.prepare(); err != nil {
		return method.Counts{}, err
	}
	r.generator.set(0, packets)
	return r.offer(ctx, time.Minute)
}

func (r *Run) offer(ctx context.Context, d time.Duration) (method.Counts, error) {
	if err := r.sink.Reset(); err != nil {
		return method.Counts{}, err
	}
	check, err := r.bypassed(ctx)
	if err != nil {
		return method.Counts{}, err
	}
	meter, err := method.StartMeter(append(slices.Clone(r.threads), r.PIDs()...))
	if err != nil {
		return method.Counts{}, err
	}
	sent, err := r.generator.Run(ctx, d)
	if err != nil {
		return method.Counts{}, err
	}
	usage, err := meter.Stop()
	if err != nil {
		return method.Counts{}, err
	}
	time.Sleep(drain)
	counts, err := r.counts(sent, usage)
	if err != nil {
		return method.Counts{}, err
	}
	return counts, check(counts.Received)
}

func (r *Run) counts(sent traffic.Sent, usage method.Usage) (method.Counts, error) {
	got, err := r.sink.Read()
	if err != nil {
		return method.Counts{}, err
	}
	latency, err := r.sink.Latency()
	if err != nil {
		return method.Counts{}, err
	}
	c := method.Counts{
		Window: sent.Duration, Offered: sent.Packets, Received: got.Packets - got.Duplicates,
		Bytes: got.Bytes, Gaps: got.Gaps, Reordered: got.Reordered, Duplicates: got.Duplicates, BadChecksums: got.BadSums,
		Usage: usage,
	}
	for upTo, n := range latency.Buckets() {
		c.Latency = append(c.Latency, method.Bucket{UpTo: upTo, Count: n})
	}
	return c, nil
}

// PIDs of what is under test in the scenario's direction.
func (r *Run) PIDs() []int {
	pids := r.Gateways.PIDs()
	if r.Lab.Scenario.Direction == method.Encrypt && !r.Lab.standIn {
		return pids[:len(pids)/2]
	}
	return pids
}

// Version of the contestant.
func (r *Run) Version() string { return r.Gateways.Version() }

// Stop ends everything.
func (r *Run) Stop() error { return errors.Join(r.release(), r.Lab.Close()) }

// Probe sends pings from the first end until the second one answers.
func (l *Lab) Probe(ctx context.Context) error {
	to := Inner(2, l.Scenario.Attachment)
	if err := ping(ctx, l.Ends[0].End, to); err != nil {
		return fmt.Errorf("no way from end to end: %w", err)
	}
	return nil
}

func ping(ctx context.Context, from *netnstest.Host, to netip.Addr) error {
	return Eventually(ctx, func() error {
		return netnstest.Ping(ctx, from, to, netnstest.PingOptions{Count: 1, Timeout: 200 * time.Millisecond})
	})
}
