package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// overlayBed is a site of nodes with an overlay, whose pods nobody has placed, and a site with a routed host in the same VPC.
type overlayBed struct {
	testing.TB
	scope *netnstest.Scope
	sw    *netnstest.Switch
	sites [2]*site
	nodes []*netnstest.Node
	kind  string // vxlan or geneve
	more  string // of the overlay's attachment
}

const nodeCount = 3

func vtep(node int) netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf("192.168.1.%d/24", 10+node))
}

// newOverlayBed builds it; more goes into the configuration of the attachment.
func newOverlayBed(t testing.TB, kind, more string) *overlayBed {
	t.Helper()
	testenv.RequireRoot(t)
	if kind == "geneve" {
		if err := netnstest.CheckOVS(); err != nil {
			t.Skip(err)
		}
	}
	b := &overlayBed{TB: t, scope: netnstest.New(t), kind: kind, more: more}
	b.sw = b.scope.NewSwitch("switch")
	for i := range b.sites {
		s := &site{number: i + 1, gateway: b.scope.NewHost(fmt.Sprint("gw", i+1)), dir: t.TempDir()}
		s.makeKey(t)
		b.sites[i] = s
	}
	one, two := b.sites[0], b.sites[1]
	one.inside = b.sw.Plug(netnstest.End{Host: one.gateway, Name: "site0", MTU: 1600, Addrs: netnstest.Prefixes("192.168.1.1/24")})
	two.host = b.scope.NewHost("host2")
	_, two.inside = b.scope.Connect(
		netnstest.End{Host: two.host, Name: "eth0", Addrs: netnstest.Prefixes("10.2.0.10/24", "fd10:2::10/64")},
		netnstest.End{Host: two.gateway, Name: "host0", Addrs: netnstest.Prefixes("10.2.0.1/24", "fd10:2::1/64")},
	)
	two.host.Route(netip.MustParsePrefix("10.1.0.0/16"), netip.MustParseAddr("10.2.0.1"))
	two.host.Route(netip.MustParsePrefix("fd10:1::/64"), netip.MustParseAddr("fd10:2::1"))
	one.wan, two.wan = b.scope.Connect(
		netnstest.End{Host: one.gateway, Name: "wan0", Addrs: netnstest.Prefixes("198.51.100.1/24")},
		netnstest.End{Host: two.gateway, Name: "wan0", Addrs: netnstest.Prefixes("198.51.100.2/24")},
	)
	for n := range nodeCount {
		o := netnstest.NodeOptions{Name: fmt.Sprint("node", n+1), Switch: b.sw, VTEP: vtep(n + 1),
			Remotes: []netip.Addr{netip.MustParseAddr("192.168.1.1")}, Segments: []netnstest.Segment{{Name: "red", VNI: 100}}}
		for other := range nodeCount {
			if other != n {
				o.Remotes = append(o.Remotes, vtep(other+1).Addr())
			}
		}
		if kind == "geneve" {
			b.nodes = append(b.nodes, b.scope.NewOVSNode(o))
		} else {
			b.nodes = append(b.nodes, b.scope.NewVXLANNode(o))
		}
	}
	b.write("", "")
	return b
}

