package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluicegw/sluice/bench/contestants"
	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/report"
	"github.com/sluicegw/sluice/bench/scenario"
)

// ours is the contestant that all others meet.
func ours() scenario.Driver { return contestants.All()[0] }

// others are those that it meets in this run.
func (b *bench) others() (drivers []scenario.Driver) {
	for _, d := range append(contestants.All()[1:], contestants.Elsewhere()...) {
		if _, isOurs := d.(contestants.SluiceDirect); !isOurs && b.named(d) {
			drivers = append(drivers, d)
		}
	}
	return drivers
}

// named says whether a contestant takes part: --against names those that do.
func (b *bench) named(d scenario.Driver) bool {
	return len(b.only) == 0 || slices.Contains(b.only, d.Name())
}

// pair is a contestant of ours and one that it meets.
type pair struct{ we, other scenario.Driver }

// pairs are those of the floods: kernel forwarding into VXLAN, which does not encrypt either, meets ours without
// encryption too, or only that if only that is named.
func (b *bench) pairs() (pairs []pair) {
	for _, d := range b.others() {
		pairs = append(pairs, pair{ours(), d})
	}
	if b.named(contestants.KernelVXLAN{}) || b.named(contestants.SluiceDirect{}) {
		pairs = append(pairs, pair{contestants.SluiceDirect{}, contestants.KernelVXLAN{}})
	}
	return pairs
}

// meet starts one of ours and another in the same scenario, each in a lab of its own, and hands
// them over. Both have the attachment that the other one prefers.
func (b *bench) meet(ctx context.Context, us, other scenario.Driver, s method.Scenario, f func(a, b method.Run) error) (err error) {
	s.Attachment = other.Attachments()[0]
	if !slices.Contains(us.Attachments(), s.Attachment) {
		return fmt.Errorf("%s with attachment %s: %w", us.Name(), s.Attachment, method.ErrUnavailable)
	}
	theirs, err := b.start(ctx, other, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, theirs.Stop()) }()
	we, err := b.start(ctx, us, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, we.Stop()) }()
	return f(we, theirs)
}

// start starts a contestant and notes its version.
func (b *bench) start(ctx context.Context, d scenario.Driver, s method.Scenario) (method.Run, error) {
	if b.over() {
		return nil, errTime
	}
	run, err := scenario.Contestant{Driver: d, NICs: b.nics}.Start(ctx, s)
	if err != nil {
		return nil, err
	}
	v := report.Version{Contestant: d.Name(), Text: run.Version()}
	if !slices.ContainsFunc(b.results.Versions, func(o report.Version) bool { return o.Contestant == v.Contestant }) {
		b.results.Versions = append(b.results.Versions, v)
	}
	return run, nil
}

// flood is a side that is offered more than it can carry.
func (b *bench) flood(name string, r method.Run) method.Side {
	return method.Side{Name: name, Measure: flooded(r, b.slice)}
}

// flooded measures one slice of a flood.
func flooded(r method.Run, d time.Duration) func(context.Context) (method.Sample, error) {
	return func(ctx context.Context) (method.Sample, error) {
		c, err := r.Offer(ctx, 0, d)
		if err != nil {
			return method.Sample{}, err
		}
		if c.BadChecksums > 0 {
			return method.Sample{}, fmt.Errorf("%d packets arrived damaged", c.BadChecksums)
		}
		s := c.Sample()
		// A contestant that carries all it is offered was not measured, the generator was.
		if s.Dirty == "" && c.Lost() < 0.01 {
			s.Dirty = "the generator was the limit"
		}
		return s, nil
	}
}

// floodScenarios are the ones that are flooded, by the items that --only knows.
func (b *bench) floodScenarios() (scenarios []method.Scenario) {
	for _, size := range b.sizes {
		if b.wants("flood", fmt.Sprint(size)) {
			scenarios = append(scenarios, method.Scenario{Size: size, Flows: 16})
		}
	}
	if b.imix && b.wants("flood", "imix") {
		scenarios = append(scenarios, method.Scenario{IMIX: true, Flows: 16})
	}
	if b.native && b.wants("flood", "native") {
		scenarios = append(scenarios, method.Scenario{Size: 1420, Flows: 16, Native: true})
	}
	return scenarios
}

