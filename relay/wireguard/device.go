package wireguard

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ratelimiter"

	"github.com/sluicegw/sluice/relay/wireguard/aead"
)

// ErrClosed: Run has ended and the keys are gone.
var ErrClosed = errors.New("wireguard device is closed")

// Endpoint is an outer address pair. Local is the address of ours that the
// other side talks to; when it is invalid the routing table chooses.
type Endpoint struct {
	Remote netip.AddrPort
	Local  netip.Addr
	// Ifindex is the interface to leave through, or that a message came in through;
	// 0: the routing table chooses, or nobody has asked.
	Ifindex uint32
	// Via is the peer through whose tunnel messages travel, Remote being an address inside
	// it; nil: they travel as they are.
	Via *Peer
}

// SameWay says whether both are the same way to the same place. Which address of ours is at its end does not matter.
func (e *Endpoint) SameWay(o *Endpoint) bool {
	return e.Remote == o.Remote && e.Ifindex == o.Ifindex && e.Via == o.Via
}

// Takes says whether what came from o came by the way e, which may leave the interface to the routing table.
func (e *Endpoint) Takes(o *Endpoint) bool {
	return e.Remote == o.Remote && (e.Ifindex == 0 || e.Ifindex == o.Ifindex) && e.Via == o.Via
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
	// keepalives. It is called by the engine goroutine only and must not block.
	// Required.
	Send func(Datagram)
	// Now is the clock. Default: time.Now. Cookies and the rate limit of
	// handshakes, which only matter under load, run on the machine's clock.
	Now func() time.Time
	// Logger. Default: no log.
	Logger *slog.Logger
	// Cipher seals and opens transport messages. Default: aead.Best().
	Cipher aead.Cipher
	// HandshakeQueue is how many handshake messages may wait for the engine;
	// more are dropped. With an eighth of them waiting the Device is under
	// load and asks for cookies. Default 1024, at least 8.
	HandshakeQueue int
}

// Validate reports all problems at once.
func (o Options) Validate() error {
	var errs []error
	if o.PrivateKey.IsZero() {
		errs = append(errs, errors.New("no private key"))
	}
	if o.Send == nil {
		errs = append(errs, errors.New("no Send function"))
	}
	if o.HandshakeQueue != 0 && o.HandshakeQueue < 8 {
		errs = append(errs, fmt.Errorf("handshake queue %d: want at least 8", o.HandshakeQueue))
	}
	return errors.Join(errs...)
}

// Device is one WireGuard interface: our key, the peers and their sessions.
type Device struct {
	cipher aead.Cipher
	send   func(Datagram)
	now    func() time.Time
	log    *slog.Logger
	base   time.Time // Clock counts from here

	epoch    atomic.Uint64
	counters counters
	index    indexTable
	inbox    chan inbound
	wake     chan struct{}
	running  atomic.Bool
	checker  device.CookieChecker
	limiter  ratelimiter.Ratelimiter

	// mu guards what follows, index but for lookup, and the engine's fields
	// of every Peer. Workers never take it.
	mu        sync.Mutex
	closed    bool
	private   PrivateKey
	public    PublicKey
	peers     map[PublicKey]*Peer
	loadUntil int64      // Clock
	out       []Datagram // to be sent when mu is free
	batch     *Batch     // for keepalives

	// graves holds sessions that workers and the engine have taken out of use
	// and that the engine has yet to kill. A worker must not do that itself:
	// it may hold the session's lock for its own batch.
	graveMu sync.Mutex
	graves  []*session
}

// New makes a Device. Nothing happens on the wire before Run.
func New(o Options) (*Device, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("new wireguard device: %w", err)
	}
	d := &Device{
		cipher: o.Cipher,
		send:   o.Send,
		now:    o.Now,
		log:    o.Logger,
		wake:   make(chan struct{}, 1),
		peers:  make(map[PublicKey]*Peer),
	}
	if d.cipher == nil {
		d.cipher = aead.Best()
	}
	if d.now == nil {
		d.now = time.Now
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if o.HandshakeQueue == 0 {
		o.HandshakeQueue = 1024
	}
	d.inbox = make(chan inbound, o.HandshakeQueue)
	d.base = d.now().Add(-time.Second) // so that Clock is never zero, which means "never"
	d.index.init()
	d.batch = d.NewBatch()
	d.setIdentity(o.PrivateKey)
	return d, nil
}

// setIdentity takes a copy of k. The caller holds mu, or nobody has d yet.
func (d *Device) setIdentity(k PrivateKey) {
	d.private.Zero()
	d.private = k.Clone()
	d.public = k.PublicKey()
	d.checker.Init(device.NoisePublicKey(d.public))
}

// PublicKey returns our public key.
func (d *Device) PublicKey() PublicKey {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.public
}

// SetPrivateKey changes our identity. What is on its way can still be opened;
// to send, every peer needs a new handshake, which begins at once where there
// was a session.
func (d *Device) SetPrivateKey(k PrivateKey) error {
	if k.IsZero() {
		return errors.New("set private key: no key")
	}
	public := k.PublicKey()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return fmt.Errorf("set private key: %w", ErrClosed)
	}
	if public == d.public {
		return nil
	}
	if d.peers[public] != nil {
		return fmt.Errorf("set private key: %v is the key of a peer", public)
	}
	for _, p := range d.peers {
		d.dropInitiation(p) // it uses the old key
	}
	d.setIdentity(k)
	for _, p := range d.peers {
		d.renew(p)
	}
	d.log.Info("private key changed", "public", public)
	return nil
}