// write writes both configurations; ports and attachments are more of these at site 1.
func (b *overlayBed) write(ports, attachments string) {
	b.Helper()
	for i, s := range b.sites {
		peer := b.sites[1-i]
		text := fmt.Sprintf(`site: site%[1]d
gateway: gw%[1]d
ports:
  - name: wan0
  - name: %[2]s
%[8]swireguard:
  keyFile: %[3]s/wg.key
  tunnelAddresses: [100.64.0.%[1]d]
vpcs:
  - name: red
    vni: %[1]d00
    gatewayAddresses: [10.%[1]d.0.1, "fd10:%[1]d::1"]
    hostTimeout: 4s
    attachments:
%[4]speers:
  - name: peer
    publicKey: %[5]s
    endpoint: %[6]s:51820
    tunnelAddresses: [100.64.0.%[7]d]
    vpcs:
      - name: red
        vni: %[7]d00
        prefixes: [10.%[7]d.0.0/16, "fd10:%[7]d::/64"]
api:
  socket: %[9]s
`, s.number, s.inside.Name, s.dir, map[int]string{
			0: fmt.Sprintf("      - {type: %s, port: site0, prefixes: [10.1.0.0/16, \"fd10:1::/64\"]%s}\n%s", b.kind, b.more, attachments),
			1: "      - {type: routed, port: host0, prefixes: [10.2.0.0/24, \"fd10:2::/64\"]}\n",
		}[i], peer.key.PublicKey(), peer.outer(), peer.number, map[int]string{0: ports}[i], s.socket())
		if i == 1 {
			text = strings.Replace(text, `gatewayAddresses: [10.2.0.1, "fd10:2::1"]`, "gatewayAddresses: []", 1) // its ports have them
		}
		if err := os.WriteFile(s.config(), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
}

func (b *overlayBed) start() {
	b.Helper()
	for _, s := range b.sites {
		s.start(b)
	}
}

// pod makes pod number n, behind a node. It knows its own addresses and the gateway, and says nothing.
func (b *overlayBed) pod(name string, node, n int, mac string) *netnstest.Host {
	b.Helper()
	o := netnstest.PodOptions{Name: name, Segment: "red", MTU: 1300, Addrs: podAddrs(n),
		Gateways: []netip.Addr{netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd10:1::1")}}
	if mac != "" {
		o.MAC = netnstest.MAC(mac)
	}
	return b.nodes[node-1].NewPod(o)
}

// eth0 is a pod's link.
func eth0(pod *netnstest.Host) *netnstest.Link {
	l := &netnstest.Link{Host: pod, Name: "eth0"}
	l.SetUp(true) // it is; this finds its index
	return l
}

func podAddrs(n int) []netip.Prefix {
	return netnstest.Prefixes(fmt.Sprintf("10.1.0.%d/16", n), fmt.Sprintf("fd10:1::%d/64", n))
}

func (b *overlayBed) ping(from *netnstest.Host, to netip.Addr, o netnstest.PingOptions) {
	b.Helper()
	if err := netnstest.Ping(b.Context(), from, to, o); err != nil {
		for _, s := range b.sites {
			b.Log(s.nonZero(b))
		}
		b.Log(b.hosts())
		b.Fatal(err)
	}
}

func (b *overlayBed) hosts() []*sluicev1.Host {
	b.Helper()
	r, err := b.sites[0].client().Hosts(b.Context(), &sluicev1.HostsRequest{Vpc: "red"})
	if err != nil {
		b.Fatal(err)
	}
	return r.GetHosts()
}

func (b *overlayBed) host(address string) *sluicev1.Host {
	b.Helper()
	for _, h := range b.hosts() {
		if h.GetAddress() == address {
			return h
		}
	}
	return nil
}

func overlays(t *testing.T, more string, f func(*testing.T, *overlayBed)) {
	for _, kind := range []string{"vxlan", "geneve"} {
		t.Run(kind, func(t *testing.T) { f(t, newOverlayBed(t, kind, more)) })
	}
}

var allVTEPs = func() string {
	var out []string
	for n := range nodeCount {
		out = append(out, vtep(n+1).Addr().String())
	}
	return ", vteps: [" + strings.Join(out, ", ") + "]"
}()

func TestPodsThatNobodyHasPlacedAreReached(t *testing.T) {
	overlays(t, allVTEPs, func(t *testing.T, b *overlayBed) {
		talker, silent := b.pod("talker", 1, 11, ""), b.pod("silent", 2, 12, "")
		b.start()
		far := b.sites[1].host
		patient := netnstest.PingOptions{Count: 3, All: true, Timeout: 4 * time.Second}
		// The pod speaks first: it is learned from that.
		b.ping(talker, netip.MustParseAddr("10.2.0.10"), patient)
		b.ping(talker, netip.MustParseAddr("fd10:2::10"), patient)
		b.ping(far, netip.MustParseAddr("10.1.0.11"), patient)
		for _, address := range []string{"10.1.0.11", "fd10:1::11"} {
			if h := b.host(address); h.GetVtep() != vtep(1).Addr().String() || h.GetSource() != sluicev1.HostSource_HOST_SOURCE_LEARNED {
				t.Errorf("talker: %v", h)
			}
		}
		// The pod never spoke: it is asked for, and the first packet waits.
		b.ping(far, netip.MustParseAddr("10.1.0.12"), patient)
		b.ping(far, netip.MustParseAddr("fd10:1::12"), patient)
		if h := b.host("10.1.0.12"); h.GetVtep() != vtep(2).Addr().String() || h.GetSource() != sluicev1.HostSource_HOST_SOURCE_RESOLVED {
			t.Errorf("silent pod: %v", h)
		}
		// Nobody has the address: the sender is told, and the question does not go on for ever.
		if err := netnstest.Ping(t.Context(), far, netip.MustParseAddr("10.1.0.99"), netnstest.PingOptions{Count: 1, Timeout: 3 * time.Second}); err == nil {
			t.Error("nobody's address answers")
		}
		if h := b.host("10.1.0.99"); h.GetState() != sluicev1.HostState_HOST_STATE_SILENT {
			t.Errorf("nobody's address: %v", h)
		}
		// A pod that is there, but idle for longer than hostTimeout, stays; one that is gone goes.
		eth0(silent).SetUp(false)
		b.sites[0].eventually(t, "the pod that is gone is forgotten", func() error {
			if h := b.host("10.1.0.12"); h != nil && h.GetState() == sluicev1.HostState_HOST_STATE_KNOWN {
				return fmt.Errorf("still known: %v", h)
			}
			return nil
		})
		if h := b.host("10.1.0.11"); h.GetState() != sluicev1.HostState_HOST_STATE_KNOWN {
			t.Errorf("the pod that is there: %v", h)
		}
	})
}

func TestAPodThatMovesWithoutAWordIsFollowed(t *testing.T) {
	for name, again := range map[string]string{"with its MAC address": "02:00:00:00:00:15", "with another MAC address": "02:00:00:00:00:16"} {
		t.Run(name, func(t *testing.T) {
			overlays(t, allVTEPs, func(t *testing.T, b *overlayBed) {
				before := b.pod("before", 1, 15, "02:00:00:00:00:15")
				after := b.pod("after", 2, 16, again)
				link := eth0(after)
				link.SetUp(false)
				b.start()
				to := netip.MustParseAddr("10.1.0.15")
				b.ping(b.sites[1].host, to, netnstest.PingOptions{Count: 10}) // the first may be lost: this is about the move
				marker := []byte("to-the-pod-that-moves")
				watch := watchLink(t, b.nodes[0].Host, "eth0", marker)

				// The pod goes, and comes up at the other node with the same address. Nothing announces it.
				eth0(before).SetUp(false)
				link.SetUp(true)
				link.AddAddr(netip.PrefixFrom(to, 16))
				after.Route(netip.Prefix{}, netip.MustParseAddr("10.1.0.1")) // the kernel's went with the link
				start := time.Now()
				for {
					err := netnstest.Ping(t.Context(), b.sites[1].host, to, netnstest.PingOptions{Count: 1, Timeout: 100 * time.Millisecond, Payload: marker})
					if err == nil {
						break
					}
					if time.Since(start) > 10*time.Second {
						t.Fatalf("not reached: %v; %v", err, b.hosts())
					}
				}
				took := time.Since(start)
				t.Logf("reached after %v", took)
				if took > 5*time.Second { // 1.2 s it takes on an idle machine; the figure itself is the learner's test's
					t.Errorf("it took %v", took)
				}
				b.sites[0].eventually(t, "the move is known", func() error {
					if h := b.host("10.1.0.15"); h.GetVtep() != vtep(2).Addr().String() {
						return fmt.Errorf("%v", h)
					}
					return nil
				})
				sawBefore := watch.Load()
				b.ping(b.sites[1].host, to, netnstest.PingOptions{Count: 20, All: true, Payload: marker})
				if n := watch.Load() - sawBefore; n != 0 {
					t.Errorf("%d packets still went to the old node", n)
				}
			})
		})
	}
}

// watchLink counts the packets on a link that contain the marker.
func watchLink(t *testing.T, h *netnstest.Host, name string, marker []byte) *atomic.Int64 {
	t.Helper()
	count, fd := new(atomic.Int64), -1
	err := h.Do(func() (err error) {
		i, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		const all = 0x0300 // ETH_P_ALL, in the order of the wire
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		return errors.Join(unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index}),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000}))
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2048)
		for ctx.Err() == nil {
			if n, err := unix.Read(fd, buf); err == nil && bytes.Contains(buf[:n], marker) {
				count.Add(1)
			}
		}
	}()
	t.Cleanup(func() { stop(); <-done; unix.Close(fd) })
	return count
}

