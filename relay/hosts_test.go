package relay

import (
	"bytes"
	"encoding/binary"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/internal/hosts"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/internal/packet"
)

// learnedPrefixes are those of red whose hosts are found out.
func learnedPrefixes(site int) []netip.Prefix {
	return []netip.Prefix{netip.PrefixFrom(addr("10.%d.200.0", site), 24), netip.PrefixFrom(addr("fd10:%d:200::", site), 48)}
}

// learnedHost is number n of them.
func learnedHost(site, n, version int) netip.Addr {
	if version == 4 {
		return addr("10.%d.200.%d", site, n)
	}
	return addr("fd10:%d:200::%d", site, n)
}

func learnedMAC(n int) [6]byte { return [6]byte{2, 0, 0, 0, 0x77, byte(n)} }

func learnedAttachment(site int) hosts.Attachment {
	prefixes := learnedPrefixes(site)
	return hosts.Attachment{
		Segment: hosts.Segment{VNI: red.vni(site), Ifindex: sitePort, UDP: 4789}, VPC: "red", MAC: red.mac(),
		Gateway4: red.gateways(site)[0], Gateway6: red.gateways(site)[1],
		Covers: func(a netip.Addr) bool {
			return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
		},
		VTEPs:  []netip.Addr{vtepAddr(site, atVXLAN4), vtepAddr(site, atVXLAN6)},
		Listen: true, MaxHosts: 1000, Timeout: time.Minute,
	}
}

// fromNode is an Ethernet payload from a host behind a VXLAN VTEP of site 1.
func fromNode(place int, mac [6]byte, inside layers.EthernetType, inner []byte) []byte {
	b := overlayFrame(red, 1, place, inside, inner)
	at := bytes.LastIndex(b[:len(b)-len(inner)], hostMACBytes(place))
	return edit(b, func(b []byte) {
		copy(b[at:], mac[:])
		if place == atVXLAN6 { // its sum is checked by nobody here, but may as well be right
			udp := b[14+40:]
			binary.BigEndian.PutUint16(udp[6:], 0)
			packet.PutTransportChecksum(b[14:], packet.IPv6Len, packet.ProtoUDP)
		}
	})
}

func hostMACBytes(place int) []byte { mac := hostMAC(1, red, place); return mac[:] }

// arpReply says that sender is at mac.
func arpReply(sender netip.Addr, mac [6]byte, target netip.Addr) []byte {
	gateway := red.mac()
	return serialize(&layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: layers.ARPReply, SourceHwAddress: mac[:], SourceProtAddress: sender.AsSlice(), DstHwAddress: gateway[:], DstProtAddress: target.AsSlice()})
}

// advert says that target is at mac.
func advert(target netip.Addr, mac [6]byte, dst netip.Addr) []byte {
	ip, network, _ := ipLayer(target, dst, layers.IPProtocolICMPv6, 255, 0)
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborAdvertisement, 0)}
	if err := icmp.SetNetworkLayerForChecksum(network); err != nil {
		panic(err)
	}
	return serialize(ip, icmp, &layers.ICMPv6NeighborAdvertisement{Flags: 0x60, TargetAddress: target.AsSlice(),
		Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: mac[:]}}})
}

// place says where a frame that left through sitePort goes: to which VTEP and inner MAC, and with what inside.
func placeOf(frame []byte) (vtep netip.Addr, mac [6]byte, inner []byte) {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	vtep, _ = netip.AddrFromSlice(p.NetworkLayer().NetworkFlow().Dst().Raw())
	for i, l := range p.Layers() {
		if e, ok := l.(*layers.Ethernet); ok && i > 0 {
			return vtep, [6]byte(e.DstMAC), e.LayerPayload()
		}
	}
	return vtep, mac, nil
}

// fromFar sends from site 2 to host n of site 1 and returns what leaves site 1 through sitePort.
func (p *pair) fromFar(n, version int) [][]byte {
	_, frame := fromHost(red, 2, atRouted, udpPacket(red.host(2, atRouted, version), learnedHost(1, n, version), 64, 0, 5, 6, []byte("to host")))
	p.b.queues[0][redPort].Inject(frame)
	p.settle()
	return p.a.got(sitePort)
}

