package demo

import (
	"strings"
	"testing"
	"time"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// testLab is a lab without gateways.
func testLab(t *testing.T, o labOptions) *demo {
	t.Helper()
	testenv.RequireNamespaces(t)
	if o.bergen == config.Geneve {
		testenv.RequireTool(t, netnstest.OVSTools...)
	}
	l, err := newLab(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.close(); err != nil {
			t.Error(err)
		}
	})
	d := newDemo(Options{Out: testWriter{t}, CopySize: 1e6})
	d.lab = l
	// What is wanted takes microseconds here, and much is not.
	d.patience, d.silence = 600*time.Millisecond, 300*time.Millisecond
	return d
}

// testWriter shows the demo's progress in the test's log.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if text := strings.TrimRight(string(p), "\n"); text != "" {
		w.t.Log(text)
	}
	return len(p), nil
}

func TestPodsOfASiteMeetWithoutGateways(t *testing.T) {
	for name, ipv6 := range map[string]bool{"over IPv4": false, "over IPv6": true} {
		t.Run(name, func(t *testing.T) {
			d := testLab(t, labOptions{bergen: config.Geneve, ipv6: ipv6})
			d.patience = patience // answers are wanted, also from a busy machine
			for _, s := range d.lab.sites {
				if err := d.localTraffic(t.Context(), s); err != nil {
					t.Errorf("%s (%s): %v", s.name, s.overlay, err)
				}
			}
		})
	}
}
