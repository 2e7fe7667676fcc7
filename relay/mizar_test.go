package relay

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/internal/packet"
)

// mizarPacket is what Mizar's programs read of a packet: everything at a fixed place. The test reads for itself; what it
// knows is how Mizar writes.
type mizarPacket struct {
	src, dst       netip.Addr // outer
	srcMAC         [6]byte
	vni            uint32
	returnTo       netip.Addr
	returnMAC      [6]byte
	scaled         []byte // the 28 bytes
	scaledType     byte
	pod, namespace uint32
	inner          []byte // with Ethernet
}

// readMizar reads a frame as a Mizar host does, which drops whatever is not at its place.
func readMizar(t *testing.T, b []byte) (m mizarPacket) {
	t.Helper()
	const ip, udp, geneve = 14, 34, 42
	const rts, scaled, pod, namespace, inner = 50, 66, 98, 106, 114
	if len(b) < inner+14 {
		t.Fatalf("%d bytes are too few for Mizar: %x", len(b), b)
	}
	for _, c := range []struct {
		what string
		at   int
		want []byte
	}{
		{"EtherType", 12, []byte{8, 0}}, {"a header of five words", ip, []byte{0x45}}, {"UDP", ip + 9, []byte{17}},
		{"destination port 6081", udp + 2, []byte{0x17, 0xc1}}, {"no UDP checksum", udp + 6, []byte{0, 0}},
		{"16 words of options", geneve, []byte{16}}, {"Ethernet inside", geneve + 2, []byte{0x65, 0x58}},
		{"the class of option 1", rts, []byte{0x11, 0x01}}, {"return to sender", rts + 2, []byte{0x48, 3}},
		{"the class of option 2", scaled, []byte{0x11, 0x01}},
		{"the pod label", pod, []byte{0x11, 0x01, 0x50, 1}}, {"the namespace label", namespace, []byte{0x11, 0x01, 0x51, 1}},
	} {
		if got := b[c.at : c.at+len(c.want)]; !bytes.Equal(got, c.want) {
			t.Errorf("%s: %x at %d, want %x", c.what, got, c.at, c.want)
		}
	}
	if fragment := binary.BigEndian.Uint16(b[ip+6:]) & 0x3fff; fragment != 0 || packet.Sum(0, b[ip:udp]) != 0xffff {
		t.Errorf("outer header: %x", b[ip:udp])
	}
	m.src, m.dst, m.srcMAC = netip.AddrFrom4([4]byte(b[ip+12:])), netip.AddrFrom4([4]byte(b[ip+16:])), [6]byte(b[6:])
	m.vni = binary.BigEndian.Uint32(b[geneve+4:]) >> 8
	m.returnTo, m.returnMAC = netip.AddrFrom4([4]byte(b[rts+5:])), [6]byte(b[rts+9:])
	m.scaledType, m.scaled = b[scaled+2], b[scaled+4:pod]
	m.pod, m.namespace = binary.LittleEndian.Uint32(b[pod+4:]), binary.LittleEndian.Uint32(b[namespace+4:])
	m.inner = b[inner:]
	return m
}

// The blocks of options that a Mizar node may send: with the scaled endpoint unused, unused with what was in the memory
// before, and used.
func mizarBlocks(node netip.Addr) map[string][]byte {
	write := func(edit func(b []byte)) []byte {
		b := make([]byte, 64)
		copy(b, []byte{0x11, 0x01, 0x48, 3, 1})
		copy(b[5:], node.AsSlice())
		copy(b[9:], []byte{2, 0, 0xd1, 0xf1, 0xde, 0xf1, 0x77}) // and a byte of padding
		copy(b[16:], []byte{0x11, 0x01, 0, 0})
		copy(b[48:], []byte{0x11, 0x01, 0x50, 1, 0x44, 0x33, 0x22, 0x11})
		copy(b[56:], []byte{0x11, 0x01, 0x51, 1, 0x88, 0x77, 0x66, 0x55})
		edit(b)
		return b
	}
	return map[string][]byte{
		"unused": write(func([]byte) {}),
		"stale":  write(func(b []byte) { copy(b[20:48], bytes.Repeat([]byte{0xff}, 28)) }), // options of 124 bytes, all critical, to a walker
		"scaled": write(func(b []byte) { copy(b[18:48], append([]byte{0x49, 7, 0x4d}, []byte("tuple and addresses")...)) }),
	}
}

