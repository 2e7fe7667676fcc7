package relay

import (
	"bytes"
	"encoding/binary"
	"maps"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
)

func TestWhatAPathCarriesHoldsAtOnceForAllThatDependsOnIt(t *testing.T) {
	for _, outer := range []int{4, 6} {
		p := newPair(t, gatewayOptions{outer: outer, tune: func(o *Options) { o.ErrorRate = 1 << 30 }})
		p.connect(t)
		for _, c := range []struct {
			published []int
			want      int
		}{{nil, tunnelLimit(outer)}, {[]int{1340}, 1340}, {[]int{1064}, 1064}, {[]int{516}, 516}, {[]int{9000}, tunnelLimit(outer)}, {[]int{0}, tunnelLimit(outer)}, {[]int{1340}, 1340}, {[]int{}, tunnelLimit(outer)}} {
			p.a.relay.SetPeerMTUs(c.published)
			for _, v := range []vpcName{defaultVPC, red} {
				want := c.want
				if v != defaultVPC {
					want -= tunnelHeader
				}
				for _, version := range []int{4, 6} {
					src, dst := v.host(1, atRouted, version), v.host(2, atRouted, version)
					headers := 28 + 10*(version-4)
					fits := udpPacket(src, dst, 64, 0, 1, 2, make([]byte, want-headers))
					_, frame := fromHost(v, 1, atRouted, fits)
					p.a.queues[0][v.routedPort()].Inject(frame)
					p.a.turn()
					if len(p.a.got(wanPort)) != 1 {
						t.Errorf("outer %d %v %v IPv%d: %d bytes do not pass: %v", outer, c.published, v, version, want, nonzero(p.a.relay.Counters()))
					}
					told := want
					if version == 6 {
						told = max(told, 1280)
					}
					_, back := p.send(v, atRouted, udpPacket(src, dst, 64, 0, 1, 2, make([]byte, told+1-headers)))
					if len(back) == 0 {
						t.Fatalf("outer %d %v %v IPv%d: nobody says that %d bytes are too long: %v", outer, c.published, v, version, told+1, nonzero(p.a.relay.Counters()))
					}
					said := int(binary.BigEndian.Uint16(back[26:]))
					if version == 6 {
						said = int(binary.BigEndian.Uint32(back[44:]))
					}
					if said != told {
						t.Errorf("outer %d %v %v IPv%d: told %d, want %d", outer, c.published, v, version, said, told)
					}
					syn := p.synOut(t, v, atRouted, synPacket(src, dst, false, false, 8960))
					if got := mssOf(t, v.String(), syn); got != want-headers-12 {
						t.Errorf("outer %d %v %v IPv%d: MSS %d", outer, c.published, v, version, got)
					}
				}
			}
		}
	}
}

// Otherwise nobody could find out that the path has become wider.
func TestAProbeIsNotHeldAgainstWhatThePathCarries(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	p.a.relay.SetPeerMTUs([]int{1000})
	p.b.relay.SetPeerMTUs([]int{800})
	replies := make(chan EchoReply, 1)
	_, err := p.a.relay.ListenEcho(77, replies)
	check(t, err)
	p.a.relay.SendToPeer(PeerPacket{Packet: request(1, 4, 1, sealedLimit), Probe: true})
	p.settle()
	if len(replies) != 1 {
		t.Errorf("no answer: %v, %v", nonzero(p.a.relay.Counters()), nonzero(p.b.relay.Counters()))
	}
	got := p.a.verdicts(func() {
		p.a.relay.SendToPeer(PeerPacket{Packet: request(1, 4, 1, 1001)})
		p.a.turn()
	})
	if want := map[string]uint64{"too_big": 1}; !maps.Equal(got, want) {
		t.Errorf("a packet that is no probe: %v", got)
	}
}

