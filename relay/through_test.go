package relay

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// betweenUs is three sites of which 1 and 3 reach each other through 2 alone: the WAN carries nothing between them.
type betweenUs struct {
	*mesh
	lost int // frames from 1 to 3 or back that the WAN has not carried
}

func newBetween(t testing.TB, version int) *betweenUs {
	t.Helper()
	b := &betweenUs{mesh: newMesh(t, 3)}
	pieces := make(map[int][][]byte)
	b.carries = func(from, to int, frame []byte) bool {
		if from+to == 4 {
			b.lost++
			return false
		}
		ip := frame[14:]
		if binary.BigEndian.Uint16(ip[6:])&0x3fff == 0 {
			return true
		}
		pieces[to] = append(pieces[to], ip) // as the kernel does, which knows the whole when it has all
		if data, ok := whole(pieces[to]); ok {
			pieces[to] = nil
			if !b.site(to).relay.Arrive(Arrival{Data: data[8:], From: netip.AddrPortFrom(wanAddr(from, 4), listenPort), To: wanAddr(to, 4), Ifindex: wanPort}) {
				t.Error("no room")
			}
		}
		return false
	}
	b.site(2).change(func(s *Snapshot) { s.Peers[0].RelayTo = []uint32{2} })
	for _, n := range []int{1, 3} {
		b.throughTwo(n, version)
	}
	return b
}

// throughTwo has site 1 or 3 send to the other through site 2.
func (b *betweenUs) throughTwo(n, version int) {
	g, other := b.site(n), 4-n
	g.change(func(s *Snapshot) { s.Peers[other-1].Through = []uint32{1} })
	g.snap.Peers[other-1].WireGuard.SetPaths([]wireguard.Endpoint{{
		Remote: netip.AddrPortFrom(tunnelAddrs(other)[version/6], ThroughPort), Via: g.snap.Peers[1].WireGuard}})
}

func TestTwoGatewaysTalkThroughAThirdWhichReadsNothing(t *testing.T) {
	for _, version := range []int{4, 6} {
		t.Run(fmt.Sprintf("tunnel addresses IPv%d", version), func(t *testing.T) {
			b := newBetween(t, version)
			taken := b.site(2).startCapture(t, CaptureOptions{Stages: []Stage{StagePlain}})
			seen := make(map[string][]byte)
			b.converse(1, 3, seen)
			b.converse(3, 1, seen)
			if b.lost != 0 {
				t.Errorf("%d frames went straight", b.lost)
			}
			got := b.site(2).relay.Counters()
			if n := got.Verdicts[PassedOn]; n < 48 { // and handshakes
				t.Errorf("%d messages were passed on: %v", n, nonzero(got))
			}
			for _, v := range []Verdict{ToPeer, ToSite, NotForTransit, RelayRefused, RelayNoMessage} {
				if n := got.Verdicts[v]; n != 0 {
					t.Errorf("the middle one: %d %v", n, v)
				}
			}
			plain := drain(taken)
			if len(plain) == 0 {
				t.Error("the capture has nothing")
			}
			for _, r := range plain {
				if bytes.Contains(r.Data, []byte("hello")) {
					t.Fatalf("the middle one can read %x", r.Data)
				}
			}
			meters := b.site(2).relay.Meters()
			for _, id := range []uint32{0, 2} {
				for _, d := range []Direction{DirectionFromSite, DirectionToSite} {
					if c := meters[MeterKey{Kind: RelayedMeter, ID: id, Direction: d}]; c.Packets < 20 || c.Bytes < c.Packets*88 {
						t.Errorf("peer %d, direction %v: %+v", id, d, c)
					}
				}
			}
		})
	}
}

// 60 bytes around the message between the ends, and 60 around that.
func TestWhatFitsThroughAThirdIsWhatIsLeftOfBothTunnels(t *testing.T) {
	for _, version := range []int{4, 6} {
		b := newBetween(t, version)
		host := sameHost(4)
		b.send(1, defaultVPC, udpPacket(host, seenAs(3, host), 64, 0, 1, 2, nil))
		b.arrived(3, defaultVPC)
		limit := 1500 - 60 - 60
		if version == 6 {
			limit -= 20
		}
		for _, c := range []struct{ known, underKnown, want int }{{0, 0, limit}, {limit - 10, 0, limit - 10}, {0, 1400, limit - 40}, {limit, 1440, limit}, {1200, 1300, 1200}} {
			b.site(1).relay.SetPeerMTUs([]int{0, c.underKnown, c.known})
			sent := func(size int) map[string]uint64 {
				return b.site(1).verdicts(func() { b.send(1, defaultVPC, udpPacket(host, seenAs(3, host), 64, 0, 1, 2, make([]byte, size-28))) })
			}
			if got := sent(c.want); !maps.Equal(got, map[string]uint64{"to_peer": 1}) {
				t.Errorf("%+v: as long as fits: %v", c, got)
			}
			if got := b.arrived(3, defaultVPC); len(got) != 1 || len(got[0]) != c.want {
				t.Errorf("%+v: %d packets arrived", c, len(got))
			}
			if got := sent(c.want + 1); !maps.Equal(got, map[string]uint64{"too_big": 1, "originated": 1}) {
				t.Errorf("%+v: a byte more: %v", c, got)
			}
			told := b.arrived(1, defaultVPC)
			if len(told) != 1 || int(binary.BigEndian.Uint16(told[0][26:])) != c.want {
				t.Errorf("%+v: the host is told %x", c, told)
			}
			for from, to := range map[int]int{1: 3, 3: 1} {
				b.send(from, defaultVPC, synPacket(host, seenAs(to, host), false, false, 1460))
				got := b.arrived(to, defaultVPC)
				if len(got) != 1 {
					t.Fatalf("%d packets arrived", len(got))
				}
				if mss := mssOf(t, "through", got[0]); mss != c.want-40 { // in both directions: site 1 knows
					t.Errorf("%+v: from site %d: MSS %d, want %d", c, from, mss, c.want-40)
				}
			}
		}
		if b.lost != 0 {
			t.Errorf("%d frames went straight", b.lost)
		}
	}
}