// mizarFrame is an inner packet as a divider of a site sends it to the bouncer of a remote subnet: with its own outer
// header, and whatever inner MAC address.
func mizarFrame(site int, inside layers.EthernetType, inner, block []byte) []byte {
	plain := overlayFrame(red, site, atGeneve4, inside, inner)
	b := append(append(bytes.Clone(plain[:50]), block...), plain[50:]...)
	copy(b[50+len(block):], []byte{2, 0xde, 0xad, 0xbe, 0xef, 1})
	binary.BigEndian.PutUint16(b[16:], uint16(len(b)-14))
	binary.BigEndian.PutUint16(b[38:], uint16(len(b)-34))
	b[20], b[22] = 0, 31 // no DF, and a TTL that bouncer and divider have lowered
	b[40], b[41] = 0, 0  // no UDP checksum
	b[42] = byte(len(block) / 4)
	fixIPv4(b[14:])
	return b
}

// secondBouncer holds the same subnet as the VTEP at atGeneve4.
func secondBouncer(site int) netip.Addr { return addr("192.168.%d.99", site) }

// mizarise makes red's Geneve attachment at a gateway Mizar's: two bouncers hold what is at atGeneve4.
func (g *gateway) mizarise(labels Mizar, bouncers int) {
	g.t.Helper()
	s := testSnapshot(gatewayOptions{site: g.site, mtu: g.mtu}, g.peer)
	for i := range s.VPCs {
		v := &s.VPCs[i]
		if v.Name != red.String() {
			continue
		}
		v.Attachments[1].Mizar = &labels
		var both []fib.NextHop
		for id, d := range s.Deliveries {
			if d.VNI == v.VNI && d.Attachment == 1 {
				if d.VTEP.Is6() {
					s.Deliveries[id].VTEP = secondBouncer(g.site)
				}
				both = append(both, fib.NextHop{Kind: fib.Local, ID: uint32(id)})
			}
		}
		at, err := v.Routes.With([]fib.Route{{Prefix: netip.PrefixFrom(red.host(g.site, atGeneve4, 4), 24).Masked(), NextHops: both[:bouncers]}}, nil)
		check(g.t, err)
		v.Routes = at
	}
	g.resolveBouncer()
	check(g.t, g.relay.Update(s))
}

// resolveBouncer makes the second bouncer a neighbour.
func (g *gateway) resolveBouncer() {
	mtu := 1600
	if g.mtu > 0 {
		mtu = g.mtu
	}
	g.neigh.Set(&neigh.Entry{Key: neigh.Key{Dst: secondBouncer(g.site), Ifindex: sitePort}, State: neigh.Resolved, Egress: sitePort, Src: siteAddr(g.site, 4),
		SrcMAC: portMAC(g.site, sitePort), DstMAC: nodeMAC(g.site, atGeneve6), NextHop: secondBouncer(g.site), MTU: mtu})
}

// newMizarPair is two sites of which the first is Mizar's, and the second may be.
func newMizarPair(t testing.TB, second bool, o gatewayOptions) *pair {
	p := newPair(t, o)
	p.a.mizarise(Mizar{PodLabel: 7, NamespaceLabel: 8}, 1)
	if second {
		p.b.mizarise(Mizar{PodLabel: 0x01020304, NamespaceLabel: 0x05060708}, 1)
	}
	p.connect(t)
	return p
}

func TestMizarsOptionsCrossWithUsAsTheSender(t *testing.T) {
	p := newMizarPair(t, true, gatewayOptions{})
	for name, block := range mizarBlocks(vtepAddr(1, atGeneve4)) {
		for _, version := range []int{4, 6} {
			t.Run(fmt.Sprintf("%s, IPv%d", name, version), func(t *testing.T) {
				inner := tcpPacket(red.host(1, atGeneve4, version), red.host(2, atGeneve4, version), []byte("hello"))
				p.a.queues[0][sitePort].Inject(mizarFrame(1, etherTypeOfPacket(inner), inner, block))
				p.settle()
				got := p.b.got(sitePort)
				if len(got) != 1 {
					t.Fatalf("%d packets: %v, %v", len(got), nonzero(p.a.relay.Counters()), nonzero(p.b.relay.Counters()))
				}
				m := readMizar(t, got[0])
				if m.returnTo != siteAddr(2, 4) || m.returnMAC != portMAC(2, sitePort) || m.src != m.returnTo || m.srcMAC != m.returnMAC {
					t.Errorf("answers would go to %v %x, not to the gateway", m.returnTo, m.returnMAC)
				}
				if m.vni != red.vni(2) || !bytes.Equal(m.inner[14:], forwarded(inner)) {
					t.Errorf("vni %d, inside %x", m.vni, m.inner)
				}
				want := bytes.Clone(block)
				copy(want[5:], siteAddr(2, 4).AsSlice())
				mac := portMAC(2, sitePort)
				copy(want[9:], mac[:])
				if !bytes.Equal(got[0][50:114], want) {
					t.Errorf("options\n got %x\nwant %x", got[0][50:114], want)
				}
			})
		}
	}
}

