package gateway

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/relay/wireguard"
	"github.com/sluicegw/sluice/routing"
	"github.com/sluicegw/sluice/xdp"
)

// evpnSite is a gateway with a router and three peers. Two may announce within 10.2.0.0/16, one of them and the third
// also within 10.0.0.0/8; a fourth is spoken to in the clear.
func evpnSite(t testing.TB) (*config.Config, map[string]peerRef) {
	t.Helper()
	cfg, err := config.Parse([]byte(`site: oslo
gateway: oslo-1
ports: [{name: eth0}, {name: eth1}]
wireguard: {keyFile: /etc/sluice/wg.key, tunnelAddresses: [10.255.0.1, "fd00:255::1"], tun: {name: sluice0}}
vpcs:
  - name: default
    attachments: [{type: routed, port: eth0, prefixes: [10.9.0.0/16]}]
bgp:
  asn: 65001
  evpn: {asn: 65000, holdTime: 9s, maxPrefixes: 7}
  neighbours:
    - {name: tor-1, port: eth0, address: 192.0.2.1, asn: 65101}
peers:
  - name: bergen-1
    publicKey: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
    tunnelAddresses: [10.255.0.2, "fd00:255::2"]
    bgp: {enabled: true}
    vpcs: [{name: default, prefixes: [10.2.200.0/24], allowedPrefixes: [10.2.0.0/16, 10.0.0.0/8]}]
  - name: bergen-2
    publicKey: TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=
    tunnelAddresses: ["fd00:255::3"]
    bgp: {enabled: true}
    vpcs: [{name: default, allowedPrefixes: [10.2.0.0/16]}]
  - name: hamar-1
    publicKey: HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=
    tunnelAddresses: [10.255.0.4]
    vpcs: [{name: default, allowedPrefixes: [10.0.0.0/8]}]
  - name: lab-1
    encryption: none
    endpoint: 192.0.2.99:51821
    vpcs: [{name: default, prefixes: [10.2.100.0/24]}]
`), "test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return cfg, map[string]peerRef{
		"bergen-1": {id: 0, wireguard: new(wireguard.Peer)}, "bergen-2": {id: 1, wireguard: new(wireguard.Peer)},
		"hamar-1": {id: 2, wireguard: new(wireguard.Peer)}, "lab-1": {id: 3},
	}
}

// gatewayHop is what package routing calls a peer of evpnSite.
func gatewayHop(n int) routing.NextHop {
	return routing.NextHop{Addr: []netip.Addr{netip.MustParseAddr("10.255.0.2"), netip.MustParseAddr("fd00:255::3"), netip.MustParseAddr("10.255.0.4")}[n]}
}

// diverts says, as the program would, whether an address is another site's.
func diverts(s xdp.State, a netip.Addr) bool {
	best, remote := -1, false
	for _, p := range s.Remote {
		if p.Prefix.Contains(a) && p.Prefix.Bits() > best {
			best, remote = p.Prefix.Bits(), true
		}
	}
	for _, p := range s.Site {
		if p.Prefix.Contains(a) && p.Prefix.Bits() >= best {
			best, remote = p.Prefix.Bits(), false
		}
	}
	return remote
}

// mayBeAnnouncedInside says whether a peer has, or may announce, a longer prefix around an address than p.
func mayBeAnnouncedInside(cfg *config.Config, p netip.Prefix, a netip.Addr) bool {
	for i := range cfg.Peers {
		v := &cfg.Peers[i].VPCs[0]
		for _, other := range slices.Concat(v.Prefixes, v.AllowedPrefixes) {
			if other.Contains(a) && other.Bits() > p.Bits() {
				return true
			}
		}
	}
	return false
}

