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
)

// evpnVNI is what site n calls VPC red.
func evpnVNI(n int) int { return 100 + 200*(n-1) }

// writeEVPN writes a configuration in which the only prefix of the other site is what it may announce.
func (s *routed) writeEVPN(t testing.TB, peer *routed) {
	t.Helper()
	bgp := strings.Replace(s.bgp, "  asn: 65001\n", "  asn: 65001\n  evpn: {asn: 65000}\n", 1)
	text := fmt.Sprintf(`site: site%[1]d
gateway: gw%[1]d
ports: [{name: site0}, {name: wan0}]
wireguard:
  keyFile: %[2]s/wg.key
  tunnelAddresses: [%[8]v, "%[9]v"]
  tun: {name: sluice0}
vpcs:
  - name: red
    vni: %[12]d
    attachments: [{type: routed, port: site0}]
peers:
  - name: peer
    publicKey: %[3]s
    endpoint: %[4]s:51820
    tunnelAddresses: [%[10]v, "%[11]v"]
    bgp: {enabled: true}
    vpcs:
      - name: red
        vni: %[13]d
        allowedPrefixes: [10.%[5]d.0.0/16, "fd10:%[5]d::/32"]
api:
  socket: %[6]s
%[7]s`, s.number, s.dir, peer.key.PublicKey(), peer.outer(), peer.number, s.socket(), bgp,
		s.tunnel4(), s.tunnel6(), peer.tunnel4(), peer.tunnel6(), evpnVNI(s.number), evpnVNI(peer.number))
	if err := os.WriteFile(s.config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// peerSession returns the gateway's BGP session with the other gateway, and the routes of both.
func (s *site) peerSession(t testing.TB) (*sluicev1.BGPNeighbour, *sluicev1.BGPResponse, error) {
	t.Helper()
	r, err := s.client().BGP(t.Context(), &sluicev1.BGPRequest{Neighbour: "peer", Routes: true})
	if err != nil {
		return nil, nil, err
	}
	if len(r.GetNeighbours()) != 1 {
		return nil, nil, fmt.Errorf("%d sessions", len(r.GetNeighbours()))
	}
	return r.GetNeighbours()[0], r, nil
}

func (s *site) wantRoute(t testing.TB, prefix, peer string) {
	t.Helper()
	s.eventually(t, "route to "+prefix, func() error {
		routes, err := s.client().Routes(t.Context(), &sluicev1.RoutesRequest{Vpc: "red"})
		if err != nil {
			return err
		}
		for _, r := range routes.GetRoutes() {
			if r.GetPrefix() == prefix && r.GetNextHops()[0].GetPeer() == peer {
				return nil
			}
		}
		return fmt.Errorf("routes are %v", routes.GetRoutes())
	})
}

// Two sites with FRR as their routers, whose gateways know of each other nothing but what each may announce, and call
// their VPC by different VNIs.
func TestGatewaysLearnEachOthersPrefixesInsideTheTunnel(t *testing.T) {
	_, sites := newRoutedSites(t)
	a, b := sites[0], sites[1]
	a.bgp = strings.Replace(a.bgp, "rules: [{prefixLists: [site]}]", "rules: [{}]", 1)
	for i, s := range sites {
		s.writeEVPN(t, sites[1-i])
		s.frr = s.router.StartFRR(fmt.Sprintf(frrConfig, s.number), "")
		s.start(t)
	}
	converge := func() {
		t.Helper()
		for i, s := range sites {
			s.eventually(t, "session with the other gateway", func() error {
				n, _, err := s.peerSession(t)
				if err == nil && n.GetState() != "established" {
					err = fmt.Errorf("it is %v", n)
				}
				return err
			})
			s.wantRoute(t, fmt.Sprintf("10.%d.0.0/24", sites[1-i].number), "peer")
		}
		hostsReachEachOther(t, sites)
	}
	converge()
	b.wantRoute(t, "10.1.0.0/24", "peer")
	b.wantRoute(t, "fd10:1::/64", "peer")
	b.eventually(t, "the router has the other site's prefixes", func() error {
		out, err := b.frr.Do(t.Context(), "show ip route bgp", "show ipv6 route bgp")
		if err == nil && (!strings.Contains(out, "10.1.0.0/24") || !strings.Contains(out, "via 172.20.2.1") || !strings.Contains(out, "fd10:1::/64")) {
			err = errors.New(out)
		}
		return err
	})
	if status := b.status(t); status.GetHealth() != sluicev1.Health_HEALTH_READY {
		t.Errorf("gateway 2 is %v: %q", status.GetHealth(), status.GetProblems())
	}

	// What the first site may not have is refused, counted and told.
	router := func(s *routed, commands ...string) {
		t.Helper()
		if out, err := s.frr.Do(t.Context(), append([]string{"configure terminal", fmt.Sprintf("router bgp 6510%d", s.number)}, commands...)...); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	router(a, "no bgp network import-check", "address-family ipv4 unicast", "network 10.99.0.0/24", "network 10.1.50.0/24")
	b.wantRoute(t, "10.1.50.0/24", "peer")
	b.eventually(t, "the violation is told", func() error {
		n, all, err := b.peerSession(t)
		if err != nil {
			return err
		}
		for _, r := range all.GetReceived() {
			if r.GetPrefix() == "10.99.0.0/24" && r.GetVerdict() == "refused: peer peer may not announce it" && !r.GetBest() && n.GetRefused()["not_allowed"] == 1 {
				if problems := b.status(t).GetProblems(); !strings.Contains(strings.Join(problems, "\n"), "announces 1 prefixes that are refused") {
					return fmt.Errorf("problems are %q", problems)
				}
				return routeGone(t, &b.site, "10.99.0.0/24")
			}
		}
		return fmt.Errorf("routes are %v", all.GetReceived())
	})
	// What nobody announces does not leave, though it may be announced.
	if err := netnstest.Ping(t.Context(), b.host, netip.MustParseAddr("10.1.99.1"), netnstest.PingOptions{Count: 1, Timeout: time.Second}); err == nil {
		t.Error("an address that nobody announces answers")
	}

	// A router takes a prefix back: it is gone at the other site, and its router is told.
	router(a, "address-family ipv4 unicast", "no network 10.1.0.0/24")
	b.eventually(t, "route gone", func() error { return routeGone(t, &b.site, "10.1.0.0/24") })
	b.eventually(t, "the router has lost it", func() error {
		out, err := b.frr.Do(t.Context(), "show ip route bgp")
		if err == nil && strings.Contains(out, "10.1.0.0/24") {
			err = errors.New(out)
		}
		return err
	})
	router(a, "address-family ipv4 unicast", "network 10.1.0.0/24")
	hostsReachEachOther(t, sites)

	// A gateway dies: its routes are gone at once, and back with it.
	if err := a.process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-a.process.Done()
	b.eventually(t, "routes of the dead gateway are gone", func() error { return routeGone(t, &b.site, "10.1.0.0/24") })
	b.eventually(t, "the router has lost them", func() error {
		out, err := b.frr.Do(t.Context(), "show ip route bgp")
		if err == nil && strings.Contains(out, "10.1.") {
			err = errors.New(out)
		}
		return err
	})
	a.start(t)
	converge()
}
