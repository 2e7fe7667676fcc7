package relay

import (
	"bytes"
	"maps"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/relay/wireguard"
)

// sealed is a message of the peer to site 1, without anything around it.
func (p *pair) sealed(t *testing.T, plain []byte) []byte {
	t.Helper()
	buf := make([]byte, wireguard.HeaderSize+len(plain), wireguard.HeaderSize+len(plain)+64)
	copy(buf[wireguard.HeaderSize:], plain)
	pkts := []wireguard.Packet{{Buf: buf, Peer: p.b.peer}}
	p.b.device.NewBatch().Seal(pkts, p.b.device.Clock())
	if pkts[0].Result != wireguard.OK {
		t.Fatalf("seal: %v", pkts[0].Result)
	}
	return pkts[0].Buf
}

// arrival is a message as site 1's socket has received it.
func arrival(version int, message []byte) Arrival {
	return Arrival{Data: message, From: netip.AddrPortFrom(wanAddr(2, version), listenPort), To: wanAddr(1, version), Ifindex: wanPort}
}

func TestWhatComesByWayOfTheKernelFaresLikeWhatThePortReceives(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	for _, outer := range []int{4, 6} {
		for place := atVXLAN4; place < places; place++ {
			inner := udpPacket(red.host(2, place, 4), red.host(1, place, 4), 64, 0, 1, 2, bytes.Repeat([]byte{7}, 1300))
			plain := tunnelled(red.vni(1), layers.EthernetTypeIPv4, inner)
			port, _ := fromHost(red, 1, place, inner)
			p.sealOver(t, outer, plain)
			p.a.turn()
			want := p.a.got(port)
			a := arrival(outer, p.sealed(t, plain))
			got := p.a.verdicts(func() {
				if !p.a.relay.Arrive(a) {
					t.Fatal("no room")
				}
				clear(a.Data) // it was borrowed
				p.a.turn()
			})
			if !maps.Equal(got, map[string]uint64{"to_site": 1}) {
				t.Errorf("IPv%d, %s: verdicts %v", outer, placeName(place), got)
			}
			same(t, layers.LinkTypeEthernet, p.a.got(port), want)
		}
	}
}

func TestCongestionMarksAndMovesAreSeenOnWhatComesByWayOfTheKernel(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	a := arrival(6, p.sealed(t, udpPacket(defaultVPC.host(2, atRouted, 4), defaultVPC.host(1, atRouted, 4), 64, 2, 1, 2, nil)))
	a.TOS = 3
	a.From = netip.MustParseAddrPort("[2001:db8:f::77]:4000")
	p.a.relay.Arrive(a)
	p.a.turn()
	got := p.a.got(hostPort)
	if len(got) != 1 || trafficClass(got[0][14:])&3 != 3 {
		t.Errorf("got %x, not one packet with a congestion mark", got)
	}
	if e := p.a.peer.Endpoint(); e.Remote != a.From || e.Local != a.To {
		t.Errorf("the peer is at %v, we at %v", e.Remote, e.Local)
	}
}

func TestADatagramLongerThanAFrameIsTakenFromTheKernel(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	inner := udpPacket(defaultVPC.host(2, atRouted, 4), defaultVPC.host(1, atRouted, 4), 64, 0, 1, 2, bytes.Repeat([]byte("long"), 2000))
	inner[6] = 0 // no DF
	fixIPv4(inner)
	got := p.a.verdicts(func() {
		p.a.relay.Arrive(arrival(4, p.sealed(t, inner)))
		p.a.turn()
	})
	if pieces := (8000 + 8 + 1479) / 1480; got["to_site"]+got["originated"] != uint64(pieces) {
		t.Errorf("verdicts %v, %d pieces were to be sent", got, pieces)
	}
	whole := make([]byte, len(inner)-20)
	for _, frame := range p.a.got(hostPort) {
		ip := gopacket.NewPacket(frame, layers.LinkTypeEthernet, gopacket.Default).NetworkLayer().(*layers.IPv4)
		copy(whole[int(ip.FragOffset)*8:], ip.Payload)
	}
	if !bytes.Equal(whole, inner[20:]) {
		t.Error("the pieces are not the packet")
	}
}

func TestWhatCannotBeTakenFromTheKernelHasItsVerdict(t *testing.T) {
	elsewhere := arrival(4, wireguardMessage(4, 64))
	elsewhere.Ifindex = 99
	foreign := arrival(4, wireguardMessage(4, 64))
	foreign.To = addr("203.0.113.9")
	for _, c := range []struct {
		name string
		a    Arrival
		want Verdict
	}{
		{"nothing", arrival(4, nil), BadWireGuard},
		{"a byte", arrival(6, []byte{4}), BadWireGuard},
		{"a message of no known type", arrival(4, wireguardMessage(9, 64)), BadWireGuard},
		{"data of no session", arrival(6, wireguardMessage(4, 64)), UnknownIndex},
		{"a handshake message", arrival(4, wireguardMessage(1, 148)), Handshake},
		{"a handshake message of a wrong length", arrival(4, wireguardMessage(1, 147)), BadWireGuard},
		{"to an address that is not ours", foreign, NotOurs},
		{"through an interface that is no port", elsewhere, NotServed},
	} {
		p := newPair(t, gatewayOptions{})
		got := p.a.verdicts(func() {
			if !p.a.relay.Arrive(c.a) {
				t.Fatal("no room")
			}
			p.a.turn()
		})
		if !maps.Equal(got, map[string]uint64{c.want.String(): 1}) {
			t.Errorf("%s: verdicts %v, want %v", c.name, got, c.want)
		}
	}
}

