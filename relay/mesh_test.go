package relay

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/sluicegw/sluice/afxdp"
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/relay/relaytest"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// mesh is some sites that all have the same addresses, with a WAN between them. Each site is known to the others by
// addresses of its own. The default VPC and red have a routed host each at every site.
type mesh struct {
	t        testing.TB
	gateways []*gateway // site n at n-1
	// carries says whether the WAN carries a frame from one site to another; nil: all of them.
	carries func(from, to int, b []byte) bool
}

// sameHost is the host's address at every site, sameGateway the gateway's.
func sameHost(version int) netip.Addr {
	if version == 4 {
		return addr("10.1.0.10")
	}
	return addr("fd10:1::10")
}

func sameGateway(version int) netip.Addr {
	if version == 4 {
		return addr("10.1.0.1")
	}
	return addr("fd10:1::1")
}

// seenAs is what an address of a site is to the others.
func seenAs(site int, a netip.Addr) netip.Addr {
	if a.Is4() {
		b := a.As4()
		b[1] = byte(100 + site)
		return netip.AddrFrom4(b)
	}
	b := a.As16()
	b[2], b[3] = 0x01, byte(site)
	return netip.AddrFrom16(b)
}

func sameTranslations(site int) []Translation {
	four, six := netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd10:1::/32")
	return []Translation{{four, netip.PrefixFrom(seenAs(site, four.Addr()), 16)}, {six, netip.PrefixFrom(seenAs(site, six.Addr()), 32)}}
}

func newMesh(t testing.TB, sites int) *mesh {
	t.Helper()
	m := &mesh{t: t}
	keys := make([]wireguard.PrivateKey, sites)
	for i := range keys {
		var err error
		keys[i], err = wireguard.NewPrivateKey()
		check(t, err)
	}
	for i := range keys {
		m.gateways = append(m.gateways, newMeshGateway(t, i+1, keys))
	}
	return m
}

