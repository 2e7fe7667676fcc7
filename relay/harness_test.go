package relay

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/afxdp"
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/hosts"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/relay/relaytest"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// The test network: sites 1 and 2, one gateway each, three VPCs. Red and blue
// use the same addresses, and have other VNIs at the two sites. Every VPC has a
// host behind every kind of attachment.
const (
	sitePort  = 2 // overlays of all VPCs
	hostPort  = 3 // routed, default VPC
	wanPort   = 4
	redPort   = 5 // routed, red
	bluePort  = 6 // routed, blue
	firstPort = sitePort
	lastPort  = bluePort
)

// The kinds of place a host can be; the third byte of its IPv4 address.
const (
	atVXLAN4 = iota + 1
	atGeneve4
	atRouted
	atVXLAN6
	atGeneve6
	places
)

type vpcName int

const (
	defaultVPC vpcName = iota
	red
	blue
)

func (v vpcName) String() string { return [...]string{"default", "red", "blue"}[v] }

// vni of a VPC at a site: 0, 100·site, 100·site + 1000.
func (v vpcName) vni(site int) uint32 {
	return [...]uint32{0, uint32(100 * site), uint32(100*site + 1000)}[v]
}

func addr(format string, args ...any) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf(format, args...))
}

func (v vpcName) host(site, place, version int) netip.Addr {
	switch {
	case v == defaultVPC && version == 4:
		return addr("172.%d.%d.11", 20+site, place)
	case v == defaultVPC:
		return addr("fd16:%d:%d::11", site, place)
	case version == 4:
		return addr("10.%d.%d.11", site, place)
	}
	return addr("fd10:%d:%d::11", site, place)
}

func (v vpcName) gateways(site int) []netip.Addr {
	if v == defaultVPC {
		return []netip.Addr{addr("172.%d.0.1", 20+site), addr("fd16:%d::1", site)}
	}
	return []netip.Addr{addr("10.%d.0.1", site), addr("fd10:%d::1", site)}
}

func (v vpcName) prefixes(site int) []netip.Prefix {
	if v == defaultVPC {
		return []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("172.%d.0.0/16", 20+site)), netip.MustParsePrefix(fmt.Sprintf("fd16:%d::/32", site))}
	}
	return []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", site)), netip.MustParsePrefix(fmt.Sprintf("fd10:%d::/32", site))}
}

func (v vpcName) routedPort() uint32 { return [...]uint32{hostPort, redPort, bluePort}[v] }

func (v vpcName) mac() [6]byte { return [6]byte{2, 0x51, 0xce, 0, 0, byte(v)} }

func wanAddr(site, version int) netip.Addr {
	if version == 4 {
		return addr("198.51.100.%d", site)
	}
	return addr("2001:db8:f::%d", site)
}

func vtepAddr(site, place int) netip.Addr {
	if place == atVXLAN4 || place == atGeneve4 {
		return addr("192.168.%d.%d", site, 10+place)
	}
	return addr("fd00:%d::%d", site, 10+place)
}

// siteAddr is the gateway's own address towards VTEPs.
func siteAddr(site, version int) netip.Addr {
	if version == 4 {
		return addr("192.168.%d.1", site)
	}
	return addr("fd00:%d::1", site)
}

func portMAC(site int, ifindex uint32) [6]byte {
	return [6]byte{2, 0, 0, 0xff, byte(site), byte(ifindex)}
}

func hostMAC(site int, v vpcName, place int) [6]byte {
	return [6]byte{2, 0, byte(site), byte(v), 0xaa, byte(place)}
}

func nodeMAC(site, place int) [6]byte { return [6]byte{2, 0, byte(site), 0xee, 0, byte(place)} }

func tunnelAddrs(site int) []netip.Addr {
	return []netip.Addr{addr("100.64.0.%d", site), addr("fd64::%d", site)}
}

const (
	listenPort = 51820
	directPort = 51821
)

// gateway is a relay over ports in memory.
type gateway struct {
	t      testing.TB
	site   int
	umems  []*afxdp.UMEM
	relay  *Relay
	device *wireguard.Device
	key    wireguard.PrivateKey
	peer   *wireguard.Peer
	queues []map[uint32]*relaytest.Queue // by worker, by ifindex
	hosts  *hosts.Learner                // with gatewayOptions.learn
	neigh  *neigh.StaticSource
	snap   *Snapshot
	mtu    int
}

