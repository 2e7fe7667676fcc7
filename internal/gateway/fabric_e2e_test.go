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

// fabricBed is a site whose fabric are two leaves with FRR and the kernel's VXLAN, and a plain site:
//
//	host1 - leaf1 - switch - gw1 ~ gw2 - far
//	host2 - leaf2 /
type fabricBed struct {
	scope  *netnstest.Scope
	sites  [2]*site
	leaves [2]*netnstest.Node
	frr    [2]*netnstest.FRR
	far    *netnstest.Host
}

// leafConfig is a leaf that tells the gateway and the other leaf what the kernel knows of hosts.
const leafConfig = `
router bgp 6510%[1]d
 bgp router-id 192.168.1.1%[1]d
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 neighbor 192.168.1.1 remote-as 65001
 neighbor 192.168.1.1 timers connect 1
 neighbor 192.168.1.1 bfd 5 200 200
 neighbor 192.168.1.1%[2]d remote-as 6510%[2]d
 neighbor 192.168.1.1%[2]d timers connect 1
 address-family l2vpn evpn
  neighbor 192.168.1.1 activate
  neighbor 192.168.1.1%[2]d activate
  advertise-all-vni
 exit-address-family
`

// newFabricBed starts everything; the VPC is that VNI: 100 is the hosts' own bridge.
func newFabricBed(t testing.TB, vni int) *fabricBed {
	t.Helper()
	testenv.RequireRoot(t)
	netnstest.RequireRouters(t)
	scope := netnstest.New(t)
	b := &fabricBed{scope: scope, far: scope.NewHost("far")}
	sw := scope.NewSwitch("switch")
	for i := range b.sites {
		b.sites[i] = &site{number: i + 1, gateway: scope.NewHost(fmt.Sprint("gw", i+1)), dir: t.TempDir()}
		b.sites[i].makeKey(t)
	}
	one, two := b.sites[0], b.sites[1]
	one.inside = sw.Plug(netnstest.End{Host: one.gateway, Name: "site0", MTU: 1600, Addrs: netnstest.Prefixes("192.168.1.1/24")})
	_, two.inside = scope.Connect(
		netnstest.End{Host: b.far, Name: "eth0", Addrs: netnstest.Prefixes("10.2.0.10/24", "fd10:2::10/64")},
		netnstest.End{Host: two.gateway, Name: "host0", Addrs: netnstest.Prefixes("10.2.0.1/24", "fd10:2::1/64")})
	b.far.Route(netip.Prefix{}, netip.MustParseAddr("10.2.0.1"))
	b.far.Route(netip.Prefix{}, netip.MustParseAddr("fd10:2::1"))
	one.wan, two.wan = scope.Connect(
		netnstest.End{Host: one.gateway, Name: "wan0", Addrs: netnstest.Prefixes("198.51.100.1/24")},
		netnstest.End{Host: two.gateway, Name: "wan0", Addrs: netnstest.Prefixes("198.51.100.2/24")})
	for i := range b.leaves {
		n := i + 1
		b.leaves[i] = scope.NewLeaf(fmt.Sprint("leaf", n), sw, vtep(n), netnstest.LeafSegment{Segment: netnstest.Segment{Name: "red", VNI: 100},
			MAC: netnstest.MAC(fmt.Sprint("02:00:00:00:01:0", n)), Addrs: netnstest.Prefixes(fmt.Sprintf("10.1.0.24%d/24", n), fmt.Sprintf("fd10:1::24%d/64", n))})
		if vni != 100 {
			b.leaves[i].NewVXLAN(netnstest.VXLAN{Name: "vx-l3", VNI: uint32(vni), Bridge: b.leaves[i].NewBridge("br-l3"), Local: vtep(n).Addr(), NoLearning: true})
		}
		b.frr[i] = b.leaves[i].StartFRR(fmt.Sprintf(leafConfig, n, 3-n), "")
		if vni != 100 { // in the default VRF, as this needs no kernel with others
			if out, err := b.frr[i].Do(t.Context(), "configure terminal", fmt.Sprint("vni ", vni), fmt.Sprint("router bgp 6510", n),
				"address-family ipv4 unicast", "redistribute connected", "exit-address-family", "address-family ipv6 unicast", "redistribute connected", "exit-address-family",
				"address-family l2vpn evpn", "advertise ipv4 unicast", "advertise ipv6 unicast"); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
	}
	b.write(t)
	if vni != 100 {
		b.sites[0].rewrite(t, "vni: 100\n", fmt.Sprintf("vni: %d\n", vni))
		b.sites[0].rewrite(t, "10.1.0.1, \"fd10:1::1\"", "10.1.0.254, \"fd10:1::fffe\"")
		b.sites[1].rewrite(t, "name: red, vni: 100", fmt.Sprintf("name: red, vni: %d", vni))
	}
	for _, s := range b.sites {
		s.start(t)
	}
	return b
}

func (b *fabricBed) write(t testing.TB) {
	t.Helper()
	const first = `      - {type: vxlan, port: site0, prefixes: [10.1.0.0/24, "fd10:1::/64"], vteps: [192.168.1.11, 192.168.1.12], learn: asked}
`
	const second = `      - {type: routed, port: host0, prefixes: [10.2.0.0/24, "fd10:2::/64"]}
`
	for i, s := range b.sites {
		peer := b.sites[1-i]
		text := fmt.Sprintf(`site: site%[1]d
gateway: gw%[1]d
ports: [{name: wan0}, {name: %[2]s}]
wireguard:
  keyFile: %[3]s/wg.key
  tunnelAddresses: [100.64.0.%[1]d]
vpcs:
  - name: red
    vni: %[1]d00
    gatewayAddresses: [%[9]s]
    attachments:
%[4]speers:
  - name: peer
    publicKey: %[5]s
    endpoint: %[6]s:51820
    tunnelAddresses: [100.64.0.%[7]d]
    vpcs:
      - {name: red, vni: %[7]d00, prefixes: [10.%[7]d.0.0/24, "fd10:%[7]d::/64"]}
api:
  socket: %[8]s
`, s.number, s.inside.Name, s.dir, []string{first, second}[i], peer.key.PublicKey(), peer.outer(), peer.number, s.socket(),
			[]string{`10.1.0.1, "fd10:1::1"`, ""}[i])
		if i == 0 {
			text += `bgp:
  asn: 65001
  neighbours:
    - {name: leaf-1, port: site0, address: 192.168.1.11, asn: 65101, evpn: true, connectRetry: 1s, bfd: {interval: 200ms, multiplier: 5}}
    - {name: leaf-2, port: site0, address: 192.168.1.12, asn: 65102, evpn: true, connectRetry: 1s, bfd: {interval: 200ms, multiplier: 5}}
`
		}
		if err := os.WriteFile(s.config(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// pod makes a host behind a leaf, and lets the leaf know of it.
func (b *fabricBed) pod(t testing.TB, name string, leaf, n int) *netnstest.Host {
	t.Helper()
	return b.leaves[leaf-1].NewPod(netnstest.PodOptions{Name: name, Segment: "red", MTU: 1300,
		Addrs:    netnstest.Prefixes(fmt.Sprintf("10.1.0.%d/24", n), fmt.Sprintf("fd10:1::%d/64", n)),
		Gateways: []netip.Addr{netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd10:1::1")}})
}

// wantHost waits until the gateway has been told where an address is.
func (b *fabricBed) wantHost(t testing.TB, address string, leaf int) {
	t.Helper()
	b.sites[0].eventually(t, fmt.Sprintf("%s is told to be at leaf %d", address, leaf), func() error {
		all := b.hosts(t)
		for _, h := range all {
			if h.GetAddress() == address && h.GetSource() == sluicev1.HostSource_HOST_SOURCE_EVPN && h.GetVtep() == vtep(leaf).Addr().String() {
				return nil
			}
		}
		out, err := b.frr[leaf-1].Do(t.Context(), "show bgp l2vpn evpn", "show bgp l2vpn evpn summary")
		return errors.Join(err, fmt.Errorf("hosts are %v; leaf: %s", all, out))
	})
}

func (b *fabricBed) reach(t testing.TB, from *netnstest.Host, to string) {
	t.Helper()
	b.sites[0].eventually(t, from.Name()+" reaches "+to, func() error {
		err := netnstest.Ping(t.Context(), from, netip.MustParseAddr(to), netnstest.PingOptions{Count: 1, Timeout: time.Second})
		if err != nil {
			err = fmt.Errorf("%w; %s", err, b.sites[0].nonZero(t))
		}
		return err
	})
}

func TestAFabricTellsWhereItsHostsAre(t *testing.T) {
	b := newFabricBed(t, 100)
	pods := []*netnstest.Host{b.pod(t, "host1", 1, 11), b.pod(t, "host2", 2, 12)}
	for i, pod := range pods {
		b.reach(t, pod, fmt.Sprintf("10.1.0.24%d", i+1))
		b.reach(t, pod, fmt.Sprintf("fd10:1::24%d", i+1))
	}
	for i, pod := range pods {
		four, six := fmt.Sprintf("10.1.0.1%d", i+1), fmt.Sprintf("fd10:1::1%d", i+1)
		b.wantHost(t, four, i+1)
		b.wantHost(t, six, i+1)
		b.reach(t, b.far, four)
		b.reach(t, b.far, six)
		b.reach(t, pod, "10.2.0.10")
		b.reach(t, pod, "fd10:2::10")
	}

	// A host moves from one leaf to the other, while packets go both ways. The new leaf tells so with a higher sequence number.
	mover := b.mover(t, 15)
	b.reach(t, mover.host, "10.1.0.241")
	b.wantHost(t, "10.1.0.15", 1)
	b.reach(t, b.far, "10.1.0.15")
	address := netip.MustParseAddrPort("10.1.0.15:9000")
	in, err := netnstest.StartStream(b.far, mover.host, address, 1)
	if err != nil {
		t.Fatal(err)
	}
	out, err := netnstest.StartStream(mover.host, b.far, netip.MustParseAddrPort("10.2.0.10:9000"), 1)
	if err != nil {
		t.Fatal(err)
	}
	flows := func(what string) {
		t.Helper()
		for _, stream := range []*netnstest.Stream{in, out} {
			_, before := stream.Counts()
			b.sites[0].eventually(t, what, func() error {
				if _, now := stream.Counts(); now < before+300 {
					return fmt.Errorf("%v: %d packets since", stream, now-before)
				}
				return nil
			})
		}
	}
	flows("packets go both ways")
	mover.to(2)
	b.reach(t, mover.host, "10.1.0.242")
	// FRR may tell of the MAC address alone for a while, as its kernel's neighbour entry is still that of the old leaf: then the gateway has asked.
	b.sites[0].eventually(t, "the host is known to be at leaf 2", func() error {
		for _, h := range b.hosts(t) {
			if h.GetAddress() == "10.1.0.15" && h.GetVtep() == vtep(2).Addr().String() {
				return nil
			}
		}
		return fmt.Errorf("hosts are %v", b.hosts(t))
	})
	flows("packets go both ways after the move")
	for _, stream := range []*netnstest.Stream{in, out} {
		sent, lost := stream.End()
		if lost > 5000 { // 5 s; on an idle machine 150 ms towards the host, and what the links took to change from it
			t.Errorf("%v: %d of %d packets lost; %v", stream, lost, sent, stream.Gaps())
		}
		t.Logf("%v: %d of %d packets lost; %v", stream, lost, sent, stream.Gaps())
	}

	// A host that the attachment may not have is refused, counted and told, and so is a leaf that is none of its VTEPs.
	stranger := b.pod(t, "stranger", 1, 13)
	eth0(stranger).AddAddr(netip.MustParsePrefix("10.1.7.13/24"))
	bridge := &netnstest.Link{Host: b.leaves[0].Host, Name: "br-red"}
	bridge.SetUp(true)
	bridge.AddAddr(netip.MustParsePrefix("10.1.7.241/24"))
	b.reach(t, stranger, "10.1.7.241")
	b.refused(t, "leaf-1", "10.1.7.13/32", "not_allowed", "refused: the neighbour may not announce it")
	b.sites[0].rewrite(t, "vteps: [192.168.1.11, 192.168.1.12]", "vteps: [192.168.1.11]")
	b.sites[0].reload(t)
	b.refused(t, "leaf-2", "10.1.0.12/32", "vtep", "refused: its next hop is no VTEP of the attachment")
	b.sites[0].rewrite(t, "vteps: [192.168.1.11]", "vteps: [192.168.1.11, 192.168.1.12]")
	b.sites[0].reload(t)
	b.wantHost(t, "10.1.0.12", 2)
	b.reach(t, b.far, "10.1.0.12")

	// A leaf dies: BFD notices, and its hosts are told no more.
	for _, daemon := range []string{"bgpd", "bfdd"} {
		if err := b.frr[1].Kill(daemon); err != nil {
			t.Fatal(err)
		}
	}
	b.sites[0].eventually(t, "the hosts of a dead leaf are told no more", func() error {
		for _, h := range b.hosts(t) {
			if h.GetVtep() == vtep(2).Addr().String() && h.GetSource() == sluicev1.HostSource_HOST_SOURCE_EVPN {
				return fmt.Errorf("still told: %v", h)
			}
		}
		return nil
	})
	b.reach(t, b.far, "10.1.0.11")
}

// refused waits until a route of a leaf is refused, counted and told.
func (b *fabricBed) refused(t testing.TB, leaf, prefix, reason, verdict string) {
	t.Helper()
	b.sites[0].eventually(t, prefix+" is refused", func() error {
		r, err := b.sites[0].client().BGP(t.Context(), &sluicev1.BGPRequest{Neighbour: leaf, Routes: true})
		if err != nil {
			return err
		}
		for _, route := range r.GetReceived() {
			if route.GetPrefix() != prefix || route.GetVerdict() != verdict || route.GetBest() {
				continue
			}
			if r.GetNeighbours()[0].GetRefused()[reason] == 0 {
				return fmt.Errorf("not counted: %v", r.GetNeighbours())
			}
			if p := strings.Join(b.sites[0].status(t).GetProblems(), "\n"); !strings.Contains(p, "bgp neighbour "+leaf+": tells of") {
				return fmt.Errorf("problems: %q", p)
			}
			return nil
		}
		return fmt.Errorf("routes: %v", r.GetReceived())
	})
}

func (b *fabricBed) hosts(t testing.TB) []*sluicev1.Host {
	t.Helper()
	r, err := b.sites[0].client().Hosts(t.Context(), &sluicev1.HostsRequest{Vpc: "red"})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetHosts()
}

// mover is a host with a link to each leaf, one of which is up.
type mover struct {
	host  *netnstest.Host
	links [2]*netnstest.Link
}

func (b *fabricBed) mover(t testing.TB, n int) *mover {
	t.Helper()
	m := &mover{host: b.scope.NewHost("mover")}
	bridge := m.host.NewBridge("br0")
	bridge.SetMAC(netnstest.MAC("02:00:00:00:00:15"))
	for i, leaf := range b.leaves {
		at := &netnstest.Link{Host: leaf.Host, Name: "br-red"}
		at.SetUp(true) // it is; this finds its index
		m.links[i], _ = b.scope.Connect(netnstest.End{Host: m.host, Name: fmt.Sprint("eth", i), MTU: 1300, Bridge: bridge},
			netnstest.End{Host: leaf.Host, Name: "mover", MTU: 1300, Bridge: at})
	}
	m.links[1].SetUp(false)
	for _, a := range netnstest.Prefixes(fmt.Sprintf("10.1.0.%d/24", n), fmt.Sprintf("fd10:1::%d/64", n)) {
		bridge.AddAddr(a)
	}
	m.host.Route(netip.Prefix{}, netip.MustParseAddr("10.1.0.1"))
	m.host.Route(netip.Prefix{}, netip.MustParseAddr("fd10:1::1"))
	return m
}

// to moves the host to a leaf.
func (m *mover) to(leaf int) {
	m.links[2-leaf].SetUp(false)
	m.links[leaf-1].SetUp(true)
}

// The VPC is a fabric's L3VNI, in which leaves route between their own bridges.
func TestAFabricsLeavesRouteToOtherSites(t *testing.T) {
	b := newFabricBed(t, 1000)
	pods := []*netnstest.Host{b.pod(t, "host1", 1, 11), b.pod(t, "host2", 2, 12)}
	for i, pod := range pods {
		pod.Route(netip.MustParsePrefix("10.2.0.0/24"), netip.MustParseAddr(fmt.Sprintf("10.1.0.24%d", i+1)))
		pod.Route(netip.MustParsePrefix("fd10:2::/64"), netip.MustParseAddr(fmt.Sprintf("fd10:1::24%d", i+1)))
		b.reach(t, pod, fmt.Sprintf("10.1.0.24%d", i+1))
		b.reach(t, pod, fmt.Sprintf("fd10:1::24%d", i+1))
	}
	for i, pod := range pods {
		b.wantHost(t, fmt.Sprintf("10.1.0.1%d", i+1), i+1)
		b.wantHost(t, fmt.Sprintf("fd10:1::1%d", i+1), i+1)
		b.reach(t, pod, "10.2.0.10")
		b.reach(t, pod, "fd10:2::10")
		b.reach(t, b.far, fmt.Sprintf("10.1.0.1%d", i+1))
		b.reach(t, b.far, fmt.Sprintf("fd10:1::1%d", i+1))
	}
}
