package routing

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

const evpnASN = 65000

// derived are a gateway's names of a VPC.
func derived(number int, vni uint32) VPCEVPN {
	out := VPCEVPN{VNI: vni, Distinguisher: VPNID{Kind: 1, Value: [6]byte{10, 255, 0, byte(number), byte(vni >> 8), byte(vni)}}, Targets: make([]VPNID, 1)}
	binary.BigEndian.PutUint16(out.Targets[0].Value[:], evpnASN)
	binary.BigEndian.PutUint32(out.Targets[0].Value[2:], vni)
	return out
}

// newGateways makes gateways that speak with each other, at 127.0.0.1 and following. Gateway n has VNI n00 for VPC red,
// and may announce within 10.n.0.0/16 and fd10:n::/32.
func newGateways(t testing.TB, count int) []*end {
	t.Helper()
	tcp := freePort(t)
	ends := make([]*end, count)
	for i := range ends {
		n := i + 1
		e := newEnd(t, n, uint32(65000+n), tcp)
		e.config.Ports = []Port{{Name: "sluice0", EVPN: true, ASN: evpnASN, ListenOn: []netip.Addr{loopback(n)}, ListenPort: tcp, Addresses: []netip.Addr{loopback(n)}}}
		e.vpc().EVPN = derived(n, uint32(n*100))
		for other := 1; other <= count; other++ {
			if other == n {
				continue
			}
			name := fmt.Sprint("gw", other)
			e.config.Ports[0].Neighbours = append(e.config.Ports[0].Neighbours, Neighbour{
				Name: name, Address: loopback(other), ASN: evpnASN, Port: tcp, Export: all, ConnectRetry: time.Second,
			})
			e.config.Gateways = append(e.config.Gateways, Gateway{Name: name, Addresses: []netip.Addr{loopback(other)}, VPCs: []GatewayVPC{{
				VPC: "red", VNI: uint32(other * 100), Allowed: prefixes(fmt.Sprintf("10.%d.0.0/16", other), fmt.Sprintf("fd10:%d::/32", other)),
			}}})
		}
		ends[i] = e
	}
	return ends
}

// announce makes a gateway have prefixes.
func (e *end) announce(t testing.TB, texts ...string) {
	t.Helper()
	e.config.VPCs = slices.Clone(e.config.VPCs)
	e.vpc().EVPN.Announce, e.vpc().Static = prefixes(texts...), prefixes(texts...)
	e.set(t)
}

// allow changes what gateway other may announce to e.
func (e *end) allow(t testing.TB, other string, change func(*Gateway)) {
	t.Helper()
	e.config.Gateways = slices.Clone(e.config.Gateways)
	for i := range e.config.Gateways {
		if g := &e.config.Gateways[i]; g.Name == other {
			g.VPCs = slices.Clone(g.VPCs)
			change(g)
		}
	}
	e.set(t)
}

func (e *end) wantVerdict(t testing.TB, prefix, want string) {
	t.Helper()
	eventually(t, "verdict on "+prefix, func() error {
		if got := e.verdictOf(prefix); got != want {
			return errors.New(got)
		}
		return nil
	})
}

func TestGatewaysTellEachOtherTheirPrefixes(t *testing.T) {
	t.Parallel()
	ends := newGateways(t, 2)
	a, b := ends[0], ends[1]
	a.announce(t, "10.1.0.0/16", "10.1.2.0/24", "fd10:1::/32")
	b.announce(t, "10.2.0.0/16")
	b.wants(t, "10.1.0.0/16", "10.1.2.0/24", "fd10:1::/32")
	a.wants(t, "10.2.0.0/16")
	for p, hops := range b.hops {
		if !slices.Equal(hops, []NextHop{{Port: "", Addr: loopback(1)}}) {
			t.Errorf("%s leads to %v", p, hops)
		}
	}
	for _, r := range b.Routes() {
		if r.VPC != "red" || r.Attributes.EVPN.VNI != 100 || !r.Best {
			t.Errorf("%+v with %+v", r, r.Attributes.EVPN)
		}
	}
	for _, r := range a.Announced() {
		if r.VPC != "red" || r.Neighbour != "gw2" || r.Attributes.NextHop != loopback(1) {
			t.Errorf("announced %+v", r)
		}
	}
	a.announce(t, "10.1.2.0/24")
	b.wants(t, "10.1.2.0/24")
	if s := b.one(t); s.VPC != "" || s.Received != 1 || s.Accepted != 1 || s.Best != 1 || len(s.Refused) != 0 || !s.Internal {
		t.Errorf("status %+v", s)
	}
	a.Close()
	b.wants(t)
}

