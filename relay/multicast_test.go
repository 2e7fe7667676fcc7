package relay

import (
	"bytes"
	"maps"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/internal/neigh"
)

// groups makes VPC red carry some groups, at both sites, to all places.
func (p *pair) groups(t *testing.T) {
	t.Helper()
	for _, g := range []*gateway{p.a, p.b} {
		for i := range g.snap.VPCs {
			if v := &g.snap.VPCs[i]; v.Name == red.String() {
				v.Groups = []netip.Prefix{netip.MustParsePrefix("239.1.0.0/16"), netip.MustParsePrefix("ff08::/16")}
				for id, d := range g.snap.Deliveries {
					if d.VNI == v.VNI {
						v.Flood = append(v.Flood, uint32(id))
					}
				}
			}
		}
		check(t, g.relay.Update(g.snap))
	}
}

func group(version int) netip.Addr {
	if version == 4 {
		return addr("239.1.2.3")
	}
	return addr("ff08::2:3")
}

func TestAGroupThatIsCarriedReachesAllPlacesOfTheOtherSite(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	p.groups(t)
	for from := atVXLAN4; from < places; from++ {
		for _, version := range []int{4, 6} {
			inner := udpPacket(red.host(1, from, version), group(version), 9, 0, 5000, 5001, []byte("to everybody"))
			port, frame := fromHost(red, 1, from, inner)
			var out map[string]uint64
			in := p.b.verdicts(func() {
				out = p.a.verdicts(func() { p.a.queues[0][port].Inject(frame); p.settle() })
			})
			if want := map[string]uint64{"to_peer": 1}; !maps.Equal(out, want) {
				t.Errorf("%s IPv%d: sent %v, want %v", placeName(from), version, out, want)
			}
			if want := map[string]uint64{"to_site": places - 1}; !maps.Equal(in, want) {
				t.Errorf("%s IPv%d: received %v, want %v", placeName(from), version, in, want)
			}
			nodes := make(map[netip.Addr]int)
			for _, b := range p.b.got(sitePort) {
				outer := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
				node, _ := netip.AddrFromSlice(outer.NetworkLayer().NetworkFlow().Dst().Raw())
				nodes[node]++
				vni, got := innerOf(sitePort, b)
				if !bytes.Equal(got, forwarded(inner)) || vni != red.vni(2) {
					t.Errorf("%s IPv%d: vni %d, %x", placeName(from), version, vni, got)
				}
				if mac := b[len(b)-len(inner)-14:]; mac[0]&1 == 0 {
					t.Errorf("to %x, which is no group", mac[:6])
				}
			}
			if len(nodes) != places-2 {
				t.Errorf("%s IPv%d: nodes %v", placeName(from), version, nodes)
			}
			got := p.b.got(redPort)
			mac := map[int][]byte{4: {1, 0, 0x5e, 1, 2, 3}, 6: {0x33, 0x33, 0, 2, 0, 3}}[version]
			if len(got) != 1 || !bytes.Equal(got[0][:6], mac) || !bytes.Equal(got[0][14:], forwarded(inner)) {
				t.Errorf("%s IPv%d: out of the routed port: %x", placeName(from), version, got)
			}
			if n := len(p.b.got(bluePort)) + len(p.b.got(hostPort)); n != 0 {
				t.Errorf("%d packets in other VPCs", n)
			}
		}
	}
}

func TestAllOtherMulticastIsDroppedWithoutAWord(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	p.groups(t)
	for _, c := range []struct {
		name  string
		vpc   vpcName
		inner []byte
		want  string
	}{
		{"another group", red, udpPacket(red.host(1, atVXLAN4, 4), addr("239.2.0.1"), 9, 0, 1, 2, nil), "multicast"},
		{"a group of the link", red, udpPacket(red.host(1, atVXLAN4, 4), addr("224.0.0.5"), 1, 0, 1, 2, nil), "multicast"},
		{"broadcast", red, udpPacket(red.host(1, atVXLAN4, 4), addr("255.255.255.255"), 9, 0, 1, 2, nil), "multicast"},
		{"the group in another VPC", blue, udpPacket(blue.host(1, atVXLAN4, 4), group(4), 9, 0, 1, 2, nil), "multicast"},
		{"a TTL that ran out", red, udpPacket(red.host(1, atVXLAN4, 6), group(6), 1, 0, 1, 2, nil), "ttl_expired"},
		{"too long for the way", red, udpPacket(red.host(1, atVXLAN4, 4), group(4), 9, 0, 1, 2, make([]byte, 1405-28)), "too_big"},
	} {
		_, frame := fromHost(c.vpc, 1, atVXLAN4, c.inner)
		got := p.a.verdicts(func() { p.a.queues[0][sitePort].Inject(frame); p.settle() })
		if want := map[string]uint64{c.want: 1}; !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", c.name, got, want)
		}
	}
}

func TestAGroupDoesNotWaitForAnybody(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	p.groups(t)
	p.b.neigh.Set(&neigh.Entry{Key: neigh.Key{Dst: vtepAddr(2, atGeneve4), Ifindex: sitePort}, State: neigh.Failed})
	inner := udpPacket(red.host(1, atRouted, 4), group(4), 9, 0, 1, 2, nil)
	_, frame := fromHost(red, 1, atRouted, inner)
	got := p.b.verdicts(func() { p.a.queues[0][redPort].Inject(frame); p.settle() })
	if want := map[string]uint64{"to_site": places - 2, "no_neighbour": 1}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// More copies than a worker has places for, in one batch.
func TestABatchOfPacketsToAGroupIsCopiedWhole(t *testing.T) {
	p := newPair(t, gatewayOptions{frames: 4096})
	p.connect(t)
	p.groups(t)
	for i := range 50 {
		_, frame := fromHost(red, 1, atRouted, udpPacket(red.host(1, atRouted, 4), group(4), 9, 0, 1, 2, []byte{byte(i)}))
		p.a.queues[0][redPort].Inject(frame)
	}
	p.settle()
	if n, m := len(p.b.got(sitePort)), len(p.b.got(redPort)); n != 50*(places-2) || m != 50 {
		t.Errorf("%d and %d copies: %v", n, m, nonzero(p.b.relay.Counters()))
	}
}

// An option marked critical stays with the packet, or the packet is lost (RFC 8926 section 3.5.1): out of a routed port or
// over VXLAN it cannot go along.
func TestAGroupsPacketWithACriticalOptionGoesOnlyWhereTheOptionCan(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	p.groups(t)
	option := &layers.GeneveOption{Class: 0x0102, Type: 0x81, Length: 8, Data: make([]byte, 4)}
	inner := udpPacket(red.host(2, atRouted, 6), group(6), 9, 0, 1, 2, nil)
	got := p.a.verdicts(func() {
		p.sealTo(t, tunnelled(red.vni(1), layers.EthernetTypeIPv6, inner, option))
		p.a.turn()
	})
	if want := map[string]uint64{"to_site": 2, "critical_option": places - 3}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if n := len(p.a.got(redPort)); n != 0 {
		t.Errorf("%d packets left through the routed port", n)
	}
}
