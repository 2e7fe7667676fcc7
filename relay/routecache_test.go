package relay

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/sluicegw/sluice/internal/fib"
)

func TestTheRouteCacheSaysWhatTheTablesSay(t *testing.T) {
	g := newPair(t, gatewayOptions{}).a
	w := g.relay.workers[0]
	random := rand.New(rand.NewPCG(1, 2))
	address := func() netip.Addr { // few enough to meet again, more than the cache has slots
		a, b := byte(random.IntN(128)), byte(random.IntN(128))
		if random.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{30, 0, a, b})
		}
		return netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x77, 14: a, 15: b})
	}
	known := 0
	for range 4 { // tables that follow each other
		for v := range g.snap.VPCs {
			routes := make(map[netip.Prefix]fib.Route)
			for range 200 {
				a := address()
				prefix := netip.PrefixFrom(a, a.BitLen()-random.IntN(6)).Masked()
				routes[prefix] = fib.Route{Prefix: prefix, NextHops: []fib.NextHop{{Kind: fib.Remote, ID: 0}}}
			}
			var list []fib.Route
			for _, r := range routes {
				list = append(list, r)
			}
			var err error
			g.snap.VPCs[v].Routes, err = fib.New(list)
			check(t, err)
		}
		check(t, g.relay.Update(g.snap))
		w.begin()
		for range 50_000 {
			v, a := random.IntN(len(g.snap.VPCs)), address()
			want := g.snap.VPCs[v].Routes.Lookup(a)
			if got := w.routes.route(w.state.vpcs, int32(v), a.AsSlice()); got != want {
				t.Fatalf("%v in vpc %d: %v, the table says %v", a, v, got, want)
			}
			if want != nil {
				known++
			}
		}
	}
	if known < 1000 {
		t.Errorf("only %d addresses had a route", known)
	}
}
