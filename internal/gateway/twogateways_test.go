package gateway_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// twoGateways is a site with a router and two gateways, which it balances flows over, and a site with one gateway:
//
//	host1 - tor - gw1, gw3 ~ wan ~ gw2 - host2
type twoGateways struct {
	scope  *netnstest.Scope
	host   *netnstest.Host
	router *netnstest.Host
	oslo   [2]*site // 1 and 3
	bergen *site    // 2
	frr    *netnstest.FRR
	bird   *netnstest.BIRD
}

var (
	twinsHost6, bergenHost4    = netip.MustParseAddr("fd10:1::10"), netip.MustParseAddr("10.2.0.10")
	twinsPrefixes              = `[10.1.0.0/16, "fd10:1::/32"]`
	bergenPrefixes             = `[10.2.0.0/16, "fd10:2::/32"]`
	twinsStream4, twinsStream6 = uint16(9004), uint16(9006)
)

// newTwoGateways builds both sites; nothing runs yet. more is added to the gateways' configurations.
func newTwoGateways(t testing.TB, more string) *twoGateways {
	t.Helper()
	testenv.RequireRoot(t)
	netnstest.RequireRouters(t)
	scope := netnstest.New(t)
	w := &twoGateways{scope: scope, host: scope.NewHost("host1"), router: scope.NewHost("tor")}
	scope.Connect(
		netnstest.End{Host: w.host, Name: "eth0", Addrs: netnstest.Prefixes("10.1.0.10/24", "fd10:1::10/64")},
		netnstest.End{Host: w.router, Name: "host0", Addrs: netnstest.Prefixes("10.1.0.1/24", "fd10:1::1/64")},
	)
	w.host.Route(netip.Prefix{}, netip.MustParseAddr("10.1.0.1"))
	w.host.Route(netip.Prefix{}, netip.MustParseAddr("fd10:1::1"))
	for _, family := range []string{"ipv4", "ipv6"} { // by flow, not by addresses alone
		w.router.Sysctl("net."+family+".fib_multipath_hash_policy", "1")
	}
	wan := scope.NewSwitch("wan")
	add := func(n int) *site {
		s := &site{number: n, gateway: scope.NewHost(fmt.Sprint("gw", n)), dir: t.TempDir()}
		s.wan = wan.Plug(netnstest.End{Host: s.gateway, Name: "wan0", Addrs: netnstest.Prefixes(s.outer() + "/24")})
		s.makeKey(t)
		return s
	}
	for i, n := range []int{1, 3} {
		s := add(n)
		s.host = w.host
		_, s.inside = scope.Connect(
			netnstest.End{Host: w.router, Name: fmt.Sprint("gw", n), Addrs: netnstest.Prefixes(fmt.Sprintf("172.20.%d.2/24", n), fmt.Sprintf("fd20:%d::2/64", n))},
			netnstest.End{Host: s.gateway, Name: "site0", Addrs: netnstest.Prefixes(fmt.Sprintf("172.20.%d.1/24", n), fmt.Sprintf("fd20:%d::1/64", n))},
		)
		w.oslo[i] = s
	}
	w.bergen = add(2)
	w.bergen.host = scope.NewHost("host2")
	_, w.bergen.inside = scope.Connect(
		netnstest.End{Host: w.bergen.host, Name: "eth0", Addrs: netnstest.Prefixes("10.2.0.10/24", "fd10:2::10/64")},
		netnstest.End{Host: w.bergen.gateway, Name: "site0", Addrs: netnstest.Prefixes("10.2.0.1/24", "fd10:2::1/64")},
	)
	w.bergen.host.Route(netip.Prefix{}, netip.MustParseAddr("10.2.0.1"))
	w.bergen.host.Route(netip.Prefix{}, netip.MustParseAddr("fd10:2::1"))

	for _, s := range w.oslo {
		bgp := fmt.Sprintf(bgpConfig, 1)
		bgp = strings.ReplaceAll(bgp, "10.255.0.1", fmt.Sprint("10.255.0.", s.number))
		bgp = strings.ReplaceAll(bgp, "172.20.1.2", fmt.Sprintf("172.20.%d.2", s.number))
		s.writeTwin(t, "{type: routed, port: site0}", peerText("bergen", w.bergen, bergenPrefixes), bgp+more)
	}
	w.bergen.writeTwin(t, "{type: routed, port: site0, prefixes: "+bergenPrefixes+"}",
		peerText("oslo-1", w.oslo[0], twinsPrefixes)+peerText("oslo-2", w.oslo[1], twinsPrefixes), more)
	return w
}

// peerText is a peer that counts as dead after two seconds: these tests are not about how soon that is noticed, and other
// processes may keep a gateway from its processor for longer than the default of 300 ms.
func peerText(name string, p *site, prefixes string) string {
	return fmt.Sprintf(`  - name: %s
    publicKey: %s
    endpoint: %s:51820
    tunnelAddresses: [%v, "%v"]
    probe: {multiplier: 20}
    vpcs: [{name: default, prefixes: %s}]
`, name, p.key.PublicKey(), p.outer(), p.tunnel4(), p.tunnel6(), prefixes)
}

