package gateway

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/relay/wireguard"
)

func TestCompileTellsThroughWhomPeersAreReachedAndWhoReachesOthersThroughUs(t *testing.T) {
	cfg := example(t)
	first := cfg.Peers[0]
	cfg.Peers = append(cfg.Peers[:0:0], first, first, first)
	refs := make(map[string]peerRef)
	for i, name := range []string{"a", "b", "hub"} {
		cfg.Peers[i].Name = name
		refs[name] = peerRef{id: uint32(2 - i), wireguard: new(wireguard.Peer)}
	}
	cfg.Peers[0].RelayTo = []string{"b"}
	cfg.Peers[1].RelayLimit.PacketRate = 500

	cfg.Peers[1].Paths = []config.Path{{Name: "relayed", Via: "hub"}}
	plan, err := compile(cfg, links("lo", "eth0", "eth1", "eth2"), refs, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := plan.snapshot.Peers
	a, b, hub := p[2], p[1], p[0]
	if !slices.Equal(a.RelayTo, []uint32{1}) || b.RelayTo != nil || hub.RelayTo != nil {
		t.Errorf("relay to: %v, %v, %v", a.RelayTo, b.RelayTo, hub.RelayTo)
	}
	if !slices.Equal(b.Through, []uint32{0}) || a.Through != nil || hub.Through != nil {
		t.Errorf("through: %v, %v, %v", a.Through, b.Through, hub.Through)
	}
	if a.RelayLimit != (relay.Limit{Bits: 100_000_000}) || b.RelayLimit != (relay.Limit{Packets: 500}) {
		t.Errorf("limits: %+v, %+v", a.RelayLimit, b.RelayLimit)
	}
}

func TestAPeerBehindAThirdIsShownWithIt(t *testing.T) {
	hub := new(wireguard.Peer) // its ID is 0
	v := &view{peers: []peerView{{wireguard: hub}, {id: 1}, {id: 2}}}
	v.peers[0].cfg.Name, v.peers[1].cfg.Name, v.peers[2].cfg.Name = "hub", "a", "b"
	v.peers[1].cfg.RelayTo = []string{"b"}
	at := netip.MustParseAddrPort("100.64.0.2:51820")
	for want, e := range map[string]wireguard.Endpoint{"": {}, at.String(): {Remote: at}, at.String() + " via hub": {Remote: at, Via: hub}} {
		if got := v.endpointText(e); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for name, want := range map[string][]string{"a": {"b"}, "b": {"a"}, "hub": nil} {
		if got := v.relaysWith(name); !slices.Equal(got, want) {
			t.Errorf("%s exchanges messages with %v, want %v", name, got, want)
		}
	}
}
