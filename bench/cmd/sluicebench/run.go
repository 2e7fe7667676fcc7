package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/report"
)

// part of a run.
type part struct {
	name string
	run  func(*bench, context.Context) error
	// until which share of the run's time it may begin a measurement.
	until float64
}

// parts in order.
var parts = []part{
	{"memory", (*bench).memory, 0.06},
	{"flood", (*bench).floods, 0.38},
	{"tcp", (*bench).tcp, 0.52},
	{"rates", (*bench).rates, 0.75},
	{"scale", (*bench).scale, 0.88},
	{"recovery", (*bench).recovery, 1},
}

// size of a run: how much of everything.
type size struct {
	memoryQuads int
	quads       int
	slice       time.Duration // of a flood
	limit       time.Duration // of one comparison
	sizes       []int
	memorySizes []int
	imix        bool
	native      bool
	tcp         time.Duration
	trial       time.Duration // of a rate search
	trials      int
	latency     time.Duration
	routes      []int
	peers       []int
	flows       []int
	vnis        []int
}

var (
	// full takes about half an hour on two CPUs, with all contestants; intervals are then about ±5 %.
	full = size{
		memoryQuads: 12, quads: 10, slice: 250 * time.Millisecond, limit: 20 * time.Second,
		sizes: []int{64, 512, 1420}, memorySizes: []int{64, 512, 1420}, imix: true, native: true,
		tcp: time.Second, trial: 400 * time.Millisecond, trials: 20, latency: 3 * time.Second,
		routes: []int{1000, 10_000, 100_000}, peers: []int{10, 100, 1000}, flows: []int{16, 1024, 65_536}, vnis: []int{256, 4096},
	}
	// quick passes once over everything that can break, in about two minutes.
	quick = size{
		memoryQuads: 2, quads: 1, slice: 100 * time.Millisecond, limit: 3 * time.Second,
		sizes: []int{512}, memorySizes: []int{64, 1420},
		tcp: time.Second, trial: 100 * time.Millisecond, trials: 15, latency: 300 * time.Millisecond,
		routes: []int{1000}, peers: []int{10}, flows: []int{1024},
	}
)

// bench is one run of the harness.
type bench struct {
	size
	dir       string // of the report
	results   report.Results
	calibrate func(context.Context) (method.Calibration, error)
	only      []string // contestants; empty: all
	// deadline after which the part that is under way begins no more measurements; zero: none.
	deadline time.Time
}

// errTime is of what the run had no time for.
var errTime = fmt.Errorf("%w in this run: its time was over (--within)", method.ErrUnavailable)

func runCommand() *cobra.Command {
	var short, force bool
	var only, against []string
	var within time.Duration
	c := &cobra.Command{
		Use: "run", Short: "Measure, and write " + resultsFolder + "/DATE-MACHINE.{json,md,svg}", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), short, force, within, only, against)
		},
	}
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	c.Flags().BoolVar(&short, "quick", false, "once over everything, in about two minutes; figures mean nothing; written to "+outFolder)
	c.Flags().BoolVar(&force, "force", false, "measure also on a busy machine; the report says so")
	c.Flags().DurationVar(&within, "within", 35*time.Minute, "begin nothing after this time; what is left out is in the report")
	c.Flags().StringSliceVar(&only, "only", nil, "parts: "+strings.Join(names, ", "))
	c.Flags().StringSliceVar(&against, "against", nil, "names of contestants (default: all)")
	return c
}

func run(ctx context.Context, short, force bool, within time.Duration, only, against []string) error {
	for _, name := range only {
		if !slices.ContainsFunc(parts, func(p part) bool { return p.name == name }) {
			return fmt.Errorf("there is no part %q", name)
		}
	}
	b := &bench{size: full, only: against, dir: resultsFolder}
	if short {
		b.size, b.dir = quick, outFolder
	}
	machine, err := report.ThisMachine(commit(ctx))
	if err != nil {
		return err
	}
	b.results = report.Results{Schema: report.Schema, Date: time.Now(), Machine: machine, Quick: short}
	switch err := b.quiet(ctx, "before"); {
	case errors.Is(err, method.ErrBusy) && (force || short):
	case errors.Is(err, method.ErrBusy):
		return fmt.Errorf("%w (--force measures nevertheless)", err)
	case err != nil:
		return err
	}
	calibrator, stop, err := newCalibrator()
	if err != nil {
		return err
	}
	defer stop()
	b.calibrate = calibrator.Measure
	started := time.Now()
	for _, p := range parts {
		if len(only) > 0 && !slices.Contains(only, p.name) {
			continue
		}
		b.deadline = started.Add(time.Duration(p.until * float64(within)))
		begin := time.Now()
		if err := p.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		say("%s: %v", p.name, time.Since(begin).Round(time.Second))
	}
	// Work that began while we measured is to be known, too.
	if err := b.quiet(ctx, "after"); err != nil && !errors.Is(err, method.ErrBusy) {
		return err
	}
	path, err := report.Write(b.dir, b.results)
	if err != nil {
		return err
	}
	say("wrote %s", path)
	fmt.Print(report.Markdown(b.results, nil))
	return nil
}

// quiet notes in the report when the machine is not.
func (b *bench) quiet(ctx context.Context, when string) error {
	err := method.Quiet(ctx, 2*time.Second)
	if errors.Is(err, method.ErrBusy) {
		b.results.Warnings = append(b.results.Warnings, fmt.Sprintf("%s the run %v", when, err))
	}
	return err
}

// commit of the tree, as far as git knows.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// plan of one comparison.
func (b *bench) plan(what string, quads int) method.Plan {
	last := time.Now()
	return method.Plan{
		Quads: quads, Limit: b.limit, Calibrate: b.calibrate,
		Progress: func(done, of int) {
			if done == of || time.Since(last) > 5*time.Second {
				last = time.Now()
				say("  %s: %d of %d quads", what, done, of)
			}
		},
	}
}

// finish ends one measurement. What a contestant could not do is noted, and the run goes on unless it was
// interrupted: one that breaks must not cost the figures of the others. What there is so far is
// written, so that an interrupt loses nothing.
func (b *bench) finish(ctx context.Context, contestant, what string, err error) error {
	if ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	if err != nil {
		say("  %s: %s: %v", contestant, what, err)
		reason := err.Error()
		if !errors.Is(err, method.ErrUnavailable) {
			reason = "failed: " + reason
		}
		b.missing(contestant, what, reason)
	}
	_, err = report.Write(b.dir, b.results)
	return err
}

// missing notes that there is no figure, and why: once for each reason.
func (b *bench) missing(contestant, what, reason string) {
	for i := range b.results.Unavailable {
		if u := &b.results.Unavailable[i]; u.Contestant == contestant && u.Reason == reason {
			u.What += "; " + what
			return
		}
	}
	b.results.Unavailable = append(b.results.Unavailable, report.Unavailable{Contestant: contestant, What: what, Reason: reason})
}
