package main

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/report"
	"github.com/sluicegw/sluice/internal/testenv"
)

// ring holds so many packets of a burst.
type ring int

func (r ring) Burst(_ context.Context, n int) (method.Counts, error) {
	return method.Counts{Offered: uint64(n), Received: uint64(min(n, int(r)))}, nil
}

func TestLongestBurstIsTheRing(t *testing.T) {
	for _, size := range []int{0, 63, 64, 100, 2048, 3000, 1 << 16, 1 << 20} {
		got, err := longestBurst(t.Context(), ring(size))
		want := min(size, 1<<16)
		if err != nil || got > want || got < want-64 {
			t.Errorf("ring of %d: %d, %v", size, got, err)
		}
	}
}

func TestUnknownPartIsAnError(t *testing.T) {
	if err := run(t.Context(), options{short: true, within: time.Minute, only: []string{"weather"}}); err == nil {
		t.Error("no error")
	}
}

func TestOneContestantThatBreaksDoesNotEndTheRun(t *testing.T) {
	b := &bench{dir: t.TempDir()}
	if err := b.finish(t.Context(), "x", "y", errors.New("broken")); err != nil {
		t.Error(err)
	}
	if err := b.finish(t.Context(), "x", "y", fmt.Errorf("%w: no module", method.ErrUnavailable)); err != nil {
		t.Error(err)
	}
	// The same reason again is the same line.
	if err := b.finish(t.Context(), "x", "z", errors.New("broken")); err != nil {
		t.Error(err)
	}
	if len(b.results.Unavailable) != 2 || b.results.Unavailable[0].What != "y; z" {
		t.Errorf("%v", b.results.Unavailable)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.finish(ctx, "x", "y", errors.New("killed")); !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupt is %v", err)
	}
}

// The thinnest line from end to end: two contestants, one size, a report.
func TestFloodDuelGivesARow(t *testing.T) {
	testenv.RequireRoot(t)
	calibrator, stop, err := newCalibrator()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	b := &bench{dir: t.TempDir(), size: quick, calibrate: calibrator.Measure, only: []string{"kernel-vxlan"}}
	b.results.Quick, b.results.Date = true, time.Now()
	if err := b.floods(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(b.results.Duels) != 2 {
		t.Fatalf("%d rows: %v", len(b.results.Duels), b.results.Unavailable)
	}
	c := b.results.Duels[0].Comparison
	if c.A != "sluice" || c.Ratios[method.PPS].N == 0 || c.FiguresA[method.DUTNs].Median < 50 {
		t.Errorf("%+v", c.Ratios)
	}
	if len(c.Slices) == 0 || c.Slices[0].Values[method.PPS] < 1000 {
		t.Errorf("raw slices %v", c.Slices)
	}
	direct := b.results.Duels[1].Comparison
	if direct.A != "sluice-direct" || direct.B != "kernel-vxlan" || direct.Ratios[method.PPS].N == 0 || direct.FiguresA[method.PPS].Median < 1000 {
		t.Errorf("without encryption: %s against %s: %+v", direct.A, direct.B, direct.Ratios)
	}
	if _, err := report.Write(t.TempDir(), b.results); err != nil {
		t.Error(err)
	}
}

// What XDP drops costs tens of nanoseconds on any machine; the pulse has both loops.
func TestCalibratorTakesThePulseOfTheKernelToo(t *testing.T) {
	testenv.RequireRoot(t)
	c, stop, err := newCalibrator()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	pulse, err := c.Measure(t.Context())
	if err != nil || pulse.DropNs < 1 || pulse.DropNs > 10_000 || pulse.SealNs < 100 {
		t.Errorf("%+v, %v", pulse, err)
	}
}

func TestWhenTheTimeIsOverNothingBegins(t *testing.T) {
	b := &bench{dir: t.TempDir(), deadline: time.Now().Add(-time.Second)}
	if _, err := b.start(t.Context(), ours(), method.Scenario{}); !errors.Is(err, method.ErrUnavailable) {
		t.Error(err)
	}
	last := 0.0
	for _, p := range parts {
		if p.until <= last {
			t.Errorf("%s has no time of its own", p.name)
		}
		last = p.until
	}
	if last != 1 {
		t.Errorf("the last part ends at %v of the time", last)
	}
}
