package scenario

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sluicegw/sluice/bench/traffic"
)

// sources are the generators of a run: one for each worker, as live frames arrive in the
// queue whose number is the generator's CPU. Each has its share of the flows.
type sources []*traffic.Generator

// newSources loads generators on the CPUs from first on.
func newSources(n, first int, o traffic.Options) (all sources, err error) {
	if o.Frames == nil {
		o.Flow.Flows = max(o.Flow.Flows/n, 1)
	}
	for i := range n {
		o.CPU, o.Flow.First = first+i, i*o.Flow.Flows
		g, err := traffic.NewGenerator(o)
		if err != nil {
			return nil, errors.Join(err, all.Close())
		}
		all = append(all, g)
	}
	return all, nil
}

// set shares rate and count out.
func (s sources) set(rate float64, count int) {
	for _, g := range s {
		g.SetRate(rate / float64(len(s)))
		g.SetCount(uint64((count + len(s) - 1) / len(s)))
	}
}

// Run runs all of them.
func (s sources) Run(ctx context.Context, d time.Duration) (sum traffic.Sent, err error) {
	sent, errs := make([]traffic.Sent, len(s)), make([]error, len(s))
	var wait sync.WaitGroup
	for i, g := range s {
		wait.Go(func() { sent[i], errs[i] = g.Run(ctx, d) })
	}
	wait.Wait()
	for _, one := range sent {
		sum.Packets += one.Packets
		sum.Bytes += one.Bytes
		sum.Refused += one.Refused
		sum.Held += one.Held
		sum.Duration = max(sum.Duration, one.Duration)
	}
	return sum, errors.Join(errs...)
}

// Close releases all of them.
func (s sources) Close() error {
	var errs []error
	for _, g := range s {
		errs = append(errs, g.Close())
	}
	return errors.Join(errs...)
}
