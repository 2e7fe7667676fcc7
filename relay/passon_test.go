package relay

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// message is one of WireGuard that nobody can open.
func message(kind byte, length int) []byte {
	b := make([]byte, length)
	b[0] = kind
	return b
}

// toMiddle has site 1 send an inner packet of its own making to site 2.
func (b *betweenUs) toMiddle(t testing.TB, inner []byte) map[string]uint64 {
	t.Helper()
	one := b.site(1)
	buf := make([]byte, wireguard.HeaderSize, wireguard.HeaderSize+len(inner)+64)
	pkts := []wireguard.Packet{{Buf: append(buf, inner...), Peer: one.snap.Peers[1].WireGuard}}
	one.device.NewBatch().Seal(pkts, one.device.Clock())
	if pkts[0].Result != wireguard.OK {
		t.Fatal(pkts[0].Result)
	}
	frame := serializeFrame(wanAddr(1, 4), wanAddr(2, 4), pkts[0].Buf)
	return b.site(2).verdicts(func() {
		if !b.site(2).queues[0][wanPort].Inject(frame) {
			t.Fatal("no frame")
		}
		b.site(2).turn()
	})
}

func serializeFrame(src, dst netip.Addr, payload []byte) []byte {
	inner := udpPacket(src, dst, 64, 0, listenPort, listenPort, payload)
	frame := make([]byte, packet.EthernetLen, packet.EthernetLen+len(inner))
	packet.PutEthernet(frame, portMAC(2, wanPort), portMAC(1, wanPort), packet.TypeIPv4)
	return append(frame, inner...)
}

