package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/report"
	"github.com/sluicegw/sluice/bench/scenario"
	"github.com/sluicegw/sluice/internal/netnstest"
)

// nicSlice is how long a flood over real interfaces lasts: more than on veth pairs, as starting takes seconds there.
const nicSlice = time.Second

// onNICs narrows a run over real interfaces to what can be done there.
func (b *bench) onNICs() error {
	if len(b.nics) == 0 {
		return nil
	}
	for _, part := range b.parts {
		if part != "flood" && !strings.HasPrefix(part, "flood/") {
			return fmt.Errorf("with --nic only floods are measured, not %s", part)
		}
	}
	if len(b.parts) == 0 {
		b.parts = []string{"flood"}
	}
	return nil
}

// describe says what interfaces are.
func describe(nics []string) (all []string, err error) {
	for _, name := range nics {
		text, err := netnstest.Describe(name)
		if err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	return all, nil
}

// nicDuel is a floodDuel over real interfaces. Only one contestant can have them at a time, so each is started anew for
// every slice.
func (b *bench) nicDuel(ctx context.Context, p pair, s method.Scenario) error {
	s.Attachment = p.other.Attachments()[0]
	side := func(d scenario.Driver) method.Side {
		return method.Side{Name: d.Name(), Measure: func(ctx context.Context) (sample method.Sample, err error) {
			run, err := b.start(ctx, d, s)
			if err != nil {
				return sample, err
			}
			defer func() { err = errors.Join(err, run.Stop()) }()
			if _, err := run.Offer(ctx, 0, b.slice); err != nil { // cold caches
				return sample, err
			}
			if sample, err = flooded(run, nicSlice)(ctx); err != nil {
				return sample, err
			}
			return sample, b.footprint(d.Name(), run)
		}}
	}
	c, err := method.Compare(ctx, side(p.we), side(p.other), b.plan(p.we.Name()+", "+p.other.Name()+", "+s.String(), b.quads))
	if err != nil {
		return err
	}
	b.results.Duels = append(b.results.Duels, report.Duel{Scenario: s, Kind: report.Flood, Comparison: c})
	return nil
}
