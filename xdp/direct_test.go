package xdp

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func peerHop(id uint32) Hop {
	return Hop{ID: id, Kind: ToPeer, VNI: 100, Peer: 7, Ifindex: loopback, SrcMAC: portMAC, DstMAC: hostMAC, MTU: 1450,
		Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.77"), UDPPort: DefaultDirectPort, RemoteVNI: 300}
}

func TestAHopMayBeUnresolvedAndThenSaysLittle(t *testing.T) {
	s := State{
		Direct:      []uint16{DefaultDirectPort},
		DirectPeers: []DirectPeer{{7, netip.MustParseAddr("192.0.2.77")}, {7, netip.MustParseAddr("2001:db8::77")}},
		Hops:        []Hop{peerHop(1), {ID: 2, Kind: ToRouted, VNI: 100}, {ID: 3, Kind: ToPeer, VNI: 100, Peer: 7}},
		Remote:      []Prefix{{VNI: 100, Prefix: netip.MustParsePrefix("10.2.0.0/16"), Hop: 1}},
		Site:        []Prefix{{VNI: 100, Prefix: netip.MustParsePrefix("10.1.0.0/16"), Hop: 2}},
	}
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
}

func TestTheProblemsOfHopsAndDirectPeersAreNamedAllAtOnce(t *testing.T) {
	change := func(id uint32, f func(h *Hop)) Hop {
		h := peerHop(id)
		f(&h)
		return h
	}
	ten := netip.MustParsePrefix("10.0.0.0/8")
	s := State{
		WireGuard: []uint16{51821},
		Direct:    []uint16{51821},
		DirectPeers: []DirectPeer{
			{7, netip.MustParseAddr("192.0.2.77")}, {8, netip.MustParseAddr("::ffff:192.0.2.77")}, {0, netip.MustParseAddr("192.0.2.78")}, {9, netip.Addr{}},
		},
		Hops: []Hop{
			peerHop(1), peerHop(1), {},
			change(2, func(h *Hop) { h.Peer = 5 }),
			change(3, func(h *Hop) { h.Kind, h.RemoteVNI, h.VNI = ToVXLAN, 1<<24, 1<<24 }),
			change(4, func(h *Hop) { h.Ifindex = -1 }),
			change(5, func(h *Hop) { h.MTU, h.SrcMAC, h.DstMAC[0] = 67, [6]byte{}, 1 }),
			change(6, func(h *Hop) { h.Dst, h.UDPPort = netip.MustParseAddr("2001:db8::1"), 0 }),
			change(7, func(h *Hop) { h.Src, h.Dst = netip.Addr{}, netip.MustParseAddr("224.0.0.1") }),
			{ID: 8, Kind: ToRouted, VNI: 100},
		},
		Remote: []Prefix{{VNI: 100, Prefix: ten, Hop: 9}, {VNI: 101, Prefix: ten, Hop: 1}, {VNI: 100, Prefix: ten, Hop: 8}},
		Site:   []Prefix{{VNI: 100, Prefix: ten, Hop: 1}},
		Groups: []Prefix{{VNI: 100, Prefix: netip.MustParsePrefix("239.0.0.0/8"), Hop: 1}},
	}
	want := []string{
		"direct[0]: udp port 51821 is also in wireguard",
		"direct peers[1] addr: 192.0.2.77 is also that of direct peers[0]",
		"direct peers[2] id: missing",
		"direct peers[3] addr: missing",
		"hops[1] id: 1 is also that of hops[0]",
		"hops[2] id: missing",
		"hops[2] kind: 0 is none",
		"hops[3] peer: 5 is none of direct peers",
		"hops[4] vni: 16777216 has more than 24 bits",
		"hops[4] peer: set for kind vxlan",
		"hops[4] inner src mac: missing",
		"hops[4] inner dst mac: missing",
		"hops[4] remote vni: 16777216 has more than 24 bits",
		"hops[5] ifindex: -1 is no interface index",
		"hops[6] mtu: 67 is not in 68..65407",
		"hops[6] src mac: missing",
		"hops[6] dst mac: 010000000002 is a group's",
		"hops[7] dst: 2001:db8::1 is not of the family of src 192.0.2.1",
		"hops[7] udp port: missing",
		"hops[8] src: missing",
		"hops[8] dst: 224.0.0.1 is no host's address",
		"remote[0] hop: 9 is none of hops",
		"remote[1] hop: 1 is one of vni 100, not 101",
		"remote[2] hop: 8 is of kind routed",
		"site[0] hop: 1 is of kind peer",
		"groups[0] hop: the relay copies packets to groups",
	}
	if got := strings.Split(s.Validate().Error(), "\n"); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTooManyHopsAndDirectPeersAreRefused(t *testing.T) {
	s := State{DirectPeers: make([]DirectPeer, MaxDirectPeers+1), Hops: make([]Hop, MaxHops+1)}
	got := s.Validate().Error()
	for _, want := range []string{"direct peers: 4097 of at most 4096", "hops: 8193 of at most 8192"} {
		if !strings.Contains(got, want) {
			t.Errorf("error has no %q", want)
		}
	}
}
