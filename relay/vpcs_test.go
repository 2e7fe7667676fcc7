package relay

import (
	"maps"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/internal/fib"
)

// with gives site 1 of a mesh more remote routes in a VPC: prefix -> site.
func (m *mesh) with(v vpcName, routes map[string]int) {
	m.t.Helper()
	g := m.site(1)
	s := *g.snap
	s.VPCs = append([]VPC(nil), s.VPCs...)
	for i := range s.VPCs {
		if s.VPCs[i].Name != v.String() {
			continue
		}
		var add []fib.Route
		for p, site := range routes {
			add = append(add, fib.Route{Prefix: netip.MustParsePrefix(p), NextHops: []fib.NextHop{{Kind: fib.Remote, ID: uint32(site - 1)}}})
		}
		table, err := s.VPCs[i].Routes.With(add, nil)
		check(m.t, err)
		s.VPCs[i].Routes = table
	}
	g.snap = &s
	check(m.t, g.relay.Update(&s))
}

// connect brings the sessions of site 1 up.
func (m *mesh) connect() {
	for n := 2; n <= len(m.gateways); n++ {
		m.send(1, defaultVPC, udpPacket(sameHost(4), seenAs(n, sameHost(4)), 64, 0, 1, 2, nil))
		m.arrived(n, defaultVPC)
	}
}

// sealed injects a packet at site 1 that another site's gateway has sealed.
func (m *mesh) sealed(from int, plain []byte) {
	p := &pair{a: m.site(1), b: m.site(from)}
	p.b.peer = m.site(from).snap.Peers[0].WireGuard
	p.sealTo(m.t.(*testing.T), plain)
	m.site(1).turn()
}

func TestTheLongestPrefixWinsAcrossPeers(t *testing.T) {
	for _, v := range []vpcName{defaultVPC, red} {
		t.Run(v.String(), func(t *testing.T) {
			m := newMesh(t, 3)
			m.connect()
			m.with(v, map[string]int{"10.200.0.0/15": 2, "10.200.7.0/24": 3, "10.200.7.9/32": 2, "fd20::/16": 3, "fd20:7::/32": 2})
			for _, c := range []struct {
				name, dst string
				want      int
			}{
				{"only the short one covers it", "10.201.1.1", 2},
				{"the longer one of another peer", "10.200.7.1", 3},
				{"a host route of the first peer inside that", "10.200.7.9", 2},
				{"IPv6, the short one", "fd20:8::1", 3},
				{"IPv6, the longer one", "fd20:7::1", 2},
			} {
				t.Run(c.name, func(t *testing.T) {
					dst := netip.MustParseAddr(c.dst)
					src := sameHost(4)
					if dst.Is6() {
						src = sameHost(6)
					}
					_, frame := fromHost(v, 1, atRouted, udpPacket(src, dst, 64, 0, 1, 2, nil))
					m.site(1).queues[0][v.routedPort()].Inject(frame)
					m.site(1).turn()
					got := m.site(1).got(wanPort)
					if len(got) != 1 || got[0][14+19] != byte(c.want) {
						t.Errorf("%d packets, want one to site %d: %x", len(got), c.want, got)
					}
				})
			}
			// The same prefixes say who may be the source of what.
			for _, c := range []struct {
				name, src string
				from      int
				want      Verdict
			}{
				{"a peer sends from what is its own", "10.200.7.1", 3, ToSite},
				{"not from what another peer has a longer prefix of", "10.200.7.1", 2, SourceNotAllowed},
				{"not from another's shorter one either", "10.201.1.1", 3, SourceNotAllowed},
			} {
				t.Run(c.name, func(t *testing.T) {
					m.t = t
					inner := udpPacket(netip.MustParseAddr(c.src), seenAs(1, sameHost(4)), 64, 0, 1, 2, nil)
					if v != defaultVPC {
						inner = tunnelledBetween(tunnelAddrs(c.from)[0], tunnelAddrs(1)[0], v.vni(1), layers.EthernetTypeIPv4, inner)
					}
					got := m.site(1).verdicts(func() { m.sealed(c.from, inner) })
					if want := map[string]uint64{c.want.String(): 1}; !maps.Equal(got, want) {
						t.Errorf("got %v, want %v", got, want)
					}
				})
			}
		})
	}
}

