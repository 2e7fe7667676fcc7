package gateway_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// twoRouters is a site with two routers, each on a port of its own, in front of the same hosts, and a site without any:
//
//	host1 - switch - tor1, tor2 - gw1 ~ gw2 - host2
type twoRouters struct {
	host1, host2 *netnstest.Host
	gw1, gw2     *site
	tors         [2]*netnstest.Host
	links        [2]*netnstest.Link // the gateway's, towards each
	torLinks     [2]*netnstest.Link // the other ends
	frr          [2]*netnstest.FRR
}

// torConfig is a router that announces the hosts' prefixes, keeps forwarding while its BGP restarts, and may be restarting
// for 3 seconds, and for half a minute more when nothing better is there.
const torConfig = `
router bgp 65101
 bgp router-id 10.1.0.%[1]d
 no bgp ebgp-requires-policy
 bgp graceful-restart
 bgp graceful-restart preserve-fw-state
 bgp graceful-restart restart-time 3
 bgp long-lived-graceful-restart stale-time 30
 neighbor 172.20.%[1]d.1 remote-as 65001
 neighbor 172.20.%[1]d.1 timers connect 1
%[2]s
 address-family ipv4 unicast
  network 10.1.0.0/24
 exit-address-family
 address-family ipv6 unicast
  neighbor 172.20.%[1]d.1 activate
  network fd10:1::/64
 exit-address-family
`

// newTwoRouters builds both sites, starts everything and waits until both routers are in use. more is added to each
// neighbour of the gateway, and to FRR's.
func newTwoRouters(t testing.TB, more, frr string) *twoRouters {
	t.Helper()
	testenv.RequireRoot(t)
	netnstest.RequireRouters(t)
	scope := netnstest.New(t)
	w := &twoRouters{host1: scope.NewHost("host1"), host2: scope.NewHost("host2")}
	lan := scope.NewSwitch("lan")
	lan.Plug(netnstest.End{Host: w.host1, Name: "eth0", Addrs: netnstest.Prefixes("10.1.0.10/24", "fd10:1::10/64")})
	w.host1.Route(netip.Prefix{}, netip.MustParseAddr("10.1.0.1"))
	w.host1.Route(netip.Prefix{}, netip.MustParseAddr("fd10:1::1"))
	for i, s := range []**site{&w.gw1, &w.gw2} {
		made := &site{number: i + 1, gateway: scope.NewHost(fmt.Sprint("gw", i+1)), dir: t.TempDir()}
		made.host = []*netnstest.Host{w.host1, w.host2}[i]
		made.makeKey(t)
		*s = made
	}
	w.gw1.wan, w.gw2.wan = scope.Connect(
		netnstest.End{Host: w.gw1.gateway, Name: "wan0", Addrs: netnstest.Prefixes("198.51.100.1/24")},
		netnstest.End{Host: w.gw2.gateway, Name: "wan0", Addrs: netnstest.Prefixes("198.51.100.2/24")},
	)
	scope.Connect(
		netnstest.End{Host: w.host2, Name: "eth0", Addrs: netnstest.Prefixes("10.2.0.10/24", "fd10:2::10/64")},
		netnstest.End{Host: w.gw2.gateway, Name: "site0", Addrs: netnstest.Prefixes("10.2.0.1/24", "fd10:2::1/64")},
	)
	w.host2.Route(netip.Prefix{}, netip.MustParseAddr("10.2.0.1"))
	w.host2.Route(netip.Prefix{}, netip.MustParseAddr("fd10:2::1"))
	neighbours := ""
	for i := range w.tors {
		n := i + 1
		tor := scope.NewHost(fmt.Sprint("tor", n))
		w.tors[i] = tor
		lan.Plug(netnstest.End{Host: tor, Name: "host0", Addrs: netnstest.Prefixes(fmt.Sprintf("10.1.0.%d/24", n), fmt.Sprintf("fd10:1::%d/64", n))})
		w.torLinks[i], w.links[i] = scope.Connect(
			netnstest.End{Host: tor, Name: "gw0", Addrs: netnstest.Prefixes(fmt.Sprintf("172.20.%d.2/24", n), fmt.Sprintf("fd20:%d::2/64", n))},
			netnstest.End{Host: w.gw1.gateway, Name: fmt.Sprint("site", n), Addrs: netnstest.Prefixes(fmt.Sprintf("172.20.%d.1/24", n), fmt.Sprintf("fd20:%d::1/64", n))},
		)
		neighbours += fmt.Sprintf(`    - name: tor-%[1]d
      port: site%[1]d
      address: 172.20.%[1]d.2
      asn: 65101
      import: all
      export: all
      connectRetry: 1s
%[2]s`, n, more)
	}
	w.gw1.writeTwin(t, "{type: routed, port: site1}, {type: routed, port: site2}", peerText("peer", w.gw2, bergenPrefixes), `bgp:
  asn: 65001
  routerID: 10.255.0.1
  maxPaths: 2
  policies: [{name: all, rules: [{}]}]
  neighbours:
`+neighbours)
	w.gw1.rewrite(t, "ports: [{name: site0},", "ports: [{name: site1}, {name: site2},")
	w.gw2.writeTwin(t, "{type: routed, port: site0, prefixes: "+bergenPrefixes+"}", peerText("peer", w.gw1, twinsPrefixes), "")
	for i := range w.tors {
		w.frr[i] = w.tors[i].StartFRR(fmt.Sprintf(torConfig, i+1, fmt.Sprintf(frr, i+1)), "")
	}
	w.gw1.start(t)
	w.gw2.start(t)
	w.best(t, 2, 2)
	w.flows(t, true, true)
	return w
}

