package neigh

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func mac(s string) [6]byte { return [6]byte(netnstest.MAC(s)) }

// watched is a Kernel that runs in a host.
type watched struct {
	*Kernel
	t       *testing.T
	changed chan struct{}
}

func watch(t *testing.T, h *netnstest.Host, o Options) *watched {
	t.Helper()
	w := &watched{t: t, changed: make(chan struct{}, 1)}
	more := o.OnChange
	o.OnChange = func() {
		if more != nil {
			more()
		}
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	err := h.Do(func() (err error) {
		w.Kernel, err = Watch(o)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return w
}

// until waits, as a relay does, until what is known about k pleases ok.
func (w *watched) until(k Key, within time.Duration, what string, ok func(*Entry) bool) *Entry {
	w.t.Helper()
	deadline := time.After(within)
	for {
		e := w.Table().Lookup(k)
		if e != nil && ok(e) {
			return e
		}
		w.Resolve(k)
		select {
		case <-w.changed:
		case <-time.After(100 * time.Millisecond):
		case <-deadline:
			w.t.Fatalf("%v is %v after %v, want %s", k, e, within, what)
		}
	}
}

func (w *watched) resolved(k Key) *Entry {
	w.t.Helper()
	return w.until(k, 3*time.Second, "resolved", func(e *Entry) bool { return e.State == Resolved })
}

func (w *watched) untilLinks(what string, ok func(*Links) bool) {
	w.t.Helper()
	deadline := time.After(3 * time.Second)
	for !ok(w.Links()) {
		select {
		case <-w.changed:
		case <-deadline:
			w.t.Fatalf("links do not show: %s", what)
		}
	}
}

// site: a gateway gw with two ports, each on a wire with a host. The host a is also a router.
type site struct {
	scope        *netnstest.Scope
	gw, a, b     *netnstest.Host
	p0, p1       *netnstest.Link
	aLink, bLink *netnstest.Link
}

func newSite(t *testing.T) *site {
	s := netnstest.New(t)
	x := &site{scope: s, gw: s.NewHost("gw"), a: s.NewHost("a"), b: s.NewHost("b")}
	x.p0, x.aLink = s.Connect(
		netnstest.End{Host: x.gw, Name: "p0", MAC: netnstest.MAC("02:00:00:00:00:f0"), Addrs: netnstest.Prefixes("10.0.0.1/24", "fd00::1/64")},
		netnstest.End{Host: x.a, Name: "eth0", MAC: netnstest.MAC("02:00:00:00:00:0a"), Addrs: netnstest.Prefixes("10.0.0.2/24", "fd00::2/64")})
	x.p1, x.bLink = s.Connect(
		netnstest.End{Host: x.gw, Name: "p1", MAC: netnstest.MAC("02:00:00:00:00:f1"), Addrs: netnstest.Prefixes("10.0.1.1/24", "fd00:1::1/64")},
		netnstest.End{Host: x.b, Name: "eth0", MAC: netnstest.MAC("02:00:00:00:00:0b"), Addrs: netnstest.Prefixes("10.0.1.2/24", "fd00:1::2/64")})
	return x
}

// run is for what the netnstest package has no words for.
func run(t *testing.T, h *netnstest.Host, command string) {
	t.Helper()
	words := strings.Fields(command)
	if out, err := h.Command(t.Context(), words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s in %s: %v: %s", command, h.Name(), err, out)
	}
}

func TestNeighboursAndGatewaysAreResolved(t *testing.T) {
	x := newSite(t)
	run(t, x.gw, "ip route add 198.51.100.0/24 via 10.0.0.2 mtu 1400")
	run(t, x.gw, "ip route add 2001:db8::/32 via fd00::2 mtu 1380")
	run(t, x.gw, "ip route add 203.0.113.0/24 via inet6 fd00:1::2 dev p1")
	run(t, x.gw, "ip route add 192.0.2.0/24 via 10.0.1.2 src 10.0.0.1 mtu 9000")
	w := watch(t, x.gw, Options{})
	macs := map[*netnstest.Link][6]byte{x.p0: mac("02:00:00:00:00:0a"), x.p1: mac("02:00:00:00:00:0b")}
	for _, c := range []struct {
		name     string
		dst      string
		port     *netnstest.Link
		src, hop string
		mtu      int
	}{
		{"an IPv4 host on the link", "10.0.0.2", x.p0, "10.0.0.1", "10.0.0.2", 1500},
		{"an IPv6 host on the link", "fd00::2", x.p0, "fd00::1", "fd00::2", 1500},
		{"a host on the other port", "10.0.1.2", x.p1, "10.0.1.1", "10.0.1.2", 1500},
		{"IPv4 through a gateway with the route's MTU", "198.51.100.7", x.p0, "10.0.0.1", "10.0.0.2", 1400},
		{"IPv6 through a gateway with the route's MTU", "2001:db8::7", x.p0, "fd00::1", "fd00::2", 1380},
		{"IPv4 through an IPv6 gateway", "203.0.113.9", x.p1, "10.0.1.1", "fd00:1::2", 1500},
		{"the route's source address, and not more MTU than the link has", "192.0.2.1", x.p1, "10.0.0.1", "10.0.1.2", 1500},
	} {
		for _, ifindex := range []uint32{0, uint32(c.port.Index)} {
			name := c.name
			if ifindex != 0 {
				name += ", asked by its port"
			}
			t.Run(name, func(t *testing.T) {
				w.t = t
				k := Key{Dst: ip(c.dst), Ifindex: ifindex}
				want := &Entry{
					Key: k, State: Resolved, Egress: uint32(c.port.Index), Src: ip(c.src), NextHop: ip(c.hop), MTU: c.mtu,
					SrcMAC: [6]byte(c.port.MAC), DstMAC: macs[c.port],
				}
				if got := w.resolved(k); !got.same(want) {
					t.Errorf("got  %v src %v hop %v mtu %d egress %d %x -> %x", got, got.Src, got.NextHop, got.MTU, got.Egress, got.SrcMAC, got.DstMAC)
				}
			})
		}
	}
}

func TestDestinationsWithoutAWay(t *testing.T) {
	x := newSite(t)
	for _, route := range []string{"blackhole 192.0.2.0/26", "unreachable 192.0.2.64/26", "prohibit 192.0.2.128/26",
		"blackhole 2001:db8:1::/48", "unreachable 2001:db8:2::/48", "prohibit 2001:db8:3::/48"} {
		run(t, x.gw, "ip route add "+route)
	}
	w := watch(t, x.gw, Options{})
	p0 := uint32(x.p0.Index)
	for _, c := range []struct {
		name   string
		key    Key
		state  State
		reason string
	}{
		{"no IPv4 route", Key{Dst: ip("203.0.113.1")}, Unreachable, "no route"},
		{"no IPv6 route", Key{Dst: ip("2001:db8::1")}, Unreachable, "no route"},
		{"no IPv4 route through that port", Key{ip("10.0.1.2"), p0}, Unreachable, "no route through p0"},
		{"no IPv6 route through that port", Key{ip("fd00:1::2"), p0}, Unreachable, "no route"},
		{"an IPv4 blackhole", Key{Dst: ip("192.0.2.1")}, Unreachable, "blackhole route"},
		{"an unreachable IPv4 route", Key{Dst: ip("192.0.2.65")}, Unreachable, "unreachable route"},
		{"a prohibited IPv4 route", Key{Dst: ip("192.0.2.129")}, Unreachable, "prohibited by a route"},
		{"an IPv6 blackhole", Key{Dst: ip("2001:db8:1::1")}, Unreachable, "blackhole route"},
		{"an unreachable IPv6 route", Key{Dst: ip("2001:db8:2::1")}, Unreachable, "unreachable route"},
		{"a prohibited IPv6 route", Key{Dst: ip("2001:db8:3::1")}, Unreachable, "prohibited by a route"},
		{"our own IPv4 address", Key{Dst: ip("10.0.0.1")}, Local, "an address of this host"},
		{"our own IPv6 address", Key{Dst: ip("fd00:1::1")}, Local, "an address of this host"},
		{"our own address, asked by its port", Key{ip("10.0.0.1"), p0}, Local, "an address of this host"},
		{"loopback", Key{Dst: ip("127.0.0.1")}, Local, "an address of this host"},
		{"the broadcast address of a subnet", Key{Dst: ip("10.0.0.255")}, Unreachable, "broadcast"},
		{"IPv4 multicast", Key{Dst: ip("224.0.0.5")}, Unreachable, "multicast"},
		{"IPv6 multicast", Key{Dst: ip("ff02::1")}, Unreachable, "multicast"},
		{"a link-local address without interface", Key{Dst: ip("fe80::1")}, Unreachable, "link-local address without an interface"},
		{"an IPv4-mapped address", Key{Dst: ip("::ffff:10.0.0.2")}, Unreachable, "IPv4-mapped IPv6 address"},
		{"an address with a zone", Key{Dst: ip("fe80::1%p0")}, Unreachable, "zone in the address (ask with the interface)"},
		{"no address", Key{}, Unreachable, "not a destination"},
		{"an interface that does not exist", Key{ip("10.0.0.2"), 4711}, Unreachable, "no such interface"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			e := w.until(c.key, time.Second, c.reason, func(*Entry) bool { return true })
			if e.State != c.state || e.Reason != c.reason {
				t.Errorf("got %v: %s, want %v: %s", e.State, e.Reason, c.state, c.reason)
			}
		})
	}
}

func TestLinkLocalDestinationIsResolvedByItsInterface(t *testing.T) {
	x := newSite(t)
	w := watch(t, x.gw, Options{})
	e := w.resolved(Key{ip("fe80::ff:fe00:a"), uint32(x.p0.Index)}) // made from a's MAC (RFC 4291 appendix A)
	if e.DstMAC != mac("02:00:00:00:00:0a") || e.Src != ip("fe80::ff:fe00:f0") {
		t.Errorf("got %v from %v", e, e.Src)
	}
}

func TestSilentNeighbourFailsAndIsResolvedWhenItComes(t *testing.T) {
	x := newSite(t)
	for _, family := range []string{"ipv4", "ipv6"} {
		x.gw.Sysctl("net."+family+".neigh.p0.retrans_time_ms", "100")
	}
	w := watch(t, x.gw, Options{})
	v4, v6 := Key{Dst: ip("10.0.0.99")}, Key{Dst: ip("fd00::99")}
	failed := func(e *Entry) bool { return e.State == Failed }
	if e := w.until(v4, 5*time.Second, "failed", failed); e.Reason != "10.0.0.99 does not answer on p0" {
		t.Errorf("reason: %s", e.Reason)
	}
	w.until(v6, 5*time.Second, "failed", failed)
	for _, p := range netnstest.Prefixes("10.0.0.99/24", "fd00::99/64") {
		x.aLink.AddAddr(p) // says nothing by itself
	}
	for _, k := range []Key{v4, v6} {
		e := w.until(k, 10*time.Second, "resolved", func(e *Entry) bool { return e.State == Resolved })
		if e.DstMAC != mac("02:00:00:00:00:0a") {
			t.Errorf("got %v", e)
		}
	}
}

func TestMovedMACIsFollowed(t *testing.T) {
	x := newSite(t)
	w := watch(t, x.gw, Options{})
	k := Key{Dst: ip("10.0.0.2")}
	w.resolved(k)
	to := func(m string) func(*Entry) bool {
		return func(e *Entry) bool { return e.State == Resolved && e.DstMAC == mac(m) }
	}
	t.Run("when the kernel learns it", func(t *testing.T) {
		w.t = t
		run(t, x.gw, "ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:aa dev p0 nud reachable")
		w.until(k, time.Second, "the new MAC", to("02:00:00:00:00:aa"))
	})
	t.Run("when the neighbour says nothing, because it is in use", func(t *testing.T) {
		w.t = t
		x.gw.Sysctl("net.ipv4.neigh.p0.base_reachable_time_ms", "200")
		x.gw.Sysctl("net.ipv4.neigh.p0.delay_first_probe_time", "1")
		x.gw.Sysctl("net.ipv4.neigh.p0.retrans_time_ms", "100")
		run(t, x.gw, "ip neigh del 10.0.0.2 dev p0")
		w.until(k, 3*time.Second, "its true MAC", to("02:00:00:00:00:0a"))
		x.aLink.SetMAC(netnstest.MAC("02:00:00:00:01:0a"))
		w.until(k, 15*time.Second, "its new MAC", func(e *Entry) bool { e.Use(); return to("02:00:00:00:01:0a")(e) })
	})
}

// TestDeletedNeighbourInUseIsResolvedAgain: no packet may notice, but the kernel has to be asked.
func TestDeletedNeighbourInUseIsResolvedAgain(t *testing.T) {
	x := newSite(t)
	w := watch(t, x.gw, Options{})
	k := Key{Dst: ip("10.0.0.2")}
	w.resolved(k)
	run(t, x.gw, "ip neigh del 10.0.0.2 dev p0")
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		all, err := x.gw.Netlink().NeighList(x.p0.Index, unix.AF_INET)
		if err != nil {
			t.Fatal(err)
		}
		if len(all) == 1 && all[0].State&unix.NUD_REACHABLE != 0 {
			break
		}
		if time.Since(start) > time.Second {
			t.Fatalf("the kernel has %v", all)
		}
	}
	w.resolved(k)
}

func TestLinkGoesDownAndComesBack(t *testing.T) {
	x := newSite(t)
	run(t, x.gw, "ip route add 198.51.100.0/24 via 10.0.0.2")
	w := watch(t, x.gw, Options{})
	onLink, routed := Key{Dst: ip("10.0.0.2")}, Key{Dst: ip("198.51.100.1")}
	byPort := Key{ip("10.0.0.2"), uint32(x.p0.Index)}
	keys := []Key{onLink, routed, byPort}
	all := func(what string, state State) {
		for _, k := range keys {
			w.until(k, 5*time.Second, what, func(e *Entry) bool { return e.State == state })
		}
	}
	all("resolved", Resolved)
	x.aLink.SetUp(false) // p0 loses its carrier
	all("unreachable without a carrier", Unreachable)
	if l := w.Links().LinkByName("p0"); l.Up {
		t.Error("p0 is up without a carrier")
	}
	x.aLink.SetUp(true)
	all("resolved with the carrier", Resolved)
	x.p0.SetUp(false)
	all("unreachable when p0 is down", Unreachable)
	x.p0.SetUp(true)
	keys = []Key{onLink, byPort} // the route went with the interface
	all("resolved when p0 is up", Resolved)
	w.until(routed, time.Second, "unreachable, its route is gone", func(e *Entry) bool { return e.State == Unreachable })
	run(t, x.gw, "ip route add 198.51.100.0/24 via 10.0.0.2")
	w.resolved(routed)
	x.p0.Delete()
	all("unreachable when p0 is gone", Unreachable)
	w.untilLinks("p0 is gone", func(l *Links) bool { return l.LinkByName("p0") == nil })
}

func TestRouteChangesAreFollowed(t *testing.T) {
	x := newSite(t)
	w := watch(t, x.gw, Options{})
	k4, k6 := Key{Dst: ip("198.51.100.1")}, Key{Dst: ip("2001:db8::1")}
	via := func(a string) func(*Entry) bool {
		return func(e *Entry) bool { return e.State == Resolved && e.NextHop == ip(a) }
	}
	none := func(e *Entry) bool { return e.State == Unreachable }
	w.until(k4, time.Second, "no route", none)
	w.until(k6, time.Second, "no route", none)
	for _, step := range []struct {
		name, command string
		key           Key
		what          string
		ok            func(*Entry) bool
	}{
		{"a default route appears", "ip route add default via 10.0.0.2", k4, "10.0.0.2", via("10.0.0.2")},
		{"an IPv6 default route appears", "ip route add default via fd00::2", k6, "fd00::2", via("fd00::2")},
		{"a more specific one wins", "ip route add 198.51.100.0/24 via 10.0.1.2", k4, "10.0.1.2", via("10.0.1.2")},
		{"a route is replaced", "ip route replace 198.51.100.0/24 via 10.0.0.2", k4, "10.0.0.2", via("10.0.0.2")},
		{"an IPv6 route is replaced", "ip route replace default via fd00:1::2", k6, "fd00:1::2", via("fd00:1::2")},
		{"a route's MTU changes", "ip route replace 198.51.100.0/24 via 10.0.0.2 mtu 1300", k4, "MTU 1300", func(e *Entry) bool { return e.MTU == 1300 }},
		{"a rule sends it elsewhere", "ip rule add to 198.51.100.1 blackhole", k4, "a blackhole", none},
		{"the rule goes", "ip rule del to 198.51.100.1 blackhole", k4, "10.0.0.2", via("10.0.0.2")},
		{"a route is deleted", "ip route del 198.51.100.0/24", k4, "MTU 1500", func(e *Entry) bool { return e.State == Resolved && e.MTU == 1500 }},
		{"no route is left", "ip route del default", k4, "no route", none},
	} {
		t.Run(step.name, func(t *testing.T) {
			w.t = t
			run(t, x.gw, step.command)
			w.until(step.key, time.Second, step.what, step.ok)
		})
	}
}

// TestOverlappingSubnets: two tenants chose the same subnet, and each has a host with the other port's address.
func TestOverlappingSubnets(t *testing.T) {
	s := netnstest.New(t)
	gw, red, blue := s.NewHost("gw"), s.NewHost("red"), s.NewHost("blue")
	p0, _ := s.Connect(netnstest.End{Host: gw, Name: "p0", Addrs: netnstest.Prefixes("10.0.0.1/24", "fd00::1/64")},
		netnstest.End{Host: red, Name: "eth0", MAC: netnstest.MAC("02:00:00:00:00:01"), Addrs: netnstest.Prefixes("10.0.0.9/24", "10.0.0.2/24", "fd00::9/64", "fd00::2/64")})
	p1, _ := s.Connect(netnstest.End{Host: gw, Name: "p1", Addrs: netnstest.Prefixes("10.0.0.2/24", "fd00::2/64")},
		netnstest.End{Host: blue, Name: "eth0", MAC: netnstest.MAC("02:00:00:00:00:02"), Addrs: netnstest.Prefixes("10.0.0.9/24", "10.0.0.1/24", "fd00::9/64", "fd00::1/64")})
	w := watch(t, gw, Options{})
	for _, c := range []struct {
		name string
		dst  string
		port *netnstest.Link
		mac  string
	}{
		{"IPv4 at the first port", "10.0.0.9", p0, "02:00:00:00:00:01"},
		{"IPv4 at the second port", "10.0.0.9", p1, "02:00:00:00:00:02"},
		{"IPv6 at the first port", "fd00::9", p0, "02:00:00:00:00:01"},
		{"IPv6 at the second port", "fd00::9", p1, "02:00:00:00:00:02"},
		{"an IPv4 host with the address of the second port", "10.0.0.2", p0, "02:00:00:00:00:01"},
		{"an IPv4 host with the address of the first port", "10.0.0.1", p1, "02:00:00:00:00:02"},
		{"an IPv6 host with the address of the second port", "fd00::2", p0, "02:00:00:00:00:01"},
		{"an IPv6 host with the address of the first port", "fd00::1", p1, "02:00:00:00:00:02"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			e := w.resolved(Key{ip(c.dst), uint32(c.port.Index)})
			if e.DstMAC != mac(c.mac) || e.Egress != uint32(c.port.Index) {
				t.Errorf("got %v", e)
			}
		})
	}
	if e := w.until(Key{ip("10.0.0.1"), uint32(p0.Index)}, time.Second, "local", func(*Entry) bool { return true }); e.State != Local {
		t.Errorf("the port's own address: %v", e)
	}
}

