package gateway_test

import (
	"context"
	"errors"
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
	u.translate(t, nat, to, more...)
	if err := u.nats[nat].Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }); err != nil {
		t.Fatal(err)
	}
}

// translate is masquerade for flows to come: those that the NAT knows go on as they are.
func (u *behindNATs) translate(t testing.TB, nat int, to string, more ...string) {
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
}

// forgets has a NAT forget a flow after so many seconds without a packet.
func (u *behindNATs) forgets(nat, seconds int) {
	for _, name := range []string{"udp_timeout", "udp_timeout_stream"} {
		u.nats[nat].Sysctl("net.netfilter.nf_conntrack_"+name, fmt.Sprint(seconds))
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

// A NAT forgets a flow that is silent: keepalives keep a gateway's way in, and without any it is lost until the gateway speaks. A
// NAT whose own address changes is followed as soon as a probe of the gateway's has come through.
func TestANATForgetsAndMoves(t *testing.T) {
	u := newBehindNATs(t)
	s, hub := u.sites[0], u.hub
	const silent = "    probe: {enabled: false}\n    mtu: 1400\n" // nothing is sent unasked but keepalives
	s.configure(t, natPeer("hub", hub, silent+"    endpoint: 198.51.100.3:51820\n"))
	hub.configure(t, natPeer("site1", s, silent))
	s.rewrite(t, "persistentKeepalive: 25s", "persistentKeepalive: 1s")
	hub.rewrite(t, "    persistentKeepalive: 25s\n", "")
	u.masquerade(t, 0, "to :40000", unasked)
	u.forgets(0, 4)
	hub.start(t)
	s.start(t)
	hub.pings(t, s)
	u.translate(t, 0, "to :41000", unasked)
	time.Sleep(6 * time.Second)
	if err := netnstest.Ping(t.Context(), hub.host, s.addr4(), netnstest.PingOptions{Count: 3, All: true, Timeout: 2 * time.Second}); err != nil {
		t.Errorf("with keepalives: %v", err)
	}
	if got := hub.endpointOf(t, "site1"); got != "198.51.100.11:40000" {
		t.Errorf("the NAT has forgotten the flow: the hub sends to %s", got)
	}

	s.edit(t, "persistentKeepalive: 1s", "persistentKeepalive: 0s")
	u.forgets(0, 1)
	hub.pings(t, s) // from here on it is forgotten after a second
	u.translate(t, 0, "to :42000", unasked)
	time.Sleep(2500 * time.Millisecond)
	if err := netnstest.Ping(t.Context(), hub.host, s.addr4(), netnstest.PingOptions{Count: 2, Timeout: time.Second}); err == nil {
		t.Error("without keepalives the NAT still lets the hub in")
	}
	s.pings(t, hub)
	hub.pings(t, s)
	if got := hub.endpointOf(t, "site1"); got != "198.51.100.11:42000" {
		t.Errorf("the hub sends to %s", got)
	}

	u.forgets(0, 30)
	for _, g := range []*site{s, hub} {
		g.edit(t, "probe: {enabled: false}", "probe: {interval: 100ms}")
	}
	alive := func() error {
		if p := hub.peer(t, "site1"); p.GetLiveness().GetState() != sluicev1.LiveState_LIVE_STATE_UP {
			return errors.New(p.String())
		}
		return nil
	}
	hub.eventually(t, "the peer answers probes", alive)
	in := startStream(t, hub.host, s.host, s.addr4(), twinsStream4, 1) // from outside: it teaches the hub nothing
	time.Sleep(300 * time.Millisecond)
	run(t, u.nats[0], "ip", "addr", "del", "198.51.100.11/24", "dev", "out0")
	run(t, u.nats[0], "ip", "addr", "add", "198.51.100.21/24", "dev", "out0")
	hub.eventually(t, "the new address is known", func() error {
		if got := hub.endpointOf(t, "site1"); got != "198.51.100.21:42000" {
			return errors.New(got)
		}
		return alive()
	})
	time.Sleep(300 * time.Millisecond)
	sent, lost := in.End()
	t.Logf("the NAT's address changed: lost are %v of %v", time.Duration(lost)*time.Millisecond, time.Duration(sent)*time.Millisecond)
	// A probe comes every 100 ms, and after three that are not answered the peer is not sent to until three are: about half a second.
	if lost == 0 || lost > 3000 {
		t.Errorf("%d of %d packets lost: %s", lost, sent, in.Gaps())
	}
}