// joined puts the fragments of one outer packet together, byte by byte, and returns the frame as it was before.
func joined(t *testing.T, frames [][]byte, most int) []byte {
	t.Helper()
	var data, header []byte
	id, end := uint32(0), -1
	for i, b := range frames {
		ip := b[14:]
		headerLen, word, piece := 20, binary.BigEndian.Uint16(ip[6:])<<3, uint32(binary.BigEndian.Uint16(ip[4:]))
		more := binary.BigEndian.Uint16(ip[6:])&0x2000 != 0
		if ip[0]>>4 == 6 {
			headerLen, word, more, piece = 48, binary.BigEndian.Uint16(ip[42:])&^7, ip[43]&1 != 0, binary.BigEndian.Uint32(ip[44:])
			if ip[6] != 44 || ip[40] != 17 || len(ip) != 40+int(binary.BigEndian.Uint16(ip[4:])) {
				t.Errorf("piece %d: %x", i, ip[:headerLen])
			}
		} else if packet.Sum(0, ip[:20]) != 0xffff || ip[6]&0x40 != 0 || len(ip) != int(binary.BigEndian.Uint16(ip[2:])) {
			t.Errorf("piece %d: %x", i, ip[:headerLen])
		}
		if len(ip) > most {
			t.Errorf("piece %d: %d bytes, the path takes %d", i, len(ip), most)
		}
		if i == 0 {
			id, header = piece, b[:14+min(headerLen, 40)]
		}
		if piece != id || int(word) != len(data) || more && (len(ip)-headerLen)%8 != 0 {
			t.Errorf("piece %d: id %d at %d, want %d at %d", i, piece, word, id, len(data))
		}
		data = append(data, ip[headerLen:]...)
		if !more {
			end = len(data)
		}
	}
	if end != len(data) {
		t.Fatalf("the last piece of %d bytes is missing", len(data))
	}
	b := append(bytes.Clone(header), data...)
	if ip := b[14:]; ip[0]>>4 == 4 {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		ip[6], ip[7] = 0x40, 0
		fixIPv4(ip)
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
		ip[6] = 17
		if wrongUDPChecksum(ip) {
			t.Error("the UDP checksum of the whole is wrong")
		}
	}
	return b
}

func TestWhatEveryIPv6LinkCarriesTravelsInPiecesWhereTheTunnelIsTooNarrow(t *testing.T) {
	for _, outer := range []int{4, 6} {
		p := newPair(t, gatewayOptions{outer: outer})
		p.connect(t)
		for _, v := range []vpcName{defaultVPC, red} {
			for _, mtu := range []int{516, 1064, 1200, 1279} {
				p.a.relay.SetPeerMTUs([]int{mtu})
				inner := udpPacket(v.host(1, atRouted, 6), v.host(2, atRouted, 6), 64, 0, 1, 2, bytes.Repeat([]byte("in piece"), 154))
				if len(inner) != 1280 {
					t.Fatal(len(inner))
				}
				_, frame := fromHost(v, 1, atRouted, inner)
				cut := p.a.relay.Counters().Cut
				p.a.queues[0][v.routedPort()].Inject(frame)
				got := p.a.verdicts(func() { p.a.turn() })
				frames := p.a.got(wanPort)
				want := map[string]uint64{"to_peer": 1, "originated": uint64(len(frames) - 1)}
				if len(frames) < 2 || !maps.Equal(got, want) || p.a.relay.Counters().Cut != cut+1 {
					t.Fatalf("outer %d %v %d: %d frames, %v", outer, v, mtu, len(frames), got)
				}
				p.b.queues[0][wanPort].Inject(joined(t, frames, mtu+32+28+20*(outer/6)))
				p.b.turn()
				if got := p.b.got(v.routedPort()); len(got) != 1 || !bytes.Equal(got[0][14:], forwarded(inner)) {
					t.Errorf("outer %d %v %d: arrives as %x; %v", outer, v, mtu, got, nonzero(p.b.relay.Counters()))
				}
			}
		}
	}
}