type gatewayOptions struct {
	site, workers int
	outer         int  // IP version of the WAN
	cold          bool // the neighbour source knows nothing
	virtual       bool // ports are virtual links
	direct        bool // the peer is spoken to in the clear
	learn         bool // red's VXLAN attachment finds the hosts of learnedPrefixes
	mtu           int  // of every link; 0: 1500, and 1600 where the overlays are
	tune          func(*Options)
	txSize        int
	frames        int
	now           func() time.Time
}

func newGateway(t testing.TB, o gatewayOptions, key wireguard.PrivateKey, peerKey wireguard.PublicKey) *gateway {
	t.Helper()
	if o.workers == 0 {
		o.workers = 1
	}
	if o.frames == 0 {
		o.frames = 2048
	}
	g := &gateway{t: t, site: o.site, key: key, neigh: neigh.Static(), mtu: o.mtu}
	var err error
	g.device, err = wireguard.New(wireguard.Options{PrivateKey: key, Now: o.now, Send: func(d wireguard.Datagram) { g.relay.Inject(d) }})
	check(t, err)
	options := Options{Device: g.device, Neighbours: g.neigh}
	for range o.workers {
		umem, err := afxdp.NewHeapUMEM(afxdp.UMEMOptions{Frames: o.frames, Strict: true, Reserve: 64})
		check(t, err)
		g.umems = append(g.umems, umem)
	}
	options.UMEMs = g.umems
	if o.learn {
		g.hosts = hosts.New(hosts.Options{Clock: g.device.Clock, Send: func(q hosts.Question) bool { return g.relay.SendQuestion(q) }})
		g.hosts.SetAttachments([]hosts.Attachment{learnedAttachment(o.site)})
		options.Hosts = g.hosts
	}
	if o.tune != nil {
		o.tune(&options)
	}
	g.relay, err = New(options)
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	engine := make(chan error, 1)
	g.peer, err = g.device.SetPeer(wireguard.PeerConfig{PublicKey: peerKey, ID: 0,
		Endpoint: wireguard.Endpoint{Remote: netip.AddrPortFrom(wanAddr(3-o.site, o.outer), listenPort)}})
	check(t, err)
	go func() { engine <- g.device.Run(ctx) }()
	for i := range o.workers {
		queues := make(map[uint32]*relaytest.Queue)
		var list []PortQueue
		for ifindex := uint32(firstPort); ifindex <= lastPort; ifindex++ {
			queues[ifindex] = relaytest.NewQueue(g.umems[i], relaytest.Options{Notify: g.relay.Wake, TxSize: o.txSize})
			list = append(list, PortQueue{Ifindex: ifindex, Queue: queues[ifindex]})
		}
		g.queues = append(g.queues, queues)
		check(t, g.relay.SetQueues(i, list))
	}
	g.snap = testSnapshot(o, g.peer)
	check(t, g.relay.Update(g.snap))
	if !o.cold {
		g.warm()
	}
	t.Cleanup(func() {
		cancel()
		if err := <-engine; err != nil {
			t.Errorf("engine of site %d: %v", g.site, err)
		}
		g.conserved()
	})
	return g
}

// conserved closes the relay and counts: every frame is in its pool, and every
// packet has had its verdict.
func (g *gateway) conserved() {
	g.t.Helper()
	for _, w := range g.relay.workers {
		w.emptyPark()
		w.publish()
	}
	c := g.relay.Counters()
	var sum uint64
	for _, n := range c.Verdicts {
		sum += n
	}
	if in := c.Received + c.Arrived + c.Injected + c.Made; sum != in || c.Verdicts[pending] != 0 {
		g.t.Errorf("site %d: %d packets have %d verdicts: %v", g.site, in, sum, nonzero(c))
	}
	for i, w := range g.relay.workers {
		if got := len(w.longs.free); w.longs.all != nil && got != longCount {
			g.t.Errorf("site %d worker %d: %d of %d long buffers are back", g.site, i, got, longCount)
		}
	}
	var free int
	for _, u := range g.umems {
		free += u.FreeCount()
	}
	if c.Free != uint64(free) {
		g.t.Errorf("site %d: %d free frames are published, there are %d", g.site, c.Free, free)
	}
	check(g.t, g.relay.Close())
	for i, u := range g.umems {
		if u.FreeCount() != u.Frames() {
			g.t.Errorf("site %d worker %d: %d of %d frames are back", g.site, i, u.FreeCount(), u.Frames())
		}
	}
}

func nonzero(c Counters) map[string]uint64 {
	m := make(map[string]uint64)
	for v, n := range c.Verdicts {
		if n != 0 {
			m[Verdict(v).String()] = n
		}
	}
	return m
}