func TestAPodThatAnnouncesItselfElsewhereIsFollowed(t *testing.T) {
	overlays(t, allVTEPs, func(t *testing.T, b *overlayBed) {
		before, after := b.pod("before", 1, 15, ""), b.pod("after", 2, 16, "")
		b.start()
		for _, to := range []netip.Addr{netip.MustParseAddr("10.1.0.15"), netip.MustParseAddr("fd10:1::15")} {
			b.ping(b.sites[1].host, to, netnstest.PingOptions{Count: 10})
		}
		eth0(before).SetUp(false)
		// The kernel announces addresses that are added: gratuitous ARP, unsolicited advertisement.
		after.Sysctl("net.ipv4.conf.eth0.arp_notify", "1")
		after.Sysctl("net.ipv6.conf.eth0.ndisc_notify", "1")
		link := eth0(after)
		for _, p := range podAddrs(15) {
			link.AddAddr(p)
		}
		// Nobody sends to the pod meanwhile: it is its announcement that is followed. It announces itself again until it is
		// heard, since its node may lose the first: Open vSwitch drops what it has no neighbour for yet.
		for _, address := range []string{"10.1.0.15", "fd10:1::15"} {
			var announced time.Time
			b.sites[0].eventually(t, "the announced move is known", func() error {
				if time.Since(announced) > time.Second {
					announced = time.Now()
					link.SetMAC(netnstest.MAC("02:00:00:00:00:77"))
				}
				if h := b.host(address); h.GetVtep() != vtep(2).Addr().String() {
					return fmt.Errorf("%v; %s", h, b.sites[0].nonZero(t))
				}
				return nil
			})
		}
	})
}

