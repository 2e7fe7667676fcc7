package wireguard

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tai64n"
)

// PeerConfig describes a peer.
type PeerConfig struct {
	PublicKey    PublicKey
	PresharedKey PresharedKey // zero value: none. The Device keeps its own copy.
	// Endpoint is where the peer is at first. Invalid Remote: unknown, the
	// peer has to speak first.
	Endpoint Endpoint
	// PersistentKeepalive is the longest silence towards the peer. 0: none;
	// at most 65535 s.
	PersistentKeepalive time.Duration
	// FlowPorts are the source ports that the peer spreads its data over.
	FlowPorts FlowPorts
	// ID is the caller's, for finding its own records without a map.
	ID uint32
}

// FlowPorts is a range of UDP source ports, First to First+Count-1, among which
// a sender chooses by flow, so that queues of a NIC and paths of a network share the
// work for one peer. Messages from them do not mean that the peer has another
// port now: it still listens on the one that its handshakes come from. The zero
// value is no range.
type FlowPorts struct{ First, Count uint16 }

// Has says whether port is in the range.
func (r FlowPorts) Has(port uint16) bool { return port >= r.First && port-r.First < r.Count }

// Peer is another gateway. Its methods may be called by any goroutine.
type Peer struct {
	dev    *Device
	public PublicKey
	id     atomic.Uint32

	// For workers.
	removed  atomic.Bool
	current  atomic.Pointer[session] // what Seal uses; nil: none
	endpoint atomic.Pointer[Endpoint]
	spread   atomic.Pointer[FlowPorts]
	paths    atomic.Pointer[[]Endpoint] // nil: the peer is where its messages come from
	stray    atomic.Pointer[Endpoint]   // see Stray
	request  atomic.Uint32              // asks the engine for a handshake: idle, asked, working

	_      [64]byte // what follows is written per batch, what is above is not
	timers timers
	_      [64]byte

	// keys guards the other sessions, and changes of current. It is held for
	// a few assignments only.
	keys sync.Mutex
	// next is the session that we answered and that waits to be confirmed by
	// its first message.
	next *session
	// retired sessions still open messages, newest first. WireGuard keeps one.
	// But when both sides begin a session at once, each sends with its own: the
	// other's is retired here at once, next to the two that were in use before.
	retired [3]*session

	// For the engine: guarded by Device.mu.
	config       PeerConfig // PresharedKey is our clone
	cookies      device.CookieGenerator
	initiation   *initiation      // ours, waiting for the response
	attemptSince int64            // Clock of the first of a row of initiations
	sentLast     int64            // Clock of our last handshake message; 0: never
	lastConsumed int64            // Clock of the last initiation that we answered
	newest       tai64n.Timestamp // of the initiations that we answered
	zeroAt       int64            // Clock when all keys are forgotten; 0: nothing to forget
	jitter       int64            // 0 to rekeyJitter, new for every handshake message
	reported     int64            // handshakeAt when it was last logged

	// Counted per group of packets. Senders and receivers have cache lines of
	// their own.
	_  [64]byte
	tx traffic
	_  [64]byte
	rx traffic
	_  [64]byte

	handshakeAt atomic.Int64 // Clock of the last completed handshake; 0: never
}

// initiation is a handshake that we began.
type initiation struct {
	handshake *handshake
	session   *session // not live: holds the index
	sentAt    int64    // Clock
}

type traffic struct{ bytes, packets atomic.Uint64 }

func (t *traffic) add(packets, bytes int) {
	t.bytes.Add(uint64(bytes))
	t.packets.Add(uint64(packets))
}

// States of Peer.request.
const (
	requestIdle    = iota
	requestAsked   // by a worker; the engine has not seen it yet
	requestWorking // the engine is at it; no need to ask again
)

// PeerStatus is a picture of a peer. It holds no secrets.
type PeerStatus struct {
	PublicKey           PublicKey
	PresharedKey        bool // there is one
	Endpoint            Endpoint
	PersistentKeepalive time.Duration
	LastHandshake       time.Time     // zero: never
	Session             bool          // there is a session that can send
	SessionAge          time.Duration // of that session
	Handshaking         bool          // an initiation of ours is under way
	RxBytes, TxBytes    uint64        // whole messages, handshakes included
	RxPackets           uint64
	TxPackets           uint64
}

// PublicKey returns the peer's identity.
func (p *Peer) PublicKey() PublicKey { return p.public }

// ID returns PeerConfig.ID.
func (p *Peer) ID() uint32 { return p.id.Load() }

// Endpoint returns where the peer is now. Remote is invalid while unknown.
func (p *Peer) Endpoint() Endpoint { return *p.endpoint.Load() }

// Place is Endpoint without the copy. borrowed: for good, nobody changes it; as
// long as the peer stays where it is, the pointer is the same.
func (p *Peer) Place() *Endpoint { return p.endpoint.Load() }