// best waits until so many routes of each router are in use.
func (w *twoRouters) best(t testing.TB, want ...uint64) {
	t.Helper()
	w.gw1.eventually(t, fmt.Sprintf("%v routes are in use", want), func() error {
		for i, n := range want {
			if got, err := w.neighbour(t, i); err != nil || got.GetBest() != n {
				return errors.Join(err, fmt.Errorf("%v", got))
			}
		}
		return nil
	})
}

func (w *twoRouters) neighbour(t testing.TB, i int) (*sluicev1.BGPNeighbour, error) {
	t.Helper()
	r, err := w.gw1.client().BGP(t.Context(), &sluicev1.BGPRequest{Neighbour: fmt.Sprint("tor-", i+1)})
	if err != nil {
		return nil, err
	}
	return r.GetNeighbours()[0], nil
}

// flows waits until a stream to the site loses nothing and goes through just these routers.
func (w *twoRouters) flows(t testing.TB, through ...bool) {
	t.Helper()
	w.gw1.eventually(t, "stream flows", func() error {
		before := w.sent(t)
		s := startStream(t, w.host2, w.host1, netip.MustParseAddr("10.1.0.10"), twinsStream4, 1)
		rate := 0
		if through[0] { // the host sends to the first router only
			rate = 1
		}
		back := startStream(t, w.host1, w.host2, netip.MustParseAddr("10.2.0.10"), twinsStream6+1, rate)
		time.Sleep(200 * time.Millisecond)
		_, lostBack := back.End()
		sent, lost := s.End()
		if lost+lostBack > 0 {
			return fmt.Errorf("%d of %d lost, and %d back", lost, sent, lostBack)
		}
		for i, now := range w.sent(t) {
			if carries := now > before[i]+uint64(sent)/10; carries != through[i] {
				return fmt.Errorf("router %d got %d of %d packets", i+1, now-before[i], sent)
			}
		}
		return nil
	})
}

// sent is how many packets the gateway has sent to each router.
func (w *twoRouters) sent(t testing.TB) (out [2]uint64) {
	t.Helper()
	for i, link := range w.links {
		l, err := w.gw1.gateway.Netlink().LinkByName(link.Name)
		if err != nil {
			t.Fatal(err)
		}
		out[i] = l.Attrs().Statistics.TxPackets
	}
	return out
}