func TestAPodThatClaimsTheAddressOfAnotherDoesNotGetIt(t *testing.T) {
	b := newOverlayBed(t, "vxlan", allVTEPs)
	b.pod("victim", 1, 21, "02:00:00:00:00:21")
	thief := b.pod("thief", 2, 22, "02:00:00:00:00:22")
	b.start()
	far, address := b.sites[1].host, netip.MustParseAddr("10.1.0.21")
	patient := netnstest.PingOptions{Count: 3, All: true, Timeout: 4 * time.Second}
	b.ping(far, address, patient)
	// The thief sends from the victim's address, again and again.
	eth0(thief).AddAddr(netip.PrefixFrom(address, 32))
	stop := time.Now().Add(3 * time.Second)
	for time.Now().Before(stop) {
		err := thief.Do(func() error {
			conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: address.AsSlice()}, &net.UDPAddr{IP: net.IPv4(10, 2, 0, 10), Port: 9})
			if err != nil {
				return err
			}
			_, err = conn.Write([]byte("it is me"))
			if errors.Is(err, unix.ECONNREFUSED) {
				err = nil
			}
			return errors.Join(err, conn.Close())
		})
		if err != nil {
			t.Fatal(err)
		}
		b.ping(far, address, netnstest.PingOptions{Count: 1, Timeout: 4 * time.Second})
		time.Sleep(50 * time.Millisecond)
	}
	h := b.host("10.1.0.21")
	if h.GetVtep() != vtep(1).Addr().String() || h.GetMac() != "02:00:00:00:00:21" || h.GetConflicts() == 0 || h.GetMoves() != 0 {
		t.Errorf("the victim: %v", h)
	}
	if p := strings.Join(b.sites[0].status(t).GetProblems(), "\n"); !strings.Contains(p, "10.1.0.21 answers at 192.168.1.11, but another host claims it") {
		t.Errorf("problems: %q", p)
	}
}

