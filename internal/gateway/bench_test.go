package gateway_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sluicegw/sluice/internal/netnstest"
)

// BenchmarkStart is the time from starting the process to the first packet that comes back from the other site: it
// includes reading the configuration, loading the program, binding sockets, the neighbour and the handshake. MiB is the
// process's resident memory after it.
func BenchmarkStart(b *testing.B) {
	_, sites := newSites(b)
	sites[1].start(b)
	var rss float64
	for b.Loop() {
		sites[0].launch(b)
		deadline := time.Now().Add(10 * time.Second)
		for {
			err := netnstest.Ping(b.Context(), sites[0].host, sites[1].addr4(), netnstest.PingOptions{Count: 1, Timeout: 5 * time.Millisecond})
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				b.Fatal(err)
			}
		}
		b.StopTimer()
		rss = max(rss, residentMiB(b, sites[0].process.Process.Pid))
		sites[0].stop(b)
		b.StartTimer()
	}
	b.ReportMetric(rss, "MiB-resident")
}

func residentMiB(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	var kib float64
	if _, err := fmt.Sscan(after, &kib); err != nil {
		b.Fatalf("VmRSS of %d: %v", pid, err)
	}
	return kib / 1024
}
