package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/traffic"
)

const (
	// sampling is how often arrivals are looked at, and so how exact an outage is known.
	sampling = 5 * time.Millisecond
	// lead is how long packets flow before the event, settle how long they have to flow
	// again until we believe that it is over.
	lead   = 500 * time.Millisecond
	settle = 500 * time.Millisecond
	// down is how long a flapping link is down.
	down = time.Second
	// early is how long before a session is due for renewal its traffic begins.
	early = 2 * time.Second
)

// Recover disturbs the gateways while packets flow. A rekey is not forced: the session
// in use is left to grow old, for two minutes with WireGuard, and packets flow when it
// is renewed.
func (r *Run) Recover(ctx context.Context, event method.Event, rate float64, limit time.Duration) (method.Recovery, error) {
	if r.Lab.Scenario.Direction != method.Through {
		return method.Recovery{}, fmt.Errorf("%s: %w", event, errDirection)
	}
	disturb, err := r.event(ctx, event)
	if err != nil {
		return method.Recovery{}, err
	}
	if err := r.prepare(); err != nil {
		return method.Recovery{}, err
	}
	if err := r.sink.Reset(); err != nil {
		return method.Recovery{}, err
	}
	r.generator.set(rate, 0)
	flow, stop := context.WithCancel(ctx)
	defer stop()
	type result struct {
		sent traffic.Sent
		err  error
	}
	done := make(chan result, 1)
	go func() {
		sent, err := r.generator.Run(flow, lead+limit)
		if errors.Is(err, traffic.ErrNotTaken) { // an outage longer than the rest of the run: the packets are lost, and count
			err = nil
		}
		done <- result{sent, err}
	}()
	w := &watch{read: r.sink.Read}
	err = w.run(ctx, disturb, limit)
	stop()
	end := <-done
	if err := errors.Join(err, end.err); err != nil {
		return method.Recovery{}, fmt.Errorf("%s: %w", event, err)
	}
	time.Sleep(drain)
	got, err := r.sink.Read()
	if err != nil {
		return method.Recovery{}, err
	}
	recovery := w.result()
	recovery.Event, recovery.Rate = event, rate
	if received := got.Packets - got.Duplicates; received < end.sent.Packets {
		recovery.Lost = end.sent.Packets - received
	}
	return recovery, nil
}

// event returns what makes the event happen; it may wait for the right time to begin.
func (r *Run) event(ctx context.Context, event method.Event) (func(context.Context) error, error) {
	switch event {
	case method.Kill:
		g, ok := r.Gateways.(Restarter)
		if !ok {
			return nil, fmt.Errorf("%s: %w: nothing can be killed", event, method.ErrUnavailable)
		}
		return g.Restart, nil
	case method.LinkFlap:
		return r.flap, nil
	case method.Rekey:
		g, ok := r.Gateways.(Session)
		if !ok {
			return nil, fmt.Errorf("%s: %w: it has no session keys that can be asked for", event, method.ErrUnavailable)
		}
		return rekey(ctx, g)
	}
	return nil, fmt.Errorf("unknown event %q", event)
}

// flap takes the first gateway's WAN port down and up again. What the kernel forgets
// when a port goes down (permanent neighbours, routes) comes back at once, as a
// network daemon would do it.
func (r *Run) flap(ctx context.Context) error {
	port, site, other := r.Lab.Ends[0].WAN, r.Lab.Ends[0], r.Lab.Ends[1]
	port.SetUp(false)
	time.Sleep(down)
	port.SetUp(true)
	if err := r.Lab.Scope.Err(); err != nil {
		return err
	}
	if err := Neighbour(site.Gateway, port.Name, WAN(other.Number), WANMAC(other.Number)); err != nil {
		return err
	}
	if g, ok := r.Gateways.(Repairer); ok {
		return g.Repair(ctx)
	}
	return nil
}

// rekey waits until the session is nearly due, and returns what waits for the renewal.
func rekey(ctx context.Context, g Session) (func(context.Context) error, error) {
	old, err := g.LastHandshake(ctx)
	if err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(time.Until(old.Add(g.Renewal() - early))):
	}
	// Both are told relative to the wall clock of their moment.
	const same = 100 * time.Millisecond
	return func(ctx context.Context) error {
		return Eventually(ctx, func() error {
			at, err := g.LastHandshake(ctx)
			if err == nil && at.Sub(old).Abs() < same {
				err = errors.New("the session was not renewed")
			}
			return err
		})
	}, nil
}

// watch looks at arrivals.
type watch struct {
	read    func() (traffic.Counts, error)
	samples []sample
	event   time.Time
	over    time.Time // the event's action had returned
}

type sample struct {
	at      time.Time
	packets uint64
}

// run samples before, during and after the event, until packets flow again.
func (w *watch) run(ctx context.Context, disturb func(context.Context) error, limit time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begin := time.Now()
	returned := make(chan error, 1)
	tick := time.NewTicker(sampling)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-returned:
			if err != nil {
				return err
			}
			w.over = time.Now()
		case <-tick.C:
		}
		counts, err := w.read()
		if err != nil {
			return err
		}
		now := time.Now()
		w.samples = append(w.samples, sample{now, counts.Packets})
		switch {
		case w.event.IsZero() && now.Sub(begin) >= lead:
			w.event = now
			go func() { returned <- disturb(ctx) }()
		case !w.event.IsZero() && now.Sub(w.event) > limit:
			if w.over.IsZero() {
				cancel()
				return <-returned
			}
			return nil
		case !w.over.IsZero() && w.flowing(now):
			return nil
		}
	}
}

// flowing: packets have come for a while, without a pause of more than a few samples.
func (w *watch) flowing(now time.Time) bool {
	if now.Sub(w.over) < settle {
		return false
	}
	last := w.samples[len(w.samples)-1]
	for i := len(w.samples) - 2; i >= 0; i-- {
		s := w.samples[i]
		if s.packets < last.packets {
			if last.at.Sub(s.at) > settle/5 {
				return false
			}
			last = s
		}
		if now.Sub(s.at) >= settle {
			return now.Sub(last.at) >= settle-settle/5
		}
	}
	return false
}

// points is how many samples make a point of the timeline.
const points = 4

// result says what the event cost. An outage shorter than a few samples is none.
func (w *watch) result() method.Recovery {
	var out method.Recovery
	if len(w.samples) == 0 {
		return out
	}
	last := w.samples[0] // the last one that had news
	for _, s := range w.samples[1:] {
		if s.packets > last.packets {
			if s.at.After(w.event) {
				out.Outage = max(out.Outage, s.at.Sub(last.at))
			}
			last = s
		}
	}
	end := w.samples[len(w.samples)-1]
	out.Outage = max(out.Outage, end.at.Sub(last.at))
	out.Recovered = w.flowing(end.at)
	if out.Outage < points*sampling {
		out.Outage = 0
	}
	for i := points; i < len(w.samples); i += points {
		a, b := w.samples[i-points], w.samples[i]
		out.Timeline = append(out.Timeline, method.Point{
			At: b.at.Sub(w.event), PPS: float64(b.packets-a.packets) / b.at.Sub(a.at).Seconds(),
		})
	}
	return out
}