func TestTheOneInTheMiddlePassesOnWhatItMayAndNothingElse(t *testing.T) {
	one, two, three := tunnelAddrs(1), tunnelAddrs(2), tunnelAddrs(3)
	good := message(4, 128)
	sent := func(src, dst netip.Addr, from, to uint16, payload []byte) []byte {
		return udpPacket(src, dst, 64, 0, from, to, payload)
	}
	b := newBetween(t, 4)
	host := sameHost(4)
	b.send(1, defaultVPC, udpPacket(host, seenAs(3, host), 64, 0, 1, 2, nil))
	b.arrived(3, defaultVPC)
	before := *b.site(2).snap
	for _, version := range []int{0, 1} {
		fine := sent(one[version], three[version], ThroughPort, ThroughPort, good)
		for _, c := range []struct {
			name   string
			change func(*Snapshot) // of the middle one; nil: as it is
			packet []byte
			want   Verdict
		}{
			{"data", nil, fine, PassedOn},
			{"data that may be cut", nil, sent(one[version], three[version], cutPort, ThroughPort, good), PassedOn},
			{"an initiation", nil, sent(one[version], three[version], ThroughPort, ThroughPort, message(1, 148)), PassedOn},
			{"a response", nil, sent(one[version], three[version], ThroughPort, ThroughPort, message(2, 92)), PassedOn},
			{"a cookie", nil, sent(one[version], three[version], ThroughPort, ThroughPort, message(3, 64)), PassedOn},
			{"a keepalive", nil, sent(one[version], three[version], ThroughPort, ThroughPort, message(4, 32)), PassedOn},
			{"to a peer that it may not send to", func(s *Snapshot) { s.Peers[0].RelayTo = nil; s.Peers = append(s.Peers, Peer{}) }, fine, RelayRefused},
			{"to an address of nobody's", nil, sent(one[version], map[int]netip.Addr{0: addr("100.64.0.77"), 1: addr("fd64::77")}[version], ThroughPort, ThroughPort, good), RelayRefused},
			{"as somebody else", nil, sent(map[int]netip.Addr{0: addr("100.64.0.77"), 1: addr("fd64::77")}[version], three[version], ThroughPort, ThroughPort, good), TunnelMismatch},
			{"as the middle one", nil, sent(two[version], three[version], ThroughPort, ThroughPort, good), TunnelMismatch},
			{"as the receiver", nil, sent(three[version], three[version], ThroughPort, ThroughPort, good), TunnelMismatch},
			{"to itself", nil, sent(one[version], one[version], ThroughPort, ThroughPort, good), RelayRefused},
			{"no message: another type", nil, sent(one[version], three[version], ThroughPort, ThroughPort, message(5, 128)), RelayNoMessage},
			{"no message: reserved bytes", nil, sent(one[version], three[version], ThroughPort, ThroughPort, append([]byte{4, 0, 1, 0}, make([]byte, 100)...)), RelayNoMessage},
			{"no message: an initiation too short", nil, sent(one[version], three[version], ThroughPort, ThroughPort, message(1, 147)), RelayNoMessage},
			{"no message: data too short", nil, sent(one[version], three[version], ThroughPort, ThroughPort, message(4, 31)), RelayNoMessage},
			{"no message: empty", nil, sent(one[version], three[version], ThroughPort, ThroughPort, nil), RelayNoMessage},
			{"another port", nil, sent(one[version], three[version], ThroughPort, 53, good), RelayNoMessage},
			{"from another port", nil, sent(one[version], three[version], 4000, ThroughPort, good), RelayNoMessage},
			{"a ping", nil, echoPacket(one[version], three[version], 1, 2, nil), RelayNoMessage},
			{"the receiver is itself behind a third", func(s *Snapshot) {
				s.Peers[2].WireGuard.SetPaths([]wireguard.Endpoint{{Remote: netip.AddrPortFrom(one[version], ThroughPort), Via: s.Peers[0].WireGuard}})
			}, fine, RelayRefused},
		} {
			t.Run(fmt.Sprintf("IPv%d %s", 4+2*version, c.name), func(t *testing.T) {
				b.site(2).change(func(s *Snapshot) { s.Peers = slices.Clone(before.Peers) })
				before.Peers[2].WireGuard.SetPaths(nil)
				before.Peers[2].WireGuard.Use(wireguard.Endpoint{Remote: netip.AddrPortFrom(wanAddr(3, 4), listenPort)})
				if c.change != nil {
					b.site(2).change(c.change)
				}
				got := b.toMiddle(t, c.packet)
				if !maps.Equal(got, map[string]uint64{c.want.String(): 1}) {
					t.Fatalf("%v, want %v", got, c.want)
				}
				out := b.passedOn(t)
				if c.want != PassedOn {
					if len(out) != 0 {
						t.Fatalf("%d packets came out", len(out))
					}
					return
				}
				if len(out) != 1 {
					t.Fatalf("%d packets came out", len(out))
				}
				if !bytes.Equal(out[0], c.packet) {
					t.Errorf("%x came out\nof %x", out[0], c.packet)
				}
			})
		}
	}
}

// With nobody allowed to send to anybody, the refusal has the same name.
func TestAMessageForAnotherPeerIsRefusedByNameWhereNobodyMaySendAny(t *testing.T) {
	b := newBetween(t, 4)
	host := sameHost(4)
	b.send(1, defaultVPC, udpPacket(host, seenAs(3, host), 64, 0, 1, 2, nil))
	b.arrived(3, defaultVPC)
	b.site(2).change(func(s *Snapshot) { s.Peers[0].RelayTo = nil })
	inner := udpPacket(tunnelAddrs(1)[0], tunnelAddrs(3)[0], 64, 0, ThroughPort, ThroughPort, message(4, 128))
	if got := b.toMiddle(t, inner); !maps.Equal(got, map[string]uint64{"relay_refused": 1}) {
		t.Errorf("without a route: %v", got)
	}
	routes, err := fib.New([]fib.Route{{Prefix: netip.MustParsePrefix("100.64.0.0/10"), NextHops: []fib.NextHop{{Kind: fib.Remote, ID: 2}}}})
	check(t, err)
	b.site(2).withVPC(defaultVPC, func(v *VPC) { v.Routes = routes })
	if got := b.toMiddle(t, inner); !maps.Equal(got, map[string]uint64{"relay_refused": 1}) {
		t.Errorf("with a route: %v", got)
	}
	ping := echoPacket(tunnelAddrs(1)[0], tunnelAddrs(3)[0], 1, 2, nil)
	if got := b.toMiddle(t, ping); !maps.Equal(got, map[string]uint64{"not_for_transit": 1}) {
		t.Errorf("no message: %v", got)
	}
}

