package relay

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/internal/packet"
)

// FuzzPipeline gives any bytes to any port: the worker must neither crash nor
// lose a frame, and the packet ends in exactly one verdict (gateway.conserved
// counts both). With seal set the bytes are the plaintext of a genuine message
// of the peer, so that what lies behind the cipher is reached as well.
func FuzzPipeline(f *testing.F) {
	for place := atVXLAN4; place < places; place++ {
		for _, version := range []int{4, 6} {
			port, frame := fromHost(red, 1, place, udpPacket(red.host(1, place, version), red.host(2, place, version), 64, 0, 1, 2, []byte("seed")))
			f.Add(uint8(port), false, frame)
			port, frame = fromHost(red, 1, place, echoPacket(red.host(1, place, version), red.gateways(1)[version/6], 1, 2, nil))
			f.Add(uint8(port), false, frame)
		}
		if place != atRouted {
			f.Add(uint8(sitePort), false, overlayFrame(red, 1, place, layers.EthernetTypeARP, arpRequest(red.host(1, place, 4), red.gateways(1)[0])))
			f.Add(uint8(sitePort), false, overlayFrame(red, 1, place, layers.EthernetTypeIPv6, solicitation(red.host(1, place, 6), red.gateways(1)[1])))
		}
	}
	option := &layers.GeneveOption{Class: 1, Type: 2, Length: 8, Data: make([]byte, 4)}
	f.Add(uint8(sitePort), false, overlayFrame(red, 1, atGeneve4, layers.EthernetTypeIPv4, udpPacket(red.host(1, atGeneve4, 4), red.host(1, atGeneve6, 4), 64, 0, 1, 2, nil), option))
	f.Add(uint8(wanPort), false, wireguardFrame(4, 64))
	f.Add(uint8(wanPort), false, wireguardFrame(1, 148))
	f.Add(uint8(wanPort), true, tunnelled(red.vni(1), layers.EthernetTypeIPv4, udpPacket(red.host(2, atRouted, 4), red.host(1, atRouted, 4), 64, 0, 1, 2, nil), option))
	f.Add(uint8(wanPort), true, udpPacket(defaultVPC.host(2, atRouted, 6), defaultVPC.host(1, atGeneve6, 6), 64, 0, 1, 2, nil))
	for _, version := range []int{4, 6} {
		f.Add(uint8(wanPort), true, request(2, version, 1, 100))
		reply := request(2, version, 1, 100)
		reply[20+20*(version/6)] = []byte{4: packet.EchoReply, 6: packet.EchoReply6}[version]
		f.Add(uint8(wanPort), true, reply)
	}
	for _, version := range []int{4, 6} {
		f.Add(uint8(tunPort-firstPort), false, tcpPacket(tunnelAddr(1, version), tunnelAddr(2, version), []byte("from the kernel")))
		f.Add(uint8(tunPort-firstPort), false, udpPacket(tunnelAddr(1, version), tunnelAddr(2, version), 64, 0, 1, 2, make([]byte, 1440)))
	}
	p := newPair(f, gatewayOptions{virtual: true, tune: func(o *Options) { o.ErrorRate = 1 << 30 }})
	p.connect(f)
	if _, err := p.a.relay.ListenEcho(77, make(chan EchoReply, 1)); err != nil {
		f.Fatal(err)
	}
	p.a.addKernel()
	p.a.translateBlue()
	p.a.mixed()
	for i, inside := range []netip.Addr{addr("10.9.0.1"), addr("fd10:9::1")} {
		inner := udpPacket(inside, red.host(1, atVXLAN4, 4+2*i), 64, 0, 1, 2, nil)
		f.Add(uint8(wanPort-firstPort), false, directFrame(mixedAddr, 1, red.vni(1), etherTypeOfPacket(inner), inner, option))
		port, frame := fromHost(red, 1, atGeneve4, udpPacket(red.host(1, atGeneve4, 4+2*i), inside, 64, 0, 1, 2, nil), option)
		f.Add(uint8(port-firstPort), false, frame)
	}
	for _, version := range []int{4, 6} {
		us, them := blue.host(1, atRouted, version), blue.host(2, atRouted, version)
		quoting := portUnreachable(them, seenAs(1, us), udpPacket(seenAs(1, us), them, 64, 0, 1, 2, []byte("quoted")))
		f.Add(uint8(wanPort), true, tunnelled(blue.vni(1), etherTypeOfPacket(quoting), quoting))
		port, frame := fromHost(blue, 1, atRouted, portUnreachable(us, them, tcpPacket(them, us, []byte("quoted"))))
		f.Add(uint8(port), false, frame)
	}
	f.Fuzz(func(t *testing.T, port uint8, seal bool, b []byte) {
		if len(b) > 1500 {
			return
		}
		// What earlier inputs left waiting would make this one's outcome depend on them.
		p.a.relay.workers[0].emptyPark()
		p.a.relay.workers[0].publish()
		before := p.a.relay.Counters()
		if seal {
			p.sealTo(t, b)
		} else if !p.a.queues[0][firstPort+uint32(port)%(tunPort-firstPort+1)].Inject(b) {
			t.Fatal("no frame")
		}
		p.a.turn()
		after := p.a.relay.Counters()
		var verdicts uint64
		for v := range after.Verdicts {
			verdicts += after.Verdicts[v] - before.Verdicts[v]
		}
		in := after.Received + after.Injected + after.Made - before.Received - before.Injected - before.Made
		if verdicts+after.Parked != in+before.Parked {
			t.Errorf("%d packets have %d verdicts: %v", in, verdicts, nonzero(after))
		}
		for _, q := range p.a.queues[0] {
			q.Discard()
		}
		p.a.turn()
		held := 0
		for _, q := range p.a.queues[0] {
			held += q.Held()
		}
		parked := p.a.relay.Counters().Parked // the second turn may have parked what the engine sent meanwhile
		if free := p.a.umems[0].FreeCount(); free+held+int(parked) != p.a.umems[0].Frames() {
			t.Errorf("%d frames free, %d at ports, %d parked, of %d", free, held, parked, p.a.umems[0].Frames())
		}
	})
}
