package relay

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// What a packet from the site costs when there is much of something: routes,
// peers with a session each, flows. Flows are spread evenly over routes, and
// routes over peers, so that no cache helps more than it would in the worst of
// lives.
//
//	go test -run=- -bench=Scale -benchtime=500000x ./relay

func BenchmarkScale(b *testing.B) {
	for _, s := range []struct{ routes, peers, flows int }{
		{10, 1, 64},
		{1_000, 1, 1_000},
		{100_000, 1, 64},
		{100_000, 1, 1_000},
		{100_000, 1, 64_000},
		{10, 1, 64_000},
		{10, 10, 64},
		{1_000, 100, 1_000},
		{1_000, 1_000, 1_000},
	} {
		for _, size := range []int{64, 512} {
			b.Run(fmt.Sprintf("%d routes %d peers %d flows/%d", s.routes, s.peers, s.flows, size), func(b *testing.B) {
				benchmarkScale(b, s.routes, s.peers, s.flows, size)
			})
		}
	}
}

func benchmarkScale(b *testing.B, routes, peers, flows, size int) {
	p := newPair(b, gatewayOptions{})
	p.connect(b)
	g := p.a
	random := rand.New(rand.NewPCG(1, 2))
	g.addPeers(b, peers-1)
	table := make([]fib.Route, routes)
	for i := range table { // 20.0.0.0/24 and on
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{20 + byte(i>>16), byte(i >> 8), byte(i), 0}), 24)
		table[i] = fib.Route{Prefix: prefix, NextHops: []fib.NextHop{{Kind: fib.Remote, ID: uint32(i % peers)}}}
	}
	vpc := &g.snap.VPCs[defaultVPC]
	var err error
	vpc.Routes, err = vpc.Routes.With(table, nil)
	check(b, err)
	check(b, g.relay.Update(g.snap))
	g.turn() // what the handshakes have left
	g.queues[0][wanPort].Discard()
	frames := make([][]byte, flows)
	for i := range frames {
		dst := table[random.IntN(routes)].Prefix.Addr().As4()
		dst[3] = byte(random.IntN(256))
		inner := udpPacket(defaultVPC.host(1, atRouted, 4), netip.AddrFrom4(dst), 64, 0, uint16(i), 2000, make([]byte, size-28))
		_, frames[i] = fromHost(defaultVPC, 1, atRouted, inner)
	}
	in, out, w := g.queues[0][hostPort], g.queues[0][wanPort], g.relay.workers[0]
	at := 0
	next := func() [][]byte {
		at = (at + batchSize) % (flows - batchSize + 1)
		return frames[at : at+batchSize]
	}
	measure(b, in, next, func() {
		w.turn()
		if n := out.Discard(); n != batchSize {
			b.Fatalf("%d packets sent: %v", n, nonzero(g.relay.Counters()))
		}
	}, newBareCipher((size+15)&^15).seal)
}

// addPeers gives a gateway peers with a session each.
func (g *gateway) addPeers(t testing.TB, n int) {
	t.Helper()
	replies := make(chan wireguard.Datagram, 16)
	for i := range n {
		key, err := wireguard.NewPrivateKey()
		check(t, err)
		remote := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), listenPort)
		other, err := wireguard.New(wireguard.Options{PrivateKey: key, Send: func(d wireguard.Datagram) { replies <- d }})
		check(t, err)
		_, err = other.SetPeer(wireguard.PeerConfig{PublicKey: g.key.PublicKey()})
		check(t, err)
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- other.Run(ctx) }()
		peer, err := g.device.SetPeer(wireguard.PeerConfig{PublicKey: key.PublicKey(), ID: uint32(i + 1), Endpoint: wireguard.Endpoint{Remote: remote}})
		check(t, err)
		g.neigh.Set(&neigh.Entry{Key: neigh.Key{Dst: remote.Addr()}, State: neigh.Resolved, Egress: wanPort, Src: wanAddr(g.site, 4),
			SrcMAC: portMAC(g.site, wanPort), DstMAC: portMAC(3-g.site, wanPort), NextHop: remote.Addr(), MTU: 1500})
		g.snap.Peers = append(g.snap.Peers, Peer{Name: fmt.Sprint(i), WireGuard: peer})
		check(t, g.relay.Update(g.snap))
		g.handshake(t, peer, other, remote, replies)
		stop()
		check(t, <-done)
	}
}

// handshake asks for a session with the peer and carries the messages.
func (g *gateway) handshake(t testing.TB, peer *wireguard.Peer, other *wireguard.Device, remote netip.AddrPort, replies chan wireguard.Datagram) {
	t.Helper()
	pkts := []wireguard.Packet{{Buf: make([]byte, wireguard.HeaderSize, 256), Peer: peer}}
	batch := g.device.NewBatch()
	from := wireguard.Endpoint{Remote: netip.AddrPortFrom(wanAddr(g.site, 4), listenPort)}
	for deadline := time.Now().Add(10 * time.Second); ; {
		if batch.Seal(pkts, g.device.Clock()); pkts[0].Result == wireguard.OK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no session with the peer at %v: %v", remote, pkts[0].Result)
		}
		g.turn()
		for _, b := range g.got(wanPort) {
			if payload := b[packet.EthernetLen+packet.IPv4Len+packet.UDPLen:]; binary.LittleEndian.Uint32(payload) == 1 {
				other.Receive(payload, from)
			}
		}
		select {
		case d := <-replies:
			g.device.Receive(d.Data, wireguard.Endpoint{Remote: remote})
		case <-time.After(100 * time.Microsecond):
		}
	}
}
