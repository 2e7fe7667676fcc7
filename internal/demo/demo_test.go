package demo

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDemo(t *testing.T) {
	testenv.RequireRoot(t)
	testenv.RequireTool(t, netnstest.OVSTools...)
	netnstest.RequireRouters(t)
	executable := testenv.Sluice(t, t.TempDir())
	for name, ipv6 := range map[string]bool{"with IPv4 on the outside": false, "with IPv6 on the outside": true} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "report.json")
			err := Run(t.Context(), Options{Executable: executable, Out: testWriter{t}, JSON: file, RequireOVS: true, RequireRouters: true, IPv6: ipv6})
			if err != nil {
				t.Error(err)
			}
			assertReport(t, file)
			assertNothingLeft(t)
		})
	}
}

// TestUnfinishedSumsAreCompleted: with offload on, what reaches the gateways has
// no TCP or UDP sum yet, which nobody on a WAN would forgive.
func TestUnfinishedSumsAreCompleted(t *testing.T) {
	testenv.RequireRoot(t)
	d := testLab(t, labOptions{bergen: config.VXLAN, offload: true})
	d.Executable, d.patience = testenv.Sluice(t, t.TempDir()), patience
	if err := d.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.checkPings(t.Context())
	d.checkServices(t.Context())
	d.checkCopies(t.Context())
	if d.failures() > 0 {
		t.Errorf("%d checks failed", d.failures())
	}
	for _, s := range d.lab.sites {
		if err := s.gateway.stop(); err != nil {
			t.Error(err)
		}
	}
}

func TestTwoWorkersCarryEverything(t *testing.T)  { workersCarryEverything(t, 2) }
func TestFourWorkersCarryEverything(t *testing.T) { workersCarryEverything(t, 4) }

// workersCarryEverything gives the one peer of each gateway many flows, which its outer source ports spread over the
// queues of all links on the way.
func workersCarryEverything(t *testing.T, workers int) {
	testenv.RequireRoot(t)
	d := testLab(t, labOptions{bergen: config.VXLAN, workers: workers})
	d.Executable, d.patience, d.CopySize = testenv.Sluice(t, t.TempDir()), patience, 20e6
	if err := d.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		d.checkPings(t.Context())
		d.checkServices(t.Context())
		d.checkCopies(t.Context())
	}
	if d.failures() > 0 {
		t.Errorf("%d checks failed", d.failures())
	}
	for _, s := range d.lab.sites {
		status, err := api.Dial(s.gateway.socket()).Status(t.Context(), &sluicev1.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if int(status.GetWorkers()) != workers {
			t.Errorf("gateway %s has %d workers", s.gateway.name, status.GetWorkers())
		}
		counters, err := api.Dial(s.gateway.socket()).Counters(t.Context(), &sluicev1.CountersRequest{})
		if err != nil {
			t.Fatal(err)
		}
		sent := make(map[uint32]uint64)
		for _, c := range counters.GetCounters() {
			switch {
			case c.GetComponent() == "afxdp" && c.GetName() == "kicks":
				sent[c.GetWorker()] += c.GetValue()
			case c.GetName() == "pass_no_socket" && c.GetValue() > 0:
				t.Errorf("gateway %s: %d packets came by a queue without a worker", s.gateway.name, c.GetValue())
			}
		}
		for worker := range uint32(workers) {
			if sent[worker] == 0 {
				t.Errorf("gateway %s: system calls to send, by worker: %v; all should have worked", s.gateway.name, sent)
			}
		}
		if err := s.gateway.stop(); err != nil {
			t.Error(err)
		}
	}
}

// assertNothingLeft looks for networks of this process; someone else may be
// running a demo.
func assertNothingLeft(t *testing.T) {
	t.Helper()
	all, err := netnstest.Find(label)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range all {
		if o.PID == os.Getpid() {
			t.Errorf("left: %+v", o)
		}
	}
}

func assertReport(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got report
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if want := got.failures() == 0; got.OK != want {
		t.Errorf("the report is ok: %v, its checks: %v", got.OK, want)
	}
	if got.Overlays["oslo"] != "vxlan" || got.Overlays["bergen"] != "geneve" {
		t.Errorf("overlays were %v", got.Overlays)
	}
	groups := make(map[string]int)
	for _, c := range got.Checks {
		groups[c.Group]++
	}
	for _, group := range []string{"local", "cross", "separation", "copy", "survive", "wan", "status", "stop"} {
		if groups[group] == 0 {
			t.Errorf("no check of group %q is in the report", group)
		}
	}
	if len(got.Copies) != 4 {
		t.Errorf("%d copies are in the report, want 4", len(got.Copies))
	}
}

// program is a shell script in the place of sluice.
func program(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDemoSaysWhyAGatewayDoesNotStart(t *testing.T) {
	testenv.RequireNamespaces(t)
	var out strings.Builder
	err := Run(t.Context(), Options{Executable: program(t, "echo the reason is this; exit 3"), Out: &out})
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "the reason is this") {
		t.Errorf("the error is %v", err)
	}
	if !strings.Contains(out.String(), "removing everything") {
		t.Errorf("it did not clean up:\n%s", out.String())
	}
	assertNothingLeft(t)
}

func TestDemoEndsWithItsContextAndCleansUp(t *testing.T) {
	testenv.RequireNamespaces(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(2*time.Second, cancel)
	// A gateway that runs and never gets ready.
	err := Run(ctx, Options{Executable: program(t, "exec sleep 1000")})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	assertNothingLeft(t)
}

func TestReportCountsFailuresAndShowsThem(t *testing.T) {
	var out strings.Builder
	r := newReport(&out)
	r.record("one", "good", "seen this", nil)
	r.record("two", "bad", "", errors.New("seen\nthat"))
	r.table()
	if r.failures() != 1 {
		t.Errorf("%d failures, want 1", r.failures())
	}
	for _, want := range []string{"ok    good", "FAIL  bad", "seen; that", "1 of 2 checks passed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table does not say %q:\n%s", want, out.String())
		}
	}
}

func TestCopyNoticesWhatIsLostOrChanged(t *testing.T) {
	var sent strings.Builder
	if _, err := newData(3*block/2, []byte("marker")).WriteTo(&sent); err != nil {
		t.Fatal(err)
	}
	text := sent.String()
	if len(text) != 3*block/2 || strings.Count(text, "marker") < len(text)/markerEvery {
		t.Errorf("%d bytes with %d markers", len(text), strings.Count(text, "marker"))
	}
	if text[:block/2] == text[block:] {
		t.Error("the data repeats, so a block that is lost or doubled might not be noticed")
	}
	good, err := hash(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hash(strings.NewReader(text[1:]), int64(len(text))); err == nil {
		t.Error("a lost byte was not noticed")
	}
	if bad, _ := hash(strings.NewReader("x"+text[1:]), int64(len(text))); bad == good {
		t.Error("a changed byte was not noticed")
	}
}
