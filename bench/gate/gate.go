// Package gate stops a change that makes the relay slower, makes it allocate, or makes
// it call the kernel more often.
//
// What is held against the baseline is no time but a ratio: the relay's CPU time for
// a packet over that of a reference loop (a copy and the bare cipher on the same bytes),
// measured in turns in one process. A slower machine, a lower clock or a busy
// neighbour change both alike. The gate is not flaky because
//
//   - it compares CPU time, not wall time, so that waiting for a CPU does not count;
//   - the ratio is a median over quads, which a few disturbed slices do not move;
//   - it fails only when the whole 95 % interval of the ratio is above the baseline
//     plus tolerance, so that noise, which widens the interval, makes it pass;
//   - and only when that is so in each of some tries, with pauses between them, in which a
//     neighbour that fights for the caches may go away;
//   - on another kind of CPU than the baseline's, where cipher and relay may gain unequally, it allows more.
//
// So it finds what makes a packet clearly slower, not what makes it slower by a few
// per cent: those are for an idle machine and `sluicebench run`. Allocations and system
// calls are counted, not timed; they are exact.
//
//	err := gate.Check(ctx, baseline, os.Stdout)
package gate

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"time"

	"github.com/sluicegw/sluice/bench/memory"
	"github.com/sluicegw/sluice/bench/method"
)

// ErrRegression is wrapped when something got worse than the baseline allows.
var ErrRegression = errors.New("regression")

//go:embed baseline.json
var committed []byte

// Baseline is what is allowed.
type Baseline struct {
	// CPU that the ratios were taken on.
	CPU CPU `json:"cpu"`
	// Tolerance above a ratio on that kind of CPU: far more than the ratio differs between quiet runs.
	// Elsewhere is the one on any other: opening 64 B was 1.8 times the reference on an Intel and 1.4 times
	// on an AMD server.
	Tolerance float64 `json:"tolerance"`
	Elsewhere float64 `json:"elsewhere"`
	// Ratios of relay to reference by direction and size, such as "seal 64".
	Ratios map[string]float64 `json:"ratios"`
	// Allocations and SystemCalls a packet may have at most.
	Allocations float64 `json:"allocations"`
	SystemCalls float64 `json:"systemCalls"`
}

// Committed is the baseline of this tree.
func Committed() (b Baseline, err error) {
	if err := json.Unmarshal(committed, &b); err != nil {
		return b, fmt.Errorf("read baseline: %w", err)
	}
	return b, nil
}

// limit of a ratio on a CPU.
func (b Baseline) limit(ratio float64, on CPU) float64 {
	if on != b.CPU {
		return ratio * (1 + b.Elsewhere)
	}
	return ratio * (1 + b.Tolerance)
}

// quads of a look, and how often we look before it is a regression.
const (
	quads = 10
	tries = 5
	pause = 2 * time.Second
)

// rounds of a new baseline: of each ratio the largest counts, as in one the relay may have been lucky with
// where its memory lies.
const rounds = 4

// packets of a slice.
const packets = 8192

// point is one thing that is measured.
type point struct {
	direction memory.Direction
	size      int
}

func (p point) String() string { return fmt.Sprintf("%s %d", p.direction, p.size) }

func points() (all []point) {
	for _, d := range []memory.Direction{memory.Seal, memory.Open} {
		for _, size := range []int{64, 512, 1420} {
			all = append(all, point{d, size})
		}
	}
	return all
}

// Measure makes a baseline of this tree on this machine, with the limits of old.
func Measure(ctx context.Context, old Baseline) (Baseline, error) {
	old.Ratios, old.CPU = make(map[string]float64), thisCPU()
	for range rounds {
		for _, p := range points() {
			e, err := p.ratio(ctx, quads)
			if err != nil {
				return old, err
			}
			old.Ratios[p.String()] = max(old.Ratios[p.String()], math.Round(e.Median*1000)/1000)
		}
	}
	return old, nil
}

// ratio of relay to reference.
func (p point) ratio(ctx context.Context, quads int) (method.Estimate, error) {
	c, err := memory.Compare(ctx, memory.Reference, memory.Relay, memory.Options{
		Size: p.size, Direction: p.direction, Packets: packets, Plan: method.Plan{Quads: quads}})
	return c.Ratios[method.PacketNs], err
}

// Check measures and writes two lines for each point. All that is worse is in the error.
func Check(ctx context.Context, b Baseline, out io.Writer) error {
	return check(ctx, b, points(), pause, out)
}

func check(ctx context.Context, b Baseline, points []point, pause time.Duration, out io.Writer) error {
	cpu := thisCPU()
	if cpu != b.CPU {
		fmt.Fprintf(out, "this CPU is %s, the baseline's %s: %.0f %% more is allowed\n", cpu, b.CPU, 100*b.Elsewhere)
	}
	var errs []error
	for _, p := range points {
		want, known := b.Ratios[p.String()]
		if !known {
			errs = append(errs, fmt.Errorf("gate: the baseline has no %s: `sluicebench gate --update` measures it", p))
			continue
		}
		if err := p.check(ctx, want, b.limit(want, cpu), pause, out); errors.Is(err, ErrRegression) {
			errs = append(errs, err)
		} else if err != nil {
			return err
		}
		allocations, calls, err := p.counts(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%-10s %.5f allocations and %.5f system calls for a packet\n", p, allocations, calls)
		if allocations > b.Allocations {
			errs = append(errs, fmt.Errorf("%w: %s: %.4f allocations for a packet, allowed are %.4f", ErrRegression, p, allocations, b.Allocations))
		}
		if calls > b.SystemCalls {
			errs = append(errs, fmt.Errorf("%w: %s: %.4f system calls for a packet, allowed are %.4f", ErrRegression, p, calls, b.SystemCalls))
		}
	}
	return errors.Join(errs...)
}

// check looks until a ratio is within the limit, but not for ever.
func (p point) check(ctx context.Context, want, limit float64, pause time.Duration, out io.Writer) error {
	for try := 1; ; try++ {
		e, err := p.ratio(ctx, quads)
		if err != nil {
			return err
		}
		verdict := "ok"
		if e.Low > limit {
			verdict = "too much"
		}
		if e.Low > limit && try == tries {
			verdict = "SLOWER"
		}
		fmt.Fprintf(out, "%-10s relay/reference %s, baseline %.2f, limit %.2f: %s\n", p, e, want, limit, verdict)
		switch verdict {
		case "ok":
			return nil
		case "SLOWER":
			return fmt.Errorf("%w: %s costs %s of the reference in %d tries, allowed is %.2f", ErrRegression, p, e, tries, limit)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// counts are allocations and system calls for a packet, at the least of some tries: the runtime's own
// goroutines allocate now and then. The harness allocates a few dozen times for a slice, hence a long one; one
// allocation for each batch would be 0.016.
func (p point) counts(ctx context.Context) (allocations, calls float64, err error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	path, err := memory.New(memory.Relay, p.size)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, path.Close()) }()
	run := path.Seal
	if p.direction == memory.Open {
		run = path.Open
	}
	const n = 4 * packets
	if _, err := run(ctx, n); err != nil {
		return 0, 0, err
	}
	counted := path.(memory.Counted)
	allocations, calls = math.Inf(1), math.Inf(1)
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		callsBefore := counted.SystemCalls()
		if _, err := run(ctx, n); err != nil {
			return 0, 0, err
		}
		calls = min(calls, float64(counted.SystemCalls()-callsBefore)/n)
		runtime.ReadMemStats(&after)
		allocations = min(allocations, float64(after.Mallocs-before.Mallocs)/n)
	}
	return allocations, calls, nil
}