// A site's router tells its gateway of a prefix; the gateway of the other site hears of it and tells its own router.
func TestWhatRoutersAnnounceGoesFromSiteToSite(t *testing.T) {
	t.Parallel()
	ends := newGateways(t, 2)
	var routers [2]*end
	for i, gateway := range ends {
		tcp := freePort(t)
		own, theirs := loopback(11+i), loopback(21+i)
		routers[i] = newEnd(t, 21+i, uint32(65101+i), tcp)
		session := func(e *end, at, to netip.Addr, asn uint32) {
			e.config.Ports = append(e.config.Ports, Port{Name: "p0", VPC: "red", ListenOn: []netip.Addr{at}, ListenPort: tcp,
				Addresses:  []netip.Addr{netip.AddrFrom4([4]byte{192, 0, byte(2 + i), at.As4()[3]}), netip.MustParseAddr(fmt.Sprintf("2001:db8:%d::%d", i, at.As4()[3]))},
				Neighbours: []Neighbour{{Name: fmt.Sprint("to", to), Address: to, ASN: asn, Port: tcp, Import: all, Export: all, ConnectRetry: time.Second}}})
		}
		session(gateway, own, theirs, uint32(65101+i))
		routers[i].config.Ports = nil
		session(routers[i], theirs, own, uint32(65001+i))
	}
	routers[0].vpc().Export = prefixes("10.1.7.0/24", "fd10:1:7::/48", "10.99.0.0/16")
	for _, e := range append(ends, routers[:]...) {
		e.set(t)
	}
	converge := func(want ...string) {
		t.Helper()
		eventually(t, "the other site's router", func() error {
			for _, e := range append(ends, routers[:]...) {
				e.take()
			}
			if got := routers[1].learned(); !slices.Equal(got, prefixes(want...)) {
				return fmt.Errorf("has %v, want %v", got, want)
			}
			return nil
		})
	}
	converge("10.1.7.0/24", "fd10:1:7::/48")
	ends[1].wantVerdict(t, "10.99.0.0/16", "refused: peer gw1 may not announce it")
	if hops := ends[1].hops[netip.MustParsePrefix("10.1.7.0/24")]; !slices.Equal(hops, []NextHop{{Port: "", Addr: loopback(1)}}) {
		t.Errorf("the gateway's route leads to %v", hops)
	}
	// What a site has by itself, no gateway takes from it, and is not told to others as the gateway's.
	routers[1].vpc().Export = prefixes("10.1.7.0/24")
	routers[1].set(t)
	eventually(t, "the site's own", func() error {
		ends[1].take()
		if hops := ends[1].hops[netip.MustParsePrefix("10.1.7.0/24")]; len(hops) != 1 || hops[0].Port != "p0" {
			return fmt.Errorf("leads to %v", hops)
		}
		return nil
	})
	converge("fd10:1:7::/48")
	routers[1].config.VPCs = []VPC{{Name: "red"}}
	routers[1].set(t)
	converge("10.1.7.0/24", "fd10:1:7::/48")
	routers[0].Close()
	converge()
}

