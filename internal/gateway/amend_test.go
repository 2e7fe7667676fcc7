package gateway

import (
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

// A row of amendments must lead where compiling everything leads.
func TestAmendingIsTheSameAsCompiling(t *testing.T) {
	cfg, refs := bgpSite(t, "")
	there := links("lo", "eth0", "eth1")
	p, err := compile(cfg, there, refs, nil)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	learned := routesByVPC{"default": {}}
	for step := range 300 {
		var list []routing.Change
		for range rng.IntN(5) {
			prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(rng.IntN(20)), 0}), 24)
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
		want, err := compile(cfg, there, refs, learned.taken)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := routesOf(p), routesOf(want); !maps.Equal(got, want) {
			t.Fatalf("step %d: amended %v, compiled %v", step, got, want)
		}
	}
}

// With a default route at a peer, the program must pass what the site has: of prefixes inside one another the outermost.
func TestTheProgramKnowsOfLearnedPrefixesOnlyWhereItMust(t *testing.T) {
	learned := routesByVPC{"default": {}}
	for _, p := range []string{"10.1.0.0/16", "10.1.1.0/24", "10.3.0.0/24", "10.9.1.0/24"} {
		learned["default"][netip.MustParsePrefix(p)] = []routing.NextHop{router(1)}
	}
	for more, want := range map[string][]xdp.Prefix{
		"":              prefixes(0, "10.9.0.0/16"),
		", 0.0.0.0/0":   prefixes(0, "10.9.0.0/16", "10.1.0.0/16", "10.3.0.0/24"),
		", 10.1.0.0/20": prefixes(0, "10.9.0.0/16", "10.1.1.0/24"),
	} {
		cfg, refs := bgpSite(t, more)
		p, err := compile(cfg, links("lo", "eth0", "eth1"), refs, learned.taken)
		if err != nil {
			t.Fatal(err)
		}
		order := func(a, b xdp.Prefix) int { return a.Prefix.Compare(b.Prefix) }
		slices.SortFunc(p.xdp.Site, order)
		slices.SortFunc(want, order)
		if !slices.Equal(p.xdp.Site, want) {
			t.Errorf("with %q: %v, want %v", more, p.xdp.Site, want)
		}
		change := map[string][]routing.Change{"default": {{Prefix: netip.MustParsePrefix("10.1.2.0/24"), NextHops: []routing.NextHop{router(1)}}}}
		if a := amended(p, &compiler{cfg: cfg, links: links("lo", "eth0", "eth1")}, change); (a == nil) != (more != "") {
			t.Errorf("with %q: amended is %v", more, a)
		}
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
	cfg, refs := bgpSite(b, "")
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
