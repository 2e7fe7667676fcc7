package pair

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluicegw/sluice/bench/method"
)

const (
	// partialLoss is that of the PDR.
	partialLoss = 0.005
	// searchTrials are the most that one search makes, searchSteps what it makes as a rule.
	searchTrials = 30
	searchSteps  = 13
	// longer is how much longer than a trial delay and TCP are measured, for the tail of a distribution.
	longer = 5
	// Echoes are to see the path's queues, not to fill them: rates per second, alone and beside a trial.
	idleEchoes   = 2000
	besideEchoes = 200
	echoSize     = 128
	// near is how close to what bounds it a rate is said to be bound by it.
	near = 0.9
)

// shares of the rate without loss at which delay is measured.
var shares = []float64{0.1, 0.5, 0.9}

// measurement is a run under way.
type measurement struct {
	*client
	o        Options
	result   Result
	done, of int // steps
	what     string
}

// at reports progress: n more steps are done, and what is under way.
func (m *measurement) at(n int, what string) {
	m.done, m.what = min(m.done+n, m.of), what
	m.o.Progress(m.done, m.of, what)
}

// all measures everything that was asked for.
func (m *measurement) all(ctx context.Context) error {
	sizes := max(len(m.o.Sizes), 1)
	if len(m.o.Sizes) == 0 {
		sizes = 3
	}
	each := func(part string) int {
		if slices.Contains(m.o.Parts, part) {
			return len(m.o.Directions)
		}
		return 0
	}
	m.of = 2 + each(PartUDP)*sizes*(2*searchSteps+1+longer*len(shares)) + each(PartTCP)*longer
	m.at(0, "mtu")
	if err := m.knock(ctx); err != nil {
		return err
	}
	var err error
	if m.result.MTU, err = m.mtu(ctx); err != nil {
		return err
	}
	m.at(1, "round trips")
	if slices.Contains(m.o.Parts, PartRTT) {
		if err := m.rtt(ctx); err != nil {
			return err
		}
	}
	m.at(1, "")
	if slices.Contains(m.o.Parts, PartUDP) {
		for _, size := range m.sizes() {
			for _, d := range m.o.Directions {
				if err := m.udp(ctx, direction(d), size); err != nil {
					return fmt.Errorf("%s, %d B: %w", d, size, err)
				}
			}
		}
	}
	if slices.Contains(m.o.Parts, PartTCP) {
		for _, d := range m.o.Directions {
			m.at(0, "tcp "+d)
			if err := m.stream(ctx, direction(d)); err != nil {
				return fmt.Errorf("tcp %s: %w", d, err)
			}
			m.at(longer, "tcp "+d)
		}
	}
	m.done = m.of
	m.at(0, "done")
	return nil
}

// sizes to measure, within what the path carries.
func (m *measurement) sizes() []int {
	if len(m.o.Sizes) == 0 {
		return slices.Compact([]int{usualLeast(m.v6), min(512, m.result.MTU), m.result.MTU})
	}
	var all []int
	for _, s := range m.o.Sizes {
		switch {
		case s > m.result.MTU:
			m.note("%d B is left out: the path carries at most %d B", s, m.result.MTU)
		case s < MinSize(m.v6):
			m.note("%d B is left out: over this IP version a packet has at least %d B", s, MinSize(m.v6))
		default:
			all = append(all, s)
		}
	}
	return all
}

// usualLeast is the least size that is measured unless others are asked for.
func usualLeast(v6 bool) int { return max(64, MinSize(v6)) }

func (m *measurement) note(format string, args ...any) {
	m.result.Notes = append(m.result.Notes, fmt.Sprintf(format, args...))
}

// length of a measurement that is longer than a trial, within the server's limit.
func (m *measurement) length() time.Duration { return min(longer*m.o.Trial, m.limits.Trial) }

func (m *measurement) rtt(ctx context.Context) error {
	e, offered, err := m.echo(ctx, echoSize, min(idleEchoes, m.limits.maxRate(echoSize)), m.length())
	if err != nil {
		return err
	}
	if e.received() == 0 {
		return errors.New("no echo came back")
	}
	m.result.RTT = &RTT{
		Size: echoSize, Sent: offered, Received: e.received(), Trip: method.Quantiles(e.trips.buckets()),
		Up: method.Quantiles(e.variation(0)), Down: method.Quantiles(e.variation(1)),
	}
	return nil
}