// A gateway that is a node of its own site: the kernel's VXLAN device has the pods' bridge, and a veth pair leads from the
// bridge to a port with a routed attachment of the VPC. See docs/overlays.md.
func TestPodsOnTheGatewayHostTalkToTheOtherSite(t *testing.T) {
	b := newOverlayBed(t, "vxlan", allVTEPs)
	gw := b.sites[0].gateway
	bridge := gw.NewBridge("br-red")
	remotes := make([]netip.Addr, 0, nodeCount)
	for n := range nodeCount {
		remotes = append(remotes, vtep(n+1).Addr())
	}
	gw.NewVXLAN(netnstest.VXLAN{Name: "vx-red", VNI: 100, Bridge: bridge, Local: netip.MustParseAddr("192.168.1.1"), Remote: remotes})
	b.scope.Connect(
		netnstest.End{Host: gw, Name: "pods0", MAC: netnstest.MAC("02:51:ce:00:00:64"), Addrs: netnstest.Prefixes("10.1.0.1/16", "fd10:1::1/64")},
		netnstest.End{Host: gw, Name: "red0", Bridge: bridge})
	local := b.scope.NewHost("local")
	b.scope.Connect(
		netnstest.End{Host: local, Name: "eth0", MTU: 1300, Addrs: netnstest.Prefixes("10.1.9.5/16", "fd10:1::9:5/64")},
		netnstest.End{Host: gw, Name: "pod1", MTU: 1300, Bridge: bridge})
	local.Route(netip.Prefix{}, netip.MustParseAddr("10.1.0.1"))
	local.Route(netip.MustParsePrefix("::/0"), netip.MustParseAddr("fd10:1::1"))
	elsewhere := b.pod("elsewhere", 1, 31, "")
	b.write("  - name: pods0\n", "      - {type: routed, port: pods0, prefixes: [10.1.9.0/24, \"fd10:1::9:0/112\"]}\n")
	b.start()
	patient := netnstest.PingOptions{Count: 3, All: true, Timeout: 4 * time.Second}
	far := b.sites[1].host
	for _, family := range []struct{ local, elsewhere, far string }{
		{"10.1.9.5", "10.1.0.31", "10.2.0.10"}, {"fd10:1::9:5", "fd10:1::31", "fd10:2::10"},
	} {
		address := netip.MustParseAddr
		b.ping(far, address(family.local), patient)       // a pod on the gateway host that never spoke
		b.ping(local, address(family.far), patient)       //
		b.ping(elsewhere, address(family.far), patient)   // pods of other nodes go on as before
		b.ping(far, address(family.elsewhere), patient)   //
		b.ping(local, address(family.elsewhere), patient) // by the kernel's VXLAN, past Sluice
		b.ping(elsewhere, address(family.local), patient) //
	}
	if h := b.host("10.1.0.31"); h.GetVtep() != vtep(1).Addr().String() {
		t.Errorf("the pod elsewhere: %v", h)
	}
}
