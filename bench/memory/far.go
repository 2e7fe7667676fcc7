package memory

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/sluicegw/sluice/relay/wireguard"
)

// far is the other end of the tunnel.
type far struct {
	device *wireguard.Device
	peer   *wireguard.Peer
	batch  *wireguard.Batch
	near   wireguard.Endpoint
	plain  *store
	size   int
	sealed *store
	toNear func(message []byte) // takes the message over
	stop   context.CancelFunc
	done   chan error
}

// newFar makes a far end that knows near's key; toNear takes its messages.
func newFar(size int, key wireguard.PrivateKey, near wireguard.PublicKey, toNear func([]byte)) (*far, error) {
	f := &far{toNear: toNear, size: size, plain: plaintexts(farHost, nearHost, size), done: make(chan error, 1)}
	f.near = wireguard.Endpoint{Remote: netip.AddrPortFrom(nearWAN, udpPort)}
	var err error
	f.device, err = wireguard.New(wireguard.Options{PrivateKey: key, Send: func(d wireguard.Datagram) { toNear(d.Data) }})
	if err != nil {
		return nil, err
	}
	if f.peer, err = f.device.SetPeer(wireguard.PeerConfig{PublicKey: near, Endpoint: f.near}); err != nil {
		return nil, err
	}
	f.batch = f.device.NewBatch()
	var ctx context.Context
	ctx, f.stop = context.WithCancel(context.Background())
	go func() { f.done <- f.device.Run(ctx) }()
	return f, nil
}

// receive takes a handshake message of the near end; it copies it. Whatever else
// that end sends on its own account (keepalives) may get lost.
func (f *far) receive(m []byte) { f.device.Receive(m, f.near) }

// connect makes a session, or renews it when it is time to, and tells the near end with
// a packet: a responder may not send before the initiator has (whitepaper 5.4.5).
func (f *far) connect(ctx context.Context) error {
	for deadline := time.Now().Add(10 * time.Second); ; {
		pkts := []wireguard.Packet{{Buf: make([]byte, wireguard.HeaderSize, wireguard.Overhead+wireguard.MaxPadding), Peer: f.peer}}
		f.batch.Seal(pkts, f.device.Clock())
		switch pkts[0].Result {
		case wireguard.OK:
			f.toNear(pkts[0].Buf)
			return nil
		case wireguard.NoSession:
		default:
			return fmt.Errorf("far end: seal keepalive: %v", pkts[0].Result)
		}
		if time.Now().After(deadline) {
			return errors.New("far end: no session within 10 s")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

// messages are n sealed packets in Ethernet frames, valid until the next call. Each can be opened once.
func (f *far) messages(n int) (*store, error) {
	length := outerLen + wireguard.Overhead + paddedLen(f.size)
	if f.sealed == nil || f.sealed.count != n {
		f.sealed = newStore(n, length)
	}
	var pkts [wireguard.BatchSize]wireguard.Packet
	for done := 0; done < n; {
		batch := pkts[:min(len(pkts), n-done)]
		for i := range batch {
			b := f.sealed.at(done + i)
			wrap(b)
			inner := f.plain.at(done + i)[14:]
			copy(b[outerLen+wireguard.HeaderSize:], inner)
			batch[i] = wireguard.Packet{Buf: b[outerLen : outerLen+wireguard.HeaderSize+len(inner) : f.sealed.stride], Peer: f.peer, MaxLen: innerMTU}
		}
		f.batch.Seal(batch, f.device.Clock())
		for i := range batch {
			if p := &batch[i]; p.Result != wireguard.OK || len(p.Buf) != length-outerLen {
				return nil, fmt.Errorf("far end: seal: %v, %d bytes", p.Result, len(p.Buf))
			}
		}
		done += len(batch)
	}
	return f.sealed, nil
}

// paddedLen is the length of a plaintext with its padding, which stops at the MTU.
func paddedLen(size int) int {
	return max(size, min((size+wireguard.MaxPadding)&^wireguard.MaxPadding, innerMTU))
}

// close ends the engine.
func (f *far) close() error {
	f.stop()
	return <-f.done
}