func TestLinksShowWhatChanges(t *testing.T) {
	x := newSite(t)
	w := watch(t, x.gw, Options{})
	// The kernel tells of a carrier with a delay (linkwatch), which is not over when the test begins.
	w.untilLinks("p0 up", func(l *Links) bool { return l.LinkByName("p0").Up })
	l := w.Links().LinkByName("p0")
	want := &Link{
		Ifindex: uint32(x.p0.Index), Name: "p0", MAC: mac("02:00:00:00:00:f0"), MTU: 1500, Up: true, RxQueues: 1, Kind: "veth",
		Driver: "veth", Virtual: true, Addrs: l.Addrs,
	}
	if !l.same(want) || !l.Has(ip("10.0.0.1")) || !l.Has(ip("fd00::1")) || l != w.Links().LinkByIndex(l.Ifindex) {
		t.Errorf("p0 is %+v", *l)
	}
	if n := w.Links().Len(); n != 3 || len(slices.Collect(w.Links().All())) != n {
		t.Errorf("%d links, want lo, p0 and p1", n)
	}
	lo := w.Links().LinkByName("lo")
	if lo == nil || !lo.Up || !lo.NoLink || !lo.Virtual {
		t.Errorf("lo is %+v", lo)
	}
	has := func(a string) func(*Links) bool {
		return func(l *Links) bool { p := l.LinkByName("p0"); return p != nil && p.Has(ip(a)) }
	}
	x.p0.AddAddr(netip.MustParsePrefix("10.0.7.1/24"))
	w.untilLinks("the new address", has("10.0.7.1"))
	if e := w.until(Key{Dst: ip("10.0.7.1")}, time.Second, "local", func(*Entry) bool { return true }); e.State != Local {
		t.Errorf("the new address: %v", e)
	}
	run(t, x.gw, "ip addr del 10.0.7.1/24 dev p0")
	w.untilLinks("that the address is gone", func(l *Links) bool { return !has("10.0.7.1")(l) })
	w.until(Key{Dst: ip("10.0.7.1")}, time.Second, "no route", func(e *Entry) bool { return e.State == Unreachable })

	k := Key{Dst: ip("10.0.0.2")}
	w.resolved(k)
	x.p0.SetMTU(1300)
	w.untilLinks("the MTU", func(l *Links) bool { return l.LinkByName("p0").MTU == 1300 })
	w.until(k, time.Second, "the link's new MTU", func(e *Entry) bool { return e.MTU == 1300 })
	x.p0.SetMAC(netnstest.MAC("02:00:00:00:01:f0"))
	w.until(k, 3*time.Second, "the link's new MAC", func(e *Entry) bool { return e.SrcMAC == mac("02:00:00:00:01:f0") })

	bridge := x.gw.NewBridge("br0")
	w.untilLinks("a bridge", func(l *Links) bool {
		b := l.LinkByIndex(uint32(bridge.Index))
		return b != nil && b.Kind == "bridge" && b.Virtual && b.Driver == "bridge"
	})
	bridge.Delete()
	w.untilLinks("no bridge", func(l *Links) bool { return l.LinkByName("br0") == nil })

	s := x.scope
	s.Connect(netnstest.End{Host: x.gw, Name: "multi", Queues: 2}, netnstest.End{Host: x.a, Name: "multi", Queues: 2})
	w.untilLinks("two queues", func(l *Links) bool { m := l.LinkByName("multi"); return m != nil && m.RxQueues == 2 })
}

