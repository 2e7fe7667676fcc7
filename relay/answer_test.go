package relay

import (
	"bytes"
	"maps"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// send injects an inner packet at a place of site 1 and returns what comes
// back out of the same port.
func (p *pair) send(v vpcName, place int, inner []byte) (vni uint32, back []byte) {
	port, frame := fromHost(v, 1, place, inner)
	p.a.queues[0][port].Inject(frame)
	p.settle()
	got := p.a.got(port)
	if len(got) != 1 {
		return 0, nil
	}
	return innerOf(port, got[0])
}

func decode(b []byte) gopacket.Packet {
	first := gopacket.LayerType(layers.LayerTypeIPv4)
	if len(b) > 0 && b[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	return gopacket.NewPacket(b, first, gopacket.Default)
}

func TestAPingToTheGatewayIsAnswered(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	for place := atVXLAN4; place < places; place++ {
		for i, version := range []int{4, 6} {
			gateway := red.gateways(1)[i]
			_, back := p.send(red, place, echoPacket(red.host(1, place, version), gateway, 7, 9, []byte("payload")))
			// The answer is the request with the roles changed; gopacket says how that looks.
			want := echoPacket(gateway, red.host(1, place, version), 7, 9, []byte("payload"))
			answer := decode(back)
			if err := answer.ErrorLayer(); err != nil || len(back) != len(want) {
				t.Fatalf("%s IPv%d: got %x", placeName(place), version, back)
			}
			if version == 4 {
				icmp := answer.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
				if icmp.TypeCode.Type() != layers.ICMPv4TypeEchoReply || icmp.Id != 7 || icmp.Seq != 9 {
					t.Errorf("%s: got %v", placeName(place), icmp)
				}
			} else if icmp := answer.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); icmp.TypeCode.Type() != layers.ICMPv6TypeEchoReply {
				t.Errorf("%s: got %v", placeName(place), icmp)
			}
			sound(t, back)
		}
	}
}

// sound holds lengths and checksums of an IP packet against gopacket's own.
func sound(t *testing.T, b []byte) {
	t.Helper()
	p := decode(b)
	for _, l := range p.Layers() {
		if c, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			check(t, c.SetNetworkLayerForChecksum(p.NetworkLayer()))
		}
	}
	buf := gopacket.NewSerializeBuffer()
	check(t, gopacket.SerializePacket(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, p))
	if !bytes.Equal(buf.Bytes(), b) {
		t.Errorf("a length or checksum is wrong:\n got %x\nwant %x", b, buf.Bytes())
	}
}

