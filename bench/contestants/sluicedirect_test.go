package contestants_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/sluicegw/sluice/bench/contestants"
	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/scenario"
)

// A flood is an error where the relays have seen it (scenario.Bypass); what the program has forwarded is seen here.
func TestAFloodWithoutEncryptionPassesTheRelaysBy(t *testing.T) {
	for _, attachment := range (contestants.SluiceDirect{}).Attachments() {
		t.Run(attachment, func(t *testing.T) {
			run := start(t, contestants.SluiceDirect{}, method.Scenario{Attachment: attachment, Size: 64, Flows: 16})
			g := run.Gateways.(scenario.Bypass)
			relayed, forwarded, err := g.Passed(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			c, err := run.Offer(t.Context(), 0, 300e6)
			if err != nil {
				t.Fatal(err)
			}
			relayedNow, forwardedNow, err := g.Passed(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if c.Received < 1000 || forwardedNow-forwarded < c.Received/2 || relayedNow-relayed > c.Received/100+16 {
				t.Errorf("%d arrived, %d were forwarded by the program, %d seen by the relays", c.Received, forwardedNow-forwarded, relayedNow-relayed)
			}
			if c.Usage.DUT <= 0 {
				t.Errorf("the kernel's threads used no CPU time: %+v", c.Usage)
			}
		})
	}
}

func TestNothingStaysAttachedBehindTheBench(t *testing.T) {
	run := start(t, contestants.SluiceDirect{}, method.Scenario{})
	dir := run.Lab.Scope.Dir()
	if mounts := mounted(t); !strings.Contains(mounts, dir) {
		t.Fatalf("no file system for pins in %s:\n%s", dir, mounts)
	}
	if err := run.Stop(); err != nil {
		t.Error(err)
	}
	if mounts := mounted(t); strings.Contains(mounts, dir) {
		t.Errorf("%s is in\n%s", dir, mounts)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", dir, err)
	}
}

func mounted(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
