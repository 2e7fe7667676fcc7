package contestants_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sluicegw/sluice/bench/contestants"
	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/scenario"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// start starts a contestant, or ends the test: what needs privilege fails where it is
// promised, and what is not on this machine is skipped.
func start(t *testing.T, d scenario.Driver, s method.Scenario) *scenario.Run {
	t.Helper()
	testenv.RequireRoot(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	run, err := scenario.New(d).Start(ctx, s)
	if errors.Is(err, method.ErrUnavailable) {
		testenv.Missing(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := run.Stop(); err != nil {
			t.Error(err)
		}
	})
	return run.(*scenario.Run)
}

// each runs a test with every contestant and every attachment of it.
func each(t *testing.T, f func(t *testing.T, d scenario.Driver, attachment string)) {
	for _, d := range contestants.All() {
		for _, attachment := range d.Attachments() {
			t.Run(d.Name()+" "+attachment, func(t *testing.T) { f(t, d, attachment) })
		}
	}
}

func TestPayloadsCrossUnchanged(t *testing.T) {
	each(t, func(t *testing.T, d scenario.Driver, attachment string) {
		run := start(t, d, method.Scenario{Attachment: attachment})
		for _, size := range []int{0, 64, 512, scenario.InnerMTU - 28} {
			payload := []byte(fmt.Sprintf("contestant %s %d", d.Name(), size))
			o := netnstest.PingOptions{Count: 5, All: true, Timeout: 4 * time.Second, Size: size, DontFragment: true}
			o.Payload = payload[:min(size, len(payload))]
			// Ping compares what comes back with what it sent.
			if err := netnstest.Ping(t.Context(), run.Lab.Ends[0].End, scenario.Inner(2, attachment), o); err != nil {
				t.Errorf("%d bytes: %v", size, err)
			}
		}
	})
}

func TestNamesAreUnique(t *testing.T) {
	var names []string
	for _, d := range contestants.All() {
		if slices.Contains(names, d.Name()) {
			t.Errorf("two contestants are called %s", d.Name())
		}
		names = append(names, d.Name())
	}
}
