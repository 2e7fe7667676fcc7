package wireguard

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/sluicegw/sluice/relay/wireguard/aead"
)

// Endpoint is an outer address pair. Local is the address of ours that the
// other side talks to; when it is invalid the routing table chooses.
type Endpoint struct {
	Remote netip.AddrPort
	Local  netip.Addr
}

// Datagram is a message for the outer network.
type Datagram struct {
	Endpoint
	Data []byte // owned: by whoever receives the Datagram
}

// Options of a Device.
type Options struct {
	// PrivateKey is our identity. Required. The Device keeps its own copy.
	PrivateKey PrivateKey
	// Send takes the engine's own datagrams: handshake messages, cookies and
	// keepalives. It is called by the engine goroutine only, must not block
	// and owns the data. Required.
	Send func(Datagram)
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Logger. Default: no log.
	Logger *slog.Logger
	// Cipher seals and opens transport messages. Default: aead.Generic().
	Cipher aead.Cipher
	// HandshakeQueue is how many handshake messages may wait for the engine;
	// more are dropped. With an eighth of them waiting the Device is under
	// load and asks for cookies. Default 1024.
	HandshakeQueue int
}

// Device is one WireGuard interface: our key, the peers and their sessions.
type Device struct{}

// New makes a Device. Nothing happens on the wire before Run.
func New(o Options) (*Device, error) { return nil, errors.New("wireguard: not built yet") }

// Run is the engine: it answers handshakes and runs the timers until ctx is
// done; then it forgets every key. It may be called once.
func (d *Device) Run(ctx context.Context) error { return nil }

// PublicKey returns our public key.
func (d *Device) PublicKey() PublicKey { return PublicKey{} }

// SetPrivateKey changes our identity. Every session goes on receiving, and a
// new handshake replaces it.
func (d *Device) SetPrivateKey(k PrivateKey) error { return nil }

// SetPeer adds a peer or changes it. Sessions are kept when the keys are the
// same as before. The endpoint is only replaced when the configured one changed
// (a peer that has roamed is left where it is).
func (d *Device) SetPeer(c PeerConfig) (*Peer, error) { return nil, nil }

// RemovePeer removes a peer. When it returns, no packet is sealed for or opened
// from that peer any more. False: there was no such peer.
func (d *Device) RemovePeer(k PublicKey) bool { return false }

// Peer returns a peer, or nil.
func (d *Device) Peer(k PublicKey) *Peer { return nil }

// Peers returns all peers, ordered by public key.
func (d *Device) Peers() []*Peer { return nil }

// Receive hands a handshake message (types 1-3) to the engine. It copies msg,
// never blocks and does not allocate. False: the queue is full, or it is not a
// handshake message; counted either way (Counters).
func (d *Device) Receive(msg []byte, from Endpoint) bool { return false }

// Epoch grows whenever a session becomes usable for sending. A worker that
// parked packets for want of a session seals them again when it has changed.
func (d *Device) Epoch() uint64 { return 0 }

// Clock returns the Device's time for Seal and Open: nanoseconds, monotonic,
// never zero. Call it once per batch.
func (d *Device) Clock() int64 { return 0 }

// ClockAt converts a time that the caller has read already (time.Now, with its
// monotonic part) to the same scale.
func (d *Device) ClockAt(t time.Time) int64 { return 0 }