// Two routers share the flows. One closes its session, as for maintenance, and comes back; then BGP's settings change, and no
// session begins anew that need not; then one router's BGP hangs, and its routes are not kept: nothing is lost.
func TestFlowsAreBalancedOverTwoRoutersAndMove(t *testing.T) {
	w := newTwoRouters(t, "", " ! %d")
	s := startStream(t, w.host2, w.host1, netip.MustParseAddr("10.1.0.10"), twinsStream6, 2)
	if _, err := w.frr[0].Do(t.Context(), "configure terminal", "router bgp 65101", "neighbor 172.20.1.1 shutdown"); err != nil {
		t.Fatal(err)
	}
	w.best(t, 0, 2)
	w.flows(t, false, true)
	if _, err := w.frr[0].Do(t.Context(), "configure terminal", "router bgp 65101", "no neighbor 172.20.1.1 shutdown"); err != nil {
		t.Fatal(err)
	}
	w.best(t, 2, 2)
	w.flows(t, true, true)

	back := startStream(t, w.host1, w.host2, netip.MustParseAddr("10.2.0.10"), twinsStream4, 1)
	const later = "    - {name: later, port: site1, address: 172.20.1.99, asn: 65199, passive: true, import: all, export: all}\n"
	before := w.ended(t)
	for _, change := range [][2]string{
		{"    - name: tor-1\n", later + "    - name: tor-1\n"},
		{"policies: [{name: all, rules: [{}]}]", `policies: [{name: all, rules: [{addCommunities: ["65001:7"]}]}]`},
		{"maxPaths: 2", "maxPaths: 1"},
		{"      connectRetry: 1s\n", "      connectRetry: 2s\n      maxPrefixes: 50\n"},
		{"      address: 172.20.2.2\n", "      address: 172.20.2.2\n      holdTime: 6s\n      bfd: {interval: 300ms, multiplier: 3}\n"},
		{"maxPaths: 1", "maxPaths: 2"},
		{later, ""},
	} {
		w.gw1.edit(t, change[0], change[1])
		time.Sleep(200 * time.Millisecond)
	}
	w.best(t, 2, 2)
	if now := w.ended(t); now != before {
		t.Errorf("sessions ended: %v, before %v", now, before)
	}

	w.gw1.edit(t, "holdTime: 6s", "holdTime: 6s\n      restartTime: 0s") // that needs a new session, and has the new hold time
	w.gw1.eventually(t, "the session has begun anew", func() error {
		if n, err := w.neighbour(t, 1); err != nil || n.GetState() != "established" || n.GetHoldTime().AsDuration() != 6*time.Second {
			return errors.Join(err, errors.New(n.String()))
		}
		return nil
	})
	w.best(t, 2, 2)
	if err := w.frr[1].Freeze("bgpd"); err != nil {
		t.Fatal(err)
	}
	w.best(t, 2, 0)
	w.flows(t, true, false)
	if err := w.frr[1].Thaw("bgpd"); err != nil {
		t.Fatal(err)
	}
	w.best(t, 2, 2)
	for _, s := range []*netnstest.Stream{s, back} {
		if sent, lost := s.End(); lost > 0 {
			t.Errorf("%s: %d of %d packets lost: %s", s, lost, sent, s.Gaps())
		}
	}
}

// ended is how many sessions with each router have ended.
func (w *twoRouters) ended(t testing.TB) (out [2]uint64) {
	t.Helper()
	for i := range out {
		n, err := w.neighbour(t, i)
		if err != nil {
			t.Fatal(err)
		}
		out[i] = n.GetEnded()
	}
	return out
}

// One of two routers dies: the other takes over as soon as BFD has noticed. Three seconds of silence, as under the race
// detector half as much has been seen from a router that was well; without BFD it would be the hold time.
func TestADeadRouterIsLeftAlone(t *testing.T) {
	w := newTwoRouters(t, "      bfd: {interval: 300ms, multiplier: 10}\n", " neighbor 172.20.%d.1 bfd 10 300 300")
	s := startStream(t, w.host2, w.host1, netip.MustParseAddr("10.1.0.10"), twinsStream6, 2)
	time.Sleep(300 * time.Millisecond)
	w.torLinks[1].SetUp(false)
	w.best(t, 2, 0)
	time.Sleep(300 * time.Millisecond)
	sent, lost := s.End()
	t.Logf("%d of %d packets were lost, %v of half of the stream", lost, sent, time.Duration(lost)*time.Millisecond)
	if lost == 0 || lost > 12_000 {
		t.Errorf("%d of %d packets lost: nothing was cut off, or more than twelve seconds of half the stream", lost, sent)
	}
}

