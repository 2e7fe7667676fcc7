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

const (
	// recoveryRate is what every contestant carries without loss.
	recoveryRate = 20_000
	// comeback is how long we wait for packets after a gateway was killed or its link was down.
	comeback = 20 * time.Second
	// renewal is how long a renewal of keys may take that was due two seconds after packets began to flow.
	renewal = 10 * time.Second
	// apart is how much later the next one's keys grow old, so that the renewals do not meet.
	apart = 10 * time.Second
	// undisturbed is when, seen from the first start, nothing else may begin: renewals come after two minutes.
	undisturbed = 100 * time.Second
)

// recovery disturbs each contestant. Sessions grow old, for two minutes, while the other disturbances are made.
func (b *bench) recovery(ctx context.Context) (err error) {
	drivers := append([]scenario.Driver{ours()}, b.others()...)
	if b.results.Quick {
		drivers = drivers[:1]
	}
	var renewals []*renewing
	defer func() {
		for _, r := range renewals {
			err = errors.Join(err, r.stop())
		}
	}()
	begin := time.Now()
	if b.wants("recovery", "rekey") && !b.results.Quick {
		for _, d := range drivers {
			r, startErr := b.grow(ctx, d)
			if startErr != nil {
				if err := b.finish(ctx, d.Name(), string(method.Rekey), startErr); err != nil {
					return err
				}
				continue
			}
			renewals = append(renewals, r)
			time.Sleep(apart)
		}
	}
	for _, item := range []struct {
		name  string
		event method.Event
	}{{"kill", method.Kill}, {"flap", method.LinkFlap}} {
		if !b.wants("recovery", item.name) || b.results.Quick && item.event != method.Kill {
			continue
		}
		for _, d := range drivers {
			if len(renewals) > 0 && time.Since(begin) > undisturbed {
				if renewals, err = nil, b.renewed(ctx, renewals); err != nil {
					return err
				}
			}
			if err := b.finish(ctx, d.Name(), string(item.event), b.recover(ctx, d, item.event)); err != nil {
				return err
			}
		}
	}
	waiting := renewals
	renewals = nil
	return b.renewed(ctx, waiting)
}

func (b *bench) recover(ctx context.Context, d scenario.Driver, event method.Event) (err error) {
	run, r, err := b.recoverer(ctx, d, event)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.Stop()) }()
	say("  %s: %s", d.Name(), event)
	got, err := r.Recover(ctx, event, recoveryRate, comeback)
	if err != nil {
		return err
	}
	b.results.Recoveries = append(b.results.Recoveries, report.Recovery{Contestant: d.Name(), Recovery: got})
	return nil
}

// recoverer starts a contestant that can be disturbed.
func (b *bench) recoverer(ctx context.Context, d scenario.Driver, event method.Event) (method.Run, method.Recoverer, error) {
	run, err := b.start(ctx, d, method.Scenario{Size: 512, Attachment: d.Attachments()[0]})
	if err != nil {
		return nil, nil, err
	}
	r, ok := run.(method.Recoverer)
	if !ok {
		return nil, nil, errors.Join(fmt.Errorf("%s: %w", event, method.ErrUnavailable), run.Stop())
	}
	return run, r, nil
}

// renewing is a contestant whose session grows old.
type renewing struct {
	name   string
	run    method.Run
	cancel context.CancelFunc
	done   chan struct{}
	got    method.Recovery
	err    error
}

// grow starts a contestant and leaves its session to grow old. Its packets flow in the seconds around the renewal only.
func (b *bench) grow(ctx context.Context, d scenario.Driver) (*renewing, error) {
	if _, speaks := d.(scenario.WireGuard); !speaks {
		return nil, fmt.Errorf("%s: %w: no WireGuard, no session that grows old", method.Rekey, method.ErrUnavailable)
	}
	run, recoverer, err := b.recoverer(ctx, d, method.Rekey)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &renewing{name: d.Name(), run: run, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.got, r.err = recoverer.Recover(ctx, method.Rekey, recoveryRate, renewal)
	}()
	return r, nil
}

// stop ends it whether its keys were renewed or not.
func (r *renewing) stop() error {
	r.cancel()
	<-r.done
	return r.run.Stop()
}

// renewed waits for the renewals and notes what they cost.
func (b *bench) renewed(ctx context.Context, all []*renewing) error {
	var errs []error
	for _, r := range all {
		say("  %s: %s", r.name, method.Rekey)
		<-r.done
		if r.err == nil {
			b.results.Recoveries = append(b.results.Recoveries, report.Recovery{Contestant: r.name, Recovery: r.got})
		}
		errs = append(errs, b.finish(ctx, r.name, string(method.Rekey), errors.Join(r.err, r.stop())))
	}
	return errors.Join(errs...)
}