// No host makes IPv6 packets shorter than 1280 bytes: where the tunnels leave less the message is cut, on both of its ways.
func TestWhatEveryIPv6LinkCarriesGoesThroughAThirdInPieces(t *testing.T) {
	b := newBetween(t, 4)
	host := sameHost(6)
	inner := udpPacket(host, seenAs(3, host), 64, 0, 1, 2, bytes.Repeat([]byte{7}, 1280-48))
	b.send(1, red, udpPacket(host, seenAs(3, host), 64, 0, 1, 2, nil)) // sessions
	b.arrived(3, red)
	for _, c := range []struct {
		name                 string
		path, first, second  int // what is known of the path, of the first tunnel and of the second
		cutAtOne, cutBetween bool
	}{
		{"all is wide", 1380, 1440, 1440, false, false},
		{"the first tunnel is narrow", 1240, 1300, 1440, true, false},
		{"the second tunnel is narrow", 1240, 1440, 1300, false, true},
		{"both are", 1240, 1300, 1300, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.site(1).relay.SetPeerMTUs([]int{0, c.first, c.path})
			b.site(2).relay.SetPeerMTUs([]int{c.first, 0, c.second})
			cut := [2]uint64{b.site(1).relay.Counters().Cut, b.site(2).relay.Counters().Cut}
			b.send(1, red, inner)
			got := b.arrived(3, red)
			if len(got) != 1 || len(got[0]) != 1280 {
				t.Fatalf("%d packets arrived; %v; %v; %v", len(got), nonzero(b.site(1).relay.Counters()), nonzero(b.site(2).relay.Counters()), nonzero(b.site(3).relay.Counters()))
			}
			if n := b.site(1).relay.Counters().Cut - cut[0]; n > 0 != c.cutAtOne {
				t.Errorf("site 1 has cut %d", n)
			}
			if n := b.site(2).relay.Counters().Cut - cut[1]; n > 0 != c.cutBetween {
				t.Errorf("site 2 has cut %d", n)
			}
		})
	}
}

// Probes of the path go whole, as long as the ports allow, or are lost: nothing else would tell what fits.
func TestProbesThroughAThirdAreAnsweredThroughItAndNotCut(t *testing.T) {
	b := newBetween(t, 4)
	host := sameHost(4)
	b.send(1, defaultVPC, udpPacket(host, seenAs(3, host), 64, 0, 1, 2, nil))
	b.arrived(3, defaultVPC)
	one, two := b.site(1), b.site(2)
	one.relay.SetPeerMTUs([]int{0, 1300, 1000})
	two.relay.SetPeerMTUs([]int{1300, 0, 1300})
	replies := make(chan EchoReply, 16)
	for _, id := range []uint16{77, StandbyEcho} {
		_, err := one.relay.ListenEcho(id, replies)
		check(t, err)
	}
	through := one.snap.Peers[2].WireGuard.Endpoint()
	for _, used := range []bool{true, false} {
		id, over := uint16(77), wireguard.Endpoint{}
		if !used {
			id, over = StandbyEcho, through
			for _, n := range []int{1, 3} {
				b.site(n).snap.Peers[3-n].WireGuard.Use(wireguard.Endpoint{Remote: netip.AddrPortFrom(wanAddr(4-n, 4), listenPort)})
			}
		}
		for size, answered := range map[int]bool{100: true, 1380: true, 1381: false} {
			one.relay.SendToPeer(PeerPacket{Peer: 2, Packet: packet.EchoRequest(tunnelAddrs(1)[0], tunnelAddrs(3)[0], 0, id, 1, size), Probe: true, Over: over})
			b.settle()
			if (len(replies) == 1) != answered {
				t.Fatalf("used %v, %d bytes: %d answers; %v; %v", used, size, len(replies), nonzero(one.relay.Counters()), nonzero(two.relay.Counters()))
			}
			if answered {
				r := <-replies
				if r.From.Via != through.Via || r.From.Remote != through.Remote || r.Len != size {
					t.Errorf("used %v: answered from %+v", used, r)
				}
			}
		}
	}
	if n := one.relay.Counters().Cut + two.relay.Counters().Cut; n != 0 {
		t.Errorf("%d messages were cut", n)
	}
}