// Routes of both sides come and go in any order: a row of amendments leads where compiling everything leads, the program
// diverts what leads to peers and passes what leads to the site, and dead peers have no routes.
func TestRoutesOfGatewaysAreAmendedAndDiverted(t *testing.T) {
	cfg, refs := evpnSite(t)
	gone := refs["bergen-2"]
	gone.use = dead
	there := links("lo", "eth0", "eth1")
	rng := rand.New(rand.NewPCG(3, 4))
	for _, two := range []peerRef{refs["bergen-2"], gone} {
		refs["bergen-2"] = two
		learned := routesByVPC{"default": {}}
		p, err := compile(cfg, there, refs, learned.taken)
		if err != nil {
			t.Fatal(err)
		}
		amendments := 0
		for step := range 500 {
			prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(rng.IntN(4)), byte(rng.IntN(3)) * 100, 0}), 16+4*rng.IntN(3)).Masked()
			if rng.IntN(20) == 0 {
				prefix = netip.MustParsePrefix([]string{"10.9.0.0/16", "10.9.1.0/24", "10.2.200.0/24", "10.0.0.0/8", "11.0.0.0/16"}[rng.IntN(5)])
			}
			change := routing.Change{Prefix: prefix}
			switch rng.IntN(3) {
			case 0:
				change.NextHops = []routing.NextHop{router(1)}
			case 1:
				if prefix.Addr().As4()[0] == 10 {
					for _, n := range rng.Perm(3)[:1+rng.IntN(3)] {
						change.NextHops = append(change.NextHops, gatewayHop(n))
					}
				}
			}
			learned["default"][prefix] = change.NextHops
			if len(change.NextHops) == 0 {
				delete(learned["default"], prefix)
			}
			want, err := compile(cfg, there, refs, learned.taken)
			if err != nil {
				t.Fatal(err)
			}
			a := amended(p, &compiler{cfg: cfg, links: there}, map[string][]routing.Change{"default": {change}})
			if p = want; a != nil {
				amendments++
				snapshot := *a.plan.snapshot
				snapshot.VPCs = slices.Clone(snapshot.VPCs)
				snapshot.VPCs[0].Routes = a.changes[0].Routes
				a.plan.snapshot = &snapshot
				p = &a.plan
			}
			if got, want := routesOf(p), routesOf(want); !maps.Equal(got, want) {
				t.Fatalf("step %d, %v: amended %v, compiled %v", step, change, got, want)
			}
			if err := p.xdp.Validate(); err != nil {
				t.Fatal(err)
			}
			for range 50 {
				addr := netip.AddrFrom4([4]byte{10, byte(rng.IntN(4)), byte(rng.IntN(256)), 1})
				route, diverted := p.snapshot.VPCs[0].Routes.Lookup(addr), diverts(p.program(), addr)
				switch {
				case route == nil && !diverted:
					t.Fatalf("step %d: %s, which a peer may announce and nobody does, passes", step, addr)
				case route != nil && route.NextHops[0].Kind == fib.Remote && !diverted:
					t.Fatalf("step %d: %s leads to %v and is not diverted", step, addr, route.NextHops)
				case route != nil && route.NextHops[0].Kind == fib.Local && diverted && !mayBeAnnouncedInside(cfg, route.Prefix, addr):
					t.Fatalf("step %d: %s is this site's by %s, and is diverted: remote %v, site %v, routes %v", step, addr, route.Prefix, p.xdp.Remote, p.program().Site, routesOf(p))
				}
			}
			for prefix, hops := range routesOf(p) {
				if two.use == dead && strings.Contains(hops, "remote 1") {
					t.Fatalf("%s leads to the dead peer: %s", prefix, hops)
				}
				if prefix == "10.2.100.0/24" && strings.Contains(hops, "remote 3 ") {
					t.Fatalf("%s is shared with a peer that is spoken to in the clear: %s", prefix, hops)
				}
			}
		}
		if amendments < 100 {
			t.Errorf("only %d of 500 changes were amended", amendments)
		}
	}
}

func TestWhatRoutingIsToldOfPeers(t *testing.T) {
	cfg, _ := evpnSite(t)
	c := routingConfig(cfg, links("lo", "eth0", "eth1", "sluice0"), nil, nil)
	c.Gateways = evpnGateways(cfg, map[string]bool{"bergen-2": true})
	if len(c.Ports) != 2 {
		t.Fatalf("ports %+v", c.Ports)
	}
	port := c.Ports[1]
	if !port.EVPN || port.Name != "sluice0" || port.ASN != 65000 || len(port.Neighbours) != 2 || fmt.Sprint(port.Addresses) != "[10.255.0.1 fd00:255::1]" {
		t.Errorf("port %+v", port)
	}
	for i, want := range []string{"10.255.0.2", "fd00:255::3"} {
		if n := port.Neighbours[i]; n.Address.String() != want || n.ASN != 65000 || n.Hold.Seconds() != 9 || n.MaxPrefixes != 7 || n.Export == nil {
			t.Errorf("neighbour %+v", n)
		}
	}
	var names []string
	for _, g := range c.Gateways {
		names = append(names, fmt.Sprintf("%s %t %v", g.Name, g.Dead, g.VPCs[0].Allowed))
	}
	if want := "[bergen-1 false [10.2.0.0/16 10.0.0.0/8 10.2.200.0/24] bergen-2 true [10.2.0.0/16] hamar-1 false [10.0.0.0/8]]"; fmt.Sprint(names) != want {
		t.Errorf("gateways %v", names)
	}
	if v := c.VPCs[0].EVPN; fmt.Sprint(v.Announce) != "[10.9.0.0/16]" || config.VPNID(v.Distinguisher).String() != "10.255.0.1:0" || config.VPNID(v.Targets[0]).String() != "65000:0" {
		t.Errorf("the VPC is called %+v", v)
	}
	// Without the device there is no session yet, and without peers that speak nothing of it.
	if c := routingConfig(cfg, links("lo", "eth0"), nil, nil); len(c.Ports) != 1 {
		t.Errorf("ports %+v", c.Ports)
	}
	none, _ := bgpSite(t, "")
	if c := routingConfig(none, links("lo", "eth0"), nil, nil); evpnGateways(none, nil) != nil || c.VPCs[0].EVPN.VNI != 0 || c.VPCs[0].EVPN.Targets != nil {
		t.Errorf("%+v", c)
	}
}

// 100,000 routes of peers: one that flaps is brought into force.
func BenchmarkAmendOneOf100kOfPeers(b *testing.B) {
	cfg, refs := evpnSite(b)
	there := links("lo", "eth0", "eth1")
	learned := routesByVPC{"default": {}}
	for i := range 100_000 {
		learned["default"][netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(64 + i>>14), byte(i >> 6), byte(i << 2)}), 30)] = []routing.NextHop{gatewayHop(2)}
	}
	p, err := compile(cfg, there, refs, learned.taken)
	if err != nil {
		b.Fatal(err)
	}
	if len(p.xdp.Remote) > 10 {
		b.Fatalf("the program is told of %d prefixes", len(p.xdp.Remote))
	}
	change := map[string][]routing.Change{"default": {{Prefix: netip.MustParsePrefix("10.65.0.0/30"), NextHops: []routing.NextHop{gatewayHop(0)}}}}
	for b.Loop() {
		if amended(p, &compiler{cfg: cfg, links: there}, change) == nil {
			b.Fatal("everything was to be compiled")
		}
	}
}
