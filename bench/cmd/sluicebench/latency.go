package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/report"
	"github.com/sluicegw/sluice/bench/scenario"
)

// bothCarry is the share of the slower one's rate at which latencies are compared: far enough below it that queues
// are what the contestants make of them, not what they overflow with.
const bothCarry = 0.5

// latencies compares the latency of ours with that of the others at a load that both carry: of all others only the
// first two, which encrypt as well.
func (b *bench) latencies(ctx context.Context) error {
	others := b.others()
	switch {
	case b.results.Quick:
		others = others[:min(1, len(others))]
	case len(b.only) == 0:
		others = others[:2]
	}
	b.left = len(others)
	for _, other := range others {
		s := method.Scenario{Size: 512, Flows: 16}
		if err := b.finish(ctx, other.Name(), "latency, "+s.String(), b.latencyDuel(ctx, other, s)); err != nil {
			return err
		}
		b.left--
	}
	return nil
}

func (b *bench) latencyDuel(ctx context.Context, other scenario.Driver, s method.Scenario) error {
	return b.meet(ctx, ours(), other, s, func(we, theirs method.Run) error {
		rate := 0.0
		warm := alone([2]method.Side{
			{Name: ours().Name(), Measure: b.carries(we, &rate)}, {Name: other.Name(), Measure: b.carries(theirs, &rate)},
		}, we, theirs)
		defer wake(we, theirs)
		for _, side := range warm {
			if _, err := side.Measure(ctx); err != nil {
				return fmt.Errorf("what %s carries: %w", side.Name, err)
			}
		}
		rate *= bothCarry
		// As long as it takes that twenty packets are slower than the last quantile.
		d := max(b.slice, time.Duration(20/(1-tail)/rate*float64(time.Second)))
		sides := alone([2]method.Side{late(ours().Name(), we, rate, d), late(other.Name(), theirs, rate, d)}, we, theirs)
		c, err := method.Compare(ctx, sides[0], sides[1], b.plan(fmt.Sprintf("%s, latency at %.0f kpps", other.Name(), rate/1e3), b.quads))
		if err != nil {
			return err
		}
		b.results.Duels = append(b.results.Duels, report.Duel{Scenario: s, Kind: report.AtLoad, Rate: rate, Comparison: c})
		return nil
	})
}

// carries measures what one of the two carries, and leaves the smaller rate of those measured in rate.
func (b *bench) carries(r method.Run, rate *float64) func(context.Context) (method.Sample, error) {
	return func(ctx context.Context) (method.Sample, error) {
		found, err := method.Search{Loss: 0.005, Duration: b.slice, Trials: 10, Width: 0.1, Confirm: 1}.Find(ctx, r.Offer)
		if *rate == 0 || found.PPS < *rate {
			*rate = found.PPS
		}
		return method.Sample{}, err
	}
}

// tail is the last quantile that is compared.
const tail = 0.999

// late is a side whose latency at a rate is measured.
func late(name string, r method.Run, rate float64, d time.Duration) method.Side {
	return method.Side{Name: name, Measure: func(ctx context.Context) (method.Sample, error) {
		c, err := r.Offer(ctx, rate, d)
		if err != nil {
			return method.Sample{}, err
		}
		s := method.Sample{Values: map[method.Metric]float64{}, Dirty: c.Disturbed()}
		for _, q := range method.Quantiles(c.Latency) {
			switch q.Of {
			case 0.5:
				s.Values[method.P50] = float64(q.At)
			case 0.99:
				s.Values[method.P99] = float64(q.At)
			case tail:
				s.Values[method.P999] = float64(q.At)
			}
		}
		if len(s.Values) < 3 {
			return s, errors.New("too few packets arrived")
		}
		return s, nil
	}}
}