func TestAnErrorComesFromTheGatewayAndQuotesThePacket(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	far := func(version int) netip.Addr { return red.host(2, atRouted, version) }
	for _, c := range []struct {
		name    string
		place   int
		version int
		inner   func(version int) []byte
		four    layers.ICMPv4TypeCode
		six     layers.ICMPv6TypeCode
		mtu     int
	}{
		{"time exceeded in an overlay", atVXLAN4, 4, func(v int) []byte { return udpPacket(red.host(1, atVXLAN4, v), far(v), 1, 0, 5, 6, nil) },
			layers.CreateICMPv4TypeCode(11, 0), layers.CreateICMPv6TypeCode(3, 0), 0},
		{"time exceeded on a routed port", atRouted, 4, func(v int) []byte { return udpPacket(red.host(1, atRouted, v), far(v), 1, 0, 5, 6, nil) },
			layers.CreateICMPv4TypeCode(11, 0), layers.CreateICMPv6TypeCode(3, 0), 0},
		// 1500 - 20 - 8 - 32 - (20 + 8 + 8) = 1404 over an IPv4 WAN.
		{"too big", atGeneve4, 4, func(v int) []byte {
			return udpPacket(red.host(1, atGeneve4, v), far(v), 9, 0, 5, 6, make([]byte, 1380))
		},
			layers.CreateICMPv4TypeCode(3, 4), layers.CreateICMPv6TypeCode(2, 0), 1404},
		{"no route", atGeneve6, 4, func(v int) []byte {
			nowhere := addr("10.99.0.1")
			if v == 6 {
				nowhere = addr("fd99:99::1")
			}
			return udpPacket(red.host(1, atGeneve6, v), nowhere, 9, 0, 5, 6, nil)
		}, layers.CreateICMPv4TypeCode(3, 0), layers.CreateICMPv6TypeCode(1, 0), 0},
	} {
		for i, version := range []int{4, 6} {
			inner := c.inner(version)
			_, back := p.send(red, c.place, inner)
			if back == nil {
				t.Fatalf("%s IPv%d: nothing came back: %v", c.name, version, nonzero(p.a.relay.Counters()))
			}
			sound(t, back)
			from := red.gateways(1)[i]
			if c.place == atRouted {
				from = [2]netip.Addr{addr("169.254.%d.1", redPort), addr("fd99:%d::1", redPort)}[i]
			}
			packet := decode(back)
			if src, _ := netip.AddrFromSlice(packet.NetworkLayer().NetworkFlow().Src().Raw()); src != from {
				t.Errorf("%s IPv%d: from %v, want %v", c.name, version, src, from)
			}
			quote := back[28:]
			if version == 4 {
				if icmp := packet.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); icmp.TypeCode != c.four || int(icmp.Seq) != c.mtu {
					t.Errorf("%s: got %v mtu %d", c.name, icmp.TypeCode, icmp.Seq)
				}
				if len(back) > 576 {
					t.Errorf("%s: %d bytes", c.name, len(back))
				}
			} else {
				quote = back[48:]
				if icmp := packet.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); icmp.TypeCode != c.six {
					t.Errorf("%s: got %v", c.name, icmp.TypeCode)
				}
				if mtu := int(back[46])<<8 | int(back[47]); mtu != c.mtu || len(back) > 1280 {
					t.Errorf("%s: mtu %d in %d bytes", c.name, mtu, len(back))
				}
			}
			if !bytes.Equal(quote[12:20], inner[12:20]) {
				t.Errorf("%s IPv%d: quotes %x", c.name, version, quote[:20])
			}
		}
	}
}

func TestErrorsAreRateLimitedAndNeverAboutErrors(t *testing.T) {
	p := newPair(t, gatewayOptions{tune: func(o *Options) { o.ErrorRate = 10 }})
	expired := udpPacket(red.host(1, atVXLAN4, 4), red.host(2, atVXLAN4, 4), 1, 0, 1, 2, nil)
	_, back := p.send(red, atVXLAN4, expired)
	if back == nil {
		t.Fatal("no error for the first packet")
	}
	if _, again := p.send(red, atVXLAN4, expired); again != nil {
		t.Error("an error within a tenth of a second")
	}
	_, about := fromHost(red, 1, atVXLAN4, edit(back, func(b []byte) { copy(b[12:16], red.host(1, atVXLAN4, 4).AsSlice()); b[8] = 1; fixIPv4(b) }))
	p.a.relay.workers[0].errors = newErrorLimit(1000)
	p.a.queues[0][sitePort].Inject(about)
	p.settle()
	if got := p.a.got(sitePort); len(got) != 0 {
		t.Errorf("an error about an error: %x", got[0])
	}
}