// The path has become wider while the packet waited for a session.
func TestAPacketThatFitsMeanwhileTravelsWhole(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.a.relay.SetPeerMTUs([]int{600})
	inner := udpPacket(defaultVPC.host(1, atRouted, 6), defaultVPC.host(2, atRouted, 6), 64, 0, 1, 2, make([]byte, 1000))
	_, frame := fromHost(defaultVPC, 1, atRouted, inner)
	p.a.queues[0][hostPort].Inject(frame)
	p.a.turn()
	p.a.relay.SetPeerMTUs(nil)
	p.until(t, "the packet arrives", func() bool { return len(p.b.got(hostPort)) == 1 })
	if c := p.a.relay.Counters(); c.Cut != 0 {
		t.Errorf("%d messages were cut", c.Cut)
	}
}

// FuzzPieces cuts any message for any path: put together it is what it was.
func FuzzPieces(f *testing.F) {
	f.Add(uint16(1280), uint16(516), false)
	f.Add(uint16(1280), uint16(1200), true)
	f.Add(uint16(61), uint16(29), true)
	var pairs [2]*pair
	for i, outer := range []int{4, 6} {
		pairs[i] = newPair(f, gatewayOptions{outer: outer})
		pairs[i].connect(f)
	}
	f.Fuzz(func(t *testing.T, length, mtu uint16, six bool) {
		p, overhead := pairs[0], 20+8+32
		if six {
			p, overhead = pairs[1], 40+8+32
		}
		p.a.relay.SetPeerMTUs([]int{int(mtu)})
		inner := udpPacket(defaultVPC.host(1, atRouted, 6), defaultVPC.host(2, atRouted, 6), 64, 0, 1, 2, bytes.Repeat([]byte{7}, min(max(int(length), 48), 1280)-48))
		_, frame := fromHost(defaultVPC, 1, atRouted, inner)
		p.a.queues[0][hostPort].Inject(frame)
		got := p.a.verdicts(func() { p.a.turn() })
		frames := p.a.got(wanPort)
		if len(frames) == 0 {
			if got["no_room"] != 1 || int(mtu) >= 400 {
				t.Errorf("%d bytes over %d: %v", len(inner), mtu, got)
			}
			return
		}
		most := 1500
		if mtu > 0 {
			most = int(mtu) + overhead
		}
		if len(frames) > 1 {
			frames[0] = joined(t, frames, most)
		}
		plain, result := p.plain(p.b.device.NewBatch(), frames[0])
		if result != wireguard.OK || !bytes.Equal(unpadded(plain), edit(inner, packet.DecrementTTL)) {
			t.Errorf("%d bytes over %d: %v %x", len(inner), mtu, result, plain)
		}
		for _, g := range []*gateway{p.a, p.b} {
			for _, q := range g.queues[0] {
				q.Discard()
			}
		}
	})
}

func TestAFragmentHeaderIsTheOneOfRFC8200(t *testing.T) {
	b := make([]byte, 60)
	packet.PutIPv6(b[:40], 0, 0, 0, 64, packet.ProtoUDP, wanAddr(1, 6).As16(), wanAddr(2, 6).As16())
	packet.PutFragment6(b, packet.ProtoUDP, 1232, true, 0x01020304)
	fragment, ok := decode(b).Layer(layers.LayerTypeIPv6Fragment).(*layers.IPv6Fragment)
	if !ok || fragment.NextHeader != layers.IPProtocolUDP || fragment.FragmentOffset != 1232/8 || !fragment.MoreFragments || fragment.Identification != 0x01020304 {
		t.Errorf("got %+v", fragment)
	}
	if ip := decode(b).Layer(layers.LayerTypeIPv6).(*layers.IPv6); ip.Length != 20 || ip.NextHeader != layers.IPProtocolIPv6Fragment {
		t.Errorf("got %+v", ip)
	}
}
