package gateway

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/relay/wireguard"
	"github.com/sluicegw/sluice/routing"
	"github.com/sluicegw/sluice/xdp"
)

// bgpSite is a gateway with two routers, whose peer has 10.2.0.0/16 and, with more, other prefixes.
func bgpSite(t testing.TB, more string) (*config.Config, map[string]peerRef) {
	t.Helper()
	text := `site: oslo
gateway: oslo-1
ports: [{name: eth0}, {name: eth1}]
wireguard: {keyFile: /etc/sluice/wg.key, tunnelAddresses: [10.255.0.1]}
vpcs:
  - name: default
    attachments: [{type: routed, port: eth0, prefixes: [10.9.0.0/16]}]
bgp:
  asn: 65001
  neighbours:
    - {name: tor-1, port: eth0, address: 192.0.2.1, asn: 65101}
peers:
  - name: bergen-1
    publicKey: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
    vpcs: [{name: default, prefixes: [10.2.0.0/16` + more + `]}]
`
	cfg, err := config.Parse([]byte(text), "test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return cfg, map[string]peerRef{"bergen-1": {wireguard: new(wireguard.Peer)}}
}

func router(n int) routing.NextHop {
	return routing.NextHop{Port: "eth0", Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(n)})}
}

// routesOf says where each prefix leads, with names in place of numbers.
func routesOf(p *plan) map[string]string {
	out := make(map[string]string)
	for r := range p.snapshot.VPCs[0].Routes.All() {
		var hops []string
		for _, h := range r.NextHops {
			if h.Kind == fib.Remote {
				hops = append(hops, h.String())
			} else {
				hops = append(hops, p.snapshot.Deliveries[h.ID].Via.String()+p.deliveries[h.ID].via.String())
			}
		}
		slices.Sort(hops)
		out[r.Prefix.String()] = fmt.Sprint(hops)
	}
	return out
}

// A row of amendments must lead where compiling everything leads, and tell the program the same: also where a peer has a
// default route, and all that the site has is an exception.
func TestAmendingIsTheSameAsCompiling(t *testing.T) {
	for _, more := range []string{"", ", 0.0.0.0/0"} {
		t.Run("peer has 10.2.0.0/16"+more, func(t *testing.T) { amendAndCompile(t, more) })
	}
}

func amendAndCompile(t *testing.T, more string) {
	cfg, refs := bgpSite(t, more)
	there := links("lo", "eth0", "eth1")
	p, err := compile(cfg, there, refs, nil)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	learned := routesByVPC{"default": {}}
	told := setOfPrefixes(p.program().Site)
	for step := range 300 {
		var list []routing.Change
		for range rng.IntN(5) {
			prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(rng.IntN(20)), 0}), 24-4*rng.IntN(3)).Masked()
			if rng.IntN(10) == 0 {
				prefix = netip.MustParsePrefix("10.9.0.0/16") // the configuration's
			}
			if slices.ContainsFunc(list, func(c routing.Change) bool { return c.Prefix == prefix }) {
				continue
			}
			change := routing.Change{Prefix: prefix}
			for n := range rng.IntN(4) {
				change.NextHops = append(change.NextHops, router(1+n))
			}
			list = append(list, change)
			learned["default"][prefix] = change.NextHops
			if len(change.NextHops) == 0 {
				delete(learned["default"], prefix)
			}
		}
		a := amended(p, &compiler{cfg: cfg, links: there}, map[string][]routing.Change{"default": list})
		if a == nil {
			t.Fatalf("step %d: everything was to be compiled", step)
		}
		snapshot := *a.plan.snapshot
		snapshot.VPCs = slices.Clone(snapshot.VPCs)
		snapshot.VPCs[0].Routes = a.changes[0].Routes
		a.plan.snapshot = &snapshot
		p = &a.plan
		for _, added := range a.carving.add {
			told[added.Prefix.String()] = true
		}
		for _, gone := range a.carving.del {
			delete(told, gone.Prefix.String())
		}
		want, err := compile(cfg, there, refs, learned.taken)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := routesOf(p), routesOf(want); !maps.Equal(got, want) {
			t.Fatalf("step %d: amended %v, compiled %v", step, got, want)
		}
		if got, want := setOfPrefixes(p.program().Site), setOfPrefixes(want.program().Site); !maps.Equal(got, want) || !maps.Equal(told, want) {
			t.Fatalf("step %d: the program knows %v by the plan, was told %v, and should know %v", step, got, told, want)
		}
	}
}

func setOfPrefixes(list []xdp.Prefix) map[string]bool {
	out := make(map[string]bool)
	for _, p := range list {
		out[p.Prefix.String()] = true
	}
	return out
}