func TestWhatAPeerMaySendThroughUsIsLimited(t *testing.T) {
	b := newBetween(t, 4)
	host := sameHost(4)
	b.send(1, defaultVPC, udpPacket(host, seenAs(3, host), 64, 0, 1, 2, nil))
	b.arrived(3, defaultVPC)
	b.site(2).change(func(s *Snapshot) { s.Peers[0].RelayLimit = Limit{Packets: 1} })
	var packets [][]byte
	for i := range 60 {
		packets = append(packets, udpPacket(host, seenAs(3, host), 64, 0, uint16(i), 2, nil))
	}
	two := b.site(2)
	got := two.verdicts(func() { b.send(1, defaultVPC, packets...) })
	if got["passed_on"] != 24 || got["relay_limited"] != 36 { // 32 at once, of which normal packets leave a quarter
		t.Errorf("%v", got)
	}
	if n := len(b.arrived(3, defaultVPC)); n != 24 {
		t.Errorf("%d packets arrived", n)
	}
	var refused uint64
	for key, c := range two.relay.Meters() {
		if key.Kind == RelayLimitMeter {
			if refused += c.Packets; key.ID != 0 && c.Packets > 0 {
				t.Errorf("%+v: %+v", key, c)
			}
		}
	}
	if refused != 36 {
		t.Errorf("%d are counted as refused", refused)
	}
	got = two.verdicts(func() { b.send(3, defaultVPC, udpPacket(host, seenAs(1, host), 64, 0, 1, 2, nil)) })
	if got["passed_on"] != 1 {
		t.Errorf("the other way: %v", got)
	}
	b.arrived(1, defaultVPC)
}

// What enters the one in the middle out of site 1's tunnel, and what leaves it into site 3's.
func TestGoldenMessagesThatArePassedOn(t *testing.T) {
	b := newBetween(t, 4)
	host := sameHost(4)
	b.send(1, defaultVPC, udpPacket(host, seenAs(3, host), 64, 0, 1, 2, nil))
	b.arrived(3, defaultVPC)
	for version := range 2 {
		src, dst := tunnelAddrs(1)[version], tunnelAddrs(3)[version]
		var built [][]byte
		for _, payload := range [][]byte{message(1, 148), message(2, 92), message(3, 64), message(4, 32), message(4, 1392), message(4, 31), message(7, 64), nil} {
			built = append(built, udpPacket(src, dst, 64, 0, ThroughPort, ThroughPort, payload))
		}
		built = append(built, udpPacket(src, dst, 1, 0xb8, cutPort, ThroughPort, message(4, 96)), udpPacket(dst, src, 64, 0, ThroughPort, ThroughPort, message(4, 96)),
			udpPacket(src, dst, 64, 0, ThroughPort, 53, message(4, 96)), echoPacket(src, dst, 1, 2, []byte("abcdefgh")))
		name := fmt.Sprintf("passed-on%d", 4+2*version)
		in := filepath.Join("testdata", name+".in.pcap")
		if *update {
			writeCapture(t, in, layers.LinkTypeRaw, built)
		}
		for _, inner := range readCapture(t, in) {
			b.toMiddle(t, inner)
		}
		out := b.passedOn(t)
		pinned(t, name, layers.LinkTypeRaw, out)
		if len(out) != 6 {
			t.Errorf("%d packets came out", len(out))
		}
	}
}

