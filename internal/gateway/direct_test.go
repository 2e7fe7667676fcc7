package gateway

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/relay/wireguard"
	"github.com/sluicegw/sluice/xdp"
)

// withDirect is the example with a second site, on a plain link.
func withDirect(t *testing.T, change func(*config.Config)) *config.Config {
	t.Helper()
	cfg := example(t)
	cfg.Peers = append(cfg.Peers, config.Peer{
		Name: "lab-1", Encryption: config.EncryptionNone, Endpoint: config.Endpoint{Host: "198.51.100.3", Port: 4000}, ClampMSS: true,
		VPCs: []config.PeerVPC{
			{Name: "default", Prefixes: []netip.Prefix{netip.MustParsePrefix("172.16.3.0/24"), netip.MustParsePrefix("fd16:3::/64")}},
			{Name: "red", VNI: 500, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.3.0.0/16"), netip.MustParsePrefix("fd10:3::/64")}},
		},
	})
	change(cfg)
	if err := cfg.Check(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// refs are the peers of withDirect in force.
func refs() map[string]peerRef {
	return map[string]peerRef{"bergen-1": {id: 0, wireguard: new(wireguard.Peer)}, "lab-1": {id: 1}}
}

func TestAPeerWithoutEncryptionIsCompiledAsSuch(t *testing.T) {
	cfg := withDirect(t, func(c *config.Config) { c.Direct.Port = 5000 })
	p, err := compile(cfg, links("lo", "eth0", "eth1", "eth2"), refs(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.xdp.Validate(); err != nil {
		t.Errorf("the XDP program would refuse: %v", err)
	}
	if p.snapshot.DirectPort != 5000 || !slices.Equal(p.xdp.Direct, []uint16{5000}) {
		t.Errorf("ports %d, %v", p.snapshot.DirectPort, p.xdp.Direct)
	}
	if got := p.snapshot.Peers[1]; got.WireGuard != nil || got.Direct != netip.MustParseAddrPort("198.51.100.3:4000") || got.Name != "lab-1" {
		t.Errorf("direct peer: %+v", got)
	}
	if diff := cmp.Diff([]relay.PeerVPC{{VNI: 100, RemoteVNI: 500}}, p.snapshot.Peers[1].VPCs); diff != "" {
		t.Errorf("VNI translation (-want +got):\n%s", diff)
	}
	if got := p.snapshot.Peers[0]; got.WireGuard == nil || got.Direct.IsValid() {
		t.Errorf("peer with a key: %+v", got)
	}
	if diff := cmp.Diff([]xdp.DirectPeer{{ID: 2, Addr: netip.MustParseAddr("198.51.100.3")}}, p.xdp.DirectPeers, compared); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, a := range p.xdp.Peers {
		if a == netip.MustParseAddr("198.51.100.3") {
			t.Error("it is taken for one that makes handshakes")
		}
	}
}

func TestWithoutADirectPeerNothingListens(t *testing.T) {
	p, err := compile(example(t), links("lo", "eth0", "eth1", "eth2"), refs(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if p.snapshot.DirectPort != 0 || len(p.xdp.Direct)+len(p.xdp.DirectPeers) != 0 {
		t.Errorf("port %d, %v, %v", p.snapshot.DirectPort, p.xdp.Direct, p.xdp.DirectPeers)
	}
}

func TestADirectPeerThatCannotBeReachedIsAProblem(t *testing.T) {
	p := peerView{cfg: config.Peer{Encryption: config.EncryptionNone, Endpoint: config.Endpoint{Host: "198.51.100.3", Port: 51821}}}
	for _, c := range []struct {
		state neigh.State
		want  string
	}{
		{0, ""},
		{neigh.Resolved, ""},
		{neigh.Failed, "the next hop to 198.51.100.3 does not answer"},
		{neigh.Unreachable, "the kernel has no route to 198.51.100.3"},
		{neigh.Local, "its endpoint 198.51.100.3 is an address of this host"},
	} {
		source := neigh.Static()
		if c.state != 0 {
			source.Set(&neigh.Entry{Key: neigh.Key{Dst: netip.MustParseAddr("198.51.100.3")}, State: c.state})
		}
		if got := p.unreachable(source.Table()); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%v: %q, want %q", c.state, got, c.want)
		}
	}
}
