package gateway_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// pair is a site with two gateways (or three) behind one router, and another site with one:
//
//	host - router - switch = gateway 1, gateway 3 ~ WAN switch ~ gateway 2 - host
type pair struct {
	scope *netnstest.Scope
	host  *netnstest.Host
	tor   *netnstest.Host
	frr   *netnstest.FRR
	links []*netnstest.Link // the switch's, to the gateways
	gates []*site           // 1 and 3, perhaps 4
	far   *site             // 2
}

// detection is how soon these tests' gateways and routers notice that somebody is dead: BFD, probes, and the lease of a
// cluster. A busy machine keeps a process waiting for half a second. SLUICE_INTERVAL=60ms is BFD's, times three, and leaves
// probes and lease as they are by default: it shows what those are good for.
func detection(t testing.TB) (interval time.Duration, multiplier int) {
	text := os.Getenv("SLUICE_INTERVAL")
	if text == "" {
		return 250 * time.Millisecond, 4
	}
	interval, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("SLUICE_INTERVAL: %v", err)
	}
	return interval, 3
}

// mostLost is what a flow through a gateway that dies may lose: until it is noticed, and generously 700 ms more.
func mostLost(t testing.TB) time.Duration {
	interval, multiplier := detection(t)
	return interval*time.Duration(multiplier) + 700*time.Millisecond
}

// seldom are cases that every run of all tests need not have.
func seldom() bool { return os.Getenv("SLUICE_SOAK") == "" && os.Getenv("SLUICE_INTERVAL") == "" }

// pairFRR is the router of the gateways, which %s are: it shares flows between them, and BFD tells it who is dead.
const pairFRR = `
router bgp 65101
 bgp router-id 10.1.0.1
 no bgp ebgp-requires-policy
%s address-family ipv4 unicast
  network 10.1.0.0/24
  maximum-paths 4
 exit-address-family
`

// newPair builds it; cluster, unless it is empty, is the cluster's VPCs in the configuration of the two gateways. Nothing runs yet but
// the router.
func newPair(t testing.TB, cluster string) *pair { return newGateways(t, 2, cluster) }

