package method

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Plan says how two sides are compared.
type Plan struct {
	// Quads that have to count. 0 means 20, with which intervals are about
	// ±3 to 5 % wide on a virtual machine with neighbours.
	Quads int
	// Limit ends the comparison early, but not before two quads. 0: no limit.
	Limit time.Duration
	// Tries is how often a slice is repeated until it is clean. 0 means 4.
	Tries int
	// Calibrate takes the machine's pulse before and after each quad; nil: it is not taken.
	Calibrate func(context.Context) (Calibration, error)
	// Tolerance is how far the pulse after a quad may be from that before it, 0.05 unless set. The pace of the whole
	// machine may change from quad to quad: each one's ratio is of its own time.
	Tolerance float64
	// Progress is told about each quad; nil: nobody is.
	Progress func(done, of int)
	// Rand decides which side begins; nil: a random seed.
	Rand *rand.Rand
}

// Slice is one measurement, as it goes into the raw results.
type Slice struct {
	Side string    `json:"side"`
	Quad int       `json:"quad"`
	At   time.Time `json:"at"`
	Sample
	// Counts says whether the slice's quad is part of the result.
	Counts bool `json:"counts"`
}

// Estimate is a median and where the medians of 95 % of the resamples are.
type Estimate struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	N      int     `json:"n"`
}

// Enough is how many values an interval needs: of five or fewer even their whole range
// holds the true median less than 95 times in 100 (1 - 2^(1-n)).
const Enough = 6

// String is "8.31 (8.02 to 8.60)", or of too few values "8.31 (n=2)".
func (e Estimate) String() string {
	if e.N == 0 {
		return "no data"
	}
	if e.N < Enough {
		return fmt.Sprintf("%.2f (n=%d)", e.Median, e.N)
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f)", e.Median, e.Low, e.High)
}

// Inverse is the estimate of 1/v.
func (e Estimate) Inverse() Estimate {
	if e.N == 0 {
		return e
	}
	return Estimate{Median: 1 / e.Median, Low: 1 / e.High, High: 1 / e.Low, N: e.N}
}

// Excludes says that the interval lies on one side of v: a difference may be claimed.
func (e Estimate) Excludes(v float64) bool { return e.N >= Enough && (e.Low > v || e.High < v) }

// AtLeast says that even the lower end of the interval reaches v.
func (e Estimate) AtLeast(v float64) bool { return e.N >= Enough && e.Low >= v }

// Comparison is the result of Compare.
type Comparison struct {
	A string `json:"a"`
	B string `json:"b"`
	// Figures of each side, by metric: medians over the slices that count.
	FiguresA map[Metric]Estimate `json:"figuresA"`
	FiguresB map[Metric]Estimate `json:"figuresB"`
	// Ratios say how many times better A is than B, by metric: for rates A/B, for costs B/A.
	Ratios map[Metric]Estimate `json:"ratios"`
	// PerQuad are the ratios that count, in order.
	PerQuad map[Metric][]float64 `json:"perQuad"`
	// Dirty quads had a slice that was disturbed at each try; in Drifted ones the
	// machine changed its pace. Neither counts, unless there was no other quad (Unclean).
	Dirty   int     `json:"dirty"`
	Drifted int     `json:"drifted"`
	Unclean bool    `json:"unclean,omitempty"`
	Slices  []Slice `json:"slices"`
}

// Doubtful says that more quads were thrown away than kept, or should have been.
func (c Comparison) Doubtful() bool {
	if c.Unclean {
		return true
	}
	n := 0
	for _, ratios := range c.PerQuad {
		n = max(n, len(ratios))
	}
	return c.Dirty+c.Drifted > n
}

// quad is what Compare keeps of one quad.
type quad struct {
	slices [4]Slice
	before Calibration // the pulse
	after  Calibration
	dirty  bool
}

