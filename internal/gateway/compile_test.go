package gateway

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/relay/wireguard"
	"github.com/sluicegw/sluice/xdp"
)

func example(t *testing.T) *config.Config {
	t.Helper()
	text, err := os.ReadFile("../../docs/sluice.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse(text, "docs/sluice.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func links(names ...string) *neigh.Links {
	all := map[string]*neigh.Link{
		"lo":      {Ifindex: 1, Name: "lo", Addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("203.0.113.9/32")}, MTU: 65536, NoLink: true},
		"eth0":    {Ifindex: 2, Name: "eth0", MAC: [6]byte{2, 0, 0, 0, 0, 2}, MTU: 1500, Addrs: []netip.Prefix{netip.MustParsePrefix("198.51.100.1/24")}, Up: true, RxQueues: 1},
		"eth1":    {Ifindex: 3, Name: "eth1", MAC: [6]byte{2, 0, 0, 0, 0, 3}, MTU: 1600, Addrs: []netip.Prefix{netip.MustParsePrefix("192.168.1.1/24"), netip.MustParsePrefix("fe80::3/64")}, Up: true, RxQueues: 1, Virtual: true},
		"eth2":    {Ifindex: 4, Name: "eth2", MAC: [6]byte{2, 0, 0, 0, 0, 4}, MTU: 1500, Addrs: []netip.Prefix{netip.MustParsePrefix("172.16.1.1/24")}, Up: true, RxQueues: 1},
		"sluice0": {Ifindex: 9, Name: "sluice0", Addrs: []netip.Prefix{netip.MustParsePrefix("10.255.0.1/32")}, MTU: 1420, NoLink: true, Up: true},
	}
	var out []*neigh.Link
	for _, name := range names {
		out = append(out, all[name])
	}
	return neigh.NewLinks(out)
}

func prefixes(vni uint32, texts ...string) []xdp.Prefix {
	var out []xdp.Prefix
	for _, text := range texts {
		out = append(out, xdp.Prefix{VNI: vni, Prefix: netip.MustParsePrefix(text)})
	}
	return out
}

var unordered = cmpopts.SortSlices(func(a, b xdp.Prefix) bool {
	return a.VNI < b.VNI || a.VNI == b.VNI && a.Prefix.String() < b.Prefix.String()
})

var compared = cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), unordered}