// testSnapshot is the forwarding state of a site's gateway.
func testSnapshot(o gatewayOptions, peer *wireguard.Peer) *Snapshot {
	site := o.site
	s := &Snapshot{Tunnel: tunnelAddrs(site), WireGuardPort: listenPort}
	for ifindex := uint32(firstPort); ifindex <= lastPort; ifindex++ {
		p := Port{Ifindex: ifindex, Name: fmt.Sprintf("port%d", ifindex), MAC: portMAC(site, ifindex), MTU: 1500, Virtual: o.virtual}
		switch ifindex {
		case sitePort:
			p.MTU = 1600 // room for the overlay, as an operator would have it
			p.Addresses = []netip.Addr{siteAddr(site, 4), siteAddr(site, 6)}
		case wanPort:
			p.Addresses = []netip.Addr{wanAddr(site, 4), wanAddr(site, 6)}
		default:
			p.Addresses = []netip.Addr{addr("169.254.%d.1", ifindex), addr("fd99:%d::1", ifindex)}
		}
		if o.mtu > 0 {
			p.MTU = o.mtu
		}
		s.Ports = append(s.Ports, p)
	}
	entry := Peer{Name: "peer", WireGuard: peer, Tunnel: tunnelAddrs(3 - site)}
	if o.direct {
		entry = Peer{Name: "peer", Direct: netip.AddrPortFrom(wanAddr(3-site, o.outer), directPort)}
		s.DirectPort = directPort
	}
	for v := defaultVPC; v <= blue; v++ {
		vpc := VPC{Name: v.String(), VNI: v.vni(site), GatewayAddresses: v.gateways(site), GatewayMAC: v.mac(),
			Attachments: []Attachment{{Kind: VXLAN, Ifindex: sitePort}, {Kind: Geneve, Ifindex: sitePort}, {Kind: Routed, Ifindex: v.routedPort()}}}
		var routes []fib.Route
		local := func(d Delivery, prefixes ...netip.Prefix) {
			d.VNI = vpc.VNI
			for _, p := range prefixes {
				routes = append(routes, fib.Route{Prefix: p, NextHops: []fib.NextHop{{Kind: fib.Local, ID: uint32(len(s.Deliveries))}}})
			}
			s.Deliveries = append(s.Deliveries, d)
		}
		for place := atVXLAN4; place < places; place++ {
			d := Delivery{VTEP: vtepAddr(site, place), MAC: hostMAC(site, v, place)}
			switch place {
			case atRouted:
				d = Delivery{Attachment: 2}
			case atGeneve4, atGeneve6:
				d.Attachment = 1
			}
			four, six := v.host(site, place, 4), v.host(site, place, 6)
			local(d, netip.PrefixFrom(four, 24).Masked(), netip.PrefixFrom(six, 48).Masked())
		}
		if o.learn && v == red {
			local(Delivery{Learned: true, Listen: true}, learnedPrefixes(site)...)
		}
		for _, p := range v.prefixes(3 - site) {
			routes = append(routes, fib.Route{Prefix: p, NextHops: []fib.NextHop{{Kind: fib.Remote, ID: 0}}})
		}
		table, err := fib.New(routes)
		if err != nil {
			panic(err)
		}
		vpc.Routes = table
		s.VPCs = append(s.VPCs, vpc)
		if v != defaultVPC {
			entry.VPCs = append(entry.VPCs, PeerVPC{VNI: v.vni(site), RemoteVNI: v.vni(3 - site)})
		}
	}
	s.Peers = []Peer{entry}
	return s
}

// warm fills the neighbour source.
func (g *gateway) warm() {
	entry := func(key neigh.Key, egress uint32, src netip.Addr, dst [6]byte, mtu int) {
		if g.mtu > 0 {
			mtu = g.mtu
		}
		g.neigh.Set(&neigh.Entry{Key: key, State: neigh.Resolved, Egress: egress, Src: src,
			SrcMAC: portMAC(g.site, egress), DstMAC: dst, NextHop: key.Dst, MTU: mtu})
	}
	for _, version := range []int{4, 6} {
		entry(neigh.Key{Dst: wanAddr(3-g.site, version)}, wanPort, wanAddr(g.site, version), portMAC(3-g.site, wanPort), 1500)
	}
	for place := atVXLAN4; place < places; place++ {
		if place == atRouted {
			continue
		}
		vtep := vtepAddr(g.site, place)
		src := siteAddr(g.site, 4)
		if vtep.Is6() {
			src = siteAddr(g.site, 6)
		}
		entry(neigh.Key{Dst: vtep, Ifindex: sitePort}, sitePort, src, nodeMAC(g.site, place), 1600)
	}
	for v := defaultVPC; v <= blue; v++ {
		for _, version := range []int{4, 6} {
			entry(neigh.Key{Dst: v.host(g.site, atRouted, version), Ifindex: v.routedPort()}, v.routedPort(),
				netip.Addr{}, hostMAC(g.site, v, atRouted), 1500)
		}
	}
}

