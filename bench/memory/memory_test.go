package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
	"github.com/sluicegw/sluice/relay/wireguard/aead"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newPath(t testing.TB, name string, size int) Path {
	t.Helper()
	p, err := New(name, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

var names = []string{Relay, RelayBest, Session, Reference, WireGuardGo, WireGuardGoAll}

// More packets than the replay window is wide.
func TestPathsCarryEveryPacketBothWays(t *testing.T) {
	for _, name := range names {
		for _, size := range []int{64, 1420} {
			t.Run(fmt.Sprint(name, " ", size), func(t *testing.T) {
				p := newPath(t, name, size)
				for range 2 { // again: the session goes on, and so do nonces and replay windows
					for what, run := range map[string]func(context.Context, int) (time.Duration, error){"seal": p.Seal, "open": p.Open} {
						if took, err := run(t.Context(), 16384); err != nil || took <= 0 {
							t.Fatalf("%s: %v, %v", what, took, err)
						}
					}
				}
			})
		}
	}
}

// What a path has sealed opens at the far end as what went in, and the other way round.
func TestPathsDoTheWholeWork(t *testing.T) {
	for _, name := range []string{Relay, RelayBest, WireGuardGo} {
		t.Run(name, func(t *testing.T) {
			const size = 500
			p := newPath(t, name, size).(wireguardPath)
			var f *far
			lowersTTL := true // a router does, a tunnel device leaves it to the kernel
			switch p := p.(type) {
			case *relayPath:
				f = p.far
			case *devicePath:
				f, lowersTTL = p.far, false
			}
			_, sealed, err := p.seal(t.Context(), 200, 200)
			if err != nil {
				t.Fatal(err)
			}
			plain := plaintexts(nearHost, farHost, size)
			for i, m := range sealed {
				pkts := []wireguard.Packet{{Buf: m}}
				f.device.NewBatch().Open(pkts, f.device.Clock())
				if pkts[0].Result != wireguard.OK {
					t.Fatalf("message %d: %v", i, pkts[0].Result)
				}
				same(t, pkts[0].Buf[:size], plain.at(i)[packet.EthernetLen:], lowersTTL)
			}
			_, opened, err := p.open(t.Context(), 200, 200)
			if err != nil {
				t.Fatal(err)
			}
			for i, b := range opened {
				same(t, b[:size], f.plain.at(i)[packet.EthernetLen:], lowersTTL)
			}
			if len(sealed) != 200 || len(opened) != 200 {
				t.Errorf("%d sealed, %d opened", len(sealed), len(opened))
			}
		})
	}
}

func same(t *testing.T, got, want []byte, lowersTTL bool) {
	t.Helper()
	want = bytes.Clone(want)
	if lowersTTL {
		packet.DecrementTTL(want)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got\n%x, want\n%x", got, want)
	}
}

func TestTwoWorkersShareTheWork(t *testing.T) {
	p, err := newRelayPath("two workers", 64, aead.Generic(), 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	for range 2 {
		for what, run := range map[string]func(context.Context, int) (time.Duration, error){"seal": p.Seal, "open": p.Open} {
			if _, err := run(t.Context(), 16384); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
}

func TestPathEndsWithTheContext(t *testing.T) {
	p := newPath(t, Relay, 64)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Seal(ctx, 1<<30); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestUnknownPathIsAnError(t *testing.T) {
	if _, err := New("carrier pigeon", 64); err == nil {
		t.Error("no error")
	}
}

// BenchmarkCompare is relay against wireguard-go, per core:
//
//	go test -run '^$' -bench Compare -benchtime 20x ./bench/memory
func BenchmarkCompare(b *testing.B) {
	for _, d := range []Direction{Seal, Open} {
		for _, size := range []int{64, 512, 1420} {
			b.Run(fmt.Sprintf("%s/%d", d, size), func(b *testing.B) {
				c, err := Compare(b.Context(), Relay, WireGuardGo, Options{Size: size, Direction: d, Plan: method.Plan{Quads: b.N}})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(0, "ns/op") // an op is a quad
				b.ReportMetric(c.FiguresA[method.PacketNs].Median, "relay-ns")
				b.ReportMetric(c.FiguresB[method.PacketNs].Median, "wireguard-go-ns")
				r := c.Ratios[method.PacketNs]
				b.ReportMetric(r.Median, "ratio")
				b.ReportMetric(r.Low, "ratio-low")
				b.ReportMetric(r.High, "ratio-high")
			})
		}
	}
}

// BenchmarkTwoWorkers is how many times as many packets two workers carry as one, by the clock on the wall. They share
// one peer and its session. It takes two CPUs that do nothing else.
//
//	go test -run '^$' -bench TwoWorkers -benchtime 20x ./bench/memory
func BenchmarkTwoWorkers(b *testing.B) {
	const packets = 16384 // fewer than the replay window holds, as one worker may stop while the other goes on
	for _, d := range []Direction{Seal, Open} {
		for _, size := range []int{64, 1420} {
			b.Run(fmt.Sprintf("%s/%d", d, size), func(b *testing.B) {
				var sides [2]method.Side
				for i := range sides {
					name := fmt.Sprint(i+1, " workers")
					p, err := newRelayPath(name, size, aead.Best(), i+1)
					if err != nil {
						b.Fatal(err)
					}
					defer func() {
						if err := p.Close(); err != nil {
							b.Error(err)
						}
					}()
					sides[i] = method.Side{Name: name, Measure: func(ctx context.Context) (method.Sample, error) {
						wall, err := p.wall(ctx, d, packets)
						return method.Sample{Values: map[method.Metric]float64{method.PPS: packets / wall.Seconds()}}, err
					}}
					if _, err := sides[i].Measure(b.Context()); err != nil { // cold caches
						b.Fatal(err)
					}
				}
				c, err := method.Compare(b.Context(), sides[1], sides[0], method.Plan{Quads: b.N})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(0, "ns/op") // an op is a quad
				r := c.Ratios[method.PPS]
				b.ReportMetric(c.FiguresB[method.PPS].Median/1e6, "one-Mpps")
				b.ReportMetric(c.FiguresA[method.PPS].Median/1e6, "two-Mpps")
				b.ReportMetric(r.Median, "ratio")
				b.ReportMetric(r.Low, "ratio-low")
				b.ReportMetric(r.High, "ratio-high")
			})
		}
	}
}

// wall is how long n packets take by the clock on the wall, without what prepares them.
func (p *relayPath) wall(ctx context.Context, d Direction, n int) (time.Duration, error) {
	if err := p.far.connect(ctx); err != nil {
		return 0, err
	}
	packets := p.plain
	if d == Open {
		var err error
		if packets, err = p.far.messages(n); err != nil {
			return 0, err
		}
	}
	p.aim(d)
	begin := time.Now()
	_, _, err := p.run(ctx, packets, n, 0)
	return time.Since(begin), err
}