func (p *pair) wantDelivered(t *testing.T, frames [][]byte, n, version, place int, mac [6]byte) {
	t.Helper()
	if len(frames) != 1 {
		t.Fatalf("%d frames, want one; %v", len(frames), nonzero(p.a.relay.Counters()))
	}
	vtep, to, inner := placeOf(frames[0])
	if vtep != vtepAddr(1, place) || to != mac {
		t.Errorf("went to %x at %v, want %x at %v", to, vtep, mac, vtepAddr(1, place))
	}
	if dst, _ := netip.AddrFromSlice(decode(inner).NetworkLayer().NetworkFlow().Dst().Raw()); dst != learnedHost(1, n, version) {
		t.Errorf("inside it is for %v", dst)
	}
}

func TestAHostIsReachedWhereItsTrafficCameFrom(t *testing.T) {
	p := newPair(t, gatewayOptions{learn: true})
	p.connect(t)
	for n, place := range []int{atVXLAN4, atVXLAN6} {
		for _, version := range []int{4, 6} {
			inner := udpPacket(learnedHost(1, n+1, version), red.host(2, atRouted, version), 64, 0, 1, 2, []byte("hello"))
			p.a.queues[0][sitePort].Inject(fromNode(place, learnedMAC(n), etherTypeOfPacket(inner), inner))
			p.settle()
			if got := p.b.got(redPort); len(got) != 1 {
				t.Fatalf("%d packets arrived at the other site", len(got))
			}
			p.wantDelivered(t, p.fromFar(n+1, version), n+1, version, place, learnedMAC(n))
		}
	}
	if c := p.a.hosts.Counters(); c.Questions != 0 || c.Learned != 4 || c.Sightings != 4 {
		t.Errorf("learner: %+v", c)
	}
}

func TestWhatAHostSaysOfItselfIsHeard(t *testing.T) {
	for name, c := range map[string]struct {
		version int
		frame   []byte
		want    map[string]uint64
	}{
		"a gratuitous ARP reply":                    {4, fromNode(atVXLAN4, learnedMAC(1), layers.EthernetTypeARP, arpReply(learnedHost(1, 1, 4), learnedMAC(1), learnedHost(1, 1, 4))), map[string]uint64{"heard": 1}},
		"an ARP request for the gateway":            {4, fromNode(atVXLAN4, learnedMAC(1), layers.EthernetTypeARP, edit(arpRequest(learnedHost(1, 1, 4), red.gateways(1)[0]), func(b []byte) { m := learnedMAC(1); copy(b[8:], m[:]) })), map[string]uint64{"answered": 1, "originated": 1}},
		"an unsolicited advertisement":              {6, fromNode(atVXLAN4, learnedMAC(1), layers.EthernetTypeIPv6, edit(advert(learnedHost(1, 1, 6), learnedMAC(1), addr("ff02::1")), unsolicited)), map[string]uint64{"heard": 1}},
		"a neighbour solicitation for the gateway":  {6, fromNode(atVXLAN4, learnedMAC(1), layers.EthernetTypeIPv6, solicitation(learnedHost(1, 1, 6), red.gateways(1)[1])), map[string]uint64{"answered": 1, "originated": 1}},
		"an advertisement that claims a solicitor":  {6, fromNode(atVXLAN4, learnedMAC(1), layers.EthernetTypeIPv6, advert(learnedHost(1, 1, 6), learnedMAC(1), addr("ff02::1"))), map[string]uint64{"bad_nd": 1}},
		"an advertisement with a wrong sum":         {6, fromNode(atVXLAN4, learnedMAC(1), layers.EthernetTypeIPv6, edit(advert(learnedHost(1, 1, 6), learnedMAC(1), red.gateways(1)[1]), func(b []byte) { b[42]++ })), map[string]uint64{"bad_nd": 1}},
		"a gratuitous ARP of an address elsewhere":  {4, fromNode(atVXLAN4, learnedMAC(1), layers.EthernetTypeARP, arpReply(red.host(1, atGeneve4, 4), learnedMAC(1), red.host(1, atGeneve4, 4))), map[string]uint64{"arp_not_ours": 1}},
		"a gratuitous ARP of a static host":         {4, fromNode(atVXLAN4, learnedMAC(1), layers.EthernetTypeARP, arpReply(red.host(1, atVXLAN4, 4), learnedMAC(1), red.host(1, atVXLAN4, 4))), map[string]uint64{"arp_not_ours": 1}},
		"a gratuitous ARP of a remote host":         {4, fromNode(atVXLAN4, learnedMAC(1), layers.EthernetTypeARP, arpReply(learnedHost(2, 1, 4), learnedMAC(1), learnedHost(2, 1, 4))), map[string]uint64{"arp_not_ours": 1}},
		"a gratuitous ARP on another attachment":    {4, overlayFrame(red, 1, atGeneve4, layers.EthernetTypeARP, arpReply(learnedHost(1, 1, 4), learnedMAC(1), learnedHost(1, 1, 4))), map[string]uint64{"arp_not_ours": 1}},
		"a gratuitous ARP of the gateway's address": {4, fromNode(atVXLAN4, learnedMAC(1), layers.EthernetTypeARP, arpReply(red.gateways(1)[0], learnedMAC(1), red.gateways(1)[0])), map[string]uint64{"arp_not_ours": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, gatewayOptions{learn: true})
			p.a.queues[0][sitePort].Inject(c.frame)
			got := p.a.verdicts(func() { p.a.turn(); p.a.turn() })
			if !maps.Equal(got, c.want) {
				t.Fatalf("got %v, want %v", got, c.want)
			}
			e := p.a.hosts.Table().Lookup(hosts.Key{Segment: learnedAttachment(1).Segment, Addr: learnedHost(1, 1, c.version)})
			mac := learnedMAC(1)
			if name == "a neighbour solicitation for the gateway" {
				mac = [6]byte{2, 0, 0, 0, 0, 9} // what solicitation says in its option counts, not the frame's source
			}
			known := e != nil && e.Place == hosts.Place{VTEP: vtepAddr(1, atVXLAN4), MAC: mac}
			if want := c.want["heard"]+c.want["answered"] > 0; known != want || p.a.hosts.Table().Len() > 1 {
				t.Errorf("known: %v, want %v (%v)", known, want, e)
			}
		})
	}
}

