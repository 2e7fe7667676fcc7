package gate

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sluicegw/sluice/bench/memory"
)

func TestCommittedBaselineHasEveryPoint(t *testing.T) {
	b, err := Committed()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range points() {
		if r := b.Ratios[p.String()]; r < 1 || r > 10 {
			t.Errorf("%s: ratio %v cannot be: the relay does more than the reference, but not ten times as much", p, r)
		}
	}
	if b.Tolerance < 0.05 || b.Tolerance > 0.5 || b.Elsewhere < b.Tolerance || b.Elsewhere > 1 || b.CPU == "" || b.SystemCalls > 1.0/32 || b.Allocations > 1.0/64 {
		t.Errorf("limits %+v", b)
	}
}

// A gate that nothing can fail is none; one that this tree fails with generous limits is broken.
func TestGateFailsWhenTheBaselineIsOutOfReachAndPassesWhenItIsGenerous(t *testing.T) {
	b, err := Committed()
	if err != nil {
		t.Fatal(err)
	}
	some := []point{{memory.Seal, 64}, {memory.Open, 512}}
	strict, generous := b, b
	strict.Ratios, generous.Ratios = map[string]float64{}, map[string]float64{}
	for name, r := range b.Ratios {
		strict.Ratios[name], generous.Ratios[name] = r/5, r*5
	}
	strict.SystemCalls = 0
	var out strings.Builder
	if err := check(t.Context(), strict, some, 0, &out); !errors.Is(err, ErrRegression) || strings.Count(out.String(), "SLOWER") != len(some) || strings.Count(out.String(), "too much") != (tries-1)*len(some) {
		t.Errorf("%v\n%s", err, &out)
	}
	generous.Allocations = b.Allocations // counted, not timed: exact on any machine
	if err := check(t.Context(), generous, some, 0, io.Discard); err != nil {
		t.Error(err)
	}
	delete(generous.Ratios, "seal 64")
	if err := check(t.Context(), generous, some, 0, io.Discard); err == nil || errors.Is(err, ErrRegression) {
		t.Errorf("a baseline with a hole: %v", err)
	}
}

func TestAnotherKindOfCPUIsAllowedMore(t *testing.T) {
	intel := parseCPU("processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 173\nmodel name\t: X\nflags\t\t: a\n\nvendor_id\t: other\n")
	amd := parseCPU("vendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\n")
	if !strings.HasSuffix(string(intel), " GenuineIntel 6 173") || intel == amd {
		t.Errorf("%q, %q", intel, amd)
	}
	b := Baseline{CPU: intel, Tolerance: 0.5, Elsewhere: 1}
	if b.limit(2, intel) != 3 || b.limit(2, amd) != 4 {
		t.Errorf("limits %v and %v", b.limit(2, intel), b.limit(2, amd))
	}
}
