package contestants_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluicegw/sluice/bench/contestants"
	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/scenario"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// What is sent in the clear is seen in the capture of those that do not encrypt, so the
// test would see it in the others.
func TestOnlyThoseThatEncryptHideWhatTheySend(t *testing.T) {
	testenv.RequireRoot(t)
	testenv.RequireTool(t, "tcpdump")
	encrypts := map[string]bool{"sluice": true, "wireguard-go": true, "nebula": true}
	for _, d := range contestants.All() {
		for _, attachment := range d.Attachments() {
			t.Run(d.Name()+" "+attachment, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				s := method.Scenario{Attachment: attachment}.Normal()
				if err := d.Supports(s); errors.Is(err, method.ErrUnavailable) {
					testenv.Missing(t, "%v", err)
				}
				s.Direction = method.Encrypt // for the host on the WAN
				lab, err := scenario.NewLab(s, false)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := lab.Close(); err != nil {
						t.Error(err)
					}
				})
				if _, err := d.Build(ctx, lab); err != nil {
					t.Fatal(err)
				}
				if err := lab.Probe(ctx); err != nil {
					t.Fatal(err)
				}
				capture := tcpdump(t, lab)
				marker := bytes.Repeat([]byte("clear text of the bench "), 8)
				if err := netnstest.Ping(ctx, lab.Ends[0].End, scenario.Inner(2, attachment),
					netnstest.PingOptions{Count: 5, All: true, Payload: marker, Size: len(marker)}); err != nil {
					t.Fatal(err)
				}
				// An answer has crossed the WAN before it arrives, so all five are there.
				seen := capture(200)
				switch clear := bytes.Contains(seen, marker); {
				case clear && encrypts[d.Name()]:
					t.Errorf("%d bytes on the WAN show what was sent", len(seen))
				case !clear && !encrypts[d.Name()]:
					t.Errorf("%d bytes on the WAN do not show what was sent: what is captured is not what it carries", len(seen))
				}
			})
		}
	}
}

// tcpdump captures on the WAN. The function it returns waits until enough was captured to
// carry the marker, ends that, and returns what was.
func tcpdump(t *testing.T, lab *scenario.Lab) func(atLeast int) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "wan.pcap")
	c := lab.WANHost.Command(context.Background(), "tcpdump", "-i", lab.Taps[0].Name, "-U", "-w", file, "--immediate-mode", "-Z", "root")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	err := scenario.Eventually(t.Context(), func() error {
		if info, err := os.Stat(file); err != nil || info.Size() < 24 { // the file's header: it listens
			return errors.Join(errors.New("tcpdump does not listen"), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return func(atLeast int) []byte {
		t.Helper()
		// It writes a moment later than the packets pass, and does not finish when it is stopped.
		err := scenario.Eventually(t.Context(), func() error {
			if info, err := os.Stat(file); err != nil || info.Size() < int64(atLeast)*10 {
				return errors.Join(errors.New("too little was captured"), err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Stop(); err != nil {
			t.Fatal(err)
		}
		seen, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return seen
	}
}
