package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/report"
	"github.com/sluicegw/sluice/bench/scenario"
)

// rates looks for each contestant's rates without loss, and for latency below them: of ours and of the first other one
// for the smallest and the largest packets, of the others for the smallest.
func (b *bench) rates(ctx context.Context) error {
	drivers := append([]scenario.Driver{ours()}, b.others()...)
	if b.results.Quick {
		drivers = drivers[:1]
	}
	for i, d := range drivers {
		sizes := []int{b.sizes[0], b.sizes[len(b.sizes)-1]}
		if i > 1 {
			sizes = sizes[:1]
		}
		for _, size := range sizes {
			s := method.Scenario{Size: size, Flows: 16, Attachment: d.Attachments()[0]}
			if slices.ContainsFunc(b.results.Rates, func(r report.Rates) bool { return r.Contestant == d.Name() && r.Scenario == s }) {
				continue // one size
			}
			if err := b.finish(ctx, d.Name(), "rates, "+s.String(), b.rate(ctx, d, s)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) rate(ctx context.Context, d scenario.Driver, s method.Scenario) (err error) {
	run, err := b.start(ctx, d, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.Stop()) }()
	r := report.Rates{Contestant: d.Name(), Scenario: s}
	if _, err := run.Offer(ctx, 10_000, b.trial); err != nil { // warm up
		return err
	}
	say("  %s, %s: rates", d.Name(), s)
	search := method.Search{Loss: 0.005, Duration: b.trial, Trials: b.trials}
	if r.PDR, err = search.Find(ctx, run.Offer); err != nil {
		return err
	}
	search.Loss, search.Max = 0, r.PDR.PPS
	rate := r.PDR.PPS
	if r.NDR, err = search.Find(ctx, run.Offer); err == nil {
		rate = r.NDR.PPS
	} else {
		// On a virtual machine there may be no rate at which nothing is lost for so long.
		say("  %s, %s: %v", d.Name(), s, err)
		r.NDR = method.Rate{Trials: r.NDR.Trials, Disturbed: r.NDR.Disturbed}
	}
	for _, load := range []float64{0.1, 0.5, 0.9} {
		c, err := run.Offer(ctx, load*rate, b.latency)
		if err != nil {
			return err
		}
		r.Latency = append(r.Latency, report.Latency{Load: load, PPS: load * rate, Lost: c.Lost(), Quantiles: method.Quantiles(c.Latency), Buckets: c.Latency})
	}
	if burster, ok := run.(method.Burster); ok {
		if r.Burst, err = longestBurst(ctx, burster); err != nil {
			return err
		}
	}
	b.results.Rates = append(b.results.Rates, r)
	return nil
}

// longestBurst is the longest one that arrives as a whole twice in a row, of powers of two and
// the steps between them.
func longestBurst(ctx context.Context, r method.Burster) (int, error) {
	passes := func(n int) (bool, error) {
		for range 2 {
			c, err := r.Burst(ctx, n)
			if err != nil || c.Lost() > 0 {
				return false, err
			}
		}
		return true, nil
	}
	const most = 1 << 16
	longest := 0
	for n := 64; n <= most; n *= 2 {
		ok, err := passes(n)
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		longest = n
	}
	for step := longest / 2; step >= 64; step /= 2 {
		if longest >= most {
			break
		}
		ok, err := passes(longest + step)
		if err != nil {
			return 0, err
		}
		if ok {
			longest += step
		}
	}
	return longest, nil
}

// scale compares ours with itself, with more of something.
func (b *bench) scale(ctx context.Context) error {
	d := ours()
	base := method.Scenario{Size: 64, Flows: 16, Attachment: scenario.Routed}
	type dimension struct {
		what   string
		counts []int
		from   int
		set    func(*method.Scenario, int)
	}
	dimensions := slices.DeleteFunc([]dimension{
		// Flows grow with routes and peers, so that many of them are used; base has as many flows.
		{"routes", b.routes, 10, func(s *method.Scenario, n int) { s.Routes, s.Flows = n, 4096 }},
		{"peers", b.peers, 1, func(s *method.Scenario, n int) { s.Peers, s.Flows, s.Direction = n, 4096, method.Encrypt }},
		{"flows", b.flows, 1, func(s *method.Scenario, n int) { s.Flows = n }},
		{"VNIs", b.vnis, 1, func(s *method.Scenario, n int) { s.VNIs, s.Flows, s.Attachment = n, 4096, scenario.VXLAN }},
		{"workers", []int{2}, 1, func(s *method.Scenario, n int) { s.Workers, s.Flows = n, 1024 }},
	}, func(d dimension) bool { return !b.wants("scale", d.what) })
	b.left = 0
	for _, dimension := range dimensions {
		b.left += len(dimension.counts)
	}
	for _, dimension := range dimensions {
		for _, n := range dimension.counts {
			few, many := base, base
			dimension.set(&few, dimension.from)
			dimension.set(&many, n)
			err := b.scaleOnce(ctx, d, few, many, dimension.what, dimension.from, n)
			if err := b.finish(ctx, d.Name(), fmt.Sprintf("%d %s", n, dimension.what), err); err != nil {
				return err
			}
			b.left--
		}
	}
	return nil
}

func (b *bench) scaleOnce(ctx context.Context, d scenario.Driver, few, many method.Scenario, what string, from, to int) (err error) {
	var runs [2]method.Run
	for i, s := range []method.Scenario{few, many} {
		if runs[i], err = b.start(ctx, d, s); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, runs[i].Stop()) }()
	}
	sides := alone([2]method.Side{b.flood(fmt.Sprintf("%d %s", from, what), runs[0]), b.flood(fmt.Sprintf("%d %s", to, what), runs[1])}, runs[0], runs[1])
	defer wake(runs[0], runs[1])
	for _, side := range sides {
		if _, err := side.Measure(ctx); err != nil {
			return fmt.Errorf("warm up %s: %w", side.Name, err)
		}
	}
	c, err := method.Compare(ctx, sides[0], sides[1], b.plan(d.Name()+", "+sides[1].Name, b.quads))
	if err != nil {
		return err
	}
	b.results.Scale = append(b.results.Scale, report.Scale{Contestant: d.Name(), Scenario: many, What: what, From: from, To: to, Comparison: c})
	return nil
}
