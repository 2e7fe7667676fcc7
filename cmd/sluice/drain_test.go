package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
)

// draining is a gateway whose drain goes through its phases, one with each question; the last stays.
type draining struct {
	fixture
	mu     sync.Mutex
	phases []*sluicev1.Drain
	asked  bool
}

func (d *draining) Drain(context.Context, *sluicev1.DrainRequest) (*sluicev1.DrainResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = true
	return &sluicev1.DrainResponse{}, nil
}

func (d *draining) Status(ctx context.Context, r *sluicev1.StatusRequest) (*sluicev1.StatusResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, err := d.fixture.Status(ctx, r)
	if d.asked && err == nil {
		s.Drain = d.phases[0]
		d.phases = d.phases[min(1, len(d.phases)-1):]
		api.Assess(s, d.now)
	}
	return s, err
}

func TestDrainWaitsUntilNothingFlows(t *testing.T) {
	asking := &sluicev1.Drain{Phase: sluicev1.DrainPhase_DRAIN_PHASE_ASKING, PacketsPerSecond: 4711}
	withdrawn := &sluicev1.Drain{Phase: sluicev1.DrainPhase_DRAIN_PHASE_WITHDRAWN, PacketsPerSecond: 12}
	silent := &sluicev1.Drain{Phase: sluicev1.DrainPhase_DRAIN_PHASE_SILENT, Quiet: durationpb.New(3 * time.Second)}
	for _, c := range []struct {
		name   string
		phases []*sluicev1.Drain
		args   []string
		code   int
		says   string
	}{
		{"until it is silent", []*sluicev1.Drain{asking, withdrawn, silent}, nil, exitOK, "nothing flows any more, the gateway can be stopped"},
		{"or it takes too long", []*sluicev1.Drain{asking, withdrawn}, []string{"--timeout", "1s"}, exitFailure, "still 12 packets per second"},
		{"or somebody has ended it", []*sluicev1.Drain{asking, nil}, nil, exitFailure, "somebody has ended the drain"},
		{"or it was not to wait", []*sluicev1.Drain{asking, silent}, []string{"--no-wait"}, exitOK, "everybody is asked to send elsewhere"},
		{"as JSON", []*sluicev1.Drain{silent}, []string{"--json"}, exitOK, `"phase": "silent"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "s")
			l, err := api.Listen(socket)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			served := make(chan error, 1)
			go func() { served <- api.Serve(ctx, l, &draining{fixture: fixture{time.Now()}, phases: c.phases}, nil) }()
			defer func() {
				cancel()
				if err := <-served; err != nil {
					t.Error(err)
				}
			}()
			var out, errs bytes.Buffer
			code := execute(t.Context(), append([]string{"drain", "--socket", socket}, c.args...), nil, &out, &errs)
			if text := out.String() + errs.String(); code != c.code || !strings.Contains(text, c.says) {
				t.Errorf("exit status %d, said %q; want %d, %q", code, text, c.code, c.says)
			}
			if status := executed(t, "status", "--socket", socket); !strings.Contains(status, "DRAINING") && c.phases[len(c.phases)-1] != nil {
				t.Errorf("status says %s", status)
			}
			if text := executed(t, "undrain", "--socket", socket); text != "the gateway takes traffic again\n" {
				t.Errorf("undrain says %q", text)
			}
		})
	}
}

func executed(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := execute(t.Context(), args, nil, &out, &errs); code != exitOK {
		t.Fatalf("%v: exit status %d: %s", args, code, errs.String())
	}
	return out.String()
}
