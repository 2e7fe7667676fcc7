package relay

import (
	"bytes"
	"maps"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// tunnelLimit is the longest packet that fits into a tunnel over a WAN of 1500.
func tunnelLimit(outer int) int {
	if outer == 4 {
		return sealedLimit
	}
	return sealedLimit - 20
}

func request(from, version int, seq uint16, length int) []byte {
	return packet.EchoRequest(tunnelAddrs(from)[version/6], tunnelAddrs(3 - from)[version/6], 0, 77, seq, length)
}

// withoutRoutes takes everything away from a gateway's VPCs that could lead to a peer, and the default VPC as a whole.
func (g *gateway) withoutRoutes() {
	s := *g.snap
	s.VPCs, s.Deliveries = nil, nil
	for _, v := range g.snap.VPCs {
		if v.VNI != 0 {
			v.Routes = nil
			s.VPCs = append(s.VPCs, v)
		}
	}
	check(g.t, g.relay.Update(&s))
}

func TestAnEchoRequestIsTheOneThatItIsMeantToBe(t *testing.T) {
	for _, version := range []int{4, 6} {
		src, dst := tunnelAddrs(1)[version/6], tunnelAddrs(2)[version/6]
		for _, length := range []int{0, 28, 48, 49, 100, 1440, 9000} {
			header := 28 + 10*(version-4)
			want := echoPacket(src, dst, 77, 5, make([]byte, max(length-header, 0)))
			if got := request(1, version, 5, length); !bytes.Equal(got, want) {
				t.Errorf("IPv%d, %d bytes:\n got %x\nwant %x", version, length, got[:header], want[:header])
			}
		}
	}
}

func TestAPeerAnswersProbesOfAnySizeWhateverTheRoutes(t *testing.T) {
	for _, outer := range []int{4, 6} {
		p := newPair(t, gatewayOptions{outer: outer})
		p.connect(t)
		p.a.withoutRoutes()
		p.b.withoutRoutes()
		replies := make(chan EchoReply, 16)
		stop, err := p.a.relay.ListenEcho(77, replies)
		check(t, err)
		for _, version := range []int{4, 6} {
			for seq, length := range []int{0, 100, 1337, tunnelLimit(outer)} {
				if !p.a.relay.SendToPeer(PeerPacket{Peer: 0, Packet: request(1, version, uint16(seq), length), Probe: true}) {
					t.Fatal("the mailbox is full")
				}
				got := p.b.verdicts(p.settle)
				if want := map[string]uint64{"answered": 1, "originated": 1}; !maps.Equal(got, want) {
					t.Fatalf("outer %d inner %d, %d bytes: site 2 %v, want %v; site 1 %v", outer, version, length, got, want, nonzero(p.a.relay.Counters()))
				}
				want := EchoReply{Peer: 0, Seq: uint16(seq), Len: max(length, 28+10*(version-4))}
				select {
				case r := <-replies:
					if r.At <= 0 || r.At > p.a.device.Clock() {
						t.Errorf("it came at %d", r.At)
					}
					from := wireguard.Endpoint{Remote: netip.AddrPortFrom(wanAddr(2, outer), listenPort), Local: wanAddr(1, outer), Ifindex: wanPort}
					if r.From != from {
						t.Errorf("it came from %+v, want %+v", r.From, from)
					}
					if r.At, r.From = 0, (wireguard.Endpoint{}); r != want {
						t.Errorf("got %+v, want %+v", r, want)
					}
				default:
					t.Fatalf("outer %d inner %d, %d bytes: no answer; site 1 %v", outer, version, length, nonzero(p.a.relay.Counters()))
				}
			}
		}
		stop()
		p.a.relay.SendToPeer(PeerPacket{Packet: request(1, 4, 9, 100), Probe: true})
		if got := p.a.verdicts(p.settle); got["gateway_only"] != 1 || len(replies) != 0 {
			t.Errorf("an answer nobody waits for: %v", got)
		}
	}
}

// Every byte of padding would make a probe a lie about what fits; everything else is padded as WireGuard asks.
func TestAProbeAndItsAnswerAreNotPadded(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	p.a.relay.SendToPeer(PeerPacket{Packet: request(1, 4, 1, 101), Probe: true})
	p.a.relay.SendToPeer(PeerPacket{Packet: request(1, 4, 1, 101)})
	p.a.turn()
	probe := request(1, 4, 1, 101)
	if got := p.plainOf(t); len(got) != 2 || !bytes.Equal(got[0], probe) || !bytes.Equal(got[1], append(probe, make([]byte, 11)...)) {
		t.Errorf("sent %x", got)
	}
	p.sealTo(t, request(2, 4, 1, 101))
	p.a.turn()
	got := p.plainOf(t)
	if len(got) != 1 || len(got[0]) != 101 {
		t.Fatalf("answered %x", got)
	}
	sound(t, got[0])
	if icmp := decode(got[0]).Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); icmp.TypeCode.Type() != layers.ICMPv4TypeEchoReply || icmp.Id != 77 {
		t.Errorf("answered %v", icmp)
	}
}