func TestARPAndNeighbourSolicitationsForTheGatewayAreAnswered(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	for _, place := range []int{atVXLAN4, atGeneve4, atVXLAN6, atGeneve6} {
		request := arpRequest(red.host(1, place, 4), red.gateways(1)[0])
		copy(request[8:14], []byte{2, 0, 0, 0, 0, 9})
		p.a.queues[0][sitePort].Inject(overlayFrame(red, 1, place, layers.EthernetTypeARP, request))
		p.a.queues[0][sitePort].Inject(overlayFrame(red, 1, place, layers.EthernetTypeIPv6, solicitation(red.host(1, place, 6), red.gateways(1)[1])))
		got := p.a.verdicts(func() { p.a.turn() })
		if want := map[string]uint64{"answered": 2, "originated": 2}; !maps.Equal(got, want) {
			t.Fatalf("%s: got %v, want %v", placeName(place), got, want)
		}
		frames := p.a.got(sitePort)
		mac := red.mac()
		for _, frame := range frames {
			outer := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
			if dst, _ := netip.AddrFromSlice(outer.NetworkLayer().NetworkFlow().Dst().Raw()); dst != vtepAddr(1, place) {
				t.Errorf("%s: went to %v", placeName(place), dst)
			}
		}
		vni, inner := innerOf(sitePort, frames[0])
		arp, ok := gopacket.NewPacket(inner, layers.LayerTypeARP, gopacket.Default).Layer(layers.LayerTypeARP).(*layers.ARP)
		if !ok || arp.Operation != layers.ARPReply || !bytes.Equal(arp.SourceHwAddress, mac[:]) || !bytes.Equal(arp.SourceProtAddress, red.gateways(1)[0].AsSlice()) || vni != red.vni(1) {
			t.Errorf("%s: got %v", placeName(place), arp)
		}
		_, inner = innerOf(sitePort, frames[1])
		sound(t, inner)
		advert, ok := decode(inner).Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
		if !ok || !bytes.Equal(advert.Options[0].Data, mac[:]) || !bytes.Equal(advert.TargetAddress, red.gateways(1)[1].AsSlice()) || !advert.Solicited() {
			t.Errorf("%s: got %v", placeName(place), advert)
		}
	}
}

func TestAnUnfinishedChecksumIsFinishedBeforeThePacketTravels(t *testing.T) {
	p := newPair(t, gatewayOptions{virtual: true})
	p.connect(t)
	for place := atVXLAN4; place < places; place++ {
		for _, version := range []int{4, 6} {
			finished := udpPacket(red.host(1, place, version), red.host(2, atRouted, version), 64, 0, 1, 2, []byte("odd"))
			partial := edit(finished, func(b []byte) {
				at := len(b) - 3 - 2
				sum := pseudoSumSlowly(b, 11)
				b[at], b[at+1] = byte(sum>>8), byte(sum)
			})
			if bytes.Equal(partial, finished) {
				t.Fatal("the packet was not unfinished")
			}
			port, frame := fromHost(red, 1, place, partial)
			p.a.queues[0][port].Inject(frame)
			p.settle()
			got := p.b.got(redPort)
			if len(got) != 1 {
				t.Fatalf("%s IPv%d: %v", placeName(place), version, nonzero(p.a.relay.Counters()))
			}
			if _, inner := innerOf(redPort, got[0]); !bytes.Equal(inner, forwarded(finished)) {
				t.Errorf("%s IPv%d:\n got %x\nwant %x", placeName(place), version, inner, forwarded(finished))
			}
		}
	}
}

// pseudoSumSlowly adds the pseudo-header of a UDP packet word by word.
func pseudoSumSlowly(b []byte, length int) uint16 {
	sum := uint32(17 + length)
	from, to := 12, 20
	if b[0]>>4 == 6 {
		from, to = 8, 40
	}
	for i := from; i < to; i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

func TestGeneveOptionsTravelUnchangedAndCongestionMarksAreKept(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	option := &layers.GeneveOption{Class: 0x0111, Type: 0x50, Length: 8, Data: []byte{1, 2, 3, 4}}
	inner := udpPacket(red.host(1, atGeneve4, 4), red.host(2, atGeneve6, 4), 64, 2, 1, 2, []byte("labelled"))
	_, frame := fromHost(red, 1, atGeneve4, inner, option)
	frame = edit(frame, func(b []byte) { b[15] = 3; fixIPv4(b[14:]) }) // marked on the way to us
	p.a.queues[0][sitePort].Inject(frame)
	p.settle()
	got := p.b.got(sitePort)
	if len(got) != 1 {
		t.Fatalf("site 1 %v, site 2 %v", nonzero(p.a.relay.Counters()), nonzero(p.b.relay.Counters()))
	}
	geneve := gopacket.NewPacket(got[0], layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeGeneve).(*layers.Geneve)
	if len(geneve.Options) != 1 || geneve.Options[0].Class != option.Class || geneve.Options[0].Type != option.Type || !bytes.Equal(geneve.Options[0].Data, option.Data) {
		t.Errorf("options %v", geneve.Options)
	}
	if _, b := innerOf(sitePort, got[0]); b[1] != 3 || !bytes.Equal(b[20:], inner[20:]) {
		t.Errorf("got %x", b)
	}
}
