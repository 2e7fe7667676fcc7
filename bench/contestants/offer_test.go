package contestants_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/sluicegw/sluice/bench/contestants"
	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/scenario"
	"github.com/sluicegw/sluice/internal/testenv"
)

// The rate is low enough for any contestant on a busy machine, but the machine may stop
// for longer than a queue lasts: most has to arrive, and all that does has to be right.
func TestPacketsArriveUndamaged(t *testing.T) {
	each(t, func(t *testing.T, d scenario.Driver, attachment string) {
		run := start(t, d, method.Scenario{Attachment: attachment, Size: 512, Flows: 16})
		if _, err := run.Offer(t.Context(), 1000, 100*time.Millisecond); err != nil { // learns what is left to learn
			t.Fatal(err)
		}
		c, err := run.Offer(t.Context(), 2000, 500*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if c.Offered == 0 || c.Received < c.Offered/2 {
			t.Errorf("%d of %d packets arrived", c.Received, c.Offered)
		}
		if c.BadChecksums+c.Duplicates > 0 {
			t.Errorf("damaged: %+v", c)
		}
		if len(run.PIDs()) > 0 && c.Usage.DUT <= 0 {
			t.Errorf("the processes under test used no CPU time: %+v", c.Usage)
		}
		if len(c.Latency) == 0 {
			t.Error("no latency was measured")
		}
	})
}

func TestEachDirectionByItself(t *testing.T) {
	for _, d := range contestants.All() {
		if _, ok := d.(scenario.WireGuard); !ok {
			continue
		}
		for _, attachment := range d.Attachments() {
			for _, s := range []method.Scenario{
				{Direction: method.Encrypt, Attachment: attachment, Size: 512},
				{Direction: method.Encrypt, Attachment: attachment, Size: 64, Peers: 20, Flows: 100},
				{Direction: method.Decrypt, Attachment: attachment, Size: 512, Flows: 16},
			} {
				t.Run(d.Name()+" "+s.String(), func(t *testing.T) {
					arrives(t, start(t, d, s))
				})
			}
		}
	}
}

// arrives offers a rate that any contestant carries.
func arrives(t *testing.T, run *scenario.Run) {
	t.Helper()
	c, err := run.Offer(t.Context(), 2000, 500*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if c.Offered == 0 || c.Received < c.Offered/2 || c.Duplicates+c.BadChecksums > 0 || c.Usage.DUT <= 0 {
		t.Errorf("%+v", c)
	}
}

func TestScale(t *testing.T) {
	for _, s := range []method.Scenario{
		{Attachment: scenario.Routed, Routes: 1000, Flows: 2000},
		{Attachment: scenario.VXLAN, Routes: 1000, Flows: 2000},
		{Attachment: scenario.VXLAN, VNIs: 50, Flows: 50},
		{Attachment: scenario.VXLAN, Workers: 2, Flows: 64},
		{Attachment: scenario.VXLAN, IMIX: true},
	} {
		for _, d := range contestants.All() {
			if d.Supports(s.Normal()) != nil || !slices.Contains(d.Attachments(), s.Attachment) {
				continue
			}
			t.Run(d.Name()+" "+s.String(), func(t *testing.T) {
				run := start(t, d, s)
				c, err := run.Offer(t.Context(), 2000, 500*time.Millisecond)
				if err != nil {
					t.Fatal(err)
				}
				if c.Received < c.Offered/2 {
					t.Errorf("%d of %d arrived", c.Received, c.Offered)
				}
			})
		}
	}
}

func TestTCPCrosses(t *testing.T) {
	testenv.RequireTool(t, "iperf3")
	each(t, func(t *testing.T, d scenario.Driver, attachment string) {
		for _, native := range []bool{false, true} {
			if native && (attachment != d.Attachments()[0] || d.Supports(method.Scenario{Native: true}.Normal()) != nil) {
				continue
			}
			run := start(t, d, method.Scenario{Attachment: attachment, Native: native})
			bits, usage, err := run.TCP(t.Context(), time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if bits < 1e6 || usage.Wall < time.Second {
				t.Errorf("native %v: %.0f bit/s, %+v", native, bits, usage)
			}
			t.Logf("native %v: %.2f Gbit/s", native, bits/1e9)
		}
	})
}

func TestComesBack(t *testing.T) {
	each(t, func(t *testing.T, d scenario.Driver, attachment string) {
		if attachment != d.Attachments()[0] {
			return
		}
		for _, event := range []method.Event{method.LinkFlap, method.Kill} {
			run := start(t, d, method.Scenario{Attachment: attachment})
			if _, ok := run.Gateways.(scenario.Restarter); event == method.Kill && !ok {
				continue
			}
			r, err := run.Recover(t.Context(), event, 2000, 20*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			_, bypass := run.Gateways.(scenario.Bypass)
			noticed := r.Outage > 0 && r.Lost > 0
			if bypass && event == method.Kill {
				noticed = true // nobody notices, but where a busy machine loses packets by itself
			}
			if !r.Recovered || !noticed || len(r.Timeline) == 0 {
				t.Errorf("%s: recovered %v, outage %v, %d lost", event, r.Recovered, r.Outage, r.Lost)
			}
			t.Logf("%s: outage %v, %d lost", event, r.Outage, r.Lost)
		}
	})
}

// BenchmarkFlood floods every contestant in turn. It is a look at the parts; a comparison
// needs bench/cmd/sluicebench, which takes turns.
func BenchmarkFlood(b *testing.B) {
	testenv.RequireRoot(b)
	for _, d := range contestants.All() {
		b.Run(d.Name(), func(b *testing.B) {
			run, err := scenario.New(d).Start(b.Context(), method.Scenario{Size: 64, Flows: 16})
			if errors.Is(err, method.ErrUnavailable) {
				b.Skip(err)
			}
			if err != nil {
				b.Fatal(err)
			}
			defer func() {
				if err := run.Stop(); err != nil {
					b.Error(err)
				}
			}()
			if _, err := run.Offer(b.Context(), 0, 100*time.Millisecond); err != nil {
				b.Fatal(err)
			}
			var sum method.Counts
			for b.Loop() {
				c, err := run.Offer(b.Context(), 0, 300*time.Millisecond)
				if err != nil {
					b.Fatal(err)
				}
				sum.Window += c.Window
				sum.Offered += c.Offered
				sum.Received += c.Received
				sum.Usage.DUT += c.Usage.DUT
				sum.Usage.Busy += c.Usage.Busy
			}
			if sum.Received == 0 {
				b.Fatal("nothing arrived")
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(sum.PPS(), "pps")
			b.ReportMetric(float64(sum.Offered)/sum.Window.Seconds(), "offered-pps")
			b.ReportMetric(float64(sum.Usage.DUT)/float64(sum.Received), "dut-ns/packet")
			b.ReportMetric(float64(sum.Usage.Busy)/float64(sum.Received), "machine-ns/packet")
		})
	}
}