func TestPacketsOfControlCodeEndInTheirVerdicts(t *testing.T) {
	six := netip.MustParseAddr("fd64::2")
	cases := []struct {
		name   string
		packet PeerPacket
		want   Verdict
	}{
		{"no IP", PeerPacket{Packet: []byte{0}}, BadInnerIP},
		{"nothing at all", PeerPacket{}, BadInnerIP},
		{"IP with something behind", PeerPacket{Packet: append(request(1, 4, 1, 100), 0)}, BadInnerIP},
		{"for a peer that there is not", PeerPacket{Peer: 9, Packet: request(1, 4, 1, 100)}, NoPeer},
		{"longer than the port allows", PeerPacket{Packet: request(1, 4, 1, 1441)}, TooBig},
		{"a probe longer than the port allows", PeerPacket{Packet: request(1, 4, 1, 1441), Probe: true}, TooBig},
		{"a probe longer than any buffer", PeerPacket{Packet: request(1, 4, 1, 9000), Probe: true}, TxFull},
		{"of another family than the WAN", PeerPacket{Packet: udpPacket(addr("fd64::1"), six, 64, 0, 1, 2, nil)}, Originated},
	}
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := p.a.verdicts(func() {
				p.a.relay.SendToPeer(c.packet)
				p.a.turn()
			})
			if want := map[string]uint64{c.want.String(): 1}; !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	p.a.got(wanPort)
}

// More packets than frames of a batch, for a peer that has no session yet: probes are lost, the others wait for it.
func TestOnlyProbesDoNotWaitForASession(t *testing.T) {
	p := newPair(t, gatewayOptions{tune: func(o *Options) { o.ParkPerKey = 200 }})
	for range 100 {
		p.a.relay.SendToPeer(PeerPacket{Packet: request(1, 4, 1, 100), Probe: true})
		p.a.relay.SendToPeer(PeerPacket{Packet: request(1, 6, 1, 100)})
	}
	p.until(t, "answers", func() bool { return p.b.relay.Counters().Verdicts[Answered] == 100 })
	if got := p.a.relay.Counters().Verdicts; got[NoSession] != 100 || got[Originated] != 100 {
		t.Errorf("got %v", nonzero(p.a.relay.Counters()))
	}
}