func TestCompileExample(t *testing.T) {
	peer := new(wireguard.Peer)
	p, err := compile(example(t), links("lo", "eth0", "eth1", "eth2"), map[string]peerRef{"bergen-1": {id: 2, wireguard: peer, addresses: []netip.Addr{netip.MustParseAddr("198.51.100.2")}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := xdp.State{
		Peers: []netip.Addr{netip.MustParseAddr("198.51.100.2")},
		Ports: []xdp.Port{
			{Ifindex: 3, Queues: 1, Overlay: true, Virtual: true, MAC: [6]byte{2, 0, 0, 0, 0, 3}},
			{Ifindex: 4, Queues: 1, Routed: true, MAC: [6]byte{2, 0, 0, 0, 0, 4}},
			{Ifindex: 2, Queues: 1, MAC: [6]byte{2, 0, 0, 0, 0, 2}},
		},
		Local: []netip.Addr{
			netip.MustParseAddr("172.16.1.1"), netip.MustParseAddr("192.168.1.1"), netip.MustParseAddr("198.51.100.1"),
			netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("fe80::3"),
		},
		VXLAN:     []uint16{4789},
		WireGuard: []uint16{51820},
		VNIs:      []uint32{100},
		Remote:    append(prefixes(0, "172.16.2.0/24", "fd16:2::/64"), prefixes(100, "10.2.0.0/16", "fd10:2::/64")...),
		Site: append(prefixes(0, "172.16.1.0/24", "fd16:1::/64"),
			prefixes(100, "10.1.1.11/32", "fd10:1::11/128", "10.1.2.12/32", "fd10:1::12/128")...),
		Gateways: []xdp.Gateway{{VNI: 100, Addr: netip.MustParseAddr("10.1.0.1")}, {VNI: 100, Addr: netip.MustParseAddr("fd10:1::1")}},
	}
	if diff := cmp.Diff(want, p.xdp, compared); diff != "" {
		t.Errorf("XDP state (-want +got):\n%s", diff)
	}
	if err := p.xdp.Validate(); err != nil {
		t.Errorf("the XDP program would refuse: %v", err)
	}
	if len(p.snapshot.Peers) != 3 || p.snapshot.Peers[2].WireGuard != peer || p.snapshot.Peers[0].WireGuard != nil {
		t.Errorf("the peer is not at its id: %+v", p.snapshot.Peers)
	}
	if diff := cmp.Diff([]relay.PeerVPC{{VNI: 100, RemoteVNI: 300}}, p.snapshot.Peers[2].VPCs); diff != "" {
		t.Errorf("VNI translation (-want +got):\n%s", diff)
	}
	red := vpcOf(t, p, "red")
	if got := red.Routes.Lookup(netip.MustParseAddr("10.2.9.9")); got == nil || got.NextHops[0] != (fib.NextHop{Kind: fib.Remote, ID: 2}) {
		t.Errorf("remote route: %v", got)
	}
	got := red.Routes.Lookup(netip.MustParseAddr("fd10:1::12"))
	if got == nil || got.NextHops[0].Kind != fib.Local {
		t.Fatalf("local route: %v", got)
	}
	host := p.snapshot.Deliveries[got.NextHops[0].ID]
	if host.VTEP != netip.MustParseAddr("192.168.1.12") || host.MAC != [6]byte{2, 0, 0, 0, 1, 0x12} || host.VNI != 100 {
		t.Errorf("delivery: %+v", host)
	}
	if len(p.deliveries) != len(p.snapshot.Deliveries) {
		t.Errorf("%d deliveries, %d described", len(p.snapshot.Deliveries), len(p.deliveries))
	}
	virtual := slices.ContainsFunc(p.snapshot.Ports, func(port relay.Port) bool { return port.Name == "eth1" && port.Virtual && port.MTU == 1600 })
	if !virtual {
		t.Errorf("ports: %+v", p.snapshot.Ports)
	}
}

func vpcOf(t *testing.T, p *plan, name string) *relay.VPC {
	t.Helper()
	for i := range p.snapshot.VPCs {
		if p.snapshot.VPCs[i].Name == name {
			return &p.snapshot.VPCs[i]
		}
	}
	t.Fatalf("no VPC %s", name)
	return nil
}

func TestCompileLeavesOutWhatIsNotThere(t *testing.T) {
	p, err := compile(example(t), links("lo", "eth0", "eth2"), map[string]peerRef{"bergen-1": {wireguard: new(wireguard.Peer)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.xdp.Ports) != 2 || len(p.xdp.VXLAN) != 0 || len(p.xdp.VNIs) != 0 || len(p.xdp.Gateways) != 0 {
		t.Errorf("eth1 is not there, but: %+v", p.xdp)
	}
	red := vpcOf(t, p, "red")
	if red.Routes.Lookup(netip.MustParseAddr("10.1.1.11")) != nil {
		t.Error("a host behind a missing port has a route")
	}
	if red.Routes.Lookup(netip.MustParseAddr("10.2.1.1")) == nil {
		t.Error("the remote prefix has lost its route")
	}
}

func TestCompileNamesAPeerThatIsMissing(t *testing.T) {
	_, err := compile(example(t), links("eth0"), nil, nil)
	if err == nil || !strings.Contains(err.Error(), "bergen-1") {
		t.Errorf("error is %v", err)
	}
}

func TestChangesAreDescribed(t *testing.T) {
	old, changed := example(t), example(t)
	changed.WireGuard.ListenPort = 51821
	changed.Ports = changed.Ports[:2]
	changed.VPCs[1].GatewayAddresses = nil
	changed.Peers = append(changed.Peers, config.Peer{Name: "tromso-1"})
	want := []string{"wireguard: listens on UDP port 51821", "port eth0: removed", "vpc red: changed", "peer tromso-1: added"}
	if diff := cmp.Diff(want, describeChanges(old, changed)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if got := describeChanges(old, example(t)); len(got) != 0 {
		t.Errorf("nothing changed, but: %q", got)
	}
}

func TestWhatARunningGatewayIsBuiltOnNeedsARestart(t *testing.T) {
	changed := example(t)
	changed.Workers, changed.AFXDP.RingSize, changed.API.Socket = 2, 4096, "/run/other.sock"
	var paths []string
	for _, p := range needRestart(example(t), changed) {
		paths = append(paths, p.Path)
	}
	if want := []string{"workers", "afxdp", "api"}; !slices.Equal(paths, want) {
		t.Errorf("restart for %v, want %v", paths, want)
	}
}

func TestReplaceFileKeepsTheMode(t *testing.T) {
	path := t.TempDir() + "/sluice.yaml"
	if err := os.WriteFile(path, []byte("old"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != "new" {
		t.Errorf("holds %q, %v", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, err := os.ReadDir(t.TempDir()); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestOneBadInterfaceDoesNotStopTheOthers(t *testing.T) {
	cfg := example(t)
	all := slices.Collect(links("lo", "eth0", "eth1", "eth2").All())
	for i, link := range all {
		if link.Name == "eth2" { // a tun device, say
			bad := *link
			bad.MAC, bad.NoLink = [6]byte{}, true
			all[i] = &bad
		}
	}
	services := &neigh.Link{Ifindex: 9, Name: "kube-ipvs0", MAC: [6]byte{2, 9}, NoARP: true}
	for i := range 2 * xdp.MaxLocal {
		services.Addrs = append(services.Addrs, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), 32))
	}
	p, err := compile(cfg, neigh.NewLinks(append(all, services)), map[string]peerRef{"bergen-1": {wireguard: new(wireguard.Peer)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.xdp.Validate(); err != nil {
		t.Errorf("the XDP program would refuse: %v", err)
	}
	if len(p.xdp.Ports) != 2 {
		t.Errorf("ports: %+v", p.xdp.Ports)
	}
	for _, a := range []string{"198.51.100.1", "192.168.1.1"} {
		if !slices.Contains(p.xdp.Local, netip.MustParseAddr(a)) {
			t.Errorf("%s, a port's own address, is not local", a)
		}
	}
}

func TestAnOverlaysPrefixesAreLearned(t *testing.T) {
	cfg := example(t)
	red := &cfg.VPCs[1]
	a := &red.Attachments[0]
	a.Prefixes = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd10:1::/64")}
	a.Learn, a.VTEPs = config.LearnTraffic, []netip.Addr{netip.MustParseAddr("192.168.1.20"), netip.MustParseAddr("192.168.1.1")} // one is ours
	red.GatewayAddresses = append(red.GatewayAddresses, netip.MustParseAddr("fe80::1"))
	p, err := compile(cfg, links("lo", "eth0", "eth1", "eth2"), map[string]peerRef{"bergen-1": {id: 2, wireguard: new(wireguard.Peer)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.learned) != 1 {
		t.Fatalf("%d attachments learn", len(p.learned))
	}
	l := p.learned[0]
	if l.VNI != 100 || l.Ifindex != 3 || l.UDP != 4789 || !l.Listen || l.MaxHosts != 16384 || l.Timeout != 5*time.Minute ||
		l.Gateway4 != netip.MustParseAddr("10.1.0.1") || l.Gateway6 != netip.MustParseAddr("fd10:1::1") || len(l.VTEPs) != 1 || len(l.Known) != 2 {
		t.Errorf("learner's attachment: %+v", l)
	}
	for text, want := range map[string]bool{
		"10.1.5.5": true, "fd10:1::5": true, "10.1.1.11": false /* a static host */, "10.1.0.1": false /* the gateway */, "10.2.0.5": false /* remote */, "10.3.0.1": false,
	} {
		if got := l.Covers(netip.MustParseAddr(text)); got != want {
			t.Errorf("covers %s: %v", text, got)
		}
	}
	if !slices.Equal(p.xdp.Learn, []uint32{100}) {
		t.Errorf("the program diverts announcements of %v", p.xdp.Learn)
	}
	d := p.snapshot.Deliveries[vpcOf(t, p, "red").Routes.Lookup(netip.MustParseAddr("10.1.5.5")).NextHops[0].ID]
	if !d.Learned || !d.Listen || d.VTEP.IsValid() {
		t.Errorf("delivery: %+v", d)
	}
	a.Learn = config.LearnAsked
	p, err = compile(cfg, links("lo", "eth0", "eth1", "eth2"), map[string]peerRef{"bergen-1": {id: 2, wireguard: new(wireguard.Peer)}}, nil)
	if err != nil || len(p.xdp.Learn) != 0 || p.learned[0].Listen {
		t.Errorf("learn: asked: %v, %+v", err, p.learned[0])
	}
}

func TestATranslatedPrefixIsDivertedFromInsideAndGivenToTheRelay(t *testing.T) {
	cfg := example(t)
	pair := config.Translation{Prefix: netip.MustParsePrefix("172.16.1.0/24"), As: netip.MustParsePrefix("172.31.1.0/24")}
	for i := range cfg.VPCs {
		if cfg.VPCs[i].Name == config.DefaultVPC {
			cfg.VPCs[i].Translate = []config.Translation{pair}
		}
	}
	if err := cfg.Check(); err != nil {
		t.Fatal(err)
	}
	p, err := compile(cfg, links("lo", "eth0", "eth1", "eth2"), map[string]peerRef{"bergen-1": {id: 0, wireguard: new(wireguard.Peer)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := vpcOf(t, p, config.DefaultVPC).Translate; len(got) != 1 || got[0] != (relay.Translation{Prefix: pair.Prefix, As: pair.As}) {
		t.Errorf("the relay translates %v, want %v", got, pair)
	}
	if !slices.Contains(p.xdp.Remote, xdp.Prefix{VNI: 0, Prefix: pair.As}) || slices.Contains(p.xdp.Remote, xdp.Prefix{VNI: 0, Prefix: pair.Prefix}) {
		t.Errorf("diverted are %v, want what the site is known by, and not what it has", p.xdp.Remote)
	}
	if err := p.xdp.Validate(); err != nil {
		t.Errorf("the XDP program would refuse: %v", err)
	}
}

func TestMizarsSubnetsHaveSeveralPlacesAndItsQuestionsAreDiverted(t *testing.T) {
	text, err := os.ReadFile("../../controlplane/config/testdata/good/mizar.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse(text, "mizar.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := compile(cfg, links("eth0"), map[string]peerRef{"bergen-1": {wireguard: new(wireguard.Peer)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	vpc := vpcOf(t, p, "red")
	if got := vpc.Attachments[0].Mizar; got == nil || *got != (relay.Mizar{PodLabel: 7, NamespaceLabel: 4294967295}) {
		t.Errorf("options: %+v", got)
	}
	for address, want := range map[string][]string{
		"10.1.1.5": {"192.168.1.11", "192.168.1.12"}, "10.1.2.5": {"192.168.1.13"}, "10.1.3.5": {"192.168.1.13"}, "10.1.9.9": {"192.168.1.14"},
	} {
		var got []string
		for _, hop := range vpc.Routes.Lookup(netip.MustParseAddr(address)).NextHops {
			got = append(got, p.snapshot.Deliveries[hop.ID].VTEP.String())
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s is at %v, want %v", address, got, want)
		}
	}
	if !slices.Equal(p.xdp.Bounce, []uint32{100}) {
		t.Errorf("questions are diverted for %v, want VNI 100", p.xdp.Bounce)
	}
	if err := p.xdp.Validate(); err != nil {
		t.Errorf("the XDP program would refuse: %v", err)
	}
}

func TestCompileKeepsTheTUNDeviceInsideTheTunnels(t *testing.T) {
	cfg := example(t)
	refs := map[string]peerRef{"bergen-1": {wireguard: new(wireguard.Peer)}}
	cfg.WireGuard.TUN.Name = "sluice0"
	p, err := compile(cfg, links("lo", "eth0", "eth1", "eth2"), refs, nil)
	if err != nil || p.snapshot.TunPort != 0 {
		t.Errorf("without the device: port %d, %v", p.snapshot.TunPort, err)
	}
	inside := netip.MustParseAddr("100.64.0.1")
	all := []*neigh.Link{{Ifindex: 9, Name: "sluice0", NoLink: true, MTU: 1420, Up: true, Addrs: []netip.Prefix{netip.PrefixFrom(inside, 32)}}}
	for link := range links("lo", "eth0", "eth1", "eth2").All() {
		all = append(all, link)
	}
	if p, err = compile(cfg, neigh.NewLinks(all), refs, nil); err != nil {
		t.Fatal(err)
	}
	if p.snapshot.TunPort != 9 {
		t.Errorf("port %d", p.snapshot.TunPort)
	}
	if slices.Contains(p.snapshot.Local, inside) || slices.Contains(p.xdp.Local, inside) {
		t.Error("the tunnel address is taken for an outer one")
	}
}

// What a dead peer had goes to others that live. XDP goes on diverting it: it must not leave in the clear.
func TestCompileTakesADeadPeersRoutesAway(t *testing.T) {
	cfg := example(t)
	twin := cfg.Peers[0]
	twin.Name = "bergen-2"
	cfg.Peers = append(cfg.Peers, twin)
	all := links("lo", "eth0", "eth1", "eth2")
	refs := map[string]peerRef{"bergen-1": {id: 0, wireguard: new(wireguard.Peer)}, "bergen-2": {id: 1, wireguard: new(wireguard.Peer)}}
	alive, err := compile(cfg, all, refs, nil)
	if err != nil {
		t.Fatal(err)
	}
	for killed, want := range [][]fib.NextHop{0: {{Kind: fib.Remote, ID: 0}, {Kind: fib.Remote, ID: 1}}, 1: {{Kind: fib.Remote, ID: 1}}, 2: nil} {
		for i, name := range []string{"bergen-1", "bergen-2"} {
			ref := refs[name]
			ref.use = useful
			if i < killed {
				ref.use = dead
			}
			refs[name] = ref
		}
		p, err := compile(cfg, all, refs, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.xdp.Validate(); err != nil {
			t.Errorf("%d dead: %v", killed, err)
		}
		var got []fib.NextHop
		if r := vpcOf(t, p, "red").Routes.Lookup(netip.MustParseAddr("10.2.9.9")); r != nil {
			got = r.NextHops
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d dead: next hops %v, want %v", killed, got, want)
		}
		if diff := cmp.Diff(unique(alive.xdp.Remote), unique(p.xdp.Remote), compared); diff != "" {
			t.Errorf("%d dead: the program diverts other prefixes:\n%s", killed, diff)
		}
	}
}

// Who asks to be left alone gets nothing where another has the prefix, and may go on sending; it is the last resort where
// no other has.
func TestCompileSendsElsewhereWhereAPeerAsksForIt(t *testing.T) {
	cfg := example(t)
	twin := cfg.Peers[0]
	twin.Name = "bergen-2"
	twin.VPCs = []config.PeerVPC{{Name: "red", VNI: 300, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16")}}}
	cfg.Peers = append(cfg.Peers, twin)
	hops := func(ids ...uint32) (out []fib.NextHop) {
		for _, id := range ids {
			out = append(out, fib.NextHop{Kind: fib.Remote, ID: id})
		}
		return out
	}
	for _, c := range []struct {
		first, second use
		routes, spare []fib.NextHop
	}{
		{useful, useful, hops(0, 1), nil},
		{elsewhere, useful, hops(1), hops(0)},
		{elsewhere, elsewhere, hops(0, 1), nil},
		{elsewhere, dead, hops(0), hops(1)},
		{dead, useful, hops(1), hops(0)},
		{dead, dead, nil, nil},
	} {
		p, err := compile(cfg, links("lo", "eth0", "eth1", "eth2"), map[string]peerRef{
			"bergen-1": {id: 0, wireguard: new(wireguard.Peer), use: c.first}, "bergen-2": {id: 1, wireguard: new(wireguard.Peer), use: c.second},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		vpc, prefix := vpcOf(t, p, "red"), netip.MustParsePrefix("10.2.0.0/16")
		find := func(table *fib.Table, prefix netip.Prefix) []fib.NextHop {
			if table == nil || table.Exact(prefix) == nil {
				return nil
			}
			return table.Exact(prefix).NextHops
		}
		if routes, spare := find(vpc.Routes, prefix), find(vpc.Spare, prefix); !slices.Equal(routes, c.routes) || !slices.Equal(spare, c.spare) {
			t.Errorf("%d, %d: routes %v, spare %v; want %v, %v", c.first, c.second, routes, spare, c.routes, c.spare)
		}
		// What the first has alone stays with it for as long as it lives.
		want := hops(0)
		if c.first == dead {
			want = nil
		}
		if alone := netip.MustParsePrefix("fd10:2::/64"); !slices.Equal(find(vpc.Routes, alone), want) || find(vpc.Spare, alone) != nil {
			t.Errorf("%d, %d: alone: routes %v, want %v", c.first, c.second, find(vpc.Routes, alone), want)
		}
	}
}

func unique(all []xdp.Prefix) []xdp.Prefix {
	var out []xdp.Prefix
	for _, p := range all {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}