func TestWhatAGatewayMayNotAnnounceIsRefusedAndCounted(t *testing.T) {
	t.Parallel()
	ends := newGateways(t, 2)
	a, b := ends[0], ends[1]
	b.vpc().Static = prefixes("10.1.9.0/24")
	b.vpc().Reserved = []Reserved{{netip.MustParsePrefix("10.1.8.1/32"), "gateway address 10.1.8.1 of the VPC", false}, {netip.MustParsePrefix("10.1.0.0/16"), "prefix of peer gw1", true}}
	b.set(t)
	a.announce(t, "10.1.1.0/24", "10.2.1.0/24", "0.0.0.0/0", "10.0.0.0/8", "10.1.9.0/24", "10.1.8.1/32", "fd10:9::/48", "224.1.0.0/16")
	b.wants(t, "10.1.1.0/24")
	for prefix, want := range map[string]string{
		"10.1.1.0/24":  "accepted: peer gw1 may announce it",
		"10.2.1.0/24":  "refused: peer gw1 may not announce it",
		"0.0.0.0/0":    "refused: peer gw1 may not announce it",
		"10.0.0.0/8":   "refused: peer gw1 may not announce it",
		"fd10:9::/48":  "refused: peer gw1 may not announce it",
		"10.1.9.0/24":  "refused: the configuration has the same prefix",
		"10.1.8.1/32":  "refused: it overlaps the gateway address 10.1.8.1 of the VPC",
		"224.1.0.0/16": "refused: it cannot be routed",
	} {
		b.wantVerdict(t, prefix, want)
	}
	if s := b.one(t); s.Received != 8 || s.Accepted != 1 || s.Refused["not_allowed"] != 4 || s.Refused["configured"] != 1 || s.Refused["overlap"] != 1 || s.Refused["not_unicast"] != 1 {
		t.Errorf("counted %+v", s)
	}
	since := b.one(t).Since
	// What it may announce changes, and what becomes of its routes with it, in the same session.
	b.allow(t, "gw1", func(g *Gateway) { g.VPCs[0].Allowed = prefixes("10.2.0.0/16", "fd10::/16") })
	b.wants(t, "10.2.1.0/24", "fd10:9::/48")
	b.allow(t, "gw1", func(g *Gateway) { g.VPCs[0].VNI = 777; g.VPCs[0].Targets = derived(1, 100).Targets })
	b.wants(t)
	b.wantVerdict(t, "10.2.1.0/24", "refused: not the VNI that peer gw1 is configured to have for the VPC")
	b.allow(t, "gw1", func(g *Gateway) { g.VPCs[0].VNI = 100; g.VPCs[0].Targets = derived(1, 4242).Targets })
	b.wantVerdict(t, "10.2.1.0/24", "not used: no route target of a VPC that we share with peer gw1")
	b.allow(t, "gw1", func(g *Gateway) { g.VPCs[0].Targets = nil; g.Dead = true })
	b.wantVerdict(t, "10.2.1.0/24", "not used: peer gw1 answers no probes")
	b.wants(t)
	b.allow(t, "gw1", func(g *Gateway) { g.Dead = false })
	b.wants(t, "10.2.1.0/24", "fd10:9::/48")
	if now := b.one(t).Since; !now.Equal(since) {
		t.Error("the session began anew")
	}
	// Another VPC of ours takes the mark: the routes move there.
	b.config.VPCs = []VPC{{Name: "red"}, {Name: "blue"}}
	b.allow(t, "gw1", func(g *Gateway) { g.VPCs[0].VPC = "blue" })
	eventually(t, "the routes are in the other VPC", func() error {
		for _, r := range b.Routes() {
			if r.VPC != "blue" {
				return fmt.Errorf("%s is in %s", r.Prefix, r.VPC)
			}
		}
		return nil
	})
}

