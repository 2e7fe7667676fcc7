package memory

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/sluicegw/sluice/afxdp"
	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/relay/wireguard"
	"github.com/sluicegw/sluice/relay/wireguard/aead"
)

const (
	sitePort = 2
	wanPort  = 3
)

// relayPath is a whole relay: from the receive ring of one port to the transmit ring of the other. Each worker has a
// lane of its own.
type relayPath struct {
	name  string
	size  int
	relay *relay.Relay
	lanes []*lane
	far   *far
	plain *store
	stop  context.CancelFunc
	done  chan error
}

// lane is a worker's two queues, and what passes through them.
type lane struct {
	site, wan *port
	slice     slice
}

func newRelayPath(name string, size int, cipher aead.Cipher, workers int) (_ *relayPath, err error) {
	p := &relayPath{name: name, size: size, plain: plaintexts(nearHost, farHost, size), done: make(chan error, 2)}
	nearKey, farKey, err := keys()
	if err != nil {
		return nil, err
	}
	device, err := wireguard.New(wireguard.Options{PrivateKey: nearKey, Cipher: cipher, Send: func(d wireguard.Datagram) { p.relay.Inject(d) }})
	if err != nil {
		return nil, err
	}
	peer, err := device.SetPeer(wireguard.PeerConfig{PublicKey: farKey.PublicKey(),
		Endpoint: wireguard.Endpoint{Remote: netip.AddrPortFrom(farWAN, udpPort), Local: nearWAN}})
	if err != nil {
		return nil, err
	}
	umems := make([]*afxdp.UMEM, workers)
	for i := range umems {
		if umems[i], err = afxdp.NewHeapUMEM(afxdp.UMEMOptions{Frames: 1024}); err != nil {
			return nil, err
		}
		p.lanes = append(p.lanes, p.newLane(umems[i]))
	}
	source := neigh.Static(
		&neigh.Entry{Key: neigh.Key{Dst: farWAN}, State: neigh.Resolved, Egress: wanPort, Src: nearWAN, SrcMAC: nearMAC, DstMAC: farMAC, NextHop: farWAN, MTU: 1500},
		&neigh.Entry{Key: neigh.Key{Dst: nearHost, Ifindex: sitePort}, State: neigh.Resolved, Egress: sitePort, SrcMAC: nearMAC, DstMAC: hostMAC, NextHop: nearHost, MTU: 1500})
	p.relay, err = relay.New(relay.Options{Device: device, Neighbours: source, UMEMs: umems})
	if err != nil {
		return nil, err
	}
	snapshot, err := snapshot(peer)
	if err != nil {
		return nil, err
	}
	if err := p.relay.Update(snapshot); err != nil {
		return nil, err
	}
	for i, l := range p.lanes {
		if err := p.relay.SetQueues(i, []relay.PortQueue{{Ifindex: sitePort, Queue: l.site}, {Ifindex: wanPort, Queue: l.wan}}); err != nil {
			return nil, err
		}
	}
	p.far, err = newFar(size, farKey, nearKey.PublicKey(), func(m []byte) {
		b := make([]byte, outerLen+len(m))
		copy(b[outerLen:], m)
		wrap(b)
		p.lanes[0].wan.post(b)
		p.relay.Wake()
	})
	if err != nil {
		return nil, err
	}
	var ctx context.Context
	ctx, p.stop = context.WithCancel(context.Background())
	go func() { p.done <- device.Run(ctx) }()
	go func() { p.done <- p.relay.Run(ctx) }()
	return p, nil
}

func (p *relayPath) newLane(umem *afxdp.UMEM) *lane {
	l := &lane{}
	l.site, l.wan = newPort(umem, &l.slice), newPort(umem, &l.slice)
	l.site.offset, l.wan.offset = packet.EthernetLen, outerLen
	l.wan.count = func(m []byte) bool {
		if isData(m) {
			return true
		}
		p.far.receive(m)
		return false
	}
	return l
}

func keys() (near, far wireguard.PrivateKey, err error) {
	if near, err = wireguard.NewPrivateKey(); err == nil {
		far, err = wireguard.NewPrivateKey()
	}
	return near, far, err
}