func TestAPacketFromASiteWithoutMizarGetsTheOptionsThatMizarNeeds(t *testing.T) {
	p := newMizarPair(t, false, gatewayOptions{})
	foreign := &layers.GeneveOption{Class: 0x0102, Type: 1, Length: 8, Data: []byte{1, 2, 3, 4}}
	for _, from := range []int{atVXLAN4, atGeneve4, atRouted, atGeneve6} {
		t.Run(placeName(from), func(t *testing.T) {
			var options []*layers.GeneveOption
			if from == atGeneve4 {
				options = append(options, foreign)
			}
			inner := udpPacket(red.host(2, from, 4), red.host(1, atGeneve4, 4), 64, 0, 1, 2, []byte("hello"))
			port, frame := fromHost(red, 2, from, inner, options...)
			p.b.queues[0][port].Inject(frame)
			p.settle()
			got := p.a.got(sitePort)
			if len(got) != 1 {
				t.Fatalf("%d packets: %v", len(got), nonzero(p.a.relay.Counters()))
			}
			m := readMizar(t, got[0])
			if m.returnTo != siteAddr(1, 4) || m.returnMAC != portMAC(1, sitePort) || m.pod != 7 || m.namespace != 8 || m.scaledType != 0 || !bytes.Equal(m.scaled, make([]byte, 28)) {
				t.Errorf("%+v", m)
			}
			if !bytes.Equal(m.inner[14:], forwarded(inner)) {
				t.Errorf("inside %x", m.inner)
			}
		})
	}
}

func TestMizarsOptionsEndWhereMizarDoes(t *testing.T) {
	p := newMizarPair(t, false, gatewayOptions{})
	for name, block := range mizarBlocks(vtepAddr(1, atGeneve4)) {
		for to := atVXLAN4; to < places; to++ {
			t.Run(name+" to "+placeName(to), func(t *testing.T) {
				inner := tcpPacket(red.host(1, atGeneve4, 4), red.host(2, to, 4), []byte("hello"))
				p.a.queues[0][sitePort].Inject(mizarFrame(1, layers.EthernetTypeIPv4, inner, block))
				p.settle()
				port, want := fromHost(red, 2, to, forwarded(inner))
				got := p.b.got(port)
				if len(got) != 1 || len(got[0]) != len(want) {
					t.Fatalf("got %x\nwant one of %d bytes; %v", got, len(want), nonzero(p.b.relay.Counters()))
				}
				if _, inside := innerOf(port, got[0]); !bytes.Equal(inside, forwarded(inner)) {
					t.Errorf("inside %x", inside)
				}
			})
		}
	}
}

func TestACriticalOptionThatMizarCannotReadIsNotDropped(t *testing.T) {
	p := newMizarPair(t, false, gatewayOptions{})
	critical := &layers.GeneveOption{Class: 0x0102, Type: 0x81, Length: 8, Data: make([]byte, 4)}
	inner := udpPacket(red.host(2, atGeneve4, 4), red.host(1, atGeneve4, 4), 64, 0, 1, 2, nil)
	_, frame := fromHost(red, 2, atGeneve4, inner, critical)
	got := p.a.verdicts(func() { p.b.queues[0][sitePort].Inject(frame); p.settle() })
	if want := map[string]uint64{"critical_option": 1}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v: the packet ends, the option is not taken off", got, want)
	}
}