// Status returns a picture of the peer.
func (p *Peer) Status() PeerStatus {
	p.dev.mu.Lock()
	st := PeerStatus{
		PublicKey:           p.public,
		PresharedKey:        !p.config.PresharedKey.IsZero(),
		PersistentKeepalive: p.config.PersistentKeepalive,
		Handshaking:         p.initiation != nil,
	}
	p.dev.mu.Unlock()
	st.Endpoint = p.Endpoint()
	wall := p.dev.now()
	now := p.dev.ClockAt(wall)
	if at := p.handshakeAt.Load(); at != 0 {
		st.LastHandshake = wall.Add(time.Duration(at - now)).Round(0)
	}
	if s := p.current.Load(); s != nil {
		s.mu.RLock()
		st.Session = s.live && now-s.created < rejectAfterTime
		if st.Session {
			st.SessionAge = time.Duration(now - s.created)
		}
		s.mu.RUnlock()
	}
	st.RxBytes, st.RxPackets = p.rx.bytes.Load(), p.rx.packets.Load()
	st.TxBytes, st.TxPackets = p.tx.bytes.Load(), p.tx.packets.Load()
	return st
}

// String is short enough for logs and holds no secret.
func (p *Peer) String() string { return "peer " + p.public.String() }

// Format keeps fmt from printing the fields by reflection.
func (p *Peer) Format(f fmt.State, _ rune) { fmt.Fprint(f, p.String()) }

// ask asks the engine for a handshake. Only the first to ask does any work.
func (p *Peer) ask() {
	if p.request.Load() == requestIdle && p.request.CompareAndSwap(requestIdle, requestAsked) {
		p.dev.wakeUp()
	}
}

// confirm makes next the current session: the first message that authenticates
// with it has come, so the initiator has the keys. False: somebody else did it.
func (p *Peer) confirm(s *session, now int64) bool {
	p.keys.Lock()
	if p.next != s {
		p.keys.Unlock()
		return false
	}
	p.next = nil
	out := p.retire(p.current.Load())
	p.current.Store(s)
	s.unconfirmed.Store(false)
	p.keys.Unlock()
	p.dev.bury(out)
	p.completed(now)
	return true
}

// install makes s, which we began and which is live, the current session.
func (p *Peer) install(s *session, now int64) {
	p.keys.Lock()
	// An unconfirmed session of the other side may be the one that it sends
	// with, when both began at once: it keeps receiving.
	next := p.next
	p.next = nil
	dead := [2]*session{p.retire(p.current.Load()), nil}
	if next != nil {
		next.unconfirmed.Store(false)
		dead[1] = p.retire(next)
	}
	p.current.Store(s)
	p.keys.Unlock()
	p.dev.bury(dead[:]...)
	p.completed(now)
}

// expect makes s, which the other side began and which is live, the next one.
func (p *Peer) expect(s *session) {
	p.keys.Lock()
	old := p.next
	p.next = s
	p.keys.Unlock()
	p.dev.bury(old)
}

// retire keeps s for receiving and returns the session that makes room for it.
// The caller holds keys.
func (p *Peer) retire(s *session) (out *session) {
	if s == nil {
		return nil
	}
	out = p.retired[len(p.retired)-1]
	copy(p.retired[1:], p.retired[:])
	p.retired[0] = s
	return out
}

// completed notes that a session has become usable.
func (p *Peer) completed(now int64) {
	p.handshakeAt.Store(now)
	p.request.Store(requestIdle)
	p.dev.epoch.Add(1)
}

// stopSending retires the current session, so that a new one is needed to send,
// while messages that are on their way can still be opened.
func (p *Peer) stopSending() (had bool) {
	p.keys.Lock()
	s := p.current.Swap(nil)
	out := p.retire(s)
	p.keys.Unlock()
	p.dev.bury(out)
	return s != nil
}

// Announce sends a keepalive at the next tick, from the address that the routing
// table chooses now: the peer learns where we are, and has not to wait for
// traffic. Call it when an address of ours is gone. Without a session it does nothing.
func (p *Peer) Announce() {
	p.forgetLocal()
	if p.current.Load() != nil {
		p.timers.keepaliveDue.Store(p.dev.Clock())
	}
}

// forget kills all sessions.
func (p *Peer) forget() {
	p.keys.Lock()
	dead := append(p.retired[:], p.current.Swap(nil), p.next)
	p.next, p.retired = nil, [len(p.retired)]*session{}
	p.keys.Unlock()
	p.dev.bury(dead...)
}

// moveTo notes where an authentic message came from.
func (p *Peer) moveTo(from *Endpoint) {
	old := p.endpoint.Load()
	if *old == *from || !from.Remote.IsValid() || from.Via != nil {
		return // through whom a peer can be reached the configuration says, and nobody learns it
	}
	e := *from // the caller's Packet is reused
	if paths := p.paths.Load(); paths != nil {
		p.unspread(&e, *paths)
		p.strayed(*paths, &e)
		return
	}
	e.Ifindex = 0
	if port := old.Remote.Port(); port != 0 && p.spread.Load().Has(e.Remote.Port()) {
		e.Remote = netip.AddrPortFrom(e.Remote.Addr(), port)
	}
	if e != *old {
		p.endpoint.Store(&e)
	}
}

// forgetLocal lets the routing table choose our address again, in case the old
// one is why nothing comes back.
func (p *Peer) forgetLocal() {
	old := p.endpoint.Load()
	if old.Local.IsValid() {
		// If the peer moves at this moment, its new place wins.
		p.endpoint.CompareAndSwap(old, &Endpoint{Remote: old.Remote, Ifindex: old.Ifindex, Via: old.Via})
	}
}