func TestAGatewayCannotSpeakForAnother(t *testing.T) {
	t.Parallel()
	ends := newGateways(t, 3)
	a, b, c := ends[0], ends[1], ends[2]
	// What c says comes with its own address, which b takes for a's: as if it had put a's as the next hop.
	b.config.Gateways[1].Addresses = nil
	b.config.Gateways[0].Addresses = []netip.Addr{loopback(1), loopback(3)}
	b.set(t)
	a.announce(t, "10.1.1.0/24")
	c.announce(t, "10.1.2.0/24")
	b.wants(t, "10.1.1.0/24")
	b.wantVerdict(t, "10.1.2.0/24", "refused: its next hop is peer gw1")
	b.allow(t, "gw1", func(g *Gateway) { g.Addresses = []netip.Addr{loopback(1)} })
	b.wantVerdict(t, "10.1.2.0/24", "refused: its next hop is missing, ours or nobody's")
}

func TestTwoGatewaysOfOneSiteShareItsTraffic(t *testing.T) {
	t.Parallel()
	ends := newGateways(t, 3)
	a, b, c := ends[0], ends[1], ends[2]
	c.allow(t, "gw2", func(g *Gateway) { g.VPCs[0].Allowed = prefixes("10.1.0.0/16") })
	a.announce(t, "10.1.0.0/16")
	b.announce(t, "10.1.0.0/16", "10.1.5.0/24")
	both := []NextHop{{Addr: loopback(1)}, {Addr: loopback(2)}}
	want := func(hops ...NextHop) {
		t.Helper()
		eventually(t, "next hops", func() error {
			c.take()
			if got := c.hops[netip.MustParsePrefix("10.1.0.0/16")]; !slices.Equal(got, hops) {
				return fmt.Errorf("%v, want %v", got, hops)
			}
			return nil
		})
	}
	want(both...)
	c.allow(t, "gw1", func(g *Gateway) { g.Dead = true })
	want(both[1])
	c.allow(t, "gw1", func(g *Gateway) { g.Dead = false })
	want(both...)
	b.Close()
	want(both[0])
}

