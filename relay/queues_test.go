package relay

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sluicegw/sluice/relay/wireguard"
)

// spread makes both gateways spread what they send each other over ports.
func (p *pair) spread(t *testing.T, ports wireguard.FlowPorts) {
	t.Helper()
	for _, g := range []*gateway{p.a, p.b} {
		_, err := g.device.SetPeer(wireguard.PeerConfig{PublicKey: g.peer.PublicKey(), Endpoint: g.peer.Endpoint(), FlowPorts: ports})
		check(t, err)
		g.snap.Peers[0].FlowPorts = ports
		check(t, g.relay.Update(g.snap))
	}
}

func TestFlowsOfOnePeerHaveSourcePortsOfTheirRange(t *testing.T) {
	for _, outer := range []int{4, 6} {
		p := newPair(t, gatewayOptions{outer: outer})
		p.connect(t)
		ports := wireguard.FlowPorts{First: 49200, Count: 16}
		p.spread(t, ports)
		before := p.b.peer.Place()
		udp := map[int]int{4: 34, 6: 54}[outer]
		seen := make(map[uint16]int)
		for flow := range 200 {
			inner := udpPacket(red.host(1, atRouted, 4), red.host(2, atRouted, 4), 64, 0, uint16(1000+flow), 53, []byte("x"))
			port := uint16(0)
			for range 3 { // a flow keeps its port: its packets must not overtake each other
				_, frame := fromHost(red, 1, atRouted, inner)
				p.a.queues[0][redPort].Inject(frame)
				p.a.turn()
				message := p.a.got(wanPort)[0]
				got := binary.BigEndian.Uint16(message[udp:])
				if port != 0 && got != port {
					t.Fatalf("IPv%d: the flow had port %d and has %d", outer, port, got)
				}
				port = got
				if to := binary.BigEndian.Uint16(message[udp+2:]); to != listenPort {
					t.Fatalf("IPv%d: to port %d", outer, to)
				}
				p.b.queues[0][wanPort].Inject(message)
				p.b.turn()
			}
			if !ports.Has(port) {
				t.Fatalf("IPv%d: port %d", outer, port)
			}
			seen[port]++
		}
		if len(seen) != int(ports.Count) {
			t.Errorf("IPv%d: 200 flows use %d of %d ports: %v", outer, len(seen), ports.Count, seen)
		}
		if n := len(p.b.got(redPort)); n != 600 {
			t.Errorf("IPv%d: %d of 600 packets arrive", outer, n)
		}
		if after := p.b.peer.Place(); after != before {
			t.Errorf("IPv%d: the peer was at %v and is taken to be at %v", outer, before, after)
		}
	}
}

// Four queues each way, a WAN that shuffles, and one packet in a hundred twice: what
// arrives arrives once.
func TestManyQueuesDeliverExactlyOnceOverAWANThatShufflesAndDuplicates(t *testing.T) {
	const workers, each, flows = 4, 3000, 64
	p := newPair(t, gatewayOptions{workers: workers, frames: 8192})
	p.connect(t)
	p.spread(t, wireguard.FlowPorts{First: 50000, Count: 64})
	for i, wire := range p.wires {
		wire.Rand, wire.Reorder, wire.Duplicates = rand.New(rand.NewPCG(uint64(i), 9)), true, 0.01
	}
	// A network between the gateways that brings what one queue has sent to another one.
	for i := range p.wires {
		wire := p.wires[i]
		queues := p.b.queues
		if i%2 == 1 {
			queues = p.a.queues
		}
		wire.To = queues[(i/2+1)%workers][wanPort]
	}
	stop := live(t, p)
	arrived := make(map[string]int)
	collect := func() {
		for _, b := range p.b.got(sitePort) {
			_, inner := innerOf(sitePort, b)
			arrived[string(inner[28:])]++
		}
	}
	for i := range each {
		for w := range workers {
			inner := udpPacket(red.host(1, atVXLAN4, 4), red.host(2, atGeneve4, 4), 64, 0, uint16(i%flows), uint16(w), fmt.Appendf(nil, "%d of worker %d", i, w))
			_, frame := fromHost(red, 1, atVXLAN4, inner)
			for !p.a.queues[w][sitePort].Inject(frame) {
				time.Sleep(50 * time.Microsecond)
				collect()
			}
		}
		if i%16 == 0 {
			collect()
		}
	}
	for deadline := time.Now().Add(20 * time.Second); len(arrived) < each*workers && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
		collect()
	}
	time.Sleep(20 * time.Millisecond) // for what would come twice
	stop()
	collect()
	if len(arrived) != each*workers {
		t.Errorf("%d of %d packets arrived; site 1 %v, site 2 %v", len(arrived), each*workers, nonzero(p.a.relay.Counters()), nonzero(p.b.relay.Counters()))
	}
	for what, n := range arrived {
		if n != 1 {
			t.Fatalf("packet %s arrived %d times", what, n)
		}
	}
	replayed := p.b.relay.Counters().Verdicts[Replayed]
	if replayed < each*workers/200 || replayed > each*workers/50 {
		t.Errorf("%d packets were refused as replays, want about %d", replayed, each*workers/100)
	}
}