// A message that came through a peer between is passed on to nobody, whatever is inside.
func TestNoMessageTakesTwoHops(t *testing.T) {
	b := newBetween(t, 4)
	host := sameHost(4)
	b.send(1, defaultVPC, udpPacket(host, seenAs(3, host), 64, 0, 1, 2, nil))
	b.arrived(3, defaultVPC)
	three := b.site(3)
	three.change(func(s *Snapshot) { s.Peers[0].RelayTo = []uint32{1} }) // it passes on from 1 to 2 itself
	one := b.site(1)
	inner := udpPacket(tunnelAddrs(1)[0], tunnelAddrs(2)[0], 64, 0, ThroughPort, ThroughPort, message(4, 128))
	got := three.verdicts(func() {
		one.relay.SendToPeer(PeerPacket{Peer: 2, Packet: inner})
		b.settle()
	})
	if got["relay_refused"] != 1 || got["passed_on"] != 0 {
		t.Errorf("%v", got)
	}
	// And nobody sends by way of a peer that is itself reached through one.
	one.snap.Peers[1].WireGuard.SetPaths([]wireguard.Endpoint{{Remote: netip.AddrPortFrom(tunnelAddrs(2)[0], ThroughPort), Via: one.snap.Peers[2].WireGuard}})
	got = one.verdicts(func() { b.send(1, defaultVPC, udpPacket(host, seenAs(3, host), 64, 0, 1, 2, nil)) })
	if got["no_endpoint"] != 1 || got["to_peer"] != 0 {
		t.Errorf("%v", got)
	}
	b.arrived(1, defaultVPC)
}

// What comes out of a tunnel with a third is taken for a message of the other end only where that may come so, and if it
// is one.
func TestAnEndTakesMessagesOnlyThroughWhomItIsToldTo(t *testing.T) {
	b := newBetween(t, 4)
	host := sameHost(4)
	b.send(1, defaultVPC, udpPacket(host, seenAs(3, host), 64, 0, 1, 2, nil))
	b.arrived(3, defaultVPC)
	three := b.site(3)
	send := func() map[string]uint64 {
		got := three.verdicts(func() { b.send(1, defaultVPC, udpPacket(host, seenAs(3, host), 64, 0, 1, 2, nil)) })
		b.arrived(3, defaultVPC)
		return got
	}
	if got := send(); got["to_site"] != 1 || len(got) != 1 {
		t.Errorf("as it should be: %v", got)
	}
	three.change(func(s *Snapshot) { s.Peers[0].Through = nil })
	if got := send(); got["tunnel_mismatch"] != 1 || len(got) != 1 {
		t.Errorf("through somebody: %v", got)
	}
}

func TestATraceTellsOfThePeerBetween(t *testing.T) {
	b := newBetween(t, 4)
	for i, name := range []string{"one", "two", "three"} {
		for _, g := range b.gateways {
			g.change(func(s *Snapshot) { s.Peers[i].Name = name })
		}
	}
	host := sameHost(4)
	inner := udpPacket(host, seenAs(3, host), 64, 0, 1, 2, nil)
	b.send(1, defaultVPC, inner)
	b.arrived(3, defaultVPC)
	_, frame := fromHost(defaultVPC, 1, atRouted, inner)
	sealed := udpPacket(tunnelAddrs(1)[0], tunnelAddrs(3)[0], 64, 0, ThroughPort, ThroughPort, message(4, 128))
	for _, c := range []struct {
		name string
		site int
		in   TraceInput
		want Verdict
		says []string
	}{
		{"at one end", 1, TraceInput{Ifindex: hostPort, Frame: frame}, ToPeer, []string{
			"peer three: through the tunnel of peer two; up to 1412 bytes fit", "the session with peer three is", "sealed again, with the session with peer two", "out of port"}},
		{"in the middle", 2, TraceInput{Inner: sealed, Peer: 0}, PassedOn, []string{
			"100.64.0.3 is the tunnel address of peer three; peer one may send sealed messages to it through us", "the session with peer three is"}},
		{"in the middle, refused", 2, TraceInput{Inner: udpPacket(tunnelAddrs(1)[0], tunnelAddrs(1)[0], 64, 0, ThroughPort, ThroughPort, message(4, 128)), Peer: 0}, RelayRefused, []string{
			"peer one may not send to it through us"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := b.site(c.site).relay.Trace(c.in)
			check(t, err)
			text := traceText(got)
			if len(got.Verdicts) != 1 || got.Verdicts[0] != c.want {
				t.Errorf("%v, want %v", got.Verdicts, c.want)
			}
			for _, s := range c.says {
				if !strings.Contains(text, s) {
					t.Errorf("%q is not in:\n%s", s, text)
				}
			}
		})
	}
}