// TestOnlyQueuesInUseCount: the driver has four, the administrator wants two.
func TestOnlyQueuesInUseCount(t *testing.T) {
	testenv.RequireTool(t, "ethtool")
	s := netnstest.New(t)
	gw, a := s.NewHost("gw"), s.NewHost("a")
	s.Connect(netnstest.End{Host: gw, Name: "p0", Queues: 4}, netnstest.End{Host: a, Name: "eth0", Queues: 4})
	run(t, gw, "ethtool -L p0 rx 2")
	w := watch(t, gw, Options{})
	if l := w.Links().LinkByName("p0"); l.RxQueues != 2 {
		t.Errorf("%d queues, want 2", l.RxQueues)
	}
}

func TestHostsBehindABridge(t *testing.T) {
	s := netnstest.New(t)
	gw, sw := s.NewHost("gw"), s.NewSwitch("sw")
	sw.Plug(netnstest.End{Host: gw, Name: "p0", Addrs: netnstest.Prefixes("10.0.0.1/24", "fd00::1/64")})
	w := watch(t, gw, Options{})
	for i := range 4 {
		h := s.NewHost(fmt.Sprint("h", i))
		v4, v6 := fmt.Sprintf("10.0.0.%d", 10+i), fmt.Sprintf("fd00::%d", 10+i)
		l := sw.Plug(netnstest.End{Host: h, Name: "eth0", Addrs: netnstest.Prefixes(v4+"/24", v6+"/64")})
		for _, a := range []string{v4, v6} {
			if e := w.resolved(Key{Dst: ip(a)}); e.DstMAC != [6]byte(l.MAC) {
				t.Errorf("got %v, the host has %v", e, l.MAC)
			}
		}
	}
}

