package xdp

import (
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

func TestAStateThatIsRightHasNoProblem(t *testing.T) {
	for _, s := range []State{{}, testState(), {Local: addrs("fe80::1%eth0", "::ffff:192.0.2.1")}} {
		if err := s.Validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestTheProblemsOfAStateAreNamedAllAtOnce(t *testing.T) {
	port := Port{Ifindex: 3, MAC: portMAC}
	s := State{
		Ports: []Port{
			port, {Ifindex: 0, MAC: portMAC}, {Ifindex: 4, MAC: portMAC, VLAN: 4095}, {Ifindex: 5, MAC: portMAC, InnerVLAN: 5}, port,
			{Ifindex: 6}, {Ifindex: 7, MAC: [6]byte{1}}, {Ifindex: 8, MAC: portMAC, Queues: 65}, {Ifindex: 9, MAC: portMAC, VNI: 1 << 24},
			{Ifindex: 10, MAC: portMAC, VLAN: 1, InnerVLAN: 4095}, {Ifindex: 11, MAC: portMAC, Queues: -1},
		},
		Local:     append(addrs("0.0.0.0", "ff02::1", "255.255.255.255", "::ffff:224.0.0.1"), netip.Addr{}),
		Geneve:    []uint16{6081, 6081},
		VXLAN:     []uint16{0, 6081},
		WireGuard: []uint16{6081},
		VNIs:      []uint32{1 << 24},
		Learn:     []uint32{1 << 24, 7},
		Bounce:    []uint32{7},
		Remote: []Prefix{
			{VNI: 1 << 24, Prefix: netip.MustParsePrefix("10.0.0.0/8")}, {}, {Prefix: netip.MustParsePrefix("10.0.0.1/8")},
			{Prefix: netip.PrefixFrom(netip.MustParseAddr("::ffff:10.0.0.0"), 104)},
		},
		Site:     []Prefix{{VNI: 1 << 24, Prefix: netip.MustParsePrefix("10.0.0.0/8")}},
		Gateways: []Gateway{{VNI: 1 << 24, Addr: netip.MustParseAddr("10.0.0.1")}, {}},
	}
	want := []string{
		"ports[4]: same interface and vlan as ports[0]",
		"ports[1] ifindex: 0 is no interface index",
		"ports[2] vlan: 4095 is above 4094",
		"ports[3] inner vlan: set without vlan",
		"ports[5] mac: missing",
		"ports[6] mac: 010000000000 is a group's",
		"ports[7] queues: 65 is not in 0..64",
		"ports[8] vni: 16777216 has more than 24 bits",
		"ports[9] inner vlan: 4095 is above 4094",
		"ports[10] queues: -1 is not in 0..64",
		"local[0]: 0.0.0.0 is no host's address",
		"local[1]: ff02::1 is no host's address",
		"local[2]: 255.255.255.255 is no host's address",
		"local[3]: 224.0.0.1 is no host's address",
		"local[4]: missing",
		"vxlan[0]: udp port 0",
		"vxlan[1]: udp port 6081 is also in geneve",
		"wireguard[0]: udp port 6081 is also in vxlan",
		"vnis[0]: 16777216 has more than 24 bits",
		"learn[1]: 7 is none of vnis",
		"bounce[0]: 7 is none of vnis",
		"remote[0] vni: 16777216 has more than 24 bits",
		"remote[1] prefix: missing or invalid",
		"remote[2] prefix: 10.0.0.1/8 has host bits, write 10.0.0.0/8",
		"remote[3] prefix: ::ffff:10.0.0.0/104 is IPv4 written as IPv6",
		"site[0] vni: 16777216 has more than 24 bits",
		"gateways[0] vni: 16777216 has more than 24 bits",
		"gateways[1] addr: missing",
	}
	got := strings.Split(s.Validate().Error(), "\n")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAStateMayNotOutgrowTheMaps(t *testing.T) {
	s := State{
		Local: make([]netip.Addr, MaxLocal+1), VNIs: make([]uint32, MaxVNIs+1), Geneve: make([]uint16, 0, MaxUDPPorts+1),
		Remote: remotes(10, MaxRoutes), Gateways: []Gateway{{Addr: netip.MustParseAddr("10.0.0.1")}},
	}
	for i := range s.Local {
		s.Local[i] = netip.MustParseAddr("192.0.2.1")
	}
	for i := range uint16(MaxUDPPorts + 1) {
		s.Geneve = append(s.Geneve, i+1)
	}
	for i := range MaxPorts + 1 {
		s.Ports = append(s.Ports, Port{Ifindex: 1 + i%(MaxInterfaces+1), VLAN: uint16(1 + i/(MaxInterfaces+1)), MAC: portMAC})
	}
	want := []string{
		"ports: 1025 of at most 1024", "ports: interfaces: 33 of at most 32", "local: 1025 of at most 1024",
		"udp ports: 257 of at most 256", "vnis: 4097 of at most 4096", "remote, site and gateways, ipv4: 100001 of at most 100000",
	}
	if got := strings.Split(s.Validate().Error(), "\n"); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if err := new(Program).SetState(s); err == nil || !strings.HasPrefix(err.Error(), "xdp state: ports: 1025") {
		t.Errorf("SetState: %v", err)
	}
}

// remotes is n prefixes of length 32 in first.0.0.0/8.
func remotes(first byte, n int) []Prefix {
	out := make([]Prefix, n)
	for i := range out {
		out[i] = Prefix{VNI: 100, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{first, byte(i >> 16), byte(i >> 8), byte(i)}), 32)}
	}
	return out
}

// checkMaps compares what the kernel has with what the state should be.
func (h *harness) checkMaps(t *testing.T, s State) {
	t.Helper()
	want := s.contents(h.sockets.slots, h.slotsOf())
	compareMap(t, h.objs.Ports, want.ports)
	compareMap(t, h.objs.LocalAddresses, want.local)
	compareMap(t, h.objs.UdpPorts, want.udp)
	compareMap(t, h.objs.Vnis, want.vnis)
	compareMap(t, h.objs.Routes4, want.routes4)
	compareMap(t, h.objs.Routes6, want.routes6)
	compareMap(t, h.objs.Hops, want.hops)
	compareMap(t, h.objs.DirectPeers, want.direct)
	egress := make(map[uint32]uint32)
	for ifindex := range egressOf(s.Hops) {
		if ifindex != 4711 { // not there
			egress[ifindex] = ifindex
		}
	}
	compareMap(t, h.objs.Egress, egress)
}

func compareMap[K, V comparable](t *testing.T, m *ebpf.Map, want map[K]V) {
	t.Helper()
	got := make(map[K]V)
	var k K
	var v V
	entries := m.Iterate()
	for entries.Next(&k, &v) {
		got[k] = v
	}
	if err := entries.Err(); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s has %d entries, want %d:\n got %v\nwant %v", m, len(got), len(want), got, want)
	}
}

func TestTheMapsFollowTheState(t *testing.T) {
	h := newHarness(t, Options{}, State{})
	random := rand.New(rand.NewPCG(1, 2))
	all := directState()
	for range 100 {
		s := State{
			Ports: some(random, all.Ports), Local: some(random, all.Local), Geneve: some(random, all.Geneve),
			VXLAN: some(random, all.VXLAN), WireGuard: some(random, all.WireGuard), VNIs: some(random, all.VNIs),
			Remote: some(random, all.Remote), Site: some(random, all.Site), Gateways: some(random, all.Gateways),
		}
		s.DirectPeers, s.Hops = all.DirectPeers, some(random, all.Hops)
		for i := range s.Hops { // the next hop changes, or the place
			s.Hops[i].DstMAC[5] ^= byte(random.IntN(2))
			s.Hops[i].RemoteVNI ^= uint32(random.IntN(2))
		}
		for _, prefixes := range [][]Prefix{s.Remote, s.Site} {
			for i, p := range prefixes {
				if !slices.ContainsFunc(s.Hops, func(h Hop) bool { return h.ID == p.Hop }) {
					prefixes[i].Hop = 0
				}
			}
		}
		s.Learn = some(random, s.VNIs)
		s.Bounce = some(random, s.VNIs)
		for i := range s.Ports {
			s.Ports[i].Ifindex += random.IntN(3)
			s.Ports[i].Overlay = random.IntN(2) == 0
		}
		if random.IntN(4) == 0 { // a port changes its service, an address its kind
			s.Geneve, s.VXLAN = s.VXLAN, s.Geneve
			s.Gateways = append(s.Gateways, Gateway{VNI: 100, Addr: netip.MustParseAddr("10.9.9.9")})
		}
		if err := h.SetState(s); err != nil {
			t.Fatal(err)
		}
		h.checkMaps(t, s)
		if t.Failed() {
			return
		}
	}
}

func TestAnAmendmentIsAsGoodAsTheWholeState(t *testing.T) {
	h := newHarness(t, Options{}, testState())
	random := rand.New(rand.NewPCG(1, 2))
	s := testState()
	fixed := slices.Clip(s.Site)
	all := append(remotes(77, 20), Prefix{VNI: 100, Prefix: netip.MustParsePrefix("fd77::/48")}, Prefix{VNI: 7, Prefix: netip.MustParsePrefix("77.0.0.0/24")})
	there := make(map[Prefix]bool)
	for range 50 {
		var add, del []Prefix
		for _, p := range some(random, all) {
			if there[p] = !there[p]; there[p] {
				add = append(add, p)
			} else {
				del = append(del, p)
			}
		}
		if err := h.AmendSite(add, del); err != nil {
			t.Fatal(err)
		}
		s.Site = fixed
		for p, is := range there {
			if is {
				s.Site = append(s.Site, p)
			}
		}
		if random.IntN(5) == 0 { // the same once more
			if err := h.SetState(s); err != nil {
				t.Fatal(err)
			}
		}
		if h.checkMaps(t, s); t.Failed() {
			return
		}
	}
	for what, p := range map[string][]Prefix{
		"is not the site's alone":  testState().Remote[:1],
		"has host bits":            {{Prefix: netip.MustParsePrefix("10.0.0.1/8")}},
		"100001 of at most 100000": remotes(88, MaxRoutes+1-len(h.tables.routes4.have)),
	} {
		if err := h.AmendSite(p, nil); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%q: %v", what, err)
		}
	}
	if err := h.AmendSite(nil, testState().Remote[:1]); err == nil {
		t.Error("a remote prefix can be deleted")
	}
	h.checkMaps(t, s)
}

