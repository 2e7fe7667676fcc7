package relay

import (
	"net/netip"
	"testing"

	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// other is the way between two gateways that is not in use: the other family.
func other(site int) wireguard.Endpoint {
	return wireguard.Endpoint{Remote: netip.AddrPortFrom(wanAddr(site, 6), listenPort)}
}

func probeOver(t *testing.T, p *pair, id uint16, version int) {
	t.Helper()
	b := packet.EchoRequest(tunnelAddrs(1)[version/6], tunnelAddrs(2)[version/6], 0, id, 1, 48)
	if !p.a.relay.SendToPeer(PeerPacket{Packet: b, Probe: true, Over: other(2)}) {
		t.Fatal("the mailbox is full")
	}
}

// A probe takes its own path, is answered over it, and moves nobody.
func TestAProbeOfAnotherPathIsAnsweredOverItAndMovesNobody(t *testing.T) {
	for _, version := range []int{4, 6} {
		for _, choosing := range []bool{false, true} {
			p := newPair(t, gatewayOptions{outer: 4})
			p.connect(t)
			if choosing { // the other side has paths, too
				p.b.peer.SetPaths([]wireguard.Endpoint{p.b.peer.Endpoint(), other(1)})
			}
			replies := make(chan EchoReply, 16)
			_, err := p.a.relay.ListenEcho(StandbyEcho, replies)
			check(t, err)
			a, b := p.a.peer.Endpoint(), p.b.peer.Endpoint()
			for range 3 {
				probeOver(t, p, StandbyEcho, version)
				p.settle()
				select {
				case r := <-replies:
					if want := (wireguard.Endpoint{Remote: other(2).Remote, Local: wanAddr(1, 6), Ifindex: wanPort}); r.From != want {
						t.Errorf("answered from %+v", r.From)
					}
				default:
					t.Fatalf("no answer: %v; %v", nonzero(p.a.relay.Counters()), nonzero(p.b.relay.Counters()))
				}
			}
			if p.a.peer.Endpoint() != a || p.b.peer.Endpoint() != b {
				t.Errorf("choosing %v: site 1 sends to %v, site 2 to %v", choosing, p.a.peer.Endpoint().Remote, p.b.peer.Endpoint().Remote)
			}
		}
	}
}

// The probe of a path in use moves a peer that goes by where messages come from: it may have nothing else to go by.
func TestTheOtherSideFollowsProbesOfThePathInUse(t *testing.T) {
	p := newPair(t, gatewayOptions{outer: 4})
	p.connect(t)
	probeOver(t, p, 77, 4)
	p.settle()
	if got, want := p.b.peer.Endpoint().Remote, other(1).Remote; got != want {
		t.Errorf("site 2 sends to %v, not %v", got, want)
	}
}

func TestProbesOverPathsEndInTheirVerdicts(t *testing.T) {
	ping := func(length int) []byte { return request(1, 4, 1, length) }
	unknown := wireguard.Endpoint{Remote: netip.MustParseAddrPort("203.0.113.200:1")}
	pinned := other(2)
	pinned.Ifindex = 99
	gone := other(2)
	gone.Local = addr("2001:db8:f::77")
	for _, c := range []struct {
		name   string
		packet PeerPacket
		want   Verdict
	}{
		{"sent", PeerPacket{Packet: ping(100), Over: other(2)}, Originated},
		{"from an address that is ours no more", PeerPacket{Packet: ping(100), Over: gone}, Originated},
		{"for a peer that there is not", PeerPacket{Peer: 9, Packet: ping(100), Over: other(2)}, NoPeer},
		{"as long as the path allows", PeerPacket{Packet: ping(1420), Over: other(2)}, Originated},
		{"longer than the path allows", PeerPacket{Packet: ping(1421), Over: other(2)}, TooBig},
		{"to where no neighbour is known", PeerPacket{Packet: ping(100), Over: unknown}, PeerUnresolved},
		{"through an interface that knows no way", PeerPacket{Packet: ping(100), Over: pinned}, PeerUnresolved},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, gatewayOptions{outer: 4})
			p.connect(t)
			c.packet.Probe = true
			got := p.a.verdicts(func() {
				p.a.relay.SendToPeer(c.packet)
				p.a.turn()
			})
			if got[c.want.String()] != 1 || len(got) != 1 {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
	t.Run("without a session", func(t *testing.T) {
		p := newPair(t, gatewayOptions{outer: 4})
		p.a.relay.SendToPeer(PeerPacket{Packet: ping(100), Probe: true, Over: other(2)})
		p.a.turn()
		if got := p.a.relay.Counters().Verdicts[NoSession]; got != 1 {
			t.Errorf("%v", nonzero(p.a.relay.Counters()))
		}
	})
}

// Whatever comes out of a tunnel, the look whether it is such a probe reads nothing beyond it.
func FuzzStandby(f *testing.F) {
	for _, version := range []int{4, 6} {
		f.Add(packet.EchoRequest(tunnelAddrs(1)[version/6], tunnelAddrs(2)[version/6], 0, StandbyEcho+3, 1, 48))
	}
	f.Add([]byte{0x45})
	w := new(worker)
	f.Fuzz(func(t *testing.T, inner []byte) {
		message := make([]byte, wireguard.HeaderSize, wireguard.HeaderSize+len(inner)+16)
		message = append(append(message, inner...), make([]byte, 16)...)
		got := w.standby(&frame{chunk: message, end: len(message)})
		var ip packet.IP
		want := false
		if ip.Parse(inner) == packet.Fine && len(inner) >= ip.HeaderLen+8 && (ip.Version == 6 || ip.HeaderLen == 20) {
			b := inner[ip.HeaderLen:]
			id, _ := packet.EchoID(b)
			echo := ip.Version == 4 && ip.Proto == packet.ProtoICMP && (b[0] == packet.Echo || b[0] == packet.EchoReply) ||
				ip.Version == 6 && ip.Proto == packet.ProtoICMPv6 && (b[0] == packet.Echo6 || b[0] == packet.EchoReply6)
			want = echo && id&^15 == StandbyEcho && len(inner) >= 40
		}
		if want && !got {
			t.Errorf("not seen: %x", inner)
		}
	})
}