// TestTwoTenantsWithTheSameAddressesNeverMeet: row for row, each packet is for an address that both tenants have, or only
// one; it arrives in the sender's VPC or nowhere.
func TestTwoTenantsWithTheSameAddressesNeverMeet(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	// An address of blue alone: red has no route to it.
	s := testSnapshot(gatewayOptions{site: 1}, p.a.peer)
	only := addr("10.66.0.1")
	for i := range s.VPCs {
		if s.VPCs[i].Name == blue.String() {
			table, err := s.VPCs[i].Routes.With([]fib.Route{{Prefix: netip.PrefixFrom(only, 32), NextHops: []fib.NextHop{{Kind: fib.Remote, ID: 0}}}}, nil)
			check(t, err)
			s.VPCs[i].Routes = table
		}
	}
	check(t, p.a.relay.Update(s))
	src := red.host(1, atRouted, 4)
	if src != blue.host(1, atRouted, 4) {
		t.Fatal("the tenants have different addresses: this checks nothing")
	}
	for _, c := range []struct {
		name string
		v    vpcName
		dst  netip.Addr
		want map[string]uint64
	}{
		{"red reaches red", red, red.host(2, atRouted, 4), map[string]uint64{"to_peer": 1}},
		{"blue reaches blue at the same address", blue, blue.host(2, atRouted, 4), map[string]uint64{"to_peer": 1}},
		{"blue reaches what it alone has", blue, only, map[string]uint64{"to_peer": 1}},
		{"red does not", red, only, map[string]uint64{"no_route": 1, "originated": 1}},
		{"red does not reach the default VPC", red, defaultVPC.host(2, atRouted, 4), map[string]uint64{"no_route": 1, "originated": 1}},
		{"nor does the default VPC reach red", defaultVPC, red.host(2, atRouted, 4), map[string]uint64{"no_route": 1, "originated": 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			from := src
			if c.v == defaultVPC {
				from = defaultVPC.host(1, atRouted, 4)
			}
			_, frame := fromHost(c.v, 1, atRouted, udpPacket(from, c.dst, 64, 0, 1, 2, []byte(c.name)))
			got := p.a.verdicts(func() { p.a.queues[0][c.v.routedPort()].Inject(frame); p.a.turn() })
			if !maps.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			p.settle()
			for _, other := range []vpcName{defaultVPC, red, blue} {
				arrived := len(p.b.got(other.routedPort()))
				if want := c.want["to_peer"]; other != c.v && arrived > 0 || other == c.v && c.dst != only && arrived != int(want) {
					t.Errorf("%d packets arrived in %v", arrived, other)
				}
			}
			p.a.got(c.v.routedPort())
		})
	}
}

func TestAPeerThatIsNotInAVPCCannotSendIntoIt(t *testing.T) {
	m := newMesh(t, 3)
	m.connect()
	g := m.site(1)
	s := *g.snap
	s.VPCs = append([]VPC(nil), s.VPCs...)
	for i := range s.VPCs {
		if s.VPCs[i].Name == red.String() { // site 3 leaves red
			var err error
			s.VPCs[i].Routes, err = s.VPCs[i].Routes.With(nil, []netip.Prefix{sameTranslations(3)[0].As, sameTranslations(3)[1].As})
			check(t, err)
		}
	}
	check(t, g.relay.Update(&s))
	for _, c := range []struct {
		name string
		from int
		want Verdict
	}{
		{"the one that is in it can", 2, ToSite},
		{"the one that has left cannot, although it knows the VNI", 3, SourceNotAllowed},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.t = t
			inner := tunnelledBetween(tunnelAddrs(c.from)[0], tunnelAddrs(1)[0], red.vni(1), layers.EthernetTypeIPv4,
				udpPacket(seenAs(c.from, sameHost(4)), seenAs(1, sameHost(4)), 64, 0, 1, 2, nil))
			got := g.verdicts(func() { m.sealed(c.from, inner) })
			if want := map[string]uint64{c.want.String(): 1}; !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}