func some[T any](random *rand.Rand, from []T) (out []T) {
	for _, v := range from {
		if random.IntN(2) == 0 {
			out = append(out, v)
		}
	}
	return out
}

func TestTheWholeCapacityCanBeExchangedAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("a third of a million map updates")
	}
	s := testState()
	s.Remote, s.Site, s.Groups, s.Gateways = remotes(10, MaxRoutes), nil, nil, nil
	h := newHarness(t, Options{}, s)
	s.Remote = remotes(11, MaxRoutes)
	if err := h.SetState(s); err != nil {
		t.Fatal(err)
	}
	h.openSocket(t, loopback, 0)
	for dst, want := range map[string]Verdict{"10.0.0.1": PassInnerNoRoute, "11.0.0.1": DivertVXLAN, "11.1.134.159": DivertVXLAN} {
		packet := build(stack(toUs("192.0.2.1", DefaultVXLANPort), []layer{vxlan(100)}, inner(dst))...)
		if got := h.run(t, packet, loopback, 0); got != want {
			t.Errorf("%s: %s, want %s", dst, got, want)
		}
	}
}

func TestAChangeOfTheStateMissesNoPacketThatBothStatesWant(t *testing.T) {
	a, b := testState(), testState()
	b.Ports = b.Ports[:1]
	b.Ports[0].Routed = false
	b.Local, b.VXLAN, b.WireGuard, b.Gateways = b.Local[:1], b.VXLAN[1:], nil, b.Gateways[:2]
	b.VNIs, b.Learn, b.Bounce = []uint32{100}, nil, nil
	b.Remote = append(b.Remote[:2], Prefix{VNI: 100, Prefix: netip.MustParsePrefix("10.2.3.0/24")}) // a longer one for the same packet
	h := newHarness(t, Options{}, a)
	h.openSocket(t, loopback, 0)
	packet := build(stack(toUs("192.0.2.1", DefaultGenevePort),
		[]layer{geneve(100, 0x6558)}, inner("10.2.3.4"))...)

	done := make(chan error)
	go func() {
		var errs []error
		for i := range 500 {
			errs = append(errs, h.SetState([]State{b, a}[i%2]))
		}
		done <- errors.Join(errs...)
	}()
	runs := 0
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			t.Logf("%d packets", runs)
			return
		default:
		}
		if v := h.run(t, packet, loopback, 0); v != DivertGeneve {
			t.Errorf("packet %d: %s", runs, v)
			<-done
			return
		}
		runs++
	}
}

func TestAChangeThatWasInterruptedIsCompletedByTheNext(t *testing.T) {
	h := newHarness(t, Options{}, State{})
	// Fill the map behind the back of SetState, so that there is no room.
	foreign := make(map[bpfUdpPortKey]bool)
	for port := uint16(1); ; port++ {
		key := bpfUdpPortKey{Port: port, Zero: 1}
		if err := h.objs.UdpPorts.Put(key, bpfServiceVXLAN); errors.Is(err, unix.E2BIG) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		foreign[key] = true
	}
	s := testState()
	if err := h.SetState(s); !errors.Is(err, unix.E2BIG) || !strings.Contains(err.Error(), "add to udp_ports") {
		t.Fatalf("error %v", err)
	}
	for key := range maps.Keys(foreign) {
		if err := h.objs.UdpPorts.Delete(key); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.SetState(s); err != nil {
		t.Fatal(err)
	}
	h.checkMaps(t, s)
}
