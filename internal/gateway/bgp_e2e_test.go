package gateway_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// routed is a site whose host is behind a router that speaks BGP with the gateway:
// host - router - gateway.
type routed struct {
	site
	router *netnstest.Host
	link   *netnstest.Link // the router's, towards the gateway
	frr    *netnstest.FRR
	bgp    string // of the gateway's configuration
}

// frrConfig is a router that announces its host's prefixes.
const frrConfig = `
router bgp 6510%[1]d
 bgp router-id 10.%[1]d.0.1
 no bgp ebgp-requires-policy
 neighbor 172.20.%[1]d.1 remote-as 65001
 neighbor 172.20.%[1]d.1 timers connect 1
 address-family ipv4 unicast
  network 10.%[1]d.0.0/24
 exit-address-family
 address-family ipv6 unicast
  neighbor 172.20.%[1]d.1 activate
  network fd10:%[1]d::/64
 exit-address-family
`

// bgpConfig lets the site's prefixes in and all others out.
const bgpConfig = `bgp:
  asn: 65001
  routerID: 10.255.0.%[1]d
  prefixLists:
    - name: site
      prefixes: [{prefix: 10.%[1]d.0.0/16, le: 24}, {prefix: "fd10:%[1]d::/32", le: 64}]
  policies:
    - name: from-site
      rules: [{prefixLists: [site]}]
    - name: to-site
      rules: [{}]
  neighbours:
    - name: tor
      port: site0
      address: 172.20.%[1]d.2
      asn: 6510%[1]d
      import: from-site
      export: to-site
      connectRetry: 1s
`

// newRoutedSites builds host1 - router1 - gateway1 ~ gateway2 - router2 - host2. Nothing runs yet.
func newRoutedSites(t testing.TB) (*netnstest.Scope, [2]*routed) {
	t.Helper()
	testenv.RequireRoot(t)
	netnstest.RequireRouters(t)
	scope := netnstest.New(t)
	var sites [2]*routed
	for i := range sites {
		n := i + 1
		s := &routed{site: site{number: n, host: scope.NewHost(fmt.Sprint("host", n)), gateway: scope.NewHost(fmt.Sprint("gw", n)), dir: t.TempDir()}}
		s.router = scope.NewHost(fmt.Sprint("tor", n))
		scope.Connect(
			netnstest.End{Host: s.host, Name: "eth0", Addrs: netnstest.Prefixes(fmt.Sprintf("10.%d.0.10/24", n), fmt.Sprintf("fd10:%d::10/64", n))},
			netnstest.End{Host: s.router, Name: "host0", Addrs: netnstest.Prefixes(fmt.Sprintf("10.%d.0.1/24", n), fmt.Sprintf("fd10:%d::1/64", n))},
		)
		s.host.Route(netip.Prefix{}, netip.MustParseAddr(fmt.Sprintf("10.%d.0.1", n)))
		s.host.Route(netip.Prefix{}, netip.MustParseAddr(fmt.Sprintf("fd10:%d::1", n)))
		s.link, s.inside = scope.Connect(
			netnstest.End{Host: s.router, Name: "gw0", Addrs: netnstest.Prefixes(fmt.Sprintf("172.20.%d.2/24", n), fmt.Sprintf("fd20:%d::2/64", n))},
			netnstest.End{Host: s.gateway, Name: "site0", Addrs: netnstest.Prefixes(fmt.Sprintf("172.20.%d.1/24", n), fmt.Sprintf("fd20:%d::1/64", n))},
		)
		s.bgp = fmt.Sprintf(bgpConfig, n)
		s.makeKey(t)
		sites[i] = s
	}
	sites[0].wan, sites[1].wan = scope.Connect(
		netnstest.End{Host: sites[0].gateway, Name: "wan0", Addrs: netnstest.Prefixes("198.51.100.1/24")},
		netnstest.End{Host: sites[1].gateway, Name: "wan0", Addrs: netnstest.Prefixes("198.51.100.2/24")},
	)
	for i, s := range sites {
		s.write(t, sites[1-i])
	}
	return scope, sites
}

func (s *routed) addr4() netip.Addr { return netip.MustParseAddr(fmt.Sprintf("10.%d.0.10", s.number)) }
func (s *routed) addr6() netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd10:%d::10", s.number)) }

