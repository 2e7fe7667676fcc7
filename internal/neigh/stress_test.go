package neigh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluicegw/sluice/internal/netnstest"
	"golang.org/x/sys/unix"
)

// batch gives many commands to one ip.
func batch(t *testing.T, h *netnstest.Host, commands ...string) {
	t.Helper()
	if out, err := tryBatch(t, h, commands...); err != nil {
		t.Fatalf("%d ip commands in %s: %v: %.300s", len(commands), h.Name(), err, out)
	}
}

// tryBatch goes on after a command that fails.
func tryBatch(t *testing.T, h *netnstest.Host, commands ...string) ([]byte, error) {
	c := h.Command(t.Context(), "ip", "-force", "-batch", "-")
	c.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	return c.CombinedOutput()
}

// TestFiveThousandEntries: as many destinations behind a gateway, and as many neighbours of their own. The neighbours are
// permanent because the kernel's table holds 1024 others (gc_thresh3 of the whole machine, which is not ours to change).
func TestFiveThousandEntries(t *testing.T) {
	const n = 5000
	s := netnstest.New(t)
	gw, a := s.NewHost("gw"), s.NewHost("a")
	p0, _ := s.Connect(netnstest.End{Host: gw, Name: "p0", Addrs: netnstest.Prefixes("10.0.0.1/16")},
		netnstest.End{Host: a, Name: "eth0", MAC: netnstest.MAC("02:00:00:00:00:0a"), Addrs: netnstest.Prefixes("10.0.0.2/16")})
	run(t, gw, "ip route add 172.16.0.0/16 via 10.0.0.2")
	var commands []string
	var behind, onLink []Key
	for i := range n {
		behind = append(behind, Key{Dst: netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)})})
		k := Key{Dst: netip.AddrFrom4([4]byte{10, 0, 100 + byte(i>>8), byte(i)}), Ifindex: uint32(p0.Index)}
		onLink = append(onLink, k)
		commands = append(commands, fmt.Sprintf("neigh add %v lladdr 02:00:00:01:%02x:%02x dev p0 nud permanent", k.Dst, i>>8, i&255))
	}
	var published atomic.Int64
	w := watch(t, gw, Options{OnChange: func() { published.Add(1) }})
	resolve := func(keys []Key) {
		start, published0 := time.Now(), published.Load()
		deadline := time.After(20 * time.Second)
		for done := 0; done < len(keys); {
			table := w.Table()
			for done = 0; done < len(keys); done++ {
				if e := table.Lookup(keys[done]); e == nil || e.State != Resolved {
					break
				}
			}
			for _, k := range keys[done:] {
				if table.Lookup(k) == nil {
					w.Resolve(k)
				}
			}
			if done == len(keys) {
				break
			}
			select {
			case <-w.changed:
			case <-deadline:
				t.Fatalf("%v is %v", keys[done], table.Lookup(keys[done]))
			}
		}
		t.Logf("%d resolved in %v with %d tables", len(keys), time.Since(start).Round(time.Millisecond), published.Load()-published0)
	}
	resolve(behind)
	batch(t, gw, commands...)
	resolve(onLink)
	table := w.Table()
	for i, k := range onLink {
		if e, want := table.Lookup(k), [6]byte{2, 0, 0, 1, byte(i >> 8), byte(i)}; e.DstMAC != want {
			t.Fatalf("%v: got %x, want %x", k, e.DstMAC, want)
		}
	}
	for _, k := range behind {
		if e := table.Lookup(k); e.NextHop != ip("10.0.0.2") || e.DstMAC != mac("02:00:00:00:00:0a") {
			t.Fatalf("got %v", e)
		}
	}
	if table.Len() != 2*n {
		t.Errorf("%d entries, want %d", table.Len(), 2*n)
	}
	// One change of the gateway's route is a change of 5000 entries.
	start := time.Now()
	run(t, gw, "ip route replace 172.16.0.0/16 via 10.0.100.7")
	moved := mac("02:00:00:01:00:07")
	for _, k := range behind {
		w.until(k, 5*time.Second, "through the new gateway", func(e *Entry) bool { return e.DstMAC == moved })
	}
	t.Logf("%d rerouted in %v", n, time.Since(start).Round(time.Millisecond))
}