// The names of a VPC can be given, and change while it is announced.
func TestAVPCsNamesCanBeGiven(t *testing.T) {
	t.Parallel()
	ends := newGateways(t, 2)
	a, b := ends[0], ends[1]
	mark := VPNID{Kind: 2, Value: [6]byte{0xfa, 0x56, 0xea, 0, 0, 7}} // 4200000000:7
	a.announce(t, "10.1.0.0/16")
	b.set(t)
	b.wants(t, "10.1.0.0/16")
	b.allow(t, "gw1", func(g *Gateway) { g.VPCs[0].Targets = []VPNID{mark} })
	b.wants(t)
	a.config.VPCs = slices.Clone(a.config.VPCs)
	a.vpc().EVPN.Targets = []VPNID{mark, {Kind: 1, Value: [6]byte{10, 0, 0, 1, 0, 9}}}
	a.set(t)
	b.wants(t, "10.1.0.0/16")
	a.config.VPCs = slices.Clone(a.config.VPCs)
	a.vpc().EVPN.Distinguisher = VPNID{Kind: 0, Value: [6]byte{0xfd, 0xe8, 0, 1, 0, 0}}
	a.set(t)
	eventually(t, "one route with the new distinguisher", func() error {
		b.take()
		routes := b.Routes()
		if len(routes) != 1 || !routes[0].Best {
			return fmt.Errorf("%+v", routes)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		for key := range b.speakers["sluice0"].sessions[loopback(1)].paths {
			if key.id.rd != [8]byte{0, 0, 0xfd, 0xe8, 0, 1, 0, 0} {
				return fmt.Errorf("its distinguisher is %x", key.id.rd)
			}
		}
		return nil
	})
	b.wants(t, "10.1.0.0/16")
}

// A translated prefix is told by its other addresses only, also when a router announces it.
func TestWhatIsTranslatedIsHidden(t *testing.T) {
	r := newRIB("red")
	v := derived(1, 100)
	v.Announce, v.Hidden = prefixes("10.101.0.0/16"), prefixes("10.1.0.0/16")
	r.setExports(&VPC{EVPN: v})
	gateway, router := &speaker{port: Port{EVPN: true}}, &speaker{port: Port{Name: "p0", VPC: "red"}}
	s := &session{speaker: router, neighbour: &Neighbour{Import: all}, paths: make(map[pathKey]*rib)}
	for _, p := range prefixes("10.1.0.0/16", "10.1.2.0/24", "10.0.0.0/8", "10.3.0.0/16") {
		r.put(s, p, pathID{}, &Attributes{NextHop: netip.MustParseAddr("192.0.2.2")})
	}
	r.take()
	var told []string
	for _, p := range prefixes("10.1.0.0/16", "10.1.2.0/24", "10.0.0.0/8", "10.3.0.0/16", "10.101.0.0/16") {
		if _, ok := r.exportTo(gateway, p); ok {
			told = append(told, p.String())
		}
	}
	if want := "10.0.0.0/8 10.3.0.0/16 10.101.0.0/16"; strings.Join(told, " ") != want {
		t.Errorf("told %v, want %s", told, want)
	}
}

// Whatever a gateway's routes hold: none is let in that it may not announce.
func FuzzNoRouteIsLetInThatIsNotAllowed(f *testing.F) {
	v := derived(1, 100)
	for _, p := range prefixes("10.1.0.0/16", "0.0.0.0/0", "fd10:1::/48") {
		path, err := evpnAnnouncement(p, &v)
		if err != nil {
			f.Fatal(err)
		}
		b, err := path.Nlri.Serialize()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, v.Targets[0].target(), []byte{127, 0, 0, 1})
	}
	allowed := prefixes("10.1.0.0/16", "fd10:1::/32")
	known := indexGateways([]Gateway{{Name: "gw1", Addresses: []netip.Addr{loopback(1)}, VPCs: []GatewayVPC{{VPC: "red", VNI: 100, Allowed: allowed}}}})
	f.Fuzz(func(t *testing.T, nlri, community, hop []byte) {
		n, err := bgp.NLRIFromSlice(bgp.RF_EVPN, nlri)
		if err != nil {
			return
		}
		key, ok := keyOf(n, 0)
		if !ok {
			return
		}
		if key.prefix != key.prefix.Masked() {
			t.Fatalf("%s has host bits", key.prefix)
		}
		a := &Attributes{LocalPref: defaultLocalPref}
		a.NextHop, _ = netip.AddrFromSlice(hop)
		if len(community) == 8 {
			if c, err := bgp.ParseExtended(community); err == nil {
				a.EVPN = readTargets([]bgp.ExtendedCommunityInterface{c})
			}
		}
		a.readNLRI(n)
		r := newRIB("red")
		r.gateways = known
		s := &session{speaker: &speaker{port: Port{EVPN: true}}, neighbour: &Neighbour{Name: "gw1"}, paths: make(map[pathKey]*rib)}
		r.put(s, key.prefix, key.id, a)
		for _, c := range r.take() {
			if len(c.NextHops) > 0 && !slices.ContainsFunc(allowed, func(p netip.Prefix) bool { return p.Bits() <= c.Prefix.Bits() && p.Contains(c.Prefix.Addr()) }) {
				t.Fatalf("%s was let in", c.Prefix)
			}
		}
	})
}

// newStar makes gateways of which the first reflects, the second too with more than one, and the others have sessions
// with these only.
func newStar(t testing.TB, count, reflectors int) []*end {
	t.Helper()
	ends := newGateways(t, count)
	for i, e := range ends {
		e.config.Ports[0].Neighbours = slices.DeleteFunc(e.config.Ports[0].Neighbours, func(n Neighbour) bool {
			other := int(n.Address.As4()[3]) - 1
			return i >= reflectors && other >= reflectors
		})
		for j := range e.config.Ports[0].Neighbours {
			n := &e.config.Ports[0].Neighbours[j]
			other := int(n.Address.As4()[3]) - 1
			n.Client, n.Reflector = i < reflectors && other >= reflectors, other < reflectors
			n.NextHops = []netip.Addr{n.Address}
		}
	}
	return ends
}