func (b *bench) floods(ctx context.Context) error {
	pairs, scenarios := b.pairs(), b.floodScenarios()
	b.left = len(pairs) * len(scenarios)
	for _, p := range pairs {
		for _, s := range scenarios {
			what := s.String()
			if p.we != ours() {
				what += ", against " + p.we.Name()
			}
			if err := b.finish(ctx, p.other.Name(), what, b.floodDuel(ctx, p, s)); err != nil {
				return err
			}
			b.left--
		}
	}
	return nil
}

func (b *bench) floodDuel(ctx context.Context, p pair, s method.Scenario) error {
	if len(b.nics) > 0 {
		return b.nicDuel(ctx, p, s)
	}
	return b.meet(ctx, p.we, p.other, s, func(we, theirs method.Run) error {
		sides := alone([2]method.Side{b.flood(p.we.Name(), we), b.flood(p.other.Name(), theirs)}, we, theirs)
		defer wake(we, theirs)
		for _, side := range sides { // the first packets find cold caches, and routes to resolve
			if _, err := side.Measure(ctx); err != nil {
				return fmt.Errorf("warm up %s: %w", side.Name, err)
			}
		}
		c, err := method.Compare(ctx, sides[0], sides[1], b.plan(p.we.Name()+", "+p.other.Name()+", "+s.String(), b.quads))
		if err != nil {
			return err
		}
		b.results.Duels = append(b.results.Duels, report.Duel{Scenario: s, Kind: report.Flood, Comparison: c})
		return errors.Join(b.footprint(p.we.Name(), we), b.footprint(p.other.Name(), theirs))
	})
}

// footprint notes the memory of a contestant the first time that it was under load.
func (b *bench) footprint(name string, r method.Run) error {
	pids := r.PIDs()
	if len(pids) == 0 || slices.ContainsFunc(b.results.Footprints, func(f report.Footprint) bool { return f.Contestant == name }) {
		return nil
	}
	now, peak, err := method.RSS(pids)
	if err != nil {
		return err
	}
	b.results.Footprints = append(b.results.Footprints, report.Footprint{Contestant: name, Processes: len(pids), RSS: now, Peak: peak})
	return nil
}

func (b *bench) tcp(ctx context.Context) error {
	var natives []bool
	if b.wants("tcp", "wire") {
		natives = append(natives, false)
	}
	if b.native && b.wants("tcp", "native") {
		natives = append(natives, true)
	}
	others := b.others()
	if b.results.Quick {
		others = others[:min(1, len(others))]
	}
	b.left = len(others) * len(natives)
	for _, native := range natives { // the headline first
		for _, other := range others {
			s := method.Scenario{Size: scenario.InnerMTU, Native: native}
			if err := b.finish(ctx, other.Name(), "TCP, "+s.String(), b.tcpDuel(ctx, other, s)); err != nil {
				return err
			}
			b.left--
		}
	}
	return nil
}

func (b *bench) tcpDuel(ctx context.Context, other scenario.Driver, s method.Scenario) error {
	return b.meet(ctx, ours(), other, s, func(we, theirs method.Run) error {
		var sides [2]method.Side
		for i, r := range []struct {
			name string
			run  method.Run
		}{{ours().Name(), we}, {other.Name(), theirs}} {
			goodput, ok := r.run.(method.Goodput)
			if !ok {
				return fmt.Errorf("%s carries no tcp: %w", r.name, method.ErrUnavailable)
			}
			sides[i] = method.Side{Name: r.name, Measure: func(ctx context.Context) (method.Sample, error) {
				bits, usage, err := goodput.TCP(ctx, b.size.tcp)
				if err != nil {
					return method.Sample{}, err
				}
				return method.Sample{Values: map[method.Metric]float64{method.Bits: bits}, Dirty: method.Counts{Usage: usage}.Disturbed()}, nil
			}}
		}
		sides = alone(sides, we, theirs)
		defer wake(we, theirs)
		c, err := method.Compare(ctx, sides[0], sides[1], b.plan(other.Name()+", TCP", b.tcpQuads))
		if err != nil {
			return err
		}
		b.results.Duels = append(b.results.Duels, report.Duel{Scenario: s, Kind: report.TCP, Comparison: c})
		return nil
	})
}