// BGP of a router crashes, its forwarding goes on: what it has announced stays, as the last resort, for as long as it may
// restart and then for as long as RFC 9494 lets it; nothing is lost. The same when it hangs for longer than the hold time.
func TestARouterWhoseBGPCrashesGoesOnForwarding(t *testing.T) {
	w := newTwoRouters(t, "      restartTime: 3s\n      longLivedTime: 30s\n      holdTime: 6s\n", " ! %d")
	s := startStream(t, w.host2, w.host1, netip.MustParseAddr("fd10:1::10"), twinsStream6, 2)
	// IPv4: FRR's zebra takes an IPv6 route away before it puts the one in its place that a restarted bgpd tells it.
	back := startStream(t, w.host1, w.host2, netip.MustParseAddr("10.2.0.10"), twinsStream4, 1)
	stale := func(i int, want uint64, state string) {
		t.Helper()
		w.gw1.eventually(t, fmt.Sprintf("router %d is %s with %d stale routes", i+1, state, want), func() error {
			n, err := w.neighbour(t, i)
			if err == nil && (n.GetStale() != want || (n.GetState() == "established") != (state == "up")) {
				err = errors.New(n.String())
			}
			return err
		})
	}
	// One of two: the other is better than what is stale.
	if err := w.frr[1].Kill("bgpd"); err != nil {
		t.Fatal(err)
	}
	stale(1, 2, "down")
	w.best(t, 2, 0)
	// Both: what is stale is better than nothing.
	if err := w.frr[0].Kill("bgpd"); err != nil {
		t.Fatal(err)
	}
	stale(0, 2, "down")
	w.best(t, 2, 2)
	time.Sleep(4 * time.Second) // the restart time is over, the long-lived one has begun
	stale(0, 2, "down")
	w.best(t, 2, 2)
	// One comes back, and is better than the other at once.
	if err := w.frr[0].Start("bgpd"); err != nil {
		t.Fatal(err)
	}
	stale(0, 0, "up")
	w.best(t, 2, 0)
	if err := w.frr[1].Start("bgpd"); err != nil {
		t.Fatal(err)
	}
	stale(1, 0, "up")
	w.best(t, 2, 2)
	// Both hang.
	for i := range w.frr {
		if err := w.frr[i].Freeze("bgpd"); err != nil {
			t.Fatal(err)
		}
	}
	stale(0, 2, "down")
	stale(1, 2, "down")
	time.Sleep(4 * time.Second)
	stale(0, 2, "down")
	w.best(t, 2, 2)
	wantAll := func(s *netnstest.Stream) {
		t.Helper()
		if sent, lost := s.End(); lost > 0 {
			t.Errorf("%s: %d of %d packets lost: %s; %s; %s", s, lost, sent, s.Gaps(), w.gw1.nonZero(t), w.gw2.nonZero(t))
		}
	}
	wantAll(back) // a router that finds its session gone takes away what the gateway has announced until there is another
	for i := range w.frr {
		if err := w.frr[i].Thaw("bgpd"); err != nil {
			t.Fatal(err)
		}
	}
	stale(0, 0, "up")
	stale(1, 0, "up")
	w.best(t, 2, 2)
	wantAll(s)
}