// renew makes a peer negotiate a new session. The caller holds mu.
func (d *Device) renew(p *Peer) {
	d.dropInitiation(p)
	p.request.Store(requestIdle)
	p.sentLast = 0 // the limit on initiations is per identity
	if p.stopSending() {
		p.ask()
	}
}

// SetPeer adds a peer or changes it. Sessions are kept unless the preshared key
// is another than before. The endpoint is only replaced when the configured
// one changed: a peer that has roamed is left where it is.
func (d *Device) SetPeer(c PeerConfig) (*Peer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.checkPeer(c); err != nil {
		return nil, fmt.Errorf("set peer %v: %w", c.PublicKey, err)
	}
	c.PresharedKey = c.PresharedKey.Clone()
	p := d.peers[c.PublicKey]
	if p == nil {
		p = &Peer{dev: d, public: c.PublicKey, config: c, jitter: newJitter()}
		p.id.Store(c.ID)
		p.spread.Store(&c.FlowPorts)
		p.endpoint.Store(&c.Endpoint)
		p.cookies.Init(device.NoisePublicKey(c.PublicKey))
		p.keepaliveNow()
		d.peers[c.PublicKey] = p
		return p, nil
	}
	old := p.config
	p.config = c
	p.id.Store(c.ID)
	p.spread.Store(&c.FlowPorts)
	if c.Endpoint != old.Endpoint && c.Endpoint.Remote.IsValid() {
		e := c.Endpoint
		p.endpoint.Store(&e)
		if p.initiation == nil && p.request.Load() == requestWorking {
			p.request.Store(requestAsked) // it waited for an endpoint
			d.wakeUp()
		}
	}
	if c.PersistentKeepalive != old.PersistentKeepalive {
		p.keepaliveNow()
	}
	if !c.PresharedKey.Equal(old.PresharedKey) {
		d.renew(p)
	}
	old.PresharedKey.Zero()
	return p, nil
}

func (d *Device) checkPeer(c PeerConfig) error {
	switch {
	case d.closed:
		return ErrClosed
	case c.PublicKey.IsZero():
		return errors.New("no public key")
	case c.PublicKey == d.public:
		return errors.New("that is our own public key")
	case c.PersistentKeepalive < 0 || c.PersistentKeepalive > 65535*time.Second:
		return fmt.Errorf("persistent keepalive %v: want 0 to 65535s", c.PersistentKeepalive)
	}
	return checkPublicKey(d.private, c.PublicKey)
}

// RemovePeer removes a peer. When it returns, no packet is sealed for or opened
// from that peer any more, and its keys are zeroed. False: there was no such
// peer.
func (d *Device) RemovePeer(k PublicKey) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.peers[k]
	if p == nil {
		return false
	}
	delete(d.peers, k)
	d.close(p)
	d.killBuried()
	return true
}

// close ends all that a peer has. The caller holds mu.
func (d *Device) close(p *Peer) {
	p.removed.Store(true)
	d.dropInitiation(p)
	p.forget()
	p.config.PresharedKey.Zero()
	p.config.PresharedKey = PresharedKey{}
}

// Peer returns a peer, or nil.
func (d *Device) Peer(k PublicKey) *Peer {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.peers[k]
}

// Peers returns all peers, ordered by public key.
func (d *Device) Peers() []*Peer {
	d.mu.Lock()
	peers := slices.Collect(maps.Values(d.peers))
	d.mu.Unlock()
	slices.SortFunc(peers, func(a, b *Peer) int { return bytes.Compare(a.public[:], b.public[:]) })
	return peers
}

// Epoch grows whenever a session becomes usable for sending. A worker that
// parked packets for want of a session seals them again when it has changed.
func (d *Device) Epoch() uint64 { return d.epoch.Load() }

// Clock returns the Device's time for Seal and Open: nanoseconds, monotonic,
// never zero. Call it once per batch.
func (d *Device) Clock() int64 { return d.ClockAt(d.now()) }

// ClockAt converts a time that the caller has read already (with its monotonic
// part, as time.Now gives it) to the same scale.
func (d *Device) ClockAt(t time.Time) int64 { return int64(t.Sub(d.base)) }

// Format keeps fmt from printing the fields by reflection.
func (d *Device) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "wireguard device %v", d.PublicKey()) }

// wakeUp makes the engine look at the peers' requests now, not on its tick.
func (d *Device) wakeUp() {
	select {
	case d.wake <- struct{}{}:
	default: // it will wake anyway
	}
}

// bury hands sessions that nobody finds any more to the engine.
func (d *Device) bury(dead ...*session) {
	d.graveMu.Lock()
	for _, s := range dead {
		if s != nil {
			d.graves = append(d.graves, s)
		}
	}
	d.graveMu.Unlock()
}

// killBuried zeroes them. It waits for workers that are in the middle of a
// batch with one. The caller holds mu, and no lock that workers take.
func (d *Device) killBuried() {
	d.graveMu.Lock()
	graves := d.graves
	d.graves = nil
	d.graveMu.Unlock()
	for _, s := range graves {
		d.index.remove(s)
		s.kill()
	}
}
