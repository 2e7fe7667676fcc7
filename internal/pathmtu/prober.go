package pathmtu

import (
	"context"
	"iter"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// What we chose, with the reasons.
const (
	// lookEvery is how soon a new session, a peer that has moved or a port with another MTU is noticed.
	lookEvery = int64(500 * time.Millisecond)
	// maxSearches run at a time: a search is some 30 probes at once, and a thousand peers may come up together.
	maxSearches = 32
	// shortest is the least that Work asks to wait, so that a thousand peers are looked at in groups.
	shortest = 5 * time.Millisecond
	// idlePackets in confirmEvery are no traffic: keepalives, handshakes, the answers to the peer's probes.
	idlePackets = 16
)

// Options of New. All but Logger are required.
type Options struct {
	// Clock is the workers' (wireguard.Device.Clock): nanoseconds, monotonic, never zero.
	Clock func() int64
	// Send takes a probe for a peer, which it owns from then on, and the path to take: Remote
	// invalid means the one in use. It must not block; false: it is lost.
	Send func(peer uint32, packet []byte, over wireguard.Endpoint) bool
	// Replies to echo requests with the identifier ID, and Standby for paths that are not in use.
	Replies     <-chan relay.EchoReply
	ID, Standby uint16
	// Publish takes what is known of all paths whenever that may have changed, as relay.Relay.SetPeerMTUs does.
	Publish func(mtus []int)
	// Logger takes what was found; nil: nothing is logged.
	Logger *slog.Logger
}

// Peer is one to probe.
type Peer struct {
	ID   uint32
	Name string
	// Key tells whether a peer with a known ID is still the same. Comparable.
	Key any
	// Local and Remote are tunnel addresses of one family; invalid: there are none.
	Local, Remote netip.Addr
	// MTU is what an operator has set: the peer is not probed. 0: nothing.
	MTU int
	// Look says what is known of the path now. The prober's goroutine calls it.
	Look func() Path
	// Path is the number of one of several paths to the peer, each of which is a Peer here, and
	// Over its far end; Remote invalid: there is but one path.
	Path int
	Over wireguard.Endpoint
}

// Path is what is known of the way to a peer without asking it.
type Path struct {
	Up       bool           // there is a session, and a next hop
	Remote   netip.AddrPort // where the peer is
	Ifindex  uint32         // of the port that leads there
	Max      int            // the longest inner packet that port and routes allow
	Overhead int            // of the outer packet around an inner one
	Six      bool           // the outer packet is IPv6
	Used     bool           // everything takes it
	Sent     uint64         // messages to the peer so far, probes included
}

// same says whether it is the path that it was.
func (p Path) same(o Path) bool {
	p.Sent, o.Sent, p.Used, o.Used = 0, 0, false, false
	return p == o
}

// Status of a peer's path.
type Status struct {
	State State
	MTU   int // the longest inner packet that is sent; 0: not known
	Max   int // that port and routes allow; 0: not known
}

// Prober probes all peers. Its methods may be called from any goroutine.
type Prober struct {
	o    Options
	wake chan struct{}

	mu      sync.Mutex
	targets map[key]*target
	changed bool // something that was published is different now
}

// key names a path of a peer.
type key struct {
	peer uint32
	path int
}

// target is a peer with its machine.
type target struct {
	Peer
	path   Path
	s      search
	lookAt int64
	probes uint64 // that were sent since
	sent   uint64 // Path.Sent was this
}

// New makes a prober that knows no peer.
func New(o Options) *Prober {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Prober{o: o, wake: make(chan struct{}, 1), targets: make(map[key]*target)}
}

// SetPeers replaces the peers. What is known of those that stay is kept.
func (p *Prober) SetPeers(peers []Peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.targets
	p.targets = make(map[key]*target, len(peers))
	for _, peer := range peers {
		t := before[key{peer.ID, peer.Path}]
		if t == nil || t.Key != peer.Key || t.Local != peer.Local || t.Remote != peer.Remote || t.MTU != peer.MTU || t.Over != peer.Over {
			t = new(target)
			t.s.seq = uint16(peer.Path) << 12 // an answer that came by another path tells nothing
		}
		t.Peer, t.lookAt = peer, 0
		p.targets[key{peer.ID, peer.Path}] = t
	}
	p.changed = true
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// LookAgain says that packets for a peer take another way now.
func (p *Prober) LookAgain(id uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for t := range p.ways(id) {
		t.lookAt = 0
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Status returns what is known of a peer's path.
func (p *Prober) Status(id uint32) Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.inUse(id)
	if t == nil {
		return Status{}
	}
	s := Status{State: t.s.state, MTU: t.figure(), Max: t.path.Max}
	if s.MTU == 0 || s.Max > 0 && s.MTU > s.Max {
		s.MTU = s.Max
	}
	return s
}

// inUse is the path that everything for a peer takes; nil: nothing is known of it.
func (p *Prober) inUse(id uint32) *target {
	for t := range p.ways(id) {
		if t.path.Used {
			return t
		}
	}
	return p.targets[key{peer: id}]
}

// ways are the paths of a peer.
func (p *Prober) ways(id uint32) iter.Seq[*target] {
	return func(yield func(*target) bool) {
		for i := 0; ; i++ {
			if t := p.targets[key{id, i}]; t == nil || !yield(t) {
				return
			}
		}
	}
}

// figure is what is found of a path.
func (t *target) figure() int {
	if t.MTU > 0 {
		return t.MTU
	}
	return t.s.figure
}

// Run works until ctx ends, and returns nil.
func (p *Prober) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-p.o.Replies:
			p.answered(r)
		case <-p.wake:
		case <-timer.C:
		}
		timer.Reset(p.Work())
	}
}