func TestOnlyProbesDoNotWaitForANeighbour(t *testing.T) {
	p := newPair(t, gatewayOptions{cold: true})
	got := p.a.verdicts(func() {
		p.a.relay.SendToPeer(PeerPacket{Packet: request(1, 4, 1, 100), Probe: true})
		p.a.relay.SendToPeer(PeerPacket{Packet: request(1, 4, 1, 100)})
		p.a.turn()
	})
	if c := p.a.relay.Counters(); got["peer_unresolved"] != 1 || c.Parked == 0 {
		t.Errorf("got %v, %d parked", got, c.Parked)
	}
	// A peer that is gone takes what waits for it along.
	s := *p.a.snap
	s.Peers = []Peer{{}}
	for i := range s.VPCs {
		s.VPCs[i].Routes = nil
	}
	check(t, p.a.relay.Update(&s))
	if got := p.a.verdicts(func() { p.a.turn(); p.a.relay.workers[0].publish() }); got["no_peer"] != 1 {
		t.Errorf("got %v", got)
	}
}

func TestAnswersThatNobodyTakesAreLostAndCounted(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	replies := make(chan EchoReply, 2)
	_, err := p.a.relay.ListenEcho(77, replies)
	check(t, err)
	if _, err := p.a.relay.ListenEcho(77, replies); err == nil {
		t.Error("two listen for the same identifier")
	}
	if _, err := p.a.relay.ListenEcho(78, make(chan EchoReply)); err == nil {
		t.Error("a channel without a buffer")
	}
	got := p.a.verdicts(func() {
		for seq := range uint16(5) {
			p.a.relay.SendToPeer(PeerPacket{Packet: request(1, 4, seq, 100), Probe: true})
		}
		p.settle()
	})
	if want := map[string]uint64{"originated": 5, "echo_heard": 2, "echo_lost": 3}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Linux cuts an answer that is longer than its own interface allows.
func TestTheFirstFragmentOfAnAnswerIsAnAnswer(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	replies := make(chan EchoReply, 2)
	_, err := p.a.relay.ListenEcho(77, replies)
	check(t, err)
	ip, _, _ := ipLayer(tunnelAddrs(2)[0], tunnelAddrs(1)[0], layers.IPProtocolICMPv4, 64, 0)
	whole := serialize(ip, &layers.ICMPv4{Id: 77, Seq: 3}, gopacket.Payload(make([]byte, 1400)))
	whole[6] = 0
	fixIPv4(whole)
	pieces := slowFragments(whole, 1200)
	p.sealTo(t, pieces...)
	got := p.a.verdicts(func() { p.a.turn() })
	if want := map[string]uint64{"echo_heard": 1, "gateway_only": 1}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if r := <-replies; r.Seq != 3 || r.Len != len(pieces[0]) {
		t.Errorf("got %+v", r)
	}
}

// One peer's flood of pings is bounded, and a thousand peers' ten probes per second are not.
func TestAFloodOfPingsIsBounded(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	got := p.a.verdicts(func() {
		for range 2 * echoRate / 50 {
			for range 50 {
				p.sealTo(t, request(2, 4, 1, 100))
			}
			p.a.turn()
			p.a.queues[0][wanPort].Discard()
		}
	})
	if got["answered"] < echoRate || got["echo_limited"] == 0 || got["answered"]+got["echo_limited"] != 2*echoRate {
		t.Errorf("got %v", got)
	}
}

func BenchmarkEchoAnswer(b *testing.B) {
	p := newPair(b, gatewayOptions{})
	p.connect(b)
	w := p.a.relay.workers[0]
	plain := request(2, 4, 1, 100)
	batch := p.b.device.NewBatch()
	b.ReportAllocs()
	for n := 0; n < b.N; n += batchSize {
		b.StopTimer()
		for range batchSize {
			buf := make([]byte, wireguard.HeaderSize+len(plain), wireguard.HeaderSize+len(plain)+64)
			copy(buf[wireguard.HeaderSize:], plain)
			pkts := []wireguard.Packet{{Buf: buf, Peer: p.b.peer}}
			batch.Seal(pkts, p.b.device.Clock())
			p.a.queues[0][wanPort].Inject(wanFrameOver(4, 1, pkts[0].Buf))
		}
		w.peers[0].echoes = errorBucket{at: w.now, tokens: echoRate * second}
		b.StartTimer()
		w.turn()
		p.a.queues[0][wanPort].Discard()
	}
}