func newGateways(t testing.TB, n int, cluster string) *pair {
	t.Helper()
	testenv.RequireRoot(t)
	netnstest.RequireRouters(t)
	p := &pair{scope: netnstest.New(t)}
	p.host, p.tor = p.scope.NewHost("host1"), p.scope.NewHost("tor1")
	p.scope.Connect(
		netnstest.End{Host: p.host, Name: "eth0", Addrs: netnstest.Prefixes("10.1.0.10/24")},
		netnstest.End{Host: p.tor, Name: "host0", Addrs: netnstest.Prefixes("10.1.0.1/24")},
	)
	p.host.Route(netip.Prefix{}, netip.MustParseAddr("10.1.0.1"))
	p.tor.Sysctl("net.ipv4.fib_multipath_hash_policy", "1") // by ports, too
	lan := p.scope.NewHost("lan")
	ports := lan.NewBridge("br0")
	p.scope.Connect(
		netnstest.End{Host: lan, Name: "tor", Bridge: ports},
		netnstest.End{Host: p.tor, Name: "gw0", Addrs: netnstest.Prefixes("172.20.0.2/24")},
	)
	wan := p.scope.NewHost("wan")
	bridge := wan.NewBridge("br0")
	gate := func(n int) *site {
		s := &site{number: n, gateway: p.scope.NewHost(fmt.Sprint("gw", n)), dir: t.TempDir()}
		_, s.wan = p.scope.Connect(
			netnstest.End{Host: wan, Name: fmt.Sprint("gw", n), Bridge: bridge},
			netnstest.End{Host: s.gateway, Name: "wan0", Addrs: netnstest.Prefixes(fmt.Sprintf("198.51.100.%d/24", n))},
		)
		var err error
		if s.key, err = wireguard.NewPrivateKey(); err != nil {
			t.Fatal(err)
		}
		if err := s.key.WriteFile(filepath.Join(s.dir, "wg.key")); err != nil {
			t.Fatal(err)
		}
		return s
	}
	p.far = gate(2)
	for _, number := range []int{1, 3, 4}[:n] {
		s := gate(number)
		p.gates = append(p.gates, s)
		s.host = p.host
		var link *netnstest.Link
		link, s.inside = p.scope.Connect(
			netnstest.End{Host: lan, Name: fmt.Sprint("gw", s.number), Bridge: ports},
			netnstest.End{Host: s.gateway, Name: "site0", Addrs: netnstest.Prefixes(fmt.Sprintf("172.20.0.%d/24", s.number))},
		)
		p.links = append(p.links, link)
	}
	p.far.host = p.scope.NewHost("host2")
	_, p.far.inside = p.scope.Connect(
		netnstest.End{Host: p.far.host, Name: "eth0", Addrs: netnstest.Prefixes("10.2.0.10/24")},
		netnstest.End{Host: p.far.gateway, Name: "site0", Addrs: netnstest.Prefixes("10.2.0.1/24")},
	)
	p.far.host.Route(netip.Prefix{}, netip.MustParseAddr("10.2.0.1"))
	interval, multiplier := detection(t)
	for i, s := range p.gates {
		p.write(t, s, `  - name: default
    attachments: [{type: routed, port: site0}]
`, p.peer(t, p.far, "", "10.2.0.0/16"), p.members(t, s, cluster), fmt.Sprintf(`bgp:
  asn: 65001
  routerID: 10.255.0.%[1]d
  policies: [{name: all, rules: [{}]}]
  neighbours:
    - {name: tor, port: site0, address: 172.20.0.2, asn: 65101, import: all, export: all, connectRetry: 1s, bfd: {interval: %[2]v, multiplier: %[3]d}}
`, s.number, interval, multiplier), p.clusterText(t, s, cluster, 200-i))
	}
	site1 := ""
	for _, s := range p.gates {
		site1 += p.peer(t, s, "    cluster: site1\n", "10.1.0.0/16")
	}
	p.write(t, p.far, `  - name: default
    attachments: [{type: routed, port: site0, prefixes: [10.2.0.0/24]}]
`, site1)
	neighbours := ""
	for _, s := range p.gates {
		neighbours += fmt.Sprintf(` neighbor 172.20.0.%[1]d remote-as 65001
 neighbor 172.20.0.%[1]d timers connect 1
 neighbor 172.20.0.%[1]d bfd %[3]d %[2]d %[2]d
`, s.number, interval.Milliseconds(), multiplier)
	}
	p.frr = p.tor.StartFRR(fmt.Sprintf(pairFRR, neighbours), "")
	return p
}

// peer is another gateway in a configuration; more is said about it, and without prefixes it has no VPCs.
func (p *pair) peer(t testing.TB, s *site, more string, prefixes string) string {
	probe := ""
	if interval, multiplier := detection(t); os.Getenv("SLUICE_INTERVAL") == "" {
		probe = fmt.Sprintf("    probe: {interval: %v, multiplier: %d}\n", interval, multiplier)
	}
	text := fmt.Sprintf("  - name: gw%d\n    publicKey: %s\n    endpoint: %s:51820\n    tunnelAddresses: [%v]\n%s%s",
		s.number, s.key.PublicKey(), s.outer(), s.tunnel4(), probe, more)
	if prefixes != "" {
		text += fmt.Sprintf("    vpcs: [{name: default, prefixes: [%s]}]\n", prefixes)
	}
	return text
}