func newMeshGateway(t testing.TB, site int, keys []wireguard.PrivateKey) *gateway {
	g := &gateway{t: t, site: site, key: keys[site-1], neigh: neigh.Static()}
	var err error
	g.device, err = wireguard.New(wireguard.Options{PrivateKey: g.key, Send: func(d wireguard.Datagram) { g.relay.Inject(d) }})
	check(t, err)
	umem, err := afxdp.NewHeapUMEM(afxdp.UMEMOptions{Frames: 2048, Strict: true, Reserve: 64})
	check(t, err)
	g.umems = []*afxdp.UMEM{umem}
	g.relay, err = New(Options{Device: g.device, Neighbours: g.neigh, UMEMs: g.umems, ErrorRate: 1 << 20})
	check(t, err)
	queues, list := make(map[uint32]*relaytest.Queue), []PortQueue(nil)
	s := &Snapshot{Tunnel: tunnelAddrs(site), WireGuardPort: listenPort}
	for _, ifindex := range []uint32{hostPort, redPort, wanPort} {
		queues[ifindex] = relaytest.NewQueue(umem, relaytest.Options{Notify: g.relay.Wake})
		list = append(list, PortQueue{Ifindex: ifindex, Queue: queues[ifindex]})
		p := Port{Ifindex: ifindex, MAC: portMAC(site, ifindex), MTU: 1500, Addresses: []netip.Addr{sameGateway(4), sameGateway(6)}}
		if ifindex == wanPort {
			p.Addresses = []netip.Addr{wanAddr(site, 4)}
		}
		s.Ports = append(s.Ports, p)
	}
	g.queues = []map[uint32]*relaytest.Queue{queues}
	check(t, g.relay.SetQueues(0, list))
	routes := make(map[vpcName][]fib.Route)
	for _, v := range []vpcName{defaultVPC, red} {
		s.VPCs = append(s.VPCs, VPC{Name: v.String(), VNI: v.vni(site), GatewayAddresses: []netip.Addr{sameGateway(4), sameGateway(6)},
			GatewayMAC: v.mac(), Attachments: []Attachment{{Kind: Routed, Ifindex: v.routedPort()}}, Translate: sameTranslations(site)})
		for _, p := range sameTranslations(site) {
			routes[v] = append(routes[v], fib.Route{Prefix: p.Prefix, NextHops: []fib.NextHop{{Kind: fib.Local, ID: uint32(len(s.Deliveries))}}})
		}
		s.Deliveries = append(s.Deliveries, Delivery{VNI: v.vni(site)})
		for _, version := range []int{4, 6} {
			g.neigh.Set(&neigh.Entry{Key: neigh.Key{Dst: sameHost(version), Ifindex: v.routedPort()}, State: neigh.Resolved, Egress: v.routedPort(),
				SrcMAC: portMAC(site, v.routedPort()), DstMAC: hostMAC(site, v, atRouted), NextHop: sameHost(version), MTU: 1500})
		}
	}
	for i, key := range keys {
		other := i + 1
		if other == site {
			s.Peers = append(s.Peers, Peer{})
			continue
		}
		peer, err := g.device.SetPeer(wireguard.PeerConfig{PublicKey: key.PublicKey(), ID: uint32(i),
			Endpoint: wireguard.Endpoint{Remote: netip.AddrPortFrom(wanAddr(other, 4), listenPort)}})
		check(t, err)
		s.Peers = append(s.Peers, Peer{WireGuard: peer, Tunnel: tunnelAddrs(other), VPCs: []PeerVPC{{VNI: red.vni(site), RemoteVNI: red.vni(other)}}})
		for v := range routes {
			for _, p := range sameTranslations(other) {
				routes[v] = append(routes[v], fib.Route{Prefix: p.As, NextHops: []fib.NextHop{{Kind: fib.Remote, ID: uint32(i)}}})
			}
		}
		g.neigh.Set(&neigh.Entry{Key: neigh.Key{Dst: wanAddr(other, 4)}, State: neigh.Resolved, Egress: wanPort, Src: wanAddr(site, 4),
			SrcMAC: portMAC(site, wanPort), DstMAC: portMAC(other, wanPort), NextHop: wanAddr(other, 4), MTU: 1500})
	}
	for i, v := range []vpcName{defaultVPC, red} {
		s.VPCs[i].Routes, err = fib.New(routes[v])
		check(t, err)
	}
	g.snap = s
	check(t, g.relay.Update(s))
	ctx, cancel := context.WithCancel(context.Background())
	engine := make(chan error, 1)
	go func() { engine <- g.device.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-engine; err != nil {
			t.Errorf("engine of site %d: %v", site, err)
		}
		g.conserved()
	})
	return g
}

// site returns the gateway of site n.
func (m *mesh) site(n int) *gateway { return m.gateways[n-1] }

// settle runs all sites until nothing moves and nothing waits.
func (m *mesh) settle() {
	m.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for quiet := 0; quiet < 3; quiet++ {
		var waiting uint64
		for _, g := range m.gateways {
			if g.turn() {
				quiet = 0
			}
			for _, b := range g.got(wanPort) {
				quiet = 0
				to := m.site(int(b[14+19]))
				if m.carries != nil && !m.carries(g.site, to.site, b) {
					continue
				}
				if !to.queues[0][wanPort].Inject(b) {
					m.t.Fatalf("site %d has no frame", to.site)
				}
			}
			waiting += g.relay.Counters().Parked
		}
		if waiting > 0 { // for a session
			quiet = 0
			time.Sleep(time.Millisecond)
		}
		if time.Now().After(deadline) {
			m.t.Fatal("it does not settle")
		}
	}
}

// send has the host of a VPC at a site send packets.
func (m *mesh) send(site int, v vpcName, packets ...[]byte) {
	m.t.Helper()
	for _, b := range packets {
		_, frame := fromHost(v, site, atRouted, b)
		if !m.site(site).queues[0][v.routedPort()].Inject(frame) {
			m.t.Fatal("no frame")
		}
	}
	m.settle()
}

// arrived is what the host of a VPC at a site has got since.
func (m *mesh) arrived(site int, v vpcName) (packets [][]byte) {
	for _, b := range m.site(site).got(v.routedPort()) {
		packets = append(packets, b[14:])
	}
	return packets
}
