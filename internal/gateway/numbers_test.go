package gateway

import (
	"net/netip"
	"testing"
	"time"

	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/relay"
)

// numbered is a snapshot with one VPC that has these prefixes, all at peer 0.
func numbered(t *testing.T, vni uint32, prefixes ...string) *relay.Snapshot {
	t.Helper()
	var routes []fib.Route
	for _, p := range prefixes {
		routes = append(routes, fib.Route{Prefix: netip.MustParsePrefix(p), NextHops: []fib.NextHop{{Kind: fib.Remote}}})
	}
	table, err := fib.New(routes)
	if err != nil {
		t.Fatal(err)
	}
	return &relay.Snapshot{VPCs: []relay.VPC{{VNI: vni, Routes: table}}}
}

func counterOf(s *relay.Snapshot, prefix string) uint32 {
	return s.VPCs[0].Routes.Exact(netip.MustParsePrefix(prefix)).Counter
}

func TestARouteKeepsItsCounter(t *testing.T) {
	n, now := newRouteNumbers(), time.Now()
	none := func(uint32) (c relay.RouteCounters) { t.Fatal("no number changed hands"); return c }
	first := numbered(t, 1, "10.1.0.0/16", "10.2.0.0/16", "fd10::/32")
	n.assign(first, now, none)
	four, six := counterOf(first, "10.2.0.0/16"), counterOf(first, "fd10::/32")
	if four == 0 || six == 0 || four == six {
		t.Fatalf("counters %d and %d", four, six)
	}
	for _, s := range []*relay.Snapshot{
		numbered(t, 1, "10.2.0.0/16"), // another one before it is gone
		numbered(t, 1, "10.0.0.0/16", "10.2.0.0/16", "fd10::/32"),
	} {
		now = now.Add(time.Second)
		n.assign(s, now, none)
		if got := counterOf(s, "10.2.0.0/16"); got != four {
			t.Errorf("counter %d became %d", four, got)
		}
	}
	s := numbered(t, 2, "10.2.0.0/16")
	n.assign(s, now, none)
	if got := counterOf(s, "10.2.0.0/16"); got == four {
		t.Error("the same prefix of two VPCs has one counter")
	}
}

func TestACounterThatChangesHandsStartsAtZero(t *testing.T) {
	n, now := newRouteNumbers(), time.Now()
	s := numbered(t, 1, "10.1.0.0/16")
	n.assign(s, now, nil)
	old := counterOf(s, "10.1.0.0/16")
	more := uint64(0)
	counted := func(number uint32) relay.RouteCounters {
		if number != old {
			t.Errorf("counter %d is asked for, want %d", number, old)
		}
		return relay.RouteCounters{ToPackets: 7 + more, ToBytes: 700}
	}
	n.assign(numbered(t, 1), now, counted) // gone
	s = numbered(t, 1, "10.9.0.0/16")
	n.assign(s, now.Add(numberGrace/2), counted)
	if counterOf(s, "10.9.0.0/16") == old {
		t.Fatal("the number was given away at once")
	}
	n.assign(s, now.Add(2*numberGrace), counted) // the grace is over
	s = numbered(t, 1, "10.9.0.0/16", "10.8.0.0/16")
	n.assign(s, now.Add(2*numberGrace), counted)
	if counterOf(s, "10.8.0.0/16") != old {
		t.Fatal("the number is lost for good")
	}
	more++
	got := routeCounters{total: counted, bases: n.bases()}.of(0, s.VPCs[0].Routes.Exact(netip.MustParsePrefix("10.8.0.0/16")))
	if want := (relay.RouteCounters{ToPackets: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// A snapshot that cannot be put into force costs no numbers, however often it is tried.
func TestASnapshotThatIsRefusedCostsNoCounters(t *testing.T) {
	n, now := newRouteNumbers(), time.Now()
	none := func(uint32) (c relay.RouteCounters) { t.Error("a number changed hands"); return c }
	first := numbered(t, 1, "10.1.0.0/16", "10.2.0.0/16")
	n.assign(first, now, none)
	want := counterOf(first, "10.2.0.0/16")
	for range 5 {
		n.assign(numbered(t, 1, "10.1.0.0/16", "10.3.0.0/16"), now, none)
		n.assign(first, now, none)
	}
	if got := counterOf(first, "10.2.0.0/16"); got != want || len(n.gone) != 1 || n.next != 4 {
		t.Errorf("counter %d became %d; %v are kept for those that are gone, the next is %d", want, got, n.gone, n.next)
	}
}
