package traffic

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicegw/sluice/internal/netnstest"
)

func TestMain(m *testing.M) {
	before := openFiles()
	status := m.Run()
	if err := goleak.Find(); status == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	// Go itself keeps a few (epoll, its eventfd, the kernel's BTF); a generator or sink not closed leaves as many again.
	if after := openFiles(); status == 0 && after > before+4 {
		fmt.Fprintf(os.Stderr, "%d descriptors open after the tests, %d before\n", after, before)
		status = 1
	}
	os.Exit(status)
}

func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	return len(entries)
}

// pair is two hosts with a link between them.
type pair struct {
	scope        *netnstest.Scope
	a, b         *netnstest.Host
	aLink, bLink *netnstest.Link
}

func newPair(t testing.TB) pair {
	t.Helper()
	s := netnstest.New(t)
	p := pair{scope: s, a: s.NewHost("a"), b: s.NewHost("b")}
	p.aLink, p.bLink = s.Connect(netnstest.End{Host: p.a, Name: "eth0"}, netnstest.End{Host: p.b, Name: "eth0"})
	return p
}

func (p pair) generator(t testing.TB, o Options) *Generator {
	t.Helper()
	o.Host, o.Link = p.a, p.aLink.Name
	g, err := NewGenerator(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closing(t, g) })
	return g
}

func (p pair) sink(t testing.TB, o SinkOptions) *Sink {
	t.Helper()
	o.Host, o.Link = p.b, p.bLink.Name
	s, err := NewSink(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closing(t, s) })
	return s
}

func closing(t testing.TB, c interface{ Close() error }) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func run(t testing.TB, g *Generator, d time.Duration) Sent {
	t.Helper()
	sent, err := g.Run(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return sent
}

func read(t testing.TB, s *Sink) Counts {
	t.Helper()
	c, err := s.Read()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// arrived reads the counters when so many packets have come, or after a second: on a busy machine the softirq of the
// last ones may be late.
func arrived(t testing.TB, s *Sink, want uint64) Counts {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if c := read(t, s); c.Packets >= want || time.Since(begin) > time.Second {
			return c
		}
	}
}

var (
	inner4 = Layer{Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.2.0.1")}
	inner6 = Layer{Src: netip.MustParseAddr("fd10:1::1"), Dst: netip.MustParseAddr("fd10:2::1")}
	outer4 = Layer{Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.2")}
	outer6 = Layer{Src: netip.MustParseAddr("2001:db8::1"), Dst: netip.MustParseAddr("2001:db8::2")}
)

// flows are of all formats and families, with everything varying that can.
func flows() map[string]Flow {
	all := make(map[string]Flow)
	for format := range numFormats {
		for family, layers := range map[string][2]Layer{"4": {inner4, outer4}, "6": {inner6, outer6}, "6 in 4": {inner6, outer4}} {
			if format == Plain && family == "6 in 4" {
				continue
			}
			f := Flow{Format: format, Inner: layers[0], Flows: 1000, Destinations: Spread{Count: 5, Bits: 24}, Sources: Spread{Count: 3}, Sizes: IMIX()}
			f.Sizes[0].Size = 77 // odd
			if format != Plain {
				f.Outer, f.VNI, f.VNIs = layers[1], 100, 7
			}
			all[format.String()+" "+family] = f
		}
	}
	return all
}