// Two tenants have everything the same: addresses, prefixes, even the network between router and gateway. Each has a
// session of its own, and nothing of the one gets to the other.
func TestTwoVPCsWithTheSamePrefixesKeepApart(t *testing.T) {
	testenv.RequireRoot(t)
	netnstest.RequireRouters(t)
	scope := netnstest.New(t)
	tenants := []string{"red", "blue"}
	var hosts [2][2]*netnstest.Host // by site and tenant
	var sites [2]*site
	for i := range sites {
		n := i + 1
		s := &site{number: n, gateway: scope.NewHost(fmt.Sprint("gw", n)), dir: t.TempDir()}
		for _, f := range []string{"all", "default"} { // the same network is on two interfaces
			s.gateway.Sysctl("net.ipv4.conf."+f+".rp_filter", "0")
			s.gateway.Sysctl("net.ipv4.conf."+f+".arp_ignore", "1")
			s.gateway.Sysctl("net.ipv4.conf."+f+".arp_announce", "2")
		}
		s.makeKey(t)
		for j, tenant := range tenants {
			host, tor := scope.NewHost(fmt.Sprint(tenant, n)), scope.NewHost(fmt.Sprint("tor-", tenant, n))
			hosts[i][j] = host
			scope.Connect(
				netnstest.End{Host: host, Name: "eth0", Addrs: netnstest.Prefixes(fmt.Sprintf("10.%d.0.10/24", n), fmt.Sprintf("fd10:%d::10/64", n))},
				netnstest.End{Host: tor, Name: "host0", Addrs: netnstest.Prefixes(fmt.Sprintf("10.%d.0.1/24", n), fmt.Sprintf("fd10:%d::1/64", n))},
			)
			host.Route(netip.Prefix{}, netip.MustParseAddr(fmt.Sprintf("10.%d.0.1", n)))
			host.Route(netip.Prefix{}, netip.MustParseAddr(fmt.Sprintf("fd10:%d::1", n)))
			scope.Connect(
				netnstest.End{Host: tor, Name: "gw0", Addrs: netnstest.Prefixes(fmt.Sprintf("172.20.%d.2/24", n), fmt.Sprintf("fd20:%d::2/64", n))},
				netnstest.End{Host: s.gateway, Name: "to-" + tenant, Addrs: netnstest.Prefixes(fmt.Sprintf("172.20.%d.1/24", n), fmt.Sprintf("fd20:%d::1/64", n))},
			)
			tor.StartFRR(fmt.Sprintf(frrConfig, n), "")
		}
		sites[i] = s
	}
	sites[0].wan, sites[1].wan = scope.Connect(
		netnstest.End{Host: sites[0].gateway, Name: "wan0", Addrs: netnstest.Prefixes("198.51.100.1/24")},
		netnstest.End{Host: sites[1].gateway, Name: "wan0", Addrs: netnstest.Prefixes("198.51.100.2/24")},
	)
	for i, s := range sites {
		peer := sites[1-i]
		bgp, _, _ := strings.Cut(fmt.Sprintf(bgpConfig, s.number), "  neighbours:\n")
		bgp += "  neighbours:\n"
		for _, tenant := range tenants {
			bgp += fmt.Sprintf("    - {name: tor-%[2]s, port: to-%[2]s, address: 172.20.%[1]d.2, asn: 6510%[1]d, import: from-site, export: to-site, connectRetry: 1s}\n", s.number, tenant)
		}
		prefixes := fmt.Sprintf(`[10.%[1]d.0.0/16, "fd10:%[1]d::/32"]`, peer.number)
		s.writeTwin(t, "", peerText("peer", peer, prefixes), bgp)
		s.rewrite(t, "ports: [{name: site0},", "ports: [{name: to-red}, {name: to-blue},")
		s.rewrite(t, "  - name: default\n    attachments: []\n", `  - {name: red, vni: 100, attachments: [{type: routed, port: to-red}]}
  - {name: blue, vni: 200, attachments: [{type: routed, port: to-blue}]}
`)
		s.rewrite(t, "vpcs: [{name: default, prefixes: "+prefixes+"}]", fmt.Sprintf("vpcs: [{name: red, vni: 100, prefixes: %[1]s}, {name: blue, vni: 200, prefixes: %[1]s}]", prefixes))
		s.start(t)
	}
	// Each tenant's stream has a port of its own, on which the other's host listens in vain.
	for j, tenant := range tenants {
		for _, dst := range []netip.Addr{netip.MustParseAddr("10.2.0.10"), netip.MustParseAddr("fd10:2::10")} {
			other := startStream(t, hosts[1][1-j], hosts[1][1-j], dst, 9100+uint16(j), 0)
			sites[0].eventually(t, fmt.Sprintf("%s reaches %s", tenant, dst), func() error {
				s := startStream(t, hosts[0][j], hosts[1][j], dst, 9100+uint16(j), 1)
				time.Sleep(100 * time.Millisecond)
				if sent, lost := s.End(); lost > 0 {
					return fmt.Errorf("%d of %d lost", lost, sent)
				}
				return nil
			})
			if strange := other.Strange(); strange > 0 {
				t.Errorf("%d packets of %s have come to the other tenant", strange, tenant)
			}
			other.End()
		}
	}
	for _, s := range sites {
		routes, err := s.client().Routes(t.Context(), &sluicev1.RoutesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		count := make(map[string]int)
		for _, r := range routes.GetRoutes() {
			count[r.GetPrefix()]++
		}
		for _, p := range []string{"10.1.0.0", "10.2.0.0"} {
			if n := count[p+"/24"] + count[p+"/16"]; n != 2 {
				t.Errorf("gateway %d has %d routes to %s: %v", s.number, n, p, count)
			}
		}
	}
}
