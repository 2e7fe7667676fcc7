package method

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

func TestBootstrapOfKnownValues(t *testing.T) {
	values := []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 100}
	e := Bootstrap(values)
	if e.Median != 5.5 || e.N != 10 {
		t.Errorf("median %v of %d, want 5.5 of 10", e.Median, e.N)
	}
	if e.Low < 1 || e.Low > 4 || e.High < 7 || e.High > 10 {
		t.Errorf("interval %v to %v: an outlier must not reach it, and it must not be narrower than the data", e.Low, e.High)
	}
	if again := Bootstrap(values); again != e {
		t.Errorf("the same values gave %v and %v", e, again)
	}
	if e := Bootstrap(nil); e.N != 0 || e.Excludes(1) {
		t.Errorf("of nothing: %v", e)
	}
}

// The interval must hold the true median about 95 times in 100.
func TestBootstrapCoversTheTruth(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	const runs = 100
	hits := 0
	for range runs {
		values := make([]float64, 20)
		for i := range values {
			values[i] = math.Exp(rng.NormFloat64() / 5)
		}
		if e := Bootstrap(values); e.Low <= 1 && e.High >= 1 {
			hits++
		}
	}
	if hits < 88 {
		t.Errorf("the interval held the truth in %d of %d runs", hits, runs)
	}
}

// constant is a side that always measures the same.
func constant(name string, values map[Metric]float64, order *[]string) Side {
	return Side{Name: name, Measure: func(context.Context) (Sample, error) {
		*order = append(*order, name)
		return Sample{Values: values}, nil
	}}
}

func TestCompareTakesQuadsAndSaysHowMuchBetterAIs(t *testing.T) {
	var order []string
	a := constant("a", map[Metric]float64{PPS: 8, DUTNs: 10}, &order)
	b := constant("b", map[Metric]float64{PPS: 2, DUTNs: 30, MachineNs: 1}, &order)
	c, err := Compare(context.Background(), a, b, Plan{Quads: 30})
	if err != nil {
		t.Fatal(err)
	}
	if r := c.Ratios[PPS]; math.Abs(r.Median-4) > 1e-9 || r.N != 30 || !r.AtLeast(3.9) {
		t.Errorf("ratio of rates is %v, want 4: more is better", r)
	}
	if r := c.Ratios[DUTNs]; math.Abs(r.Median-3) > 1e-9 {
		t.Errorf("ratio of costs is %v, want 3: less is better", r)
	}
	if _, there := c.Ratios[MachineNs]; there {
		t.Error("a metric that only one side has got a ratio")
	}
	first := map[string]int{}
	for i := 0; i < len(order); i += 4 {
		if order[i] != order[i+3] || order[i+1] != order[i+2] || order[i] == order[i+1] {
			t.Fatalf("quad %v is neither ABBA nor BAAB", order[i:i+4])
		}
		first[order[i]]++
	}
	if first["a"] == 0 || first["b"] == 0 {
		t.Errorf("the same side always began: %v", first)
	}
}

func TestCompareCancelsLinearDrift(t *testing.T) {
	now := 100.0
	drifting := func(name string, factor float64) Side {
		return Side{Name: name, Measure: func(context.Context) (Sample, error) {
			now *= 1.02
			return Sample{Values: map[Metric]float64{PPS: now * factor}}, nil
		}}
	}
	c, err := Compare(context.Background(), drifting("a", 3), drifting("b", 1), Plan{Quads: 5})
	if err != nil {
		t.Fatal(err)
	}
	if r := c.Ratios[PPS].Median; math.Abs(r-3) > 1e-9 {
		t.Errorf("ratio under drift is %v, want exactly 3", r)
	}
}