// Compare measures two sides in turns. An error of a side ends it.
func Compare(ctx context.Context, a, b Side, p Plan) (Comparison, error) {
	if p.Quads == 0 {
		p.Quads = 20
	}
	if p.Tries == 0 {
		p.Tries = 4
	}
	if p.Tolerance == 0 {
		p.Tolerance = 0.05
	}
	if p.Rand == nil {
		p.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	var quads []quad
	clean := 0
	begin := time.Now()
	over := func() bool { return p.Limit != 0 && time.Since(begin) >= p.Limit && len(quads) >= 2 }
	// Twice as many quads as asked for: a machine that is never quiet gets an answer, too, marked as doubtful.
	for clean < p.Quads && len(quads) < 2*p.Quads && !over() {
		q, err := takeQuad(ctx, a, b, p, len(quads))
		if err != nil {
			return Comparison{}, err
		}
		quads = append(quads, q)
		if !q.dirty {
			clean++
		}
		if p.Progress != nil {
			p.Progress(clean, p.Quads)
		}
	}
	return conclude(a.Name, b.Name, quads, p), nil
}

// pulse of the machine; the zero one where it is not taken.
func (p Plan) pulse(ctx context.Context) (c Calibration, err error) {
	if p.Calibrate == nil {
		return c, nil
	}
	if c, err = p.Calibrate(ctx); err != nil {
		err = fmt.Errorf("calibrate: %w", err)
	}
	return c, err
}

func takeQuad(ctx context.Context, a, b Side, p Plan, number int) (q quad, err error) {
	if q.before, err = p.pulse(ctx); err != nil {
		return q, err
	}
	order := []Side{a, b, b, a}
	if p.Rand.IntN(2) == 0 {
		order = []Side{b, a, a, b}
	}
	for i, side := range order {
		var sample Sample
		for range p.Tries {
			if err := ctx.Err(); err != nil {
				return q, fmt.Errorf("measure %s: %w", side.Name, err)
			}
			if sample, err = side.Measure(ctx); err != nil {
				return q, fmt.Errorf("measure %s: %w", side.Name, err)
			}
			if err := sample.check(); err != nil {
				return q, fmt.Errorf("measure %s: %w", side.Name, err)
			}
			if sample.Dirty == "" {
				break
			}
		}
		q.dirty = q.dirty || sample.Dirty != ""
		q.slices[i] = Slice{Side: side.Name, Quad: number, At: time.Now(), Sample: sample}
	}
	q.after, err = p.pulse(ctx)
	return q, err
}

// check refuses what has no logarithm: a side that carried nothing cannot be compared.
func (s Sample) check() error {
	if len(s.Values) == 0 {
		return errors.New("the slice has no value")
	}
	for m, v := range s.Values {
		if !(v > 0) || math.IsInf(v, 0) {
			return fmt.Errorf("the slice's %s is %v", m, v)
		}
	}
	return nil
}

// conclude is the arithmetic of Compare. When no quad was clean all of them count: the
// figures are then doubtful, and marked so, but they are what there is.
func conclude(a, b string, quads []quad, p Plan) Comparison {
	c := Comparison{A: a, B: b, Ratios: map[Metric]Estimate{}, PerQuad: map[Metric][]float64{}}
	keep := make([]bool, len(quads))
	for i, q := range quads {
		switch {
		case q.dirty:
			c.Dirty++
		case !q.after.near(q.before, p.Tolerance):
			c.Drifted++
		default:
			keep[i] = true
		}
	}
	if c.Unclean = !slices.Contains(keep, true); c.Unclean {
		for i := range keep {
			keep[i] = true
		}
	}
	values := map[string]map[Metric][]float64{a: {}, b: {}}
	for i, q := range quads {
		logs := map[string]map[Metric]float64{a: {}, b: {}}
		for _, s := range q.slices {
			s.Counts = keep[i]
			c.Slices = append(c.Slices, s)
			for m, v := range s.Values {
				logs[s.Side][m] += math.Log(v) / 2
				if keep[i] {
					values[s.Side][m] = append(values[s.Side][m], v)
				}
			}
		}
		if !keep[i] {
			continue
		}
		for m, la := range logs[a] {
			lb, both := logs[b][m]
			if !both {
				continue
			}
			if !m.MoreIsBetter() {
				la, lb = lb, la
			}
			c.PerQuad[m] = append(c.PerQuad[m], math.Exp(la-lb))
		}
	}
	for _, m := range slices.Sorted(maps.Keys(c.PerQuad)) {
		c.Ratios[m] = Bootstrap(c.PerQuad[m])
	}
	c.FiguresA, c.FiguresB = estimates(values[a]), estimates(values[b])
	return c
}

func estimates(values map[Metric][]float64) map[Metric]Estimate {
	out := map[Metric]Estimate{}
	for m, v := range values {
		out[m] = Bootstrap(v)
	}
	return out
}
