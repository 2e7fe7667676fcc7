package memory

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
	"github.com/sluicegw/sluice/relay/wireguard/aead"
)

// sessionPath is our WireGuard alone: a loop of copy and Seal, or copy and Open.
type sessionPath struct {
	device *wireguard.Device
	peer   *wireguard.Peer
	plain  *store
	frames [wireguard.BatchSize][]byte
	pkts   [wireguard.BatchSize]wireguard.Packet
	far    *far

	mu    sync.Mutex // guards batch: the far end's keepalives come on its goroutine
	batch *wireguard.Batch

	stop context.CancelFunc
	done chan error
}

func newSessionPath(size int, cipher aead.Cipher) (*sessionPath, error) {
	p := &sessionPath{plain: plaintexts(nearHost, farHost, size), done: make(chan error, 1)}
	for i := range p.frames {
		p.frames[i] = make([]byte, 2048)
	}
	nearKey, farKey, err := keys()
	if err != nil {
		return nil, err
	}
	p.device, err = wireguard.New(wireguard.Options{PrivateKey: nearKey, Cipher: cipher, Send: func(d wireguard.Datagram) { p.far.receive(d.Data) }})
	if err != nil {
		return nil, err
	}
	p.peer, err = p.device.SetPeer(wireguard.PeerConfig{PublicKey: farKey.PublicKey(),
		Endpoint: wireguard.Endpoint{Remote: netip.AddrPortFrom(farWAN, udpPort)}})
	if err != nil {
		return nil, err
	}
	p.batch = p.device.NewBatch()
	p.batch.Locate = wireguard.AllFrom(wireguard.Endpoint{Remote: netip.AddrPortFrom(farWAN, udpPort)})
	p.far, err = newFar(size, farKey, nearKey.PublicKey(), p.receive)
	if err != nil {
		return nil, err
	}
	var ctx context.Context
	ctx, p.stop = context.WithCancel(context.Background())
	go func() { p.done <- p.device.Run(ctx) }()
	return p, nil
}

// receive takes a message of the far end.
func (p *sessionPath) receive(m []byte) {
	from := wireguard.Endpoint{Remote: netip.AddrPortFrom(farWAN, udpPort)}
	if m[0] != message {
		p.device.Receive(m, from)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batch.Open([]wireguard.Packet{{Buf: m}}, p.device.Clock())
}

// Name implements Path.
func (p *sessionPath) Name() string { return Session }

// Seal implements Path.
func (p *sessionPath) Seal(ctx context.Context, n int) (time.Duration, error) {
	if err := p.far.connect(ctx); err != nil {
		return 0, err
	}
	return p.loop(p.plain, n, func(frame, b []byte) wireguard.Packet {
		end := wireguard.HeaderSize + copy(frame[wireguard.HeaderSize:], b[packet.EthernetLen:])
		return wireguard.Packet{Buf: frame[:end], Peer: p.peer, MaxLen: innerMTU}
	}, p.batch.Seal)
}

// Open implements Path.
func (p *sessionPath) Open(ctx context.Context, n int) (time.Duration, error) {
	if err := p.far.connect(ctx); err != nil {
		return 0, err
	}
	// After this nothing may be sealed before they are opened: a later nonce moves the replay window.
	messages, err := p.far.messages(n)
	if err != nil {
		return 0, err
	}
	return p.loop(messages, n, func(frame, b []byte) wireguard.Packet {
		return wireguard.Packet{Buf: frame[:copy(frame, b[outerLen:])]}
	}, p.batch.Open)
}

func (p *sessionPath) loop(packets *store, n int, prepare func(frame, b []byte) wireguard.Packet, work func([]wireguard.Packet, int64)) (time.Duration, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	begin, err := method.ProcessTime()
	if err != nil {
		return 0, err
	}
	for done := 0; done < n; {
		batch := p.pkts[:min(len(p.pkts), n-done)]
		for i := range batch {
			batch[i] = prepare(p.frames[i], packets.at(done+i))
		}
		work(batch, p.device.Clock())
		for i := range batch {
			if batch[i].Result != wireguard.OK {
				return 0, fmt.Errorf("%s: %v", Session, batch[i].Result)
			}
		}
		done += len(batch)
	}
	end, err := method.ProcessTime()
	return end - begin, err
}

// Close implements Path.
func (p *sessionPath) Close() error {
	p.stop()
	return errors.Join(<-p.done, p.far.close())
}