func TestMizarsOptionsThatSayTheyAreCriticalAreNotTakenOff(t *testing.T) {
	p := newMizarPair(t, false, gatewayOptions{})
	for to := atVXLAN4; to < places; to++ {
		t.Run("to "+placeName(to), func(t *testing.T) {
			inner := tcpPacket(red.host(1, atGeneve4, 4), red.host(2, to, 4), []byte("hello"))
			frame := mizarFrame(1, layers.EthernetTypeIPv4, inner, mizarBlocks(vtepAddr(1, atGeneve4))["unused"])
			frame[43] |= 0x40 // the C bit
			got := p.b.verdicts(func() { p.a.queues[0][sitePort].Inject(frame); p.settle() })
			if want := map[string]uint64{"critical_option": 1}; !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestTheWayBackToMizarHasRoomForItsOptions(t *testing.T) {
	p := newMizarPair(t, false, gatewayOptions{})
	inner := synPacket(red.host(1, atGeneve4, 4), red.host(1, atVXLAN4, 4), true, false, 9000)
	p.a.queues[0][sitePort].Inject(mizarFrame(1, layers.EthernetTypeIPv4, inner, mizarBlocks(vtepAddr(1, atGeneve4))["unused"]))
	p.a.turn()
	got := p.a.got(sitePort)
	if len(got) != 1 {
		t.Fatalf("%d packets: %v", len(got), nonzero(p.a.relay.Counters()))
	}
	_, inside := innerOf(sitePort, got[0])
	if got, want := mssOf(t, "to a VXLAN node of the site", inside), 1600-114-40; got != want {
		t.Errorf("got %d, want %d: the answers get 64 bytes of options", got, want)
	}
}

// TestTheGatewayIsTheBouncerOfOtherSites: it answers ARP for what it is asked for, and no more.
func TestTheGatewayIsTheBouncerOfOtherSites(t *testing.T) {
	p := newMizarPair(t, true, gatewayOptions{})
	host := red.host(1, atGeneve4, 4)
	block := mizarBlocks(vtepAddr(1, atGeneve4))["unused"]
	gratuitous := arpRequest(red.host(2, atGeneve4, 4), red.host(2, atGeneve4, 4))
	for _, c := range []struct {
		name    string
		request []byte
		block   []byte
		want    Verdict
	}{
		{"an endpoint of another site", arpRequest(host, red.host(2, atGeneve4, 4)), block, Answered},
		{"the first address of a subnet of another site", arpRequest(host, addr("10.2.2.1")), block, Answered},
		{"the gateway's own address", arpRequest(host, red.gateways(1)[0]), block, Answered},
		{"an endpoint of another site, asked without options", arpRequest(host, red.host(2, atGeneve4, 4)), nil, Answered},
		{"an endpoint of this site is for its own bouncer", arpRequest(host, red.host(1, atVXLAN4, 4)), block, ARPNotOurs},
		{"an address of nobody", arpRequest(host, addr("10.77.0.1")), block, ARPNotOurs},
		{"an announcement is no question", gratuitous, block, ARPNotOurs},
	} {
		t.Run(c.name, func(t *testing.T) {
			verdicts := p.a.verdicts(func() {
				p.a.queues[0][sitePort].Inject(mizarFrame(1, layers.EthernetTypeARP, c.request, c.block))
				p.a.turn()
			})
			if verdicts[c.want.String()] != 1 {
				t.Fatalf("got %v, want %v", verdicts, c.want)
			}
			got := p.a.got(sitePort)
			if c.want != Answered {
				if len(got) > 0 {
					t.Errorf("it answered: %x", got)
				}
				return
			}
			m := readMizar(t, got[0])
			reply := gopacket.NewPacket(m.inner, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeARP).(*layers.ARP)
			target, mac := c.request[24:28], red.mac()
			if reply.Operation != layers.ARPReply || !bytes.Equal(reply.SourceProtAddress, target) || !bytes.Equal(reply.SourceHwAddress, mac[:]) {
				t.Errorf("the answer is %+v", reply)
			}
			if m.returnTo != siteAddr(1, 4) || m.returnMAC != portMAC(1, sitePort) || m.src != m.returnTo || m.dst != vtepAddr(1, atGeneve4) {
				t.Errorf("from %v to %v, return to %v %x", m.src, m.dst, m.returnTo, m.returnMAC)
			}
			if c.block != nil && (m.pod != 0x11223344 || m.namespace != 0x55667788) || c.block == nil && (m.pod != 7 || m.namespace != 8) {
				t.Errorf("labels %#x %#x", m.pod, m.namespace)
			}
		})
	}
}

func TestFlowsAreSpreadOverBouncersAndStayThere(t *testing.T) {
	p := newMizarPair(t, true, gatewayOptions{})
	to := func(bouncers int) map[int]netip.Addr {
		p.a.mizarise(Mizar{}, bouncers)
		at := make(map[int]netip.Addr)
		for flow := range 64 {
			p.sealTo(t, tunnelled(red.vni(1), layers.EthernetTypeIPv4,
				udpPacket(red.host(2, atGeneve4, 4), red.host(1, atGeneve4, 4), 64, 0, uint16(1000+flow), 2, nil)))
			p.a.turn()
			got := p.a.got(sitePort)
			if len(got) != 1 {
				t.Fatalf("%d packets: %v", len(got), nonzero(p.a.relay.Counters()))
			}
			at[flow] = readMizar(t, got[0]).dst
		}
		return at
	}
	both, again, one := to(2), to(2), to(1)
	count := make(map[netip.Addr]int)
	for flow, vtep := range both {
		count[vtep]++
		if again[flow] != vtep {
			t.Errorf("flow %d went to %v and to %v", flow, vtep, again[flow])
		}
		if vtep == vtepAddr(1, atGeneve4) && one[flow] != vtep {
			t.Errorf("flow %d moved although its bouncer stayed", flow)
		}
	}
	if len(count) != 2 || count[secondBouncer(1)] < 16 || count[vtepAddr(1, atGeneve4)] < 16 {
		t.Errorf("64 flows went to %v", count)
	}
}

// TestMizarTakes114BytesOfTheOverlay: outer IPv4 20, UDP 8, Geneve 8, options 64, inner Ethernet 14.
func TestMizarTakes114BytesOfTheOverlay(t *testing.T) {
	p := newMizarPair(t, true, gatewayOptions{mtu: 1500})
	type figure struct {
		name   string
		length int
		want   uint32 // in the error; 0: it fits
	}
	for _, c := range []figure{{"as long as the overlay takes", 1386, 0}, {"a byte longer", 1387, 1386}} {
		t.Run("from another site, "+c.name, func(t *testing.T) {
			p.sealTo(t, tunnelled(red.vni(1), layers.EthernetTypeIPv4,
				udpPacket(red.host(2, atGeneve4, 4), red.host(1, atGeneve4, 4), 64, 0, 1, 2, make([]byte, c.length-28))))
			p.settle()
			got, back := p.a.got(sitePort), p.b.got(sitePort)
			expectFigure(t, c.want, got, back)
			if c.want == 0 && len(got) == 1 && len(got[0]) != 14+1500 {
				t.Errorf("%d bytes", len(got[0]))
			}
		})
	}
	block := mizarBlocks(vtepAddr(1, atGeneve4))["unused"]
	for _, c := range []figure{{"as long as the tunnel takes", 1500 - 60 - 36 - 64, 0}, {"a byte longer", 1500 - 60 - 36 - 64 + 1, 1340}} {
		t.Run("to another site, "+c.name, func(t *testing.T) {
			inner := udpPacket(red.host(1, atGeneve4, 4), red.host(2, atGeneve4, 4), 64, 0, 1, 2, make([]byte, c.length-28))
			p.a.queues[0][sitePort].Inject(mizarFrame(1, layers.EthernetTypeIPv4, inner, block))
			p.settle()
			expectFigure(t, c.want, p.b.got(sitePort), p.a.got(sitePort))
		})
	}
}

// expectFigure wants a packet to arrive, or an error to come back that says how long it may be.
func expectFigure(t *testing.T, want uint32, arrived, back [][]byte) {
	t.Helper()
	if want == 0 {
		if len(arrived) != 1 || len(back) != 0 {
			t.Errorf("%d packets arrived, %d came back", len(arrived), len(back))
		}
		return
	}
	if len(arrived) != 0 || len(back) != 1 {
		t.Fatalf("%d packets arrived, %d came back", len(arrived), len(back))
	}
	icmp := readMizar(t, back[0]).inner[14+20:]
	if icmp[0] != 3 || icmp[1] != 4 || binary.BigEndian.Uint32(icmp[4:]) != want {
		t.Errorf("the error is %x, want one that says %d", icmp[:8], want)
	}
}

func TestAMizarAttachmentThatMakesNoSenseIsRefused(t *testing.T) {
	port := Port{Ifindex: 2, Name: "eth0"}
	for _, c := range []struct {
		name string
		kind AttachmentKind
		vtep string
		want string
	}{
		{"VXLAN has no options", VXLAN, "192.168.1.1", "snapshot: vpc red: a vxlan attachment has no Mizar options"},
		{"an IPv6 VTEP", Geneve, "fd00::1", "snapshot: delivery 0: the VTEP fd00::1 of a Mizar attachment is not an IPv4 address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := compile(&Snapshot{Ports: []Port{port}, Deliveries: []Delivery{{VNI: 1, VTEP: netip.MustParseAddr(c.vtep)}},
				VPCs: []VPC{{Name: "red", VNI: 1, Attachments: []Attachment{{Kind: c.kind, Ifindex: 2, Mizar: &Mizar{}}}}}})
			if err == nil || err.Error() != c.want {
				t.Errorf("error %v, want %s", err, c.want)
			}
		})
	}
}

// TestGoldenMizar: what a divider of site 1 sends, what comes back to it, and what a bouncer of site 2 gets.
func TestGoldenMizar(t *testing.T) {
	blocks := mizarBlocks(vtepAddr(1, atGeneve4))
	inner := func(v int) []byte {
		return tcpPacket(red.host(1, atGeneve4, v), red.host(2, atGeneve4, v), []byte("GET /"))
	}
	frame := func(inner, block []byte) []byte { return mizarFrame(1, etherTypeOfPacket(inner), inner, block) }
	for name, c := range map[string]struct {
		second bool
		frames [][]byte
	}{
		"mizar-to-mizar":   {true, [][]byte{frame(inner(4), blocks["unused"]), frame(inner(4), blocks["stale"]), frame(inner(4), blocks["scaled"]), frame(inner(6), blocks["unused"])}},
		"mizar-to-others":  {false, [][]byte{frame(inner(4), blocks["unused"]), frame(inner(4), blocks["stale"]), frame(inner(6), blocks["scaled"])}},
		"mizar-no-options": {true, [][]byte{frame(inner(4), nil), frame(inner(6), nil)}},
		"mizar-arp":        {true, [][]byte{mizarFrame(1, layers.EthernetTypeARP, arpRequest(red.host(1, atGeneve4, 4), red.host(2, atGeneve4, 4)), blocks["unused"])}},
		"mizar-expired":    {true, [][]byte{frame(edit(inner(4), func(b []byte) { b[8] = 1; fixIPv4(b) }), blocks["unused"]), frame(edit(inner(4), func(b []byte) { b[8] = 2; fixIPv4(b) }), blocks["unused"])}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newMizarPair(t, c.second, gatewayOptions{})
			goldenExchange(t, p, name, c.frames, sitePort)
		})
	}
}