// write writes a configuration: the peers come first in rest.
func (p *pair) write(t testing.TB, s *site, vpcs string, rest ...string) {
	t.Helper()
	text := fmt.Sprintf(`site: site%[1]d
gateway: gw%[1]d
ports: [{name: site0}, {name: wan0}]
wireguard:
  keyFile: %[2]s/wg.key
  tunnelAddresses: [%[3]v]
api:
  socket: %[4]s
vpcs:
%[5]speers:
%[6]s`, s.number, s.dir, s.tunnel4(), s.socket(), vpcs, strings.Join(rest, ""))
	if err := os.WriteFile(s.config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ways waits until the router sends to so many gateways.
func (p *pair) ways(t testing.TB, want int) {
	t.Helper()
	var out []byte
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		out, _ = p.tor.Command(t.Context(), "ip", "route", "show", "10.2.0.0/16").CombinedOutput()
		if strings.Count(string(out), "via 172.20.") == want {
			return
		}
	}
	said, err := p.frr.Do(t.Context(), "show bgp summary", "show bgp ipv4 unicast", "show bfd peers brief", "show interface brief")
	t.Fatalf("the router has not %d ways: %s\n%s %v", want, out, said, err)
}

// members are the other gateways of a cluster in the configuration of one.
func (p *pair) members(t testing.TB, of *site, cluster string) (text string) {
	for _, s := range p.gates {
		if s != of && cluster != "" {
			text += p.peer(t, s, "", "")
		}
	}
	return text
}

// clusterText is what one gateway's configuration says of the cluster; %[1]d in it is the priority. Two gateways need a witness.
func (p *pair) clusterText(t testing.TB, of *site, cluster string, priority int) string {
	if cluster == "" {
		return ""
	}
	interval, multiplier := detection(t)
	var members []string
	for _, s := range p.gates {
		if s != of {
			members = append(members, fmt.Sprint("gw", s.number))
		}
	}
	text := fmt.Sprintf("cluster:\n  members: [%s]\n  holdDown: 3s\n", strings.Join(members, ", "))
	if os.Getenv("SLUICE_INTERVAL") == "" { // with it, the lease is the default one
		text += fmt.Sprintf("  interval: %v\n  multiplier: %d\n", interval, multiplier)
	}
	if len(p.gates) == 2 {
		text += "  witnesses: [gw2]\n"
	}
	return text + fmt.Sprintf(cluster, priority)
}

// Two gateways share a site's flows in both directions. One dies, or loses its site or its WAN: its flows are lost for as
// long as BFD and the probes take to notice, and nothing of the other's.
func TestTwoGatewaysShareASiteAndOneDies(t *testing.T) {
	p := newPair(t, "")
	p.far.start(t)
	for _, s := range p.gates {
		s.start(t)
	}
	f := p.flows(t)
	whole := func() {
		p.ways(t, 2)
		for _, s := range p.gates {
			p.far.waitLive(t, fmt.Sprint("gw", s.number), sluicev1.LiveState_LIVE_STATE_UP)
			s.waitLive(t, "gw2", sluicev1.LiveState_LIVE_STATE_UP)
		}
		f.settles(t)
		// One that has come back is sent to only when it has been READY for a while.
		p.gates[0].eventually(t, "both gateways have flows, and each flow one gateway", func() error {
			r := f.run(t, 600*time.Millisecond, func() {})
			flows, _, _ := r.of("gw1")
			others, _, _ := r.of("gw3")
			if _, lost := r.total(); flows < 20 || others < 20 || flows+others != 2*f.flows || lost > 0 {
				return fmt.Errorf("%d and %d flows of %d, %d packets are lost", flows, others, 2*f.flows, lost)
			}
			return nil
		})
	}
	whole()
	stages := p.watchStages(t)
	dying := p.gates[0]
	signal := func(s syscall.Signal) func() {
		return func() { _ = dying.process.Process.Signal(s) }
	}
	for _, c := range []struct {
		name      string
		seldom    bool
		die, live func()
	}{
		{"cut off from the WAN", false, func() { dying.wan.SetUp(false) }, func() { dying.wan.SetUp(true) }},
		{"cut off from the site", true, func() { dying.inside.SetUp(false) }, func() { dying.inside.SetUp(true) }},
		{"frozen", true, signal(syscall.SIGSTOP), signal(syscall.SIGCONT)},
		{"killed", false, signal(syscall.SIGKILL), func() { <-dying.process.Done(); dying.start(t) }},
	} {
		if c.seldom && seldom() {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			var then time.Time
			r := f.run(t, mostLost(t)+1500*time.Millisecond, func() { then = time.Now(); c.die() })
			stages.since(t, then)
			flows, lost, worst := r.of("gw1")
			others, lostOthers, _ := r.of("gw3")
			t.Logf("%d flows of the dead gateway lost %d packets, the worst of them %v; by direction %v; %d of the other lost %d", flows, lost, worst, r.worst(), others, lostOthers)
			if flows < 20 || others < 20 || flows+others != 2*f.flows {
				t.Errorf("%d flows are the dead gateway's, %d the other's: it should be about half of %d", flows, others, 2*f.flows)
			}
			if worst > mostLost(t) {
				t.Errorf("a flow lost %v", worst)
			}
			if lostOthers > 0 {
				t.Errorf("%d packets of the other gateway's flows were lost", lostOthers)
			}
			c.live()
			whole()
		})
	}
}