// write writes the configuration: no prefix of this site is in it.
func (s *routed) write(t testing.TB, peer *routed) {
	t.Helper()
	text := fmt.Sprintf(`site: site%[1]d
gateway: gw%[1]d
ports: [{name: site0}, {name: wan0}]
wireguard:
  keyFile: %[2]s/wg.key
vpcs:
  - name: default
    attachments: [{type: routed, port: site0}]
peers:
  - name: peer
    publicKey: %[3]s
    endpoint: %[4]s:51820
    vpcs:
      - name: default
        prefixes: [10.%[5]d.0.0/16, "fd10:%[5]d::/32"]
api:
  socket: %[6]s
%[7]s`, s.number, s.dir, peer.key.PublicKey(), peer.outer(), peer.number, s.socket(), s.bgp)
	if err := os.WriteFile(s.config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// hostsReachEachOther pings until both families answer in both directions.
func hostsReachEachOther(t testing.TB, sites [2]*routed) {
	t.Helper()
	for i, s := range sites {
		for _, to := range []netip.Addr{sites[1-i].addr4(), sites[1-i].addr6()} {
			s.eventually(t, fmt.Sprintf("ping %s", to), func() error {
				return netnstest.Ping(t.Context(), s.host, to, netnstest.PingOptions{Count: 1})
			})
		}
	}
}

func TestSitesLearnEachOthersPrefixesFromTheirRouters(t *testing.T) {
	_, sites := newRoutedSites(t)
	for _, s := range sites {
		s.frr = s.router.StartFRR(fmt.Sprintf(frrConfig, s.number), "")
		s.start(t)
	}
	hostsReachEachOther(t, sites)
	if out, err := sites[0].frr.Do(t.Context(), "show ip route bgp", "show ipv6 route bgp"); err != nil ||
		!strings.Contains(out, "10.2.0.0/16") || !strings.Contains(out, "via 172.20.1.1") || !strings.Contains(out, "fd10:2::/32") {
		t.Errorf("router 1 has %s, %v", out, err)
	}

	// The router takes its prefix back: the gateway has no route to it any more, and the other site is told nothing new.
	if _, err := sites[0].frr.Do(t.Context(), "configure terminal", "router bgp 65101", "no network 10.1.0.0/24"); err != nil {
		t.Fatal(err)
	}
	sites[0].eventually(t, "route gone", func() error { return routeGone(t, &sites[0].site, "10.1.0.0/24") })
}

// birdConfig is a router with a password, TTL security and graceful restart.
const birdConfig = `
router id 10.%[1]d.0.1;
protocol device { scan time 1; }
protocol direct { ipv4; ipv6; interface "host0"; }
protocol kernel { ipv4 { export all; }; persist; graceful restart on; }
protocol kernel { ipv6 { export all; }; persist; graceful restart on; }
protocol bgp sluice {
  local 172.20.%[1]d.2 as 6510%[1]d;
  neighbor 172.20.%[1]d.1 as 65001;
  password "correct horse";
  ttl security on;
  graceful restart on;
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv4 { import all; export where source = RTS_DEVICE; };
  ipv6 { import all; export where source = RTS_DEVICE; next hop address fd20:%[1]d::2; };
}
`

// neighbour returns the gateway's only BGP neighbour.
func (s *site) neighbour(t testing.TB) (*sluicev1.BGPNeighbour, error) {
	t.Helper()
	r, err := s.client().BGP(t.Context(), &sluicev1.BGPRequest{Neighbour: "tor"})
	if err != nil {
		return nil, err
	}
	if len(r.GetNeighbours()) != 1 {
		return nil, fmt.Errorf("%d neighbours", len(r.GetNeighbours()))
	}
	return r.GetNeighbours()[0], nil
}

func (s *site) wantNeighbour(t testing.TB, what string, is func(*sluicev1.BGPNeighbour) bool) {
	t.Helper()
	s.eventually(t, what, func() error {
		n, err := s.neighbour(t)
		if err == nil && !is(n) {
			err = fmt.Errorf("it is %v", n)
		}
		return err
	})
}

// Site 1 has FRR and BFD, site 2 BIRD with a password, TTL security and graceful restart.
func TestRoutersThatRestartKeepTheirRoutesAndDeadOnesLoseThem(t *testing.T) {
	_, sites := newRoutedSites(t)
	frr, bird := sites[0], sites[1]
	password := filepath.Join(bird.dir, "password")
	if err := os.WriteFile(password, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	frr.bgp += "      bfd: {interval: 500ms, multiplier: 6}\n"
	bird.bgp += "      passwordFile: " + password + "\n      ttlSecurity: true\n"
	for i, s := range sites {
		s.write(t, sites[1-i])
	}
	frr.frr = frr.router.StartFRR(fmt.Sprintf(frrConfig, 1)+"exit\nrouter bgp 65101\n neighbor 172.20.1.1 bfd 6 500 500\n", "")
	daemon := bird.router.StartBIRD(fmt.Sprintf(birdConfig, 2))
	for _, s := range sites {
		s.start(t)
	}
	hostsReachEachOther(t, sites)
	frr.wantNeighbour(t, "BFD is up", func(n *sluicev1.BGPNeighbour) bool { return n.GetBfd() == "up" })

	// BIRD crashes: its routes stay, and packets cross meanwhile.
	if err := daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	bird.wantNeighbour(t, "routes are kept", func(n *sluicev1.BGPNeighbour) bool {
		return n.GetState() != "established" && n.GetStale() == 2 && n.GetBest() == 2
	})
	frr.eventually(t, "packets cross while BIRD restarts", func() error {
		return netnstest.Ping(t.Context(), frr.host, bird.addr4(), netnstest.PingOptions{Count: 1})
	})
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	bird.wantNeighbour(t, "it is back", func(n *sluicev1.BGPNeighbour) bool {
		return n.GetState() == "established" && n.GetStale() == 0 && n.GetBest() == 2 && n.GetEnded() >= 1
	})
	hostsReachEachOther(t, sites)

	// FRR's BFD falls silent: the session is ended, and the problem told.
	if err := frr.frr.Kill("bfdd"); err != nil {
		t.Fatal(err)
	}
	frr.wantNeighbour(t, "the session is ended", func(n *sluicev1.BGPNeighbour) bool { return n.GetEnded() >= 1 && n.GetLastError() != "" })
}

// routeGone says whether the gateway has no such route.
func routeGone(t testing.TB, s *site, prefix string) error {
	routes, err := s.client().Routes(t.Context(), &sluicev1.RoutesRequest{})
	if err != nil {
		return err
	}
	for _, r := range routes.GetRoutes() {
		if r.GetPrefix() == prefix {
			return fmt.Errorf("%s is still there", prefix)
		}
	}
	return nil
}
