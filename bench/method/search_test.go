package method

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// link is a contestant that carries up to capacity and loses the rest, and one trial in flaky
// at random.
func link(capacity float64, flaky float64, rng *rand.Rand) Trial {
	return func(_ context.Context, rate float64, d time.Duration) (Counts, error) {
		if rate == 0 {
			rate = 10 * capacity
		}
		c := Counts{Window: d, Offered: uint64(rate * d.Seconds())}
		c.Received = uint64(min(rate, capacity) * d.Seconds())
		if rng.Float64() < flaky {
			c.Received /= 2
		}
		return c, nil
	}
}

func TestSearchFindsTheCapacity(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, capacity := range []float64{1000, 12_345, 3e6} {
		r, err := Search{}.Find(context.Background(), link(capacity, 0, rng))
		if err != nil || !r.Confirmed || r.PPS > capacity*1.001 || r.PPS < capacity*0.97 {
			t.Errorf("capacity %v: found %+v, %v", capacity, r, err)
		}
	}
}

func TestSearchAllowsTheLossItIsTold(t *testing.T) {
	r, err := Search{Loss: 0.1}.Find(context.Background(), link(1000, 0, rand.New(rand.NewPCG(1, 1))))
	if want := 1000 / 0.9; err != nil || math.Abs(r.PPS/want-1) > 0.03 {
		t.Errorf("found %+v, %v, want %v", r, err, want)
	}
}

func TestSearchStaysBelowTheCapacityWhenTrialsAreFlaky(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		r, err := Search{}.Find(context.Background(), link(1000, 0.1, rng))
		if err != nil || r.PPS > 1001 || r.PPS < 200 {
			t.Errorf("found %+v, %v", r, err)
		}
	}
}

func TestSearchRepeatsDisturbedTrials(t *testing.T) {
	inner := link(1000, 0, rand.New(rand.NewPCG(1, 1)))
	n := 0
	r, err := Search{}.Find(context.Background(), func(ctx context.Context, rate float64, d time.Duration) (Counts, error) {
		c, err := inner(ctx, rate, d)
		if n++; n%2 == 0 {
			c.Received, c.Usage = 0, Usage{Wall: d, Steal: d / 2}
		}
		return c, err
	})
	if err != nil || r.Disturbed == 0 || r.PPS < 970 || r.PPS > 1001 {
		t.Errorf("found %+v, %v", r, err)
	}
}

func TestSearchEndsWhenNothingPasses(t *testing.T) {
	never := func(_ context.Context, rate float64, d time.Duration) (Counts, error) {
		return Counts{Window: d, Offered: 1000, Received: 500}, nil
	}
	if r, err := (Search{}).Find(context.Background(), never); err == nil || r.Trials > 40 {
		t.Errorf("found %+v", r)
	}
	nothing := func(_ context.Context, rate float64, d time.Duration) (Counts, error) {
		return Counts{Window: d, Offered: 1000}, nil
	}
	if _, err := (Search{}).Find(context.Background(), nothing); err == nil {
		t.Error("nothing arrived, and that was a rate")
	}
	broken := errors.New("broken")
	if _, err := (Search{}).Find(context.Background(), func(context.Context, float64, time.Duration) (Counts, error) { return Counts{}, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func TestQuantilesOfAKnownDistribution(t *testing.T) {
	var buckets []Bucket
	for i := 1; i <= 1000; i++ {
		buckets = append(buckets, Bucket{UpTo: time.Duration(i) * time.Microsecond, Count: 10})
	}
	got := Quantiles(buckets) // 10 000 packets: p99.9 has ten above it, p99.99 one
	want := []Quantile{{0.5, 500 * time.Microsecond}, {0.9, 900 * time.Microsecond}, {0.99, 990 * time.Microsecond}, {0.999, 999 * time.Microsecond}}
	if len(got) < 3 || len(got) > 4 {
		t.Fatalf("%v", got)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%v, want %v", got[i], want[i])
		}
	}
	if Quantiles(nil) != nil {
		t.Error("quantiles of nothing")
	}
}

func TestQuietNamesTheBusyProcess(t *testing.T) {
	before := map[int]process{1: {"init", time.Second}, 7: {"compiler", time.Second}, 9: {"self", 0}}
	after := map[int]process{1: {"init", time.Second}, 7: {"compiler", 2 * time.Second}, 9: {"self", 5 * time.Second}}
	if err := judge(before, after, time.Second, 9); !errors.Is(err, ErrBusy) {
		t.Errorf("busy machine: %v", err)
	}
	if err := judge(before, before, time.Second, 9); err != nil {
		t.Errorf("quiet machine: %v", err)
	}
}

func TestParsersOfProc(t *testing.T) {
	pid, p, err := parseProcess("42 (a (strange) name) S 1 42 42 0 -1 4194560 1 2 3 4 100 50 0 0 20 0 1 0 5 6 7")
	if err != nil || pid != 42 || p.name != "a (strange) name" || p.time != 1500*time.Millisecond {
		t.Errorf("%d %+v %v", pid, p, err)
	}
	for _, bad := range []string{"", "42", "42 (x", "42 (x) S 1", "x (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13"} {
		if _, _, err := parseProcess(bad); err == nil {
			t.Errorf("%q was parsed", bad)
		}
	}
	busy, steal, err := parseStat([]byte("cpu  100 10 50 900 7 3 2 5 0 0\ncpu0 1 1 1 1\n"))
	if err != nil || busy != 1650*time.Millisecond || steal != 50*time.Millisecond {
		t.Errorf("%v %v %v", busy, steal, err)
	}
	for _, bad := range []string{"", "cpu0 1 2 3 4 5 6 7 8", "cpu 1 2", "cpu a b c d e f g h"} {
		if _, _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was parsed", bad)
		}
	}
}

func TestMeterSeesThisProcess(t *testing.T) {
	m, err := StartMeter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); time.Since(begin) < 30*time.Millisecond; {
	}
	u, err := m.Stop()
	if err != nil || u.Self < 5*time.Millisecond || u.Wall < 30*time.Millisecond || u.DUT != 0 {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := StartMeter([]int{1 << 30}); err == nil {
		t.Error("a process that does not exist has CPU time")
	}
}
