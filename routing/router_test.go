package routing

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// all lets everything through.
var all = &Policy{Name: "all", Rules: []Rule{{}}}

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		out[i] = netip.MustParsePrefix(text)
	}
	return out
}

// end is one side of a session over loopback addresses.
type end struct {
	*Router
	config Config
	hops   map[netip.Prefix][]NextHop
	woken  chan struct{}
}

// newEnd makes a router at 127.0.0.number, with one port, p0, in VPC red.
func newEnd(t testing.TB, number int, asn uint32, tcp uint16) *end {
	t.Helper()
	e := &end{hops: make(map[netip.Prefix][]NextHop), woken: make(chan struct{}, 1)}
	e.Router = New(Options{Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})), OnChange: func() {
		select {
		case e.woken <- struct{}{}:
		default:
		}
	}})
	t.Cleanup(e.Close)
	e.config = Config{ASN: asn, RouterID: netip.AddrFrom4([4]byte{10, 255, 0, byte(number)}), MaxPaths: 4,
		Ports: []Port{{Name: "p0", VPC: "red", ListenOn: []netip.Addr{loopback(number)}, ListenPort: tcp,
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(number)}), netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", number))}}},
		VPCs: []VPC{{Name: "red"}}}
	return e
}

func loopback(number int) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, byte(number)}) }

func (e *end) set(t testing.TB) {
	t.Helper()
	if err := e.Set(t.Context(), e.config); err != nil {
		t.Fatal(err)
	}
}

// take adds what has changed to what the end has learned, and passes it on.
func (e *end) take() {
	defer func() {
		if err := e.Pass(); err != nil {
			panic(err)
		}
	}()
	for _, changes := range e.Take() {
		for _, c := range changes {
			if len(c.NextHops) == 0 {
				delete(e.hops, c.Prefix)
			} else {
				e.hops[c.Prefix] = c.NextHops
			}
		}
	}
}

func (e *end) learned() []netip.Prefix {
	e.take()
	var out []netip.Prefix
	for p := range e.hops {
		out = append(out, p)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}

func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

func (e *end) wants(t testing.TB, want ...string) {
	t.Helper()
	eventually(t, "routes", func() error {
		if got := e.learned(); !slices.Equal(got, prefixes(want...)) {
			return fmt.Errorf("has %v, want %v", got, want)
		}
		return nil
	})
}

// freePort finds a TCP port that nobody listens on.
func freePort(t testing.TB) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// newPair makes a gateway (1, AS 65001) and a site router (2, AS 65002) that let everything pass.
func newPair(t testing.TB) (gateway, router *end) {
	t.Helper()
	tcp := freePort(t)
	gateway, router = newEnd(t, 1, 65001, tcp), newEnd(t, 2, 65002, tcp)
	for _, e := range []*end{gateway, router} {
		other := 3 - int(e.config.RouterID.As4()[3])
		e.config.Ports[0].Neighbours = []Neighbour{{
			Name: fmt.Sprint("n", other), Address: loopback(other), ASN: uint32(65000 + other), Port: tcp,
			Import: all, Export: all, ConnectRetry: time.Second,
		}}
	}
	return gateway, router
}

func (e *end) neighbour() *Neighbour { return &e.config.Ports[0].Neighbours[0] }
func (e *end) vpc() *VPC             { return &e.config.VPCs[0] }

func TestRoutesOfBothFamiliesAreLearnedAndWithdrawn(t *testing.T) {
	t.Parallel()
	gateway, router := newPair(t)
	router.vpc().Export = prefixes("10.1.0.0/16", "10.1.2.0/24", "fd10:1::/48")
	gateway.vpc().Export = prefixes("10.2.0.0/16", "fd10:2::/48")
	gateway.set(t)
	router.set(t)
	gateway.wants(t, "10.1.0.0/16", "10.1.2.0/24", "fd10:1::/48")
	router.wants(t, "10.2.0.0/16", "fd10:2::/48")
	for p, hops := range gateway.hops {
		want := NextHop{Port: "p0", Addr: netip.MustParseAddr("192.0.2.2")}
		if p.Addr().Is6() {
			want.Addr = netip.MustParseAddr("2001:db8::2")
		}
		if !slices.Equal(hops, []NextHop{want}) {
			t.Errorf("%s: next hops %v, want %v", p, hops, want)
		}
	}
	router.config.VPCs = []VPC{{Name: "red", Export: prefixes("10.1.2.0/24")}}
	router.set(t)
	gateway.wants(t, "10.1.2.0/24")
	router.Close()
	gateway.wants(t)
}