// snapshot is a default VPC with a routed attachment and one peer.
func snapshot(peer *wireguard.Peer) (*relay.Snapshot, error) {
	routes, err := fib.New([]fib.Route{
		{Prefix: nearPrefix, NextHops: []fib.NextHop{{Kind: fib.Local, ID: 0}}},
		{Prefix: farPrefix, NextHops: []fib.NextHop{{Kind: fib.Remote, ID: 0}}},
	})
	if err != nil {
		return nil, err
	}
	return &relay.Snapshot{
		Ports: []relay.Port{
			{Ifindex: sitePort, Name: "site", MAC: nearMAC, Addresses: []netip.Addr{netip.MustParseAddr("172.21.0.1")}},
			{Ifindex: wanPort, Name: "wan", MAC: nearMAC, Addresses: []netip.Addr{nearWAN}},
		},
		VPCs: []relay.VPC{{Name: "default", GatewayAddresses: []netip.Addr{netip.MustParseAddr("172.21.0.1")},
			Attachments: []relay.Attachment{{Kind: relay.Routed, Ifindex: sitePort}}, Routes: routes}},
		Deliveries:    []relay.Delivery{{}},
		Peers:         []relay.Peer{{Name: "far", WireGuard: peer, Tunnel: []netip.Addr{netip.MustParseAddr("100.64.0.2")}}},
		Tunnel:        []netip.Addr{netip.MustParseAddr("100.64.0.1")},
		WireGuardPort: udpPort,
	}, nil
}

// Name implements Path.
func (p *relayPath) Name() string { return p.name }

// Seal implements Path.
func (p *relayPath) Seal(ctx context.Context, n int) (time.Duration, error) {
	took, _, err := p.seal(ctx, n, 0)
	return took, err
}

func (p *relayPath) seal(ctx context.Context, n, keep int) (time.Duration, [][]byte, error) {
	if err := p.far.connect(ctx); err != nil {
		return 0, nil, err
	}
	p.aim(Seal)
	return p.run(ctx, p.plain, n, keep)
}

// Open implements Path.
func (p *relayPath) Open(ctx context.Context, n int) (time.Duration, error) {
	took, _, err := p.open(ctx, n, 0)
	return took, err
}

func (p *relayPath) open(ctx context.Context, n, keep int) (time.Duration, [][]byte, error) {
	if err := p.far.connect(ctx); err != nil {
		return 0, nil, err
	}
	messages, err := p.far.messages(n)
	if err != nil {
		return 0, nil, err
	}
	p.aim(Open)
	return p.run(ctx, messages, n, keep)
}

// aim sets the direction, on the workers' goroutines because ports are theirs.
func (p *relayPath) aim(d Direction) {
	for i, l := range p.lanes {
		p.relay.Do(i, func() {
			l.slice.in.Store(nil)
			l.site.takes, l.wan.takes = d == Seal, d == Open
			l.site.counts, l.wan.counts = d == Open, d == Seal
		})
	}
}

// run shares n packets, a multiple of their number, out to the lanes. The time is that of all of them; what is kept is the first one's.
func (p *relayPath) run(ctx context.Context, packets *store, n, keep int) (took time.Duration, kept [][]byte, err error) {
	each := n / len(p.lanes)
	errs := make([]error, len(p.lanes))
	var wait sync.WaitGroup
	for i, l := range p.lanes[1:] {
		wait.Go(func() { _, _, errs[i+1] = l.slice.run(ctx, packets, i+1, len(p.lanes), each, 0, p.relay.Wake) })
	}
	begin, err := method.ProcessTime()
	if err != nil {
		return 0, nil, err
	}
	_, kept, errs[0] = p.lanes[0].slice.run(ctx, packets, 0, len(p.lanes), each, keep, p.relay.Wake)
	wait.Wait()
	end, err := method.ProcessTime()
	if err := errors.Join(append(errs, err)...); err != nil {
		return 0, nil, fmt.Errorf("%s: %w (%v)", p.name, err, p.drops())
	}
	return end - begin, kept, nil
}

// drops are the verdicts so far.
func (p *relayPath) drops() map[string]uint64 {
	m := make(map[string]uint64)
	for v, n := range p.relay.Counters().Verdicts {
		if n != 0 {
			m[relay.Verdict(v).String()] = n
		}
	}
	return m
}

// SystemCalls is an upper bound of how many there were so far, had the ports been sockets: each kick
// is one (sendto), each sleep two (poll and a read of the eventfd).
func (p *relayPath) SystemCalls() uint64 {
	sum := 2 * p.relay.Counters().Sleeps
	for _, l := range p.lanes {
		sum += l.site.kicks.Load() + l.wan.kicks.Load()
	}
	return sum
}

// Close implements Path.
func (p *relayPath) Close() error {
	p.stop()
	return errors.Join(<-p.done, <-p.done, p.far.close(), p.relay.Close())
}
