package relay

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/internal/packet"
)

// synPacket opens a connection and announces mss, behind options that other
// stacks put in front of it. extension puts an IPv6 extension header between.
func synPacket(src, dst netip.Addr, ack, extension bool, mss uint16) []byte {
	ip, network, _ := ipLayer(src, dst, layers.IPProtocolTCP, 64, 0)
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 443, Seq: 1000, SYN: true, ACK: ack, Window: 64240, Options: []layers.TCPOption{
		{OptionType: layers.TCPOptionKindNop},
		{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{byte(mss >> 8), byte(mss)}},
		{OptionType: layers.TCPOptionKindSACKPermitted, OptionLength: 2},
		{OptionType: layers.TCPOptionKindEndList}}}
	if err := tcp.SetNetworkLayerForChecksum(network); err != nil {
		panic(err)
	}
	if !extension {
		return serialize(ip, tcp)
	}
	segment := serialize(tcp)
	six := ip.(*layers.IPv6)
	six.NextHeader = layers.IPProtocolIPv6Destination
	return serialize(six, gopacket.Payload(append([]byte{6, 0, 1, 4, 0, 0, 0, 0}, segment...)))
}

// mssOf returns what an inner packet announces; its checksums must be right.
func mssOf(t *testing.T, name string, b []byte) int {
	t.Helper()
	var ip packet.IP
	if bad := ip.Parse(b); bad != packet.Fine || ip.Proto != packet.ProtoTCP {
		t.Fatalf("%s: no TCP in %x", name, b)
	}
	if packet.Sum(packet.PseudoSum(b, packet.ProtoTCP, ip.Len-ip.HeaderLen), b[ip.HeaderLen:ip.Len]) != 0xffff {
		t.Errorf("%s: the checksum is wrong", name)
	}
	at := bytes.Index(b[ip.HeaderLen+packet.TCPLen:], []byte{2, 4}) + ip.HeaderLen + packet.TCPLen
	return int(b[at+2])<<8 | int(b[at+3])
}

// synOut sends a SYN from a place of site 1 and returns the inner packet that
// leaves for the WAN; synIn sends one from the peer to a place of site 1.
func (p *pair) synOut(t *testing.T, v vpcName, place int, inner []byte) []byte {
	t.Helper()
	port, frame := fromHost(v, 1, place, inner)
	p.a.queues[0][port].Inject(frame)
	p.a.turn()
	plain := p.plainOf(t)
	if len(plain) != 1 {
		t.Fatalf("%d packets: %v", len(plain), nonzero(p.a.relay.Counters()))
	}
	b := plain[0]
	if v != defaultVPC {
		b = b[packet.IPv4Len+packet.UDPLen+packet.GeneveLen:]
	}
	var ip packet.IP
	if bad := ip.Parse(b); bad != packet.Fine {
		t.Fatalf("%v in %x", bad, b)
	}
	return b[:ip.Len]
}

func (p *pair) synIn(t *testing.T, outer int, v vpcName, place int, inner []byte) []byte {
	t.Helper()
	if v != defaultVPC {
		inner = tunnelled(v.vni(1), etherTypeOfPacket(inner), inner)
	}
	p.sealOver(t, outer, inner)
	p.a.turn()
	port := uint32(sitePort)
	if place == atRouted {
		port = v.routedPort()
	}
	got := p.a.got(port)
	if len(got) != 1 {
		t.Fatalf("%d packets: %v", len(got), nonzero(p.a.relay.Counters()))
	}
	_, b := innerOf(port, got[0])
	return b
}