func TestPacketsLeaveATunWithoutEthernet(t *testing.T) {
	s := netnstest.New(t)
	gw := s.NewHost("gw")
	tun := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun0"}, Mode: netlink.TUNTAP_MODE_TUN, Flags: unix.IFF_NO_PI, Queues: 1}
	if err := gw.Do(func() error {
		if err := netlink.LinkAdd(tun); err != nil {
			return err
		}
		return netlink.LinkSetUp(tun)
	}); err != nil {
		t.Fatal(err)
	}
	for _, f := range tun.Fds {
		t.Cleanup(func() { f.Close() }) // a tun that nobody holds open has no carrier
	}
	run(t, gw, "ip addr add 10.9.0.1/24 dev tun0")
	run(t, gw, "ip addr add fd09::1/64 dev tun0 nodad")
	w := watch(t, gw, Options{})
	for _, a := range []string{"10.9.0.2", "fd09::2"} {
		e := w.resolved(Key{Dst: ip(a)})
		if !e.NoLink || e.DstMAC != [6]byte{} || e.SrcMAC != [6]byte{} || e.NextHop != ip(a) || e.MTU != 1500 {
			t.Errorf("got %v, no link header: %v, MTU %d", e, e.NoLink, e.MTU)
		}
	}
	if l := w.Links().LinkByName("tun0"); l.Kind != "tun" || !l.Virtual || !l.NoLink || !l.NoARP || l.Driver != "tun" {
		t.Errorf("tun0 is %+v", *l)
	}
}