// udp finds the rates of a size in a direction, and the delay below them.
func (m *measurement) udp(ctx context.Context, d direction, size int) error {
	limit := m.limits.maxRate(size)
	if m.o.MaxRate > 0 {
		limit = min(limit, m.o.MaxRate)
	}
	begin := m.done
	name := func(rate float64) string { return fmt.Sprintf("%s %d B, %s", d, size, rateText(rate)) }
	made := map[float64]outcome{} // by rate, the last one
	try := func(ctx context.Context, rate float64, length time.Duration) (method.Counts, error) {
		m.at(0, name(rate))
		o, err := m.trial(ctx, trial{Direction: d, Size: size, Rate: rate, Duration: length, Flows: m.o.Flows})
		made[rate] = o
		// A search that takes more steps than the bar has for it does not push it beyond its share.
		m.at(min(1, max(begin+2*searchSteps-m.done, 0)), name(rate))
		return o.counted(), err
	}
	flood, err := try(ctx, limit, m.o.Trial)
	if err != nil {
		return err
	}
	offered := float64(flood.Offered) / flood.Window.Seconds()
	top := min(2*flood.PPS(), offered)
	u := UDP{Direction: string(d), Size: size, Bound: BoundPath}
	if top == 0 {
		m.note("%s, %d B: nothing arrived of %d packets at %s", d, size, flood.Offered, rateText(offered))
		top = limit / 100
	}
	search := method.Search{Loss: partialLoss, Duration: m.o.Trial, Trials: searchTrials, Max: top}
	if u.PDR, err = m.search(ctx, search, try, made); err != nil {
		return err
	}
	if u.PDR.PPS > 0 {
		search.Loss, search.Max = 0, u.PDR.PPS
		if u.NDR, err = m.search(ctx, search, try, made); err != nil {
			return err
		}
	}
	u.Bound = bound(u.PDR.PPS, offered, limit, made)
	m.done = begin + 2*searchSteps + 1
	base := u.NDR.PPS
	if base == 0 {
		base = u.PDR.PPS
	}
	for _, share := range shares {
		if base > 0 {
			l, err := m.load(ctx, trial{Direction: d, Size: size, Rate: max(share*base, 1), Duration: m.length(), Flows: m.o.Flows})
			if err != nil {
				return err
			}
			l.Share = share
			u.Loads = append(u.Loads, l)
		}
		m.at(longer, fmt.Sprintf("%s %d B, delay", d, size))
	}
	m.result.UDP = append(m.result.UDP, u)
	return nil
}

// search finds a rate; that there is none is a result. A rate is what arrived, not what was asked for.
func (m *measurement) search(ctx context.Context, s method.Search, try method.Trial, made map[float64]outcome) (method.Rate, error) {
	var broken error
	r, err := s.Find(ctx, func(ctx context.Context, rate float64, d time.Duration) (method.Counts, error) {
		c, err := try(ctx, rate, d)
		broken = errors.Join(broken, err)
		return c, err
	})
	if broken != nil {
		return r, broken
	}
	if err != nil || math.IsNaN(r.PPS) {
		return method.Rate{Loss: s.Loss, Trials: r.Trials, Disturbed: r.Disturbed}, ctx.Err()
	}
	if o, ok := made[r.PPS]; ok && o.sent.Duration > 0 {
		r.PPS = min(r.PPS, float64(o.counts.Received)/o.sent.Duration.Seconds())
	}
	return r, nil
}

// bound says what ended a rate.
func bound(rate, offered, limit float64, made map[float64]outcome) Bound {
	switch {
	case rate >= near*limit:
		return BoundLimit
	case rate >= near*offered:
		return BoundSender
	}
	var lost, overrun uint64
	for _, o := range made {
		lost += o.lost()
		overrun += o.counts.Overrun
	}
	if lost > 0 && 2*overrun >= lost {
		return BoundReceiver
	}
	return BoundPath
}

// load is a trial with echoes beside it.
func (m *measurement) load(ctx context.Context, t trial) (l Load, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var g errgroup.Group
	var e *echoes
	g.Go(func() (err error) {
		e, _, err = m.echo(ctx, echoSize, min(besideEchoes, m.limits.maxRate(echoSize)), t.Duration)
		return err
	})
	o, err := m.trial(ctx, t)
	if err != nil {
		cancel()
		return l, errors.Join(err, ignoreCanceled(g.Wait()))
	}
	if err := g.Wait(); err != nil {
		return l, err
	}
	return Load{
		PPS: t.Rate, Sent: o.sent.Packets, Received: o.counts.Received, Reordered: o.counts.Reordered, Duplicates: o.counts.Duplicates,
		Overrun: o.counts.Overrun, Variation: method.Quantiles(o.counts.Variation), Trip: method.Quantiles(e.trips.buckets()),
	}, nil
}

func ignoreCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (m *measurement) stream(ctx context.Context, d direction) error {
	o, err := m.tcp(ctx, stream{Direction: d, Duration: m.length(), Streams: m.o.Streams})
	if err != nil {
		return err
	}
	if o.counts.Window == 0 {
		return errors.New("nothing arrived")
	}
	m.result.TCP = append(m.result.TCP, TCP{
		Direction: string(d), Streams: m.o.Streams, Bits: 8 * float64(o.counts.Bytes) / o.counts.Window.Seconds(), Retransmitted: o.sent.Retransmitted,
	})
	return nil
}

func rateText(pps float64) string {
	switch {
	case pps >= 1e6:
		return fmt.Sprintf("%.2f Mpps", pps/1e6)
	case pps >= 1e3:
		return fmt.Sprintf("%.1f kpps", pps/1e3)
	}
	return fmt.Sprintf("%.0f pps", pps)
}
