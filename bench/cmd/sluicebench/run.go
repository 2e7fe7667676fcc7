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
	{"memory", (*bench).memory, 0.09},
	{"flood", (*bench).floods, 0.42},
	{"tcp", (*bench).tcp, 0.57},
	{"latency", (*bench).latencies, 0.64},
	{"rates", (*bench).rates, 0.82},
	{"scale", (*bench).scale, 0.90},
	{"recovery", (*bench).recovery, 1},
}

// size of a run: how much of everything.
type size struct {
	memoryQuads int
	quads       int
	tcpQuads    int
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
	// full takes less than 25 minutes on two CPUs, with all contestants; intervals are then about ±5 %.
	full = size{
		memoryQuads: 12, quads: 10, tcpQuads: 6, slice: 250 * time.Millisecond, limit: 20 * time.Second,
		sizes: []int{64, 512, 1420}, memorySizes: []int{64, 512, 1420}, imix: true, native: true,
		tcp: time.Second, trial: 400 * time.Millisecond, trials: 18, latency: 2 * time.Second,
		routes: []int{1000, 100_000}, peers: []int{100, 1000}, flows: []int{1024, 65_536}, vnis: []int{256},
	}
	// quick passes once over everything that can break, in about two minutes.
	quick = size{
		memoryQuads: 2, quads: 1, tcpQuads: 1, slice: 100 * time.Millisecond, limit: 3 * time.Second,
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
	left     int      // comparisons that the part under way has still to make, which share its time
	parts    []string // parts, or items of parts; empty: all
	nics     []string // interfaces of the machine to flood instead of veth pairs
}

// setUp is about what a comparison takes before its first slice: two labs, and the gateways in them.
const setUp = 3 * time.Second

// fair is how long a comparison may take, so that those after it get as much.
func (b *bench) fair() time.Duration {
	if len(b.parts) > 0 && b.left > 0 && !b.results.Quick { // the time is for these
		return time.Until(b.deadline) / time.Duration(b.left)
	}
	if b.deadline.IsZero() || b.left == 0 {
		return b.limit
	}
	return max(min(b.limit, time.Until(b.deadline)/time.Duration(b.left)-setUp), b.limit/10)
}

// wants says whether an item of a part is to be measured: --only names parts, and items as part/item.
func (b *bench) wants(part, item string) bool {
	return len(b.parts) == 0 || slices.Contains(b.parts, part) || slices.Contains(b.parts, part+"/"+item)
}

// over says that the time of the part under way is over.
func (b *bench) over() bool { return !b.deadline.IsZero() && time.Now().After(b.deadline) }

// errTime is of what the run had no time for.
var errTime = fmt.Errorf("%w in this run: its time was over (--within)", method.ErrUnavailable)

// options of a run.
type options struct {
	short, force  bool
	within        time.Duration
	only, against []string
	to            string
	nics          []string
}

func runCommand() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use: "run", Short: "Measure, and write " + resultsFolder + "/DATE-MACHINE.{json,md,svg}", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), o) },
	}
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	c.Flags().BoolVar(&o.short, "quick", false, "once over everything, in about two minutes; figures mean nothing; written to "+outFolder)
	c.Flags().BoolVar(&o.force, "force", false, "measure also on a busy machine; the report says so")
	c.Flags().DurationVar(&o.within, "within", 22*time.Minute, "begin nothing after this time; what is left out is in the report")
	c.Flags().StringSliceVar(&o.only, "only", nil, "parts: "+strings.Join(names, ", ")+"; or items: flood/512, scale/workers, recovery/rekey")
	c.Flags().StringSliceVar(&o.against, "against", nil, "names of contestants (default: all)")
	c.Flags().StringSliceVar(&o.nics, "nic", nil, "flood over these six interfaces instead of veth pairs, as cabled: end1,site1,wan1,wan2,site2,end2; they must be idle and have one queue")
	c.Flags().StringVar(&o.to, "to", "", "folder of the report (default "+resultsFolder+", with --quick "+outFolder+")")
	return c
}

func run(ctx context.Context, o options) error {
	for _, name := range o.only {
		name, _, _ := strings.Cut(name, "/")
		if !slices.ContainsFunc(parts, func(p part) bool { return p.name == name }) {
			return fmt.Errorf("there is no part %q", name)
		}
	}
	b := &bench{size: full, only: o.against, dir: resultsFolder, parts: o.only, nics: o.nics}
	if err := b.onNICs(); err != nil {
		return err
	}
	if len(o.only) > 0 {
		b.quads, b.tcpQuads = 2*b.quads, 2*b.tcpQuads
	}
	if o.short {
		b.size, b.dir = quick, outFolder
	}
	if o.to != "" {
		b.dir = o.to
	}
	machine, err := report.ThisMachine(commit(ctx))
	if err != nil {
		return err
	}
	if machine.NICs, err = describe(b.nics); err != nil {
		return err
	}
	b.results = report.Results{Schema: report.Schema, Date: time.Now(), Machine: machine, Quick: o.short}
	switch err := b.quiet(ctx, "before"); {
	case errors.Is(err, method.ErrBusy) && (o.force || o.short):
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
		if !slices.ContainsFunc(b.parts, func(name string) bool { part, _, _ := strings.Cut(name, "/"); return part == p.name }) && len(b.parts) > 0 {
			continue
		}
		b.deadline = started.Add(time.Duration(p.until * float64(o.within)))
		if len(b.parts) > 0 { // the time is for these
			b.deadline = started.Add(o.within)
		}
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
		Quads: quads, Limit: b.fair(), Calibrate: b.calibrate,
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
