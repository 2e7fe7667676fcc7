package contestants_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluicegw/sluice/bench/contestants"
	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/scenario"
	"github.com/sluicegw/sluice/internal/testenv"
)

// The kernel sends super-packets wherever a link takes them, so it shows what links take.
func TestWireFaithfulLinksCarryNoSuperPackets(t *testing.T) {
	testenv.RequireTool(t, "tcpdump", "iperf3")
	for _, native := range []bool{false, true} {
		run := start(t, contestants.KernelForward{}, method.Scenario{Native: native})
		file := filepath.Join(t.TempDir(), "long.pcap")
		wan := run.Lab.Ends[1].WAN
		c := wan.Host.Command(context.Background(), "tcpdump", "-i", wan.Name, "-U", "-w", file, "-s", "64", "-c", "10", "-Z", "root", "greater 1600")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if err := scenario.Eventually(t.Context(), func() error { _, err := os.Stat(file); return err }); err != nil {
			t.Fatal(err)
		}
		if _, _, err := run.TCP(t.Context(), time.Second); err != nil {
			t.Fatal(err)
		}
		if err := c.Stop(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		const header = 24 // of the file
		if long := info.Size() > header; long != native {
			t.Errorf("native %v: super-packets crossed: %v", native, long)
		}
	}
}