// FuzzMizar: whatever 64 bytes a node of site 1 puts there, what is delivered to Mizar's nodes of site 2 can be read by
// them, leads answers to the gateway, and has the labels that it came with if it came with labels.
func FuzzMizar(f *testing.F) {
	for _, b := range mizarBlocks(vtepAddr(1, atGeneve4)) {
		f.Add(b)
	}
	f.Add(bytes.Repeat([]byte{0}, 64))
	random := rand.New(rand.NewPCG(1, 1))
	noise := make([]byte, 64)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	f.Add(noise)
	p := newMizarPair(f, true, gatewayOptions{})
	inner := udpPacket(red.host(1, atGeneve4, 4), red.host(2, atGeneve4, 4), 64, 0, 1, 2, []byte("hello"))
	f.Fuzz(func(t *testing.T, block []byte) {
		if len(block)%4 != 0 || len(block) > 252 {
			return
		}
		p.a.queues[0][sitePort].Inject(mizarFrame(1, layers.EthernetTypeIPv4, inner, block))
		for range 2 {
			p.a.turn()
			p.carry()
			p.b.turn()
		}
		p.a.got(sitePort)
		for _, b := range p.b.got(sitePort) {
			m := readMizar(t, b)
			if m.returnTo != siteAddr(2, 4) || m.returnMAC != portMAC(2, sitePort) || !bytes.Equal(m.inner[14:], forwarded(inner)) {
				t.Errorf("delivered %x", b)
			}
			pod, namespace := uint32(0x01020304), uint32(0x05060708)
			if packet.IsMizar(block) {
				pod, namespace = binary.LittleEndian.Uint32(block[52:]), binary.LittleEndian.Uint32(block[60:])
			}
			if m.pod != pod || m.namespace != namespace {
				t.Errorf("labels %#x %#x, want %#x %#x", m.pod, m.namespace, pod, namespace)
			}
		}
	})
}