func (p *Prober) answered(r relay.EchoReply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for t := range p.ways(r.Peer) {
		if over := &t.Over; !over.Remote.IsValid() || over.Takes(&r.From) {
			t.s.answered(r.Seq, r.At)
		}
	}
}

// Work does what is due and says how long it may wait for the next time; Run calls it.
func (p *Prober) Work() time.Duration {
	for {
		select {
		case r := <-p.o.Replies:
			p.answered(r)
			continue
		default:
		}
		break
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.o.Clock()
	searches := 0
	for _, t := range p.targets {
		if now >= t.lookAt {
			t.lookAt = now + lookEvery
			if used := t.path.Used; t.look(now) != used {
				p.changed = true
			}
		}
		if t.searches() {
			searches++
		}
	}
	next := now + lookEvery
	for _, t := range p.targets {
		if t.s.state == Base && !t.s.under() && now >= t.s.next {
			if searches >= maxSearches {
				continue
			}
			searches++
		}
		p.advance(t, now)
		next = min(next, t.lookAt)
		if t.s.state >= Base {
			next = min(next, t.s.next)
		}
	}
	if p.changed {
		p.changed = false
		p.publish()
	}
	return max(time.Duration(next-now), shortest)
}

// searches says whether a search of the peer is under way.
func (t *target) searches() bool {
	return t.s.state == Searching || t.s.state == Base && t.s.under()
}

// look takes up what has become of the way to the peer.
func (t *target) look(now int64) (used bool) {
	path := t.Look()
	switch {
	case t.MTU > 0:
		t.path, t.s.state = path, Configured
	case !t.Local.IsValid():
		t.path, t.s.state = path, NoAddress
	case !path.Up:
		t.s.rest()
	case t.s.state == Idle && t.path.same(path) && t.s.figure > 0:
		t.path = path
		t.s.resume(now)
	case t.s.state == Idle || !t.path.same(path):
		t.path = path
		t.s.begin(now, path.Max, path.Overhead, path.Six)
	default:
		t.path = path
	}
	t.path.Used = path.Used
	return path.Used
}

// advance lets a peer's machine do what is due.
func (p *Prober) advance(t *target, now int64) {
	if t.s.resting() && now >= t.s.next && t.path.Sent-t.sent < t.probes+idlePackets {
		t.s.next = now + probeTimer // an idle tunnel is not kept awake
		return
	}
	before, state := t.s.figure, t.s.state
	if !t.s.under() && now >= t.s.next {
		t.sent, t.probes = t.path.Sent, 0
	}
	t.s.advance(now, func(seq uint16, size int) {
		t.probes++
		id := p.o.ID
		if t.Over.Remote.IsValid() && !t.path.Used {
			id = p.o.Standby
		}
		p.o.Send(t.ID, packet.EchoRequest(t.Local, t.Remote, 0, id, seq, size), t.Over)
	})
	switch {
	case t.s.figure != before:
		p.changed = true
		p.o.Logger.Info("path MTU", "peer", t.Name, "mtu", t.s.figure, "port_allows", t.path.Max)
	case t.s.state == Unanswered && state != Unanswered:
		p.o.Logger.Debug("peer answers no probe of its path", "peer", t.Name)
	}
}

// publish tells of all paths.
func (p *Prober) publish() {
	var mtus []int
	for k, t := range p.targets {
		for len(mtus) <= int(k.peer) {
			mtus = append(mtus, 0)
		}
		if !t.Over.Remote.IsValid() || t.path.Used {
			mtus[k.peer] = t.figure()
		}
	}
	for id, figure := range mtus {
		if figure != 0 {
			continue
		}
		// Nothing is known of the path in use yet: it is held to be no wider than others are.
		for t := range p.ways(uint32(id)) {
			if f := t.figure(); f > 0 && (mtus[id] == 0 || f < mtus[id]) {
				mtus[id] = f
			}
		}
	}
	p.o.Publish(mtus)
}
