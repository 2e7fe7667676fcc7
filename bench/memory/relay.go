package memory

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/sluicegw/sluice/afxdp"
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

// relayPath is a whole relay with one worker: from the receive ring of one port to
// the transmit ring of the other.
type relayPath struct {
	name      string
	size      int
	relay     *relay.Relay
	site, wan *port
	slice     slice
	far       *far
	plain     *store
	stop      context.CancelFunc
	done      chan error
}

func newRelayPath(name string, size int, cipher aead.Cipher) (_ *relayPath, err error) {
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
	umem, err := afxdp.NewHeapUMEM(afxdp.UMEMOptions{Frames: 1024})
	if err != nil {
		return nil, err
	}
	p.site, p.wan = newPort(umem, &p.slice), newPort(umem, &p.slice)
	p.site.offset, p.wan.offset = packet.EthernetLen, outerLen
	p.wan.count = func(m []byte) bool {
		if isData(m) {
			return true
		}
		p.far.receive(m)
		return false
	}
	source := neigh.Static(
		&neigh.Entry{Key: neigh.Key{Dst: farWAN}, State: neigh.Resolved, Egress: wanPort, Src: nearWAN, SrcMAC: nearMAC, DstMAC: farMAC, NextHop: farWAN, MTU: 1500},
		&neigh.Entry{Key: neigh.Key{Dst: nearHost, Ifindex: sitePort}, State: neigh.Resolved, Egress: sitePort, SrcMAC: nearMAC, DstMAC: hostMAC, NextHop: nearHost, MTU: 1500})
	p.relay, err = relay.New(relay.Options{Device: device, Neighbours: source, UMEMs: []*afxdp.UMEM{umem}})
	if err != nil {
		return nil, err
	}
	snapshot, err := snapshot(peer)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(p.relay.Update(snapshot),
		p.relay.SetQueues(0, []relay.PortQueue{{Ifindex: sitePort, Queue: p.site}, {Ifindex: wanPort, Queue: p.wan}})); err != nil {
		return nil, err
	}
	p.far, err = newFar(size, farKey, nearKey.PublicKey(), func(m []byte) {
		b := make([]byte, outerLen+len(m))
		copy(b[outerLen:], m)
		wrap(b)
		p.wan.post(b)
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
	p.aim(p.site, p.wan)
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
	p.aim(p.wan, p.site)
	return p.run(ctx, messages, n, keep)
}

// aim sets the direction, on the worker's goroutine because ports are the worker's.
func (p *relayPath) aim(in, out *port) {
	p.relay.Do(0, func() {
		p.slice.in.Store(nil)
		p.site.takes, p.wan.takes = in == p.site, in == p.wan
		p.site.counts, p.wan.counts = out == p.site, out == p.wan
	})
}

func (p *relayPath) run(ctx context.Context, packets *store, n, keep int) (time.Duration, [][]byte, error) {
	took, kept, err := p.slice.run(ctx, packets, n, keep, p.relay.Wake)
	if err != nil {
		return 0, nil, fmt.Errorf("%s: %w (%v)", p.name, err, p.drops())
	}
	return took, kept, nil
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
	return p.site.kicks.Load() + p.wan.kicks.Load() + 2*p.relay.Counters().Sleeps
}

// Close implements Path.
func (p *relayPath) Close() error {
	p.stop()
	return errors.Join(<-p.done, <-p.done, p.far.close(), p.relay.Close())
}