func wireguardMessage(typ byte, length int) []byte {
	b := make([]byte, length)
	b[0] = typ
	return b
}

func TestWhatMayWaitForAWorkerIsBounded(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	for _, c := range []struct {
		name string
		a    Arrival
	}{
		{"too long", arrival(4, make([]byte, MaxArrival+1))},
		{"from nowhere", Arrival{Data: make([]byte, 64), To: wanAddr(1, 4), Ifindex: wanPort}},
		{"to nowhere", Arrival{Data: make([]byte, 64), From: netip.AddrPortFrom(wanAddr(2, 4), 1), Ifindex: wanPort}},
		{"between families", Arrival{Data: make([]byte, 64), From: netip.AddrPortFrom(wanAddr(2, 6), 1), To: wanAddr(1, 4), Ifindex: wanPort}},
	} {
		if p.a.relay.Arrive(c.a) {
			t.Errorf("%s: was taken", c.name)
		}
	}
	for range 2 { // the memory is used again
		taken := 0
		for range 2 * maxArrivals {
			if p.a.relay.Arrive(arrival(4, wireguardMessage(4, MaxArrival))) {
				taken++
			}
		}
		if taken != maxArrivals {
			t.Errorf("%d were taken, not %d", taken, maxArrivals)
		}
		got := p.a.verdicts(func() { p.a.turn() })
		if got[UnknownIndex.String()] != maxArrivals {
			t.Errorf("verdicts %v", got)
		}
	}
}

// The engine must not be reached past the XDP program's limits by sending handshakes in fragments.
func TestHandshakesByWayOfTheKernelAreLimited(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	got := make(map[string]uint64)
	for range 3 {
		for v, n := range p.a.verdicts(func() {
			for range 200 {
				p.a.relay.Arrive(arrival(4, wireguardMessage(1, 148)))
			}
			p.a.relay.Arrive(arrival(4, wireguardMessage(4, 64)))
			p.a.turn()
		}) {
			got[v] += n
		}
	}
	if n := got["handshake"] + got["handshake_busy"]; n < arrivalHandshakes || n > 3*arrivalHandshakes {
		t.Errorf("%d handshake messages were taken: %v", n, got)
	}
	if got["handshake_rate"] < 200 || got["unknown_index"] != 3 {
		t.Errorf("verdicts %v", got)
	}
}

func TestACaptureShowsWhatComesByWayOfTheKernel(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	c, err := p.a.relay.Capture(CaptureOptions{Stages: []Stage{StageWANIn}})
	check(t, err)
	defer c.Close()
	message := p.sealed(t, udpPacket(defaultVPC.host(2, atRouted, 6), defaultVPC.host(1, atRouted, 6), 64, 0, 1, 2, nil))
	p.a.relay.Arrive(arrival(4, bytes.Clone(message)))
	p.a.turn()
	seen := 0
	c.Read(func(got CapturedPacket) bool {
		seen++
		frame := gopacket.NewPacket(got.Data, layers.LinkTypeEthernet, gopacket.Default)
		udp, ok := frame.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok || got.Ifindex != wanPort || !bytes.Equal(udp.Payload, message) {
			t.Errorf("captured on port %d: %v", got.Ifindex, frame)
		}
		return true
	})
	if seen != 1 {
		t.Errorf("%d packets were captured", seen)
	}
}

// FuzzArrive hands any datagram to the worker, genuine or not: it must neither crash nor lose a frame or a buffer
// (gateway.conserved counts both), and each ends in one verdict at least.
func FuzzArrive(f *testing.F) {
	f.Add(false, false, uint8(0), uint8(wanPort), wireguardMessage(4, 64))
	f.Add(true, true, uint8(3), uint8(wanPort), udpPacket(defaultVPC.host(2, atRouted, 6), defaultVPC.host(1, atGeneve6, 6), 64, 0, 1, 2, make([]byte, 3000)))
	p := newPair(f, gatewayOptions{})
	p.connect(f)
	f.Fuzz(func(t *testing.T, six, seal bool, tos, ifindex uint8, b []byte) {
		if len(b) > MaxArrival-64 {
			return
		}
		if seal {
			b = p.sealed(t, b)
		}
		version := 4
		if six {
			version = 6
		}
		a := arrival(version, b)
		a.TOS, a.Ifindex = tos, uint32(ifindex)
		w := p.a.relay.workers[0]
		w.emptyPark()
		w.publish()
		before := p.a.relay.Counters()
		if !p.a.relay.Arrive(a) {
			t.Fatal("no room")
		}
		p.a.turn()
		after := p.a.relay.Counters()
		var verdicts uint64
		for v := range after.Verdicts {
			verdicts += after.Verdicts[v] - before.Verdicts[v]
		}
		in := after.Arrived + after.Injected + after.Made - before.Arrived - before.Injected - before.Made
		if after.Arrived != before.Arrived+1 || verdicts+after.Parked != in {
			t.Errorf("%d packets have %d verdicts: %v", in, verdicts, nonzero(after))
		}
		for port := uint32(firstPort); port <= lastPort; port++ {
			p.a.queues[0][port].Discard()
		}
		p.a.turn()
		if w.longs.all != nil && len(w.longs.free)+longsParked(w) != longCount {
			t.Errorf("%d of %d long buffers are free", len(w.longs.free), longCount)
		}
	})
}

func longsParked(w *worker) (n int) {
	for i := range w.park.list {
		if w.park.list[i].long > 0 {
			n++
		}
	}
	return n
}
