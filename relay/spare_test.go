package relay

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// A peer that is left out of its routes for now may still send what it could before, and nothing of what others have in
// there; packets for its prefixes go to the others.
func TestAPeerThatIsLeftOutIsStillListenedTo(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	other, err := wireguard.NewPrivateKey()
	check(t, err)
	second, err := p.a.device.SetPeer(wireguard.PeerConfig{PublicKey: other.PublicKey(), ID: 1})
	check(t, err)
	table := func(routes ...fib.Route) *fib.Table {
		t.Helper()
		made, err := fib.New(routes)
		check(t, err)
		return made
	}
	remote := func(prefix string, id uint32) fib.Route {
		return fib.Route{Prefix: netip.MustParsePrefix(prefix), NextHops: []fib.NextHop{{Kind: fib.Remote, ID: id}}}
	}
	s := *p.a.snap
	s.Peers = append(append([]Peer(nil), s.Peers...), Peer{Name: "second", WireGuard: second})
	s.VPCs = append([]VPC(nil), s.VPCs...)
	s.VPCs[red].Routes, err = s.VPCs[red].Routes.With([]fib.Route{
		remote("203.0.113.0/24", 1), remote("2001:db8:1::/48", 1),
		remote("203.0.113.128/25", 1), remote("2001:db8:1:8000::/49", 1), // which the first does not have
	}, nil)
	check(t, err)
	for _, c := range []struct {
		name  string
		spare *fib.Table
		want  map[string]Verdict // by source
	}{
		{"no spare", nil, map[string]Verdict{"203.0.113.1": SourceNotAllowed, "2001:db8:1::1": SourceNotAllowed}},
		{"spare", table(remote("203.0.113.0/24", 0), remote("2001:db8:1::/48", 0)), map[string]Verdict{
			"203.0.113.1": ToSite, "2001:db8:1::1": ToSite, "203.0.113.129": SourceNotAllowed, "2001:db8:1:8000::1": SourceNotAllowed,
			"198.18.0.1": SourceNotAllowed, "10.1.0.1": SourceNotAllowed,
		}},
		{"another's spare", table(remote("203.0.113.0/24", 1)), map[string]Verdict{"203.0.113.1": SourceNotAllowed}},
	} {
		s.VPCs[red].Spare = c.spare
		check(t, p.a.relay.Update(&s))
		for source, want := range c.want {
			src := netip.MustParseAddr(source)
			version := 4
			if src.Is6() {
				version = 6
			}
			inner := udpPacket(src, red.host(1, atRouted, version), 64, 0, 1, 2, nil)
			got := p.a.verdicts(func() {
				p.sealTo(t, tunnelled(red.vni(1), etherTypeOfPacket(inner), inner))
				p.a.turn()
			})
			if !maps.Equal(got, map[string]uint64{want.String(): 1}) {
				t.Errorf("%s: from %s: got %v, want %v", c.name, source, got, want)
			}
		}
	}
	p.a.got(redPort)

	for what, bad := range map[string]fib.NextHop{"a peer that there is not": {Kind: fib.Remote, ID: 9}, "a delivery": {Kind: fib.Local, ID: 0}} {
		s.VPCs[red].Spare = table(fib.Route{Prefix: netip.MustParsePrefix("203.0.113.0/24"), NextHops: []fib.NextHop{bad}})
		if err := p.a.relay.Update(&s); err == nil || !strings.Contains(err.Error(), "is no peer") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What a gateway says of itself is in the answers to probes of its peers, and in nothing else.
func TestProbesAreAnsweredWithANotice(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	replies := make(chan EchoReply, 4)
	_, err := p.a.relay.ListenEcho(77, replies)
	check(t, err)
	ask := func(b []byte) EchoReply {
		t.Helper()
		p.a.relay.SendToPeer(PeerPacket{Packet: b, Probe: true})
		p.settle()
		select {
		case r := <-replies:
			return r
		default:
			t.Fatalf("no answer; site 1 %v, site 2 %v", nonzero(p.a.relay.Counters()), nonzero(p.b.relay.Counters()))
			return EchoReply{}
		}
	}
	for _, notice := range []packet.Notice{0, packet.Elsewhere, 0xff} {
		s := *p.b.snap
		s.Notice = notice
		check(t, p.b.relay.Update(&s))
		for _, version := range []int{4, 6} {
			src, dst := tunnelAddrs(1)[version/6], tunnelAddrs(2)[version/6]
			what := fmt.Sprintf("notice %d IPv%d", notice, version)
			if r := ask(packet.Probe(src, dst, 0xc0, 77, 3)); r.Notice != notice || r.Seq != 3 || r.Len != packet.ProbeLen {
				t.Errorf("%s: %+v", what, r)
			}
			if r := ask(packet.EchoRequest(src, dst, 0, 77, 4, 100)); r.Notice != 0 {
				t.Errorf("%s: a ping was answered with %+v", what, r)
			}
			p.a.sealedProbe(t, p, what, packet.Probe(dst, src, 0, 5, 6))
		}
	}
}

// sealedProbe has the answer to a probe looked at: it must be sound.
func (g *gateway) sealedProbe(t *testing.T, p *pair, what string, probe []byte) {
	t.Helper()
	sound(t, probe)
	s := *g.snap
	s.Notice = packet.Elsewhere
	check(t, g.relay.Update(&s))
	p.sealTo(t, probe)
	g.turn()
	got := p.plainOf(t)
	if len(got) != 1 {
		t.Fatalf("%s: answered %x", what, got)
	}
	sound(t, got[0])
}