// unsolicited clears the S flag of an advertisement.
func unsolicited(b []byte) {
	b[44] &^= 0x40
	b[42], b[43] = 0, 0
	packet.PutTransportChecksum(b, packet.IPv6Len, packet.ProtoICMPv6)
}

// What the gateway asks, and what it does with the answer: to each VTEP of the attachment ARP by broadcast or a
// solicitation by multicast, then the packet that waited; and after a while of silence the same by unicast.
func TestGoldenQuestions(t *testing.T) {
	for _, version := range []int{4, 6} {
		name := map[int]string{4: "question-arp", 6: "question-nd"}[version]
		t.Run(name, func(t *testing.T) {
			p := newPair(t, gatewayOptions{learn: true})
			p.connect(t)
			got := p.fromFar(9, version)
			inner, inside := arpReply(learnedHost(1, 9, 4), learnedMAC(9), red.gateways(1)[0]), layers.EthernetTypeARP
			if version == 6 {
				inner, inside = advert(learnedHost(1, 9, 6), learnedMAC(9), red.gateways(1)[1]), layers.EthernetTypeIPv6
			}
			p.a.queues[0][sitePort].Inject(fromNode(atVXLAN6, learnedMAC(9), inside, inner))
			p.settle()
			delivered := p.a.got(sitePort)
			p.wantDelivered(t, delivered, 9, version, atVXLAN6, learnedMAC(9))
			slices.SortFunc(got, func(a, b []byte) int { return len(a) - len(b) }) // VTEPs are asked in no order
			got = append(got, delivered...)
			// Somebody goes on sending to a host that says nothing.
			p.until(t, "question by unicast", func() bool {
				frames := p.fromFar(9, version)
				for _, f := range frames {
					if _, _, inner := placeOf(f); !bytes.Contains(inner, []byte("to host")) {
						got = append(got, f)
						return true
					}
				}
				return false
			})
			if vtep, mac, _ := placeOf(got[3]); vtep != vtepAddr(1, atVXLAN6) || mac != learnedMAC(9) {
				t.Errorf("asked %x at %v", mac, vtep)
			}
			path := filepath.Join("testdata", name+".want.pcap")
			if *update {
				writeCapture(t, path, layers.LinkTypeEthernet, got)
			}
			compare(t, layers.LinkTypeEthernet, got, readCapture(t, path))
		})
	}
}