// turn runs every worker once, in this goroutine.
func (g *gateway) turn() (worked bool) {
	if g.hosts != nil {
		g.hosts.Work()
	}
	for _, w := range g.relay.workers {
		worked = w.turn() || worked
	}
	return worked
}

// got collects what a port has sent, over all workers.
func (g *gateway) got(ifindex uint32) [][]byte {
	var all [][]byte
	for _, queues := range g.queues {
		all = append(all, queues[ifindex].Collect()...)
	}
	return all
}

// verdicts runs f and returns what it added to the counters.
func (g *gateway) verdicts(f func()) map[string]uint64 {
	before := g.relay.Counters()
	f()
	after := g.relay.Counters()
	for v := range after.Verdicts {
		after.Verdicts[v] -= before.Verdicts[v]
	}
	return nonzero(after)
}

// pair is two gateways with a WAN between them.
type pair struct {
	a, b  *gateway
	wires []*relaytest.Wire
}

func newPair(t testing.TB, o gatewayOptions) *pair {
	t.Helper()
	if o.outer == 0 {
		o.outer = 4
	}
	keyA, err := wireguard.NewPrivateKey()
	check(t, err)
	keyB, err := wireguard.NewPrivateKey()
	check(t, err)
	o.site = 1
	a := newGateway(t, o, keyA, keyB.PublicKey())
	o.site = 2
	b := newGateway(t, o, keyB, keyA.PublicKey())
	p := &pair{a: a, b: b}
	for i := range a.queues {
		p.wires = append(p.wires, &relaytest.Wire{From: a.queues[i][wanPort], To: b.queues[i][wanPort]},
			&relaytest.Wire{From: b.queues[i][wanPort], To: a.queues[i][wanPort]})
	}
	return p
}

// carry moves what is on the WAN.
func (p *pair) carry() (n int) {
	for _, w := range p.wires {
		n += w.Carry()
	}
	return n
}

// settle runs both sides until nothing moves and nothing waits.
func (p *pair) settle() {
	for quiet := 0; quiet < 3; {
		worked := p.a.turn()
		worked = p.b.turn() || worked
		if p.carry() > 0 || worked {
			quiet = 0
		} else {
			quiet++
		}
	}
}

// until runs both sides until done says so.
func (p *pair) until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s; site 1 %v, site 2 %v", what, nonzero(p.a.relay.Counters()), nonzero(p.b.relay.Counters()))
		}
		p.settle()
		time.Sleep(time.Millisecond)
	}
}

// connect brings the session up, both ways, with a packet of site 1 and its answer.
func (p *pair) connect(t testing.TB) {
	t.Helper()
	p.a.queues[0][hostPort].Inject(routedPacket(defaultVPC, 1, 2, 4, []byte("first")))
	p.until(t, "session", func() bool { return len(p.b.got(hostPort)) == 1 })
	p.b.queues[0][hostPort].Inject(routedPacket(defaultVPC, 2, 1, 4, []byte("answer")))
	p.until(t, "answer", func() bool { return len(p.a.got(hostPort)) == 1 })
	p.settle()
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// plain is what site 2 finds in a WireGuard message of site 1, with its padding.
func (p *pair) plain(batch *wireguard.Batch, frame []byte) ([]byte, wireguard.Result) {
	udp := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeUDP).(*layers.UDP)
	pkts := []wireguard.Packet{{Buf: bytes.Clone(udp.Payload)}}
	batch.Open(pkts, p.b.device.Clock())
	return pkts[0].Buf, pkts[0].Result
}

// plainOf opens the WireGuard messages that site 1 has sent to the WAN.
func (p *pair) plainOf(t *testing.T) (plain [][]byte) {
	t.Helper()
	batch := p.b.device.NewBatch()
	for _, frame := range p.a.got(wanPort) {
		b, result := p.plain(batch, frame)
		if result != wireguard.OK {
			t.Fatalf("open: %v", result)
		}
		plain = append(plain, b)
	}
	return plain
}
