package demo

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// TestSoak sends the demo's traffic again and again for SLUICE_SOAK (`make soak`):
// every answer must be right, also across rekeys (every two minutes), and
// afterwards the gateways may hold no more than after the first round.
func TestSoak(t *testing.T) {
	text := os.Getenv("SLUICE_SOAK")
	if text == "" {
		t.Skip("runs with SLUICE_SOAK=10m, as make soak sets it")
	}
	length, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("SLUICE_SOAK: %v", err)
	}
	testenv.RequireRoot(t)
	testenv.RequireTool(t, netnstest.OVSTools...)
	d := testLab(t, labOptions{bergen: config.Geneve})
	d.Executable, d.CopySize, d.patience, d.silence = testenv.Sluice(t, t.TempDir()), 100e6, patience, silence
	if err := d.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var before [2]usage
	for round, end := 0, time.Now().Add(length); time.Now().Before(end); round++ {
		ctx := t.Context()
		if d.capture, err = newCapture(d.lab.wan, d.lab.wireRules(), "oslo", "bergen"); err != nil {
			t.Fatal(err)
		}
		d.checkPings(ctx)
		d.checkServices(ctx)
		d.checkTwins(ctx)
		d.checkCopies(ctx)
		d.checkWAN(ctx)
		if err := d.capture.close(); err != nil {
			t.Fatal(err)
		}
		if d.failures() > 0 {
			t.Fatalf("round %d: %d checks failed", round, d.failures())
		}
		d.Checks, d.Copies = nil, nil
		for i, s := range d.lab.sites {
			now := s.gateway.usage(t)
			t.Logf("round %d: gateway %s: %v", round, s.gateway.name, now)
			if round == 0 {
				before[i] = now
				continue
			}
			if now.files > before[i].files {
				t.Errorf("gateway %s: %d files open, %d after the first round", s.gateway.name, now.files, before[i].files)
			}
			// When nothing moves, the ports hold what fills their rings, and the pool the rest: frames that
			// are gone for good would show. A batch may be on its way.
			if now.frames < before[i].frames-64 {
				t.Errorf("gateway %s: %d frames in the pool, %d after the first round", s.gateway.name, now.frames, before[i].frames)
			}
			// Go returns memory late; a leak of a few bytes per packet would be far
			// more than this after a minute.
			if now.memory > before[i].memory+16<<20 {
				t.Errorf("gateway %s: %d MiB of memory, %d after the first round", s.gateway.name, now.memory>>20, before[i].memory>>20)
			}
		}
	}
	for _, s := range d.lab.sites {
		if err := s.gateway.stop(); err != nil {
			t.Error(err)
		}
	}
}

// usage is what a process holds.
type usage struct {
	memory int // resident bytes
	files  int
	frames int // free ones
}

func (u usage) String() string {
	return fmt.Sprintf("%d MiB, %d files, %d free frames", u.memory>>20, u.files, u.frames)
}

func (g *gateway) usage(t *testing.T) (u usage) {
	t.Helper()
	counters, err := g.counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	free, ok := counters["relay/free_frames"]
	if !ok {
		t.Fatal("there is no gauge of free frames")
	}
	u.frames = int(free)
	proc := "/proc/" + strconv.Itoa(g.command.Process.Pid)
	files, err := os.ReadDir(proc + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	u.files = len(files)
	status, err := os.Open(proc + "/status")
	if err != nil {
		t.Fatal(err)
	}
	defer status.Close()
	for lines := bufio.NewScanner(status); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			u.memory = kib << 10
			return u
		}
	}
	t.Fatalf("%s/status has no VmRSS", proc)
	return u
}