func TestMSSIsLoweredToTheSmallerOfBothLegsInBothDirections(t *testing.T) {
	// Inner MTU of the site's side: a port of 1600 less outer IP 20 or 40, UDP
	// 8, overlay 8, Ethernet 14, or 1500 of a routed one. Of the tunnel: 1500 less outer IP
	// 20 or 40, UDP 8, WireGuard 32, and 36 for any VPC but the default one.
	for _, outer := range []int{4, 6} {
		for _, siteMTU := range []int{1600, 1450} {
			p := newPair(t, gatewayOptions{outer: outer})
			for _, g := range []*gateway{p.a, p.b} {
				for i := range g.snap.Ports {
					if g.snap.Ports[i].Ifindex == sitePort {
						g.snap.Ports[i].MTU = siteMTU
					}
				}
				check(t, g.relay.Update(g.snap))
			}
			p.connect(t)
			for _, v := range []vpcName{defaultVPC, red} {
				tunnel := 1500 - 20 - 8 - 32
				if outer == 6 {
					tunnel -= 20
				}
				if v == red {
					tunnel -= 36
				}
				for place := atVXLAN4; place < places; place++ {
					site := siteMTU - 20 - 8 - 8 - 14
					switch place {
					case atVXLAN6, atGeneve6:
						site -= 20
					case atRouted:
						site = 1500
					}
					for _, version := range []int{4, 6} {
						want := min(tunnel, site) - 40
						if version == 6 {
							want -= 20
						}
						for _, ack := range []bool{false, true} {
							for _, extension := range []bool{false, version == 6} {
								here, there := v.host(1, place, version), v.host(2, place, version)
								name := fmt.Sprintf("WAN IPv%d, site MTU %d, %v %s inner IPv%d ack %v extension %v", outer, siteMTU, v, placeName(place), version, ack, extension)
								if got := mssOf(t, name, p.synOut(t, v, place, synPacket(here, there, ack, extension, 8960))); got != want {
									t.Errorf("%s, out: %d, want %d", name, got, want)
								}
								if got := mssOf(t, name, p.synIn(t, outer, v, place, synPacket(there, here, ack, extension, 8960))); got != want {
									t.Errorf("%s, in: %d, want %d", name, got, want)
								}
								if got := mssOf(t, name, p.synOut(t, v, place, synPacket(here, there, ack, extension, 1000))); got != 1000 {
									t.Errorf("%s: 1000 became %d", name, got)
								}
							}
						}
					}
				}
			}
		}
	}
}

func TestMSSClampIsOffOrCappedWhereTheSnapshotSaysSo(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	src, dst := red.host(1, atRouted, 4), red.host(2, atRouted, 4)
	for _, c := range []struct {
		name            string
		vpc, peer, want int
	}{
		{"by default it fits", 0, 0, 1364},
		{"off for the VPC", -1, 0, 8960},
		{"off for the peer", 0, -1, 8960},
		{"off for the peer, capped for the VPC", 1000, -1, 8960},
		{"capped for the VPC", 1200, 0, 1200},
		{"capped for the peer", 0, 1100, 1100},
		{"capped for both", 1200, 1100, 1100},
		{"capped above what fits", 5000, 5000, 1364},
	} {
		snap := *p.a.snap
		snap.VPCs, snap.Peers = append([]VPC(nil), snap.VPCs...), append([]Peer(nil), snap.Peers...)
		snap.VPCs[red].MSS, snap.Peers[0].MSS = c.vpc, c.peer
		check(t, p.a.relay.Update(&snap))
		before := p.a.relay.Counters().Clamped
		if got := mssOf(t, c.name, p.synOut(t, red, atRouted, synPacket(src, dst, false, false, 8960))); got != c.want {
			t.Errorf("%s, out: %d, want %d", c.name, got, c.want)
		}
		if got := mssOf(t, c.name, p.synIn(t, 4, red, atRouted, synPacket(dst, src, true, false, 8960))); got != c.want {
			t.Errorf("%s, in: %d, want %d", c.name, got, c.want)
		}
		clamped := uint64(2)
		if c.want == 8960 {
			clamped = 0
		}
		if n := p.a.relay.Counters().Clamped - before; n != clamped {
			t.Errorf("%s: %d packets counted, want %d", c.name, n, clamped)
		}
	}
}

func TestGeneveOptionsThatTravelCountInTheClamp(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	option := &layers.GeneveOption{Class: 0x0102, Type: 1, Length: 64, Data: make([]byte, 60)}
	_, frame := fromHost(red, 1, atGeneve4, synPacket(red.host(1, atGeneve4, 4), red.host(2, atGeneve4, 4), false, false, 1460), option)
	p.a.queues[0][sitePort].Inject(frame)
	p.a.turn()
	plain := p.plainOf(t)
	if len(plain) != 1 {
		t.Fatalf("%v", nonzero(p.a.relay.Counters()))
	}
	if got, want := mssOf(t, "64 bytes of options", plain[0][36+64:]), 1404-64-40; got != want {
		t.Errorf("got %d, want %d", got, want)
	}
}