// churn changes neighbours, routes, addresses and links until ctx ends, and leaves the host as it was.
func churn(t *testing.T, ctx context.Context, x *site) {
	for i := 0; ctx.Err() == nil; i++ {
		// Some of it fails as the rest has it: no route through a port that has no address.
		_, _ = tryBatch(t, x.gw,
			fmt.Sprintf("neigh replace 10.0.0.50 lladdr 02:00:00:00:50:%02x dev p0 nud reachable", i&255),
			fmt.Sprintf("route replace 198.51.100.0/24 via 10.0.%d.2", i&1),
			fmt.Sprintf("route replace 2001:db8::/32 via fd00:%d::2", i&1),
			fmt.Sprintf("addr add 10.3.%d.1/24 dev p1", i&255),
			fmt.Sprintf("link set p1 mtu %d", 1300+i%100),
			fmt.Sprintf("addr del 10.3.%d.1/24 dev p1", i&255),
			"neigh del 10.0.0.2 dev p0",
			"neigh del fd00::2 dev p0",
		)
		if i%8 == 3 {
			batch(t, x.gw, "link set p1 down", "link set p1 up", "addr replace fd00:1::1/64 dev p1 nodad")
		}
	}
	batch(t, x.gw,
		"link set p1 mtu 1500", "route replace 198.51.100.0/24 via 10.0.1.2", "route replace 2001:db8::/32 via fd00:1::2",
		"neigh replace 10.0.0.50 lladdr 02:00:00:00:50:ff dev p0 nud permanent",
	)
}

// checkSettled: after all changes the table says what the host's configuration says.
func checkSettled(t *testing.T, w *watched) {
	t.Helper()
	for _, c := range []struct{ dst, hop, mac string }{
		{"10.0.0.50", "10.0.0.50", "02:00:00:00:50:ff"},
		{"10.0.0.2", "10.0.0.2", "02:00:00:00:00:0a"},
		{"fd00::2", "fd00::2", "02:00:00:00:00:0a"},
		{"198.51.100.1", "10.0.1.2", "02:00:00:00:00:0b"},
		{"2001:db8::1", "fd00:1::2", "02:00:00:00:00:0b"},
	} {
		w.until(Key{Dst: ip(c.dst)}, 10*time.Second, c.mac, func(e *Entry) bool {
			return e.State == Resolved && e.NextHop == ip(c.hop) && e.DstMAC == mac(c.mac) && e.MTU == 1500
		})
	}
	w.untilLinks("p1 as it was", func(l *Links) bool { p := l.LinkByName("p1"); return p.Up && p.MTU == 1500 && !p.Has(ip("10.3.0.1")) })
}

func TestReadersDuringChurn(t *testing.T) {
	x := newSite(t)
	w := watch(t, x.gw, Options{})
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	var readers sync.WaitGroup
	var reads, resolved atomic.Int64
	for range 2 {
		readers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				table, links := w.Table(), w.Links()
				for _, a := range []string{"10.0.0.50", "10.0.0.2", "fd00::2", "198.51.100.1", "2001:db8::1"} {
					k := Key{Dst: ip(a)}
					e := table.Lookup(k)
					switch {
					case e == nil:
						w.Resolve(k)
					case e.State == Resolved:
						resolved.Add(1)
						e.Use()
						if l := links.LinkByIndex(e.Egress); e.Key != k || l != nil && l.NoLink || e.DstMAC == [6]byte{} || !e.NextHop.IsValid() {
							t.Errorf("%v: an entry that cannot be: %+v", k, e)
							return
						}
					default:
						w.Resolve(k)
					}
					reads.Add(1)
				}
				time.Sleep(50 * time.Microsecond)
			}
		})
	}
	churn(t, ctx, x)
	readers.Wait()
	if resolved.Load() == 0 {
		t.Error("nothing was resolved during the churn")
	}
	t.Logf("%d reads, %d of them resolved", reads.Load(), resolved.Load())
	checkSettled(t, w)
}