// With a default route at a peer, the program must pass what the site has: of prefixes inside one another the outermost.
func TestTheProgramKnowsOfLearnedPrefixesOnlyWhereItMust(t *testing.T) {
	learned := routesByVPC{"default": {}}
	for _, p := range []string{"10.1.0.0/16", "10.1.1.0/24", "10.3.0.0/24", "10.9.1.0/24"} {
		learned["default"][netip.MustParsePrefix(p)] = []routing.NextHop{router(1)}
	}
	there := links("lo", "eth0", "eth1")
	for more, want := range map[string]struct{ site, more []xdp.Prefix }{
		"":              {prefixes(0, "10.9.0.0/16"), nil},
		", 0.0.0.0/0":   {prefixes(0, "10.9.0.0/16", "10.1.0.0/16", "10.3.0.0/24"), nil},
		", 10.1.0.0/20": {prefixes(0, "10.9.0.0/16", "10.1.1.0/24"), prefixes(0, "10.1.2.0/24")},
	} {
		cfg, refs := bgpSite(t, more)
		p, err := compile(cfg, there, refs, learned.taken)
		if err != nil {
			t.Fatal(err)
		}
		order := func(a, b xdp.Prefix) int { return a.Prefix.Compare(b.Prefix) }
		site := p.program().Site
		slices.SortFunc(site, order)
		slices.SortFunc(want.site, order)
		if !slices.Equal(site, want.site) {
			t.Errorf("with %q: %v, want %v", more, site, want.site)
		}
		amend := func(prefix string) *amendment {
			change := routing.Change{Prefix: netip.MustParsePrefix(prefix), NextHops: []routing.NextHop{router(1)}}
			return amended(p, &compiler{cfg: cfg, links: there}, map[string][]routing.Change{"default": {change}})
		}
		if a := amend("10.1.2.0/24"); a == nil || !slices.Equal(a.carving.add, want.more) || len(a.carving.del) > 0 {
			t.Errorf("with %q: amended is %+v, want %v", more, a, want.more)
		}
		if a := amend("10.1.0.0/20"); (a == nil) != (more == ", 10.1.0.0/20") {
			t.Errorf("with %q: amended for that very prefix is %+v", more, a)
		}
	}
}

// More than the program has room for is left to the relay, which knows all of it.
func TestTheProgramIsToldOfNoMoreThanItHasRoomFor(t *testing.T) {
	cfg, refs := bgpSite(t, ", 0.0.0.0/0")
	learned := routesByVPC{"default": manyRoutes()}
	there := links("lo", "eth0", "eth1")
	p, err := compile(cfg, there, refs, learned.taken)
	if err != nil {
		t.Fatal(err)
	}
	if state := p.program(); state.Validate() != nil || len(state.Site)+len(state.Remote) != xdp.MaxRoutes {
		t.Errorf("%d and %d prefixes: %v", len(state.Site), len(state.Remote), state.Validate())
	}
	list := []routing.Change{{Prefix: netip.MustParsePrefix("30.0.0.0/24"), NextHops: []routing.NextHop{router(1)}}}
	a := amended(p, &compiler{cfg: cfg, links: there}, map[string][]routing.Change{"default": list})
	if a == nil || len(a.carving.add) > 0 || a.changes[0].Routes.Exact(list[0].Prefix) == nil {
		t.Errorf("amended is %+v", a)
	}
}

// manyRoutes are 100,000 prefixes of a site behind two routers.
func manyRoutes() map[netip.Prefix][]routing.NextHop {
	out := make(map[netip.Prefix][]routing.NextHop, 100_000)
	for i := range 100_000 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{20 + byte(i>>16), byte(i >> 8), byte(i), 0}), 24)
		out[p] = []routing.NextHop{router(1), router(2)}
	}
	return out
}

func BenchmarkCompile100kLearnedRoutes(b *testing.B) {
	cfg, refs := bgpSite(b, "")
	learned := routesByVPC{"default": manyRoutes()}
	for b.Loop() {
		if _, err := compile(cfg, links("lo", "eth0", "eth1"), refs, learned.taken); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAmendOneOf100kLearnedRoutes(b *testing.B) {
	for _, more := range []string{"", ", 0.0.0.0/0"} {
		b.Run("peer="+cmp.Or(more, "/16"), func(b *testing.B) { amendOneOf100k(b, more) })
	}
}

func amendOneOf100k(b *testing.B, more string) {
	cfg, refs := bgpSite(b, more)
	there := links("lo", "eth0", "eth1")
	p, err := compile(cfg, there, refs, routesByVPC{"default": manyRoutes()}.taken)
	if err != nil {
		b.Fatal(err)
	}
	change := map[string][]routing.Change{"default": {{Prefix: netip.MustParsePrefix("20.0.5.0/24"), NextHops: []routing.NextHop{router(1)}}}}
	for b.Loop() {
		if amended(p, &compiler{cfg: cfg, links: there}, change) == nil {
			b.Fatal("everything was to be compiled")
		}
	}
}

// routesByVPC are what BGP has told of, by name of the VPC.
type routesByVPC map[string]map[netip.Prefix][]routing.NextHop

func (r routesByVPC) taken(vpc string) iter.Seq2[netip.Prefix, []routing.NextHop] {
	return maps.All(r[vpc])
}