func TestNobodysAddressIsUnreachable(t *testing.T) {
	p := newPair(t, gatewayOptions{learn: true})
	p.connect(t)
	p.fromFar(9, 4)
	var back [][]byte
	p.until(t, "ICMP error", func() bool { back = p.b.got(redPort); return len(back) > 0 })
	_, inner := innerOf(redPort, back[0])
	icmp, ok := decode(inner).Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	if !ok || icmp.TypeCode != layers.CreateICMPv4TypeCode(3, 1) {
		t.Fatalf("got %v", decode(inner))
	}
	p.a.got(sitePort)
	if got := p.a.verdicts(func() { p.fromFar(9, 4) }); got["no_host"] != 1 { // known by now
		t.Errorf("got %v", got)
	}
	if c := p.a.hosts.Counters(); c.Unanswered != 1 || c.Questions != 8 {
		t.Errorf("learner: %+v", c)
	}
}

func TestAHostThatMovedIsFollowedAndTheOldNodeGetsNothing(t *testing.T) {
	p := newPair(t, gatewayOptions{learn: true})
	p.connect(t)
	speak := func(place int) {
		inner := udpPacket(learnedHost(1, 5, 4), red.host(2, atRouted, 4), 64, 0, 1, 2, []byte("hello"))
		p.a.queues[0][sitePort].Inject(fromNode(place, learnedMAC(5), layers.EthernetTypeIPv4, inner))
		p.settle()
		p.b.got(redPort)
	}
	speak(atVXLAN4)
	p.wantDelivered(t, p.fromFar(5, 4), 5, 4, atVXLAN4, learnedMAC(5))
	start := time.Now()
	p.until(t, "move", func() bool {
		speak(atVXLAN6)
		for _, f := range p.fromFar(5, 4) {
			if vtep, _, inner := placeOf(f); vtep == vtepAddr(1, atVXLAN6) && bytes.Contains(inner, []byte("to host")) {
				return true
			}
		}
		return false
	})
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("it took %v", d)
	}
	for range 10 {
		p.wantDelivered(t, p.fromFar(5, 4), 5, 4, atVXLAN6, learnedMAC(5))
	}
}

func TestAPacketForALearnedHostWaitsForTheNeighbourEntryOfItsVTEP(t *testing.T) {
	p := newPair(t, gatewayOptions{learn: true, cold: true})
	p.a.warm()
	p.b.warm()
	p.connect(t)
	inner := udpPacket(learnedHost(1, 5, 4), red.host(2, atRouted, 4), 64, 0, 1, 2, []byte("hello"))
	p.a.queues[0][sitePort].Inject(fromNode(atVXLAN4, learnedMAC(5), layers.EthernetTypeIPv4, inner))
	p.settle()
	p.a.neigh.Remove(neigh.Key{Dst: vtepAddr(1, atVXLAN4), Ifindex: sitePort})
	if got := p.fromFar(5, 4); len(got) != 0 {
		t.Fatalf("%d frames without a neighbour entry", len(got))
	}
	if !p.a.relay.SendQuestion(hosts.Question{Segment: learnedAttachment(1).Segment, VTEP: vtepAddr(1, atVXLAN4), Frame: make([]byte, 60)}) {
		t.Fatal("no room for a question")
	}
	if got := p.a.verdicts(func() { p.settle() }); got["vtep_unresolved"] != 1 {
		t.Errorf("got %v", got)
	}
	p.a.warm()
	p.settle()
	p.wantDelivered(t, p.a.got(sitePort), 5, 4, atVXLAN4, learnedMAC(5))
}

func TestATracedPacketTeachesAndAsksNothing(t *testing.T) {
	p := newPair(t, gatewayOptions{learn: true})
	p.connect(t)
	inner := udpPacket(learnedHost(1, 5, 4), red.host(2, atRouted, 4), 64, 0, 1, 2, []byte("hello"))
	for _, c := range []struct {
		frame []byte
		want  Verdict // pending: it waits
	}{
		{fromNode(atVXLAN4, learnedMAC(5), layers.EthernetTypeIPv4, inner), pending}, // for a session
		{fromNode(atVXLAN4, learnedMAC(5), layers.EthernetTypeARP, arpReply(learnedHost(1, 5, 4), learnedMAC(5), learnedHost(1, 5, 4))), Heard},
		// The answer to this ping waits for the host, which nobody knows.
		{fromNode(atVXLAN4, learnedMAC(5), layers.EthernetTypeIPv4, echoPacket(learnedHost(1, 5, 4), red.gateways(1)[0], 1, 1, nil)), Answered},
	} {
		got, err := p.a.relay.Trace(TraceInput{Ifindex: sitePort, Frame: c.frame})
		check(t, err)
		if c.want != pending && !slices.Contains(got.Verdicts, c.want) {
			t.Errorf("verdicts %v, want %v", got.Verdicts, c.want)
		}
	}
	p.a.hosts.Work()
	if c := p.a.hosts.Counters(); c != (hosts.Counters{VTEPs: 2}) {
		t.Errorf("learner: %+v", c)
	}
}