// passedOn opens what site 2 has sent to site 3.
func (b *betweenUs) passedOn(t *testing.T) (plain [][]byte) {
	t.Helper()
	for _, frame := range b.site(2).got(wanPort) {
		if to := b.site(int(frame[packet.EthernetLen+19])); to.site != 3 { // a keepalive
			to.queues[0][wanPort].Inject(frame)
			continue
		}
		pkts := []wireguard.Packet{{Buf: bytes.Clone(frame[packet.EthernetLen+packet.IPv4Len+packet.UDPLen:])}}
		if pkts[0].Buf[0] != 4 { // of the engine's
			b.site(3).queues[0][wanPort].Inject(frame)
			continue
		}
		b.site(3).device.NewBatch().Open(pkts, b.site(3).device.Clock())
		if pkts[0].Result != wireguard.OK {
			t.Fatalf("open: %v", pkts[0].Result)
		}
		plain = append(plain, pkts[0].Buf)
	}
	return plain
}

// slowMessage says whether b is a WireGuard message on its way through a peer between, from src to dst.
func slowMessage(b []byte, src, dst netip.Addr) bool {
	headers := 28
	if src.Is6() {
		headers = 48
	}
	if len(b) < headers+4 {
		return false
	}
	udp, m := b[headers-8:headers], b[headers:]
	port := func(i int) int { return int(udp[i])<<8 | int(udp[i+1]) }
	switch {
	case src.Is4() && (b[0] != 0x45 || b[9] != 17 || (b[6]&0x3f != 0 || b[7] != 0)):
		return false
	case src.Is6() && b[6] != 17:
		return false
	case port(0) != 51820 && port(0) != 51821, port(2) != 51820, port(4) != len(b)-headers+8:
		return false
	case m[1] != 0, m[2] != 0, m[3] != 0:
		return false
	}
	return m[0] == 1 && len(m) == 148 || m[0] == 2 && len(m) == 92 || m[0] == 3 && len(m) == 64 || m[0] == 4 && len(m) >= 32
}

// FuzzPassOn has a peer send anything to the tunnel address of another one: what is passed on is a message, comes out
// once, as long as it went in, and with every byte as it was; anything else ends here, with no word to anybody.
func FuzzPassOn(f *testing.F) {
	for version := range 2 {
		for _, payload := range [][]byte{message(1, 148), message(2, 92), message(3, 64), message(4, 32), message(4, 33), {4, 0, 0}} {
			f.Add(version == 1, udpPacket(tunnelAddrs(1)[version], tunnelAddrs(3)[version], 64, 0, ThroughPort, ThroughPort, payload))
		}
		f.Add(version == 1, echoPacket(tunnelAddrs(1)[version], tunnelAddrs(3)[version], 1, 2, nil))
	}
	b := newBetween(f, 4)
	host := sameHost(4)
	b.send(1, defaultVPC, udpPacket(host, seenAs(3, host), 64, 0, 1, 2, nil))
	b.arrived(3, defaultVPC)
	f.Fuzz(func(t *testing.T, six bool, inner []byte) {
		if len(inner) < 40 || len(inner) > 1400 {
			return
		}
		b.t = t
		inner = bytes.Clone(inner)
		src, dst := tunnelAddrs(1)[0], tunnelAddrs(3)[0]
		if six {
			src, dst = tunnelAddrs(1)[1], tunnelAddrs(3)[1]
			inner[0] = 0x60
			copy(inner[8:], src.AsSlice())
			copy(inner[24:], dst.AsSlice())
			inner[4], inner[5] = byte((len(inner)-40)>>8), byte(len(inner)-40)
		} else {
			inner[0] = 0x45 + inner[0]&15%6
			copy(inner[12:], src.AsSlice())
			copy(inner[16:], dst.AsSlice())
			inner[2], inner[3] = byte(len(inner)>>8), byte(len(inner))
			fixIPv4(inner)
		}
		want := slowMessage(inner, src, dst)
		got := b.toMiddle(t, inner)
		out := b.passedOn(t)
		b.settle() // keepalives and handshakes
		delete(got, "engine_sent")
		switch {
		case len(got) != 1:
			t.Fatalf("verdicts %v", got)
		case want != (got["passed_on"] == 1) || want != (len(out) == 1) || len(out) > 1:
			t.Fatalf("a message: %v; %v, %d came out", want, got, len(out))
		case want && !bytes.Equal(out[0], inner):
			t.Fatalf("%x came out\nof %x", out[0], inner)
		}
	})
}
