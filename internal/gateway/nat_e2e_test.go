package gateway_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// behindNATs are two sites, each behind a router that masquerades, and a hub between that both reach.
type behindNATs struct {
	sites [2]*site
	hub   *site
	nats  [2]*netnstest.Host
}

func newBehindNATs(t testing.TB) *behindNATs {
	t.Helper()
	testenv.RequireRoot(t)
	scope := netnstest.New(t)
	internet := scope.NewSwitch("internet")
	u := &behindNATs{}
	add := func(n int) *site {
		s := &site{number: n, host: scope.NewHost(fmt.Sprint("host", n)), gateway: scope.NewHost(fmt.Sprint("gw", n)), dir: t.TempDir()}
		_, s.inside = scope.Connect(
			netnstest.End{Host: s.host, Name: "eth0", Addrs: netnstest.Prefixes(fmt.Sprintf("172.16.%d.10/24", n))},
			netnstest.End{Host: s.gateway, Name: "host0", Addrs: netnstest.Prefixes(fmt.Sprintf("172.16.%d.1/24", n))},
		)
		s.host.Route(netip.MustParsePrefix("172.16.0.0/16"), netip.MustParseAddr(fmt.Sprintf("172.16.%d.1", n)))
		s.makeKey(t)
		return s
	}
	for i := range u.sites {
		s := add(i + 1)
		nat := scope.NewRouter(fmt.Sprint("nat", i+1))
		_, s.wan = scope.Connect(
			netnstest.End{Host: nat, Name: "in0", Addrs: netnstest.Prefixes(fmt.Sprintf("10.0.%d.1/24", i+1))},
			netnstest.End{Host: s.gateway, Name: "wan0", Addrs: netnstest.Prefixes(fmt.Sprintf("10.0.%d.2/24", i+1))},
		)
		internet.Plug(netnstest.End{Host: nat, Name: "out0", Addrs: netnstest.Prefixes(fmt.Sprintf("198.51.100.1%d/24", i+1))})
		s.gateway.Route(netip.MustParsePrefix("198.51.100.0/24"), netip.MustParseAddr(fmt.Sprintf("10.0.%d.1", i+1)))
		u.sites[i], u.nats[i] = s, nat
		u.masquerade(t, i, "")
	}
	u.hub = add(3)
	u.hub.wan = internet.Plug(netnstest.End{Host: u.hub.gateway, Name: "wan0", Addrs: netnstest.Prefixes("198.51.100.3/24")})
	return u
}

// masquerade makes the rules of a NAT anew: to is what follows "masquerade", and what was translated before is forgotten.
func (u *behindNATs) masquerade(t testing.TB, nat int, to string, more ...string) {
	t.Helper()
	rules := fmt.Sprintf(`flush ruleset
table ip nat {
	chain out { type nat hook postrouting priority srcnat; oifname "out0" meta l4proto udp masquerade %s; }
	chain pass {
		type filter hook forward priority filter
		%s
	}
}
`, to, strings.Join(more, "\n"))
	nft := u.nats[nat].Command(t.Context(), "nft", "-f", "-")
	nft.Stdin = strings.NewReader(rules)
	if out, err := nft.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s\n%s", err, out, rules)
	}
	if err := u.nats[nat].Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }); err != nil {
		t.Fatal(err)
	}
}

// explain logs, after a failure, what the NATs do and what the gateways count.
func (u *behindNATs) explain(t testing.TB) {
	if !t.Failed() {
		return
	}
	for i, nat := range u.nats {
		rules, err := nat.Command(context.Background(), "nft", "list", "ruleset").CombinedOutput()
		t.Logf("NAT %d: %v\n%s", i+1, err, rules)
		if err := nat.Do(func() error {
			flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.FAMILY_V4)
			for _, f := range flows {
				t.Log(f)
			}
			return err
		}); err != nil {
			t.Logf("NAT %d: conntrack: %v", i+1, err)
		}
	}
	for _, s := range u.sites {
		t.Log(s.nonZero(t), s.paths(t))
	}
}

// natPeer is a peer's part of a configuration.
func natPeer(name string, p *site, more string) string {
	return fmt.Sprintf(`  - name: %s
    publicKey: %s
    tunnelAddresses: [%v]
    persistentKeepalive: 25s
%s    vpcs:
      - name: default
        prefixes: [172.16.%d.0/24]
`, name, p.key.PublicKey(), p.tunnel4(), more, p.number)
}

func (s *site) configure(t testing.TB, peers string) {
	t.Helper()
	text := fmt.Sprintf(`site: site%[1]d
gateway: gw%[1]d
ports:
  - name: host0
  - name: wan0
wireguard:
  keyFile: %[2]s/wg.key
  tunnelAddresses: [%[3]v]
vpcs:
  - name: default
    vni: 0
    attachments:
      - type: routed
        port: host0
        prefixes: [172.16.%[1]d.0/24]
peers:
%[4]sapi:
  socket: %[5]s
`, s.number, s.dir, s.tunnel4(), peers, s.socket())
	if err := os.WriteFile(s.config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *site) endpointOf(t testing.TB, peer string) string {
	t.Helper()
	r, err := s.client().Peers(t.Context(), &sluicev1.PeersRequest{Name: peer})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetPeers()[0].GetEndpoint()
}

func (s *site) pings(t testing.TB, to *site) {
	t.Helper()
	s.eventually(t, fmt.Sprintf("site %d is reached", to.number), func() error {
		return netnstest.Ping(t.Context(), s.host, to.addr4(), netnstest.PingOptions{Count: 3, All: true, Timeout: 2 * time.Second})
	})
}

// A NAT gives a gateway another port, and another one again: its peer follows, without a handshake, and whoever speaks first.
func TestAPeerBehindANATIsFollowed(t *testing.T) {
	u := newBehindNATs(t)
	s, hub := u.sites[0], u.hub
	s.configure(t, natPeer("hub", hub, "    endpoint: 198.51.100.3:51820\n"))
	hub.configure(t, natPeer("site1", s, ""))
	u.masquerade(t, 0, "to :40000")
	hub.start(t)
	s.start(t)
	for _, port := range []int{40000, 41000, 42000} {
		if port > 40000 {
			u.masquerade(t, 0, fmt.Sprintf("to :%d", port))
		}
		hub.pings(t, s) // from outside: only what the site sends by itself has told the hub where it is
		s.pings(t, hub)
		if got, want := hub.endpointOf(t, "site1"), fmt.Sprintf("198.51.100.11:%d", port); got != want {
			t.Errorf("the hub sends to %s, not %s", got, want)
		}
	}
	if n := s.counter(t, "relay", "handshake"); n > 4 {
		t.Errorf("%d handshake messages", n)
	}
}