func (s *site) writeTwin(t testing.TB, attachment, peers, more string) {
	t.Helper()
	text := fmt.Sprintf(`site: site
gateway: gw%d
ports: [{name: site0}, {name: wan0}]
wireguard:
  keyFile: %s/wg.key
  tunnelAddresses: [%v, "%v"]
vpcs:
  - name: default
    attachments: [%s]
peers:
%sapi:
  socket: %s
%s`, s.number, s.dir, s.tunnel4(), s.tunnel6(), attachment, peers, s.socket(), more)
	if err := os.WriteFile(s.config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// twinsFRR is a router that balances over both gateways, and heeds GRACEFUL_SHUTDOWN.
const twinsFRR = `
bgp community-list standard leaving permit graceful-shutdown
route-map heed permit 10
 match community leaving
 set local-preference 0
route-map heed permit 20
router bgp 65101
 bgp router-id 10.1.0.1
 no bgp ebgp-requires-policy
 neighbor 172.20.1.1 remote-as 65001
 neighbor 172.20.1.1 timers connect 1
 neighbor 172.20.3.1 remote-as 65001
 neighbor 172.20.3.1 timers connect 1
 address-family ipv4 unicast
  network 10.1.0.0/24
  maximum-paths 4
  neighbor 172.20.1.1 route-map heed in
  neighbor 172.20.3.1 route-map heed in
 exit-address-family
 address-family ipv6 unicast
  network fd10:1::/64
  maximum-paths 4
  neighbor 172.20.1.1 activate
  neighbor 172.20.1.1 route-map heed in
  neighbor 172.20.3.1 activate
  neighbor 172.20.3.1 route-map heed in
 exit-address-family
`

func (w *twoGateways) startFRR() { w.frr = w.router.StartFRR(twinsFRR, "") }

// startBIRD starts a router that balances over both gateways, and has never heard of GRACEFUL_SHUTDOWN.
func (w *twoGateways) startBIRD() {
	text := `
router id 10.1.0.1;
protocol device { scan time 1; }
protocol direct { ipv4; ipv6; interface "host0"; }
protocol kernel { ipv4 { export all; }; merge paths on; }
protocol kernel { ipv6 { export all; }; merge paths on; }
`
	for _, s := range w.oslo {
		text += fmt.Sprintf(`protocol bgp gw%[1]d {
  local 172.20.%[1]d.2 as 65101;
  neighbor 172.20.%[1]d.1 as 65001;
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv4 { import all; export where source = RTS_DEVICE; };
  ipv6 { import all; export where source = RTS_DEVICE; next hop address fd20:%[1]d::2; };
}
`, s.number)
	}
	w.bird = w.router.StartBIRD(text)
}

// streams starts streams between the hosts, IPv4 in one direction and IPv6 in the other.
func (w *twoGateways) streams(t testing.TB, perMilli int) []*netnstest.Stream {
	t.Helper()
	return []*netnstest.Stream{
		startStream(t, w.host, w.bergen.host, bergenHost4, twinsStream4, perMilli),
		startStream(t, w.bergen.host, w.host, twinsHost6, twinsStream6, perMilli),
	}
}

// flows waits until streams lose nothing and each of the gateways carries packets both ways.
func (w *twoGateways) flows(t testing.TB, through ...*site) {
	t.Helper()
	w.bergen.eventually(t, "streams flow", func() error {
		before := make(map[*site]*sluicev1.VPC)
		for _, s := range through {
			before[s] = s.carried(t)
		}
		running := w.streams(t, 1)
		time.Sleep(200 * time.Millisecond)
		var err error
		for _, s := range running {
			if sent, lost := s.End(); lost > 0 {
				err = fmt.Errorf("%s: %d of %d lost", s, lost, sent)
			}
		}
		if err != nil {
			return err
		}
		for _, s := range through {
			now := s.carried(t)
			if now.GetToPeersPackets() < before[s].GetToPeersPackets()+10 || now.GetToSitePackets() < before[s].GetToSitePackets()+10 {
				return fmt.Errorf("gateway %d carries nothing, it was %v and is %v", s.number, before[s], now)
			}
		}
		return nil
	})
}

// carried is what the gateway has carried of the default VPC.
func (s *site) carried(t testing.TB) *sluicev1.VPC {
	t.Helper()
	r, err := s.client().VPCs(t.Context(), &sluicev1.VPCsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetVpcs()[0]
}

// carries waits until a gateway carries packets both ways, of streams that are on.
func (s *site) carries(t testing.TB) {
	t.Helper()
	before := s.carried(t)
	s.eventually(t, "packets go through it both ways", func() error {
		if now := s.carried(t); now.GetToPeersPackets() < before.GetToPeersPackets()+10 || now.GetToSitePackets() < before.GetToSitePackets()+10 {
			return errors.New(now.String())
		}
		return nil
	})
}

func startStream(t testing.TB, from, to *netnstest.Host, dst netip.Addr, port uint16, perMilli int) *netnstest.Stream {
	t.Helper()
	s, err := netnstest.StartStream(from, to, netip.AddrPortFrom(dst, port), perMilli)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.End() })
	return s
}