func TestAReflectorTellsGatewaysOfEachOther(t *testing.T) {
	t.Parallel()
	ends := newStar(t, 4, 2)
	for i, e := range ends {
		e.announce(t, fmt.Sprintf("10.%d.0.0/16", i+1), fmt.Sprintf("fd10:%d::/32", i+1))
	}
	ends[3].wants(t, "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "fd10:1::/32", "fd10:2::/32", "fd10:3::/32")
	// The next hop is who has it, through either reflector, and counts once.
	if hops := ends[3].hops[netip.MustParsePrefix("10.3.0.0/16")]; !slices.Equal(hops, []NextHop{{Port: "", Addr: loopback(3)}}) {
		t.Errorf("10.3.0.0/16 leads to %v", hops)
	}
	// What a gateway may announce is asked of the one that the next hop names.
	ends[3].allow(t, "gw3", func(g *Gateway) { g.VPCs[0].Allowed = prefixes("fd10:3::/32") })
	ends[3].wants(t, "10.1.0.0/16", "10.2.0.0/16", "fd10:1::/32", "fd10:2::/32", "fd10:3::/32")
	ends[3].wantVerdict(t, "10.3.0.0/16", "refused: peer gw3 may not announce it")
	ends[3].allow(t, "gw3", func(g *Gateway) { g.VPCs[0].Allowed = prefixes("10.3.0.0/16") })
	// One reflector dies: the other goes on.
	ends[0].Close()
	ends[3].wants(t, "10.2.0.0/16", "10.3.0.0/16", "fd10:2::/32")
	ends[2].announce(t, "10.3.7.0/24")
	ends[3].wants(t, "10.2.0.0/16", "10.3.7.0/24", "fd10:2::/32")
	ends[2].Close()
	ends[3].wants(t, "10.2.0.0/16", "fd10:2::/32")
}

// A client that puts another's address, or anybody's, into its routes is not reflected; roles change while all runs.
func TestAReflectorPassesOnWhatAGatewaySaysOfItselfOnly(t *testing.T) {
	t.Parallel()
	ends := newStar(t, 3, 1)
	hub, a, b := ends[0], ends[1], ends[2]
	for j := range hub.config.Ports[0].Neighbours {
		n := &hub.config.Ports[0].Neighbours[j]
		if n.Name == "gw2" {
			n.NextHops = []netip.Addr{loopback(99)} // its own address is a stranger's
		}
	}
	hub.set(t)
	a.announce(t, "10.2.0.0/16")
	b.announce(t, "10.3.0.0/16")
	a.wants(t, "10.3.0.0/16")
	hub.wants(t, "10.2.0.0/16", "10.3.0.0/16")
	b.wants(t)
	hub.config.Ports = slices.Clone(hub.config.Ports)
	hub.config.Ports[0].Neighbours = slices.Clone(hub.config.Ports[0].Neighbours)
	for j := range hub.config.Ports[0].Neighbours {
		n := &hub.config.Ports[0].Neighbours[j]
		n.NextHops = []netip.Addr{n.Address}
	}
	hub.set(t)
	b.wants(t, "10.2.0.0/16")
	hub.config.Ports = slices.Clone(hub.config.Ports)
	hub.config.Ports[0].Neighbours = slices.Clone(hub.config.Ports[0].Neighbours)
	for j := range hub.config.Ports[0].Neighbours {
		hub.config.Ports[0].Neighbours[j].Client = false
	}
	hub.set(t)
	b.wants(t)
	a.wants(t)
	hub.wants(t, "10.2.0.0/16", "10.3.0.0/16")
}