func TestCompareLeavesDisturbedQuadsOut(t *testing.T) {
	n := 0
	a := Side{Name: "a", Measure: func(context.Context) (Sample, error) {
		n++
		if n > 4 && n <= 4+4 { // one slice is disturbed at every try
			return Sample{Values: map[Metric]float64{PPS: 1000}, Dirty: "steal"}, nil
		}
		return Sample{Values: map[Metric]float64{PPS: 2}}, nil
	}}
	var order []string
	c, err := Compare(context.Background(), a, constant("b", map[Metric]float64{PPS: 1}, &order), Plan{Quads: 5})
	if err != nil {
		t.Fatal(err)
	}
	if c.Dirty != 1 || c.Ratios[PPS].N != 5 || c.Ratios[PPS].High != 2 || c.Doubtful() {
		t.Errorf("%d dirty, %v", c.Dirty, c.Ratios[PPS])
	}
	kept := 0
	for _, s := range c.Slices {
		if s.Counts {
			kept++
		}
	}
	if len(c.Slices) != 24 || kept != 20 {
		t.Errorf("%d raw slices of which %d count, want 24 and 20", len(c.Slices), kept)
	}
}

func TestCompareLeavesDriftedQuadsOut(t *testing.T) {
	var order []string
	// Before and after each quad: the machine becomes slower between the second and the third, which harms none, and
	// in the middle of the fourth.
	pulses := []float64{100, 101, 101, 100, 140, 141, 140, 160, 161, 160}
	n := 0
	c, err := Compare(context.Background(), constant("a", map[Metric]float64{PPS: 2}, &order), constant("b", map[Metric]float64{PPS: 1}, &order),
		Plan{Quads: 5, Calibrate: func(context.Context) (Calibration, error) {
			n++
			return Calibration{SealNs: pulses[n-1]}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Drifted != 1 || c.Ratios[PPS].N != 4 {
		t.Errorf("%d drifted, %v", c.Drifted, c.Ratios[PPS])
	}
}

func TestCompareRefusesASideThatCarriedNothing(t *testing.T) {
	var order []string
	ok := constant("a", map[Metric]float64{PPS: 1}, &order)
	for _, v := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		if _, err := Compare(context.Background(), ok, constant("b", map[Metric]float64{PPS: v}, &order), Plan{Quads: 1}); err == nil {
			t.Errorf("%v was taken for a measurement", v)
		}
	}
	broken := errors.New("broken")
	failing := Side{Name: "b", Measure: func(context.Context) (Sample, error) { return Sample{}, broken }}
	if _, err := Compare(context.Background(), ok, failing, Plan{Quads: 1}); !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
}

func TestCalibratorMeasures(t *testing.T) {
	c, err := NewCalibrator(nil).Measure(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if c.SealNs < 100 || c.SealNs > 100_000 || c.WalkNs < 0.3 || c.WalkNs > 10_000 {
		t.Errorf("%+v is not of this world", c)
	}
}

func TestCompareSaysWhenNoQuadWasClean(t *testing.T) {
	var order []string
	dirty := Side{Name: "a", Measure: func(context.Context) (Sample, error) {
		return Sample{Values: map[Metric]float64{PPS: 4}, Dirty: "steal"}, nil
	}}
	c, err := Compare(context.Background(), dirty, constant("b", map[Metric]float64{PPS: 1}, &order), Plan{Quads: 3})
	if err != nil || !c.Unclean || !c.Doubtful() || c.Ratios[PPS].Median != 4 || c.Dirty != 6 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestTooFewValuesClaimNothing(t *testing.T) {
	for n := 1; n < Enough; n++ {
		values := make([]float64, n)
		for i := range values {
			values[i] = 5
		}
		if e := Bootstrap(values); e.Excludes(1) || e.AtLeast(2) {
			t.Errorf("%d equal values claimed that 5 is not 1", n)
		}
	}
	if e := Bootstrap([]float64{5, 5, 5, 5, 5, 6}); !e.Excludes(1) || !e.AtLeast(5) || e.AtLeast(5.5) || e.Inverse().Median != 0.2 {
		t.Errorf("%v", e)
	}
}
