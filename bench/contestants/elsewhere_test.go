package contestants_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluicegw/sluice/bench/contestants"
	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/scenario"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// On a kernel that has what they need they carry packets; on another one they say, in the kernel's words, what it
// does not do, and that is no failure.
func TestWhatThisKernelLacksIsSaid(t *testing.T) {
	testenv.RequireRoot(t)
	for _, d := range contestants.Elsewhere() {
		t.Run(d.Name(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			run, err := scenario.New(d).Start(ctx, method.Scenario{Attachment: scenario.Routed})
			if errors.Is(err, method.ErrUnavailable) {
				if text := err.Error(); !strings.Contains(text, d.Name()+": ") || !strings.Contains(text, "the kernel ") && !strings.Contains(text, "package ") {
					t.Errorf("it does not say what is missing: %v", err)
				}
				t.Log(err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := run.Stop(); err != nil {
					t.Error(err)
				}
			})
			if err := netnstest.Ping(ctx, run.(*scenario.Run).Lab.Ends[0].End, scenario.Inner(2, scenario.Routed),
				netnstest.PingOptions{Count: 5, All: true, Timeout: 4 * time.Second, Size: scenario.InnerMTU - 28, DontFragment: true}); err != nil {
				t.Error(err)
			}
		})
	}
}