func TestWithoutALearnerALearnedHostIsUnreachable(t *testing.T) {
	p := newPair(t, gatewayOptions{learn: true, tune: func(o *Options) { o.Hosts = nil }})
	p.connect(t)
	if got := p.a.verdicts(func() { p.fromFar(5, 4) }); got["no_host"] != 1 {
		t.Errorf("got %v", got)
	}
}

func TestSeeingAHostAgainAllocatesNothing(t *testing.T) {
	p := newPair(t, gatewayOptions{learn: true})
	p.connect(t)
	inner := udpPacket(learnedHost(1, 5, 4), red.host(2, atRouted, 4), 64, 0, 1, 2, []byte("hello"))
	frame := fromNode(atVXLAN4, learnedMAC(5), layers.EthernetTypeIPv4, inner)
	w, q := p.a.relay.workers[0], p.a.queues[0][sitePort]
	q.Inject(frame)
	p.settle()
	allocs := testing.AllocsPerRun(100, func() {
		q.Inject(frame)
		w.turn()
		p.a.queues[0][wanPort].Discard()
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// FuzzLearnedHosts puts any bytes into the overlay of an attachment that learns: whatever a node says, the table holds only
// addresses of the attachment, at the VTEP that said so, with a MAC address that a host can have.
func FuzzLearnedHosts(f *testing.F) {
	for _, version := range []int{4, 6} {
		inner := udpPacket(learnedHost(1, 5, version), red.host(2, atRouted, version), 64, 0, 1, 2, []byte("hello"))
		f.Add(fromNode(atVXLAN4, learnedMAC(5), etherTypeOfPacket(inner), inner)[50:])
	}
	f.Add(fromNode(atVXLAN4, learnedMAC(1), layers.EthernetTypeARP, arpReply(learnedHost(1, 1, 4), learnedMAC(1), learnedHost(1, 1, 4)))[50:])
	f.Add(fromNode(atVXLAN4, learnedMAC(1), layers.EthernetTypeARP, arpRequest(learnedHost(1, 1, 4), red.gateways(1)[0]))[50:])
	f.Add(fromNode(atVXLAN4, learnedMAC(1), layers.EthernetTypeIPv6, advert(learnedHost(1, 1, 6), learnedMAC(1), red.gateways(1)[1]))[50:])
	f.Add(fromNode(atVXLAN4, learnedMAC(1), layers.EthernetTypeIPv6, solicitation(learnedHost(1, 1, 6), red.gateways(1)[1]))[50:])
	p := newPair(f, gatewayOptions{learn: true})
	p.connect(f)
	covers := learnedAttachment(1).Covers
	f.Fuzz(func(t *testing.T, inner []byte) {
		if len(inner) > 1400 {
			return
		}
		frame := overlayFrame(red, 1, atVXLAN4, 0, inner)
		frame = slices.Delete(frame, 50, 64) // the bytes bring their own Ethernet
		binary.BigEndian.PutUint16(frame[16:], uint16(len(frame)-14))
		binary.BigEndian.PutUint16(frame[38:], uint16(len(frame)-34))
		binary.BigEndian.PutUint16(frame[40:], 0)
		fixIPv4(frame[14:])
		if !p.a.queues[0][sitePort].Inject(frame) {
			t.Fatal("no frame")
		}
		got := p.a.verdicts(func() { p.a.turn(); p.a.turn() })
		if len(got) == 0 && p.a.relay.Counters().Parked == 0 {
			t.Error("no verdict")
		}
		p.a.got(sitePort)
		p.a.got(wanPort)
		for e := range p.a.hosts.Table().All() {
			if e.Silent {
				continue
			}
			if !covers(e.Addr) || e.VTEP != vtepAddr(1, atVXLAN4) || e.MAC[0]&1 != 0 || e.MAC == [6]byte{} || e.MAC == red.mac() {
				t.Fatalf("the table holds %v at %x behind %v", e.Addr, e.MAC, e.VTEP)
			}
		}
		p.a.hosts.SetAttachments(nil)
		p.a.hosts.SetAttachments([]hosts.Attachment{learnedAttachment(1)})
	})
}