// TestOverflowLosesNothing: the subscription's buffer is tiny and Run is held up, so that the kernel drops events.
func TestOverflowLosesNothing(t *testing.T) {
	x := newSite(t)
	var slow atomic.Bool
	overflows := new(counting)
	w := &watched{t: t, changed: make(chan struct{}, 1)}
	o := Options{
		buffer: 4096, Logger: slog.New(overflows),
		OnChange: func() {
			if slow.Load() {
				time.Sleep(200 * time.Millisecond)
			}
			select {
			case w.changed <- struct{}{}:
			default:
			}
		},
	}
	if err := x.gw.Do(func() (err error) { w.Kernel, err = Watch(o); return err }); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(context.Background()) }()
	w.resolved(Key{Dst: ip("10.0.0.2")})
	slow.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	churn(t, ctx, x)
	slow.Store(false)
	checkSettled(t, w)
	if overflows.n.Load() == 0 {
		t.Error("there was no overflow")
	}
	if err := w.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("Run: %v, want %v", err, ErrClosed)
	}
}

// counting is a log handler that counts overflows.
type counting struct{ n atomic.Int64 }

func (c *counting) Enabled(context.Context, slog.Level) bool { return true }
func (c *counting) WithAttrs([]slog.Attr) slog.Handler       { return c }
func (c *counting) WithGroup(string) slog.Handler            { return c }
func (c *counting) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "overflow") {
		c.n.Add(1)
	}
	return nil
}

// TestBrokenSocketsAreReopened, in the namespace of Watch, which is not that of Run.
func TestBrokenSocketsAreReopened(t *testing.T) {
	x := newSite(t)
	var k *Kernel
	if err := x.gw.Do(func() (err error) {
		k, err = Watch(Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	first := k.netlink // before Run, which owns it then
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	w := &watched{Kernel: k, t: t, changed: make(chan struct{})}
	w.resolved(Key{Dst: ip("10.0.0.2")})
	first.events.Close()
	// What changes while nobody listens shows as well.
	x.p0.AddAddr(netip.MustParsePrefix("10.0.9.1/24"))
	run(t, x.gw, "ip route add 198.51.100.0/24 via 10.0.1.2")
	w.resolved(Key{Dst: ip("198.51.100.1")})
	for start := time.Now(); !k.Links().LinkByName("p0").Has(ip("10.0.9.1")); time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > 3*time.Second {
			t.Fatal("the address that was added meanwhile does not show")
		}
	}
	run(t, x.gw, "ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:cc dev p0 nud reachable")
	w.until(Key{Dst: ip("10.0.0.2")}, time.Second, "the new MAC", func(e *Entry) bool { return e.DstMAC == mac("02:00:00:00:00:cc") })
}

func TestFullKernelTableNamesItsLimit(t *testing.T) {
	h := hopKey{1, ip("10.0.0.2")}
	for addr, want := range map[string]string{"10.0.0.2": "net.ipv4.neigh.default.gc_thresh3", "fd00::2": "net.ipv6.neigh.default.gc_thresh3"} {
		h.addr = ip(addr)
		if err := probeError(h, unix.ENOBUFS); !strings.Contains(err.Error(), want) || !errors.Is(err, unix.ENOBUFS) {
			t.Errorf("%v", err)
		}
	}
}

func TestCloseWithoutRun(t *testing.T) {
	k, err := Watch(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if lo := k.Links().LinkByName("lo"); lo == nil {
		t.Error("there is no lo")
	}
	for range 2 {
		if err := k.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if err := k.Run(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Run after Close: %v", err)
	}
}

func TestRunTwice(t *testing.T) {
	k, err := Watch(Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := k.Run(ctx); err != nil {
		t.Errorf("Run with a context that is done: %v", err)
	}
	if err := k.Run(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("second Run: %v", err)
	}
	if err := k.Close(); err != nil {
		t.Errorf("Close after Run: %v", err)
	}
}

func TestOptionsAreValidated(t *testing.T) {
	for _, o := range []Options{{MaxEntries: -1}, {IdleTimeout: -time.Second}} {
		if k, err := Watch(o); err == nil || k != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
