package liveness

import (
	"container/heap"
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/relay/wireguard"
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
	// OnChange is called when the state of a peer is another. It must not block.
	OnChange func()
	// OnSwitch is called when a peer is sent to by another path. It must not block. nil: nobody is told.
	OnSwitch func(peer uint32)
	// Logger takes changes; nil: nothing is logged.
	Logger *slog.Logger
}

// Peer is one to probe.
type Peer struct {
	ID   uint32
	Name string
	// Key tells whether a peer with a known ID is still the same. Comparable.
	Key any
	// Local and Remote are tunnel addresses of one family; invalid: it is not probed.
	Local, Remote netip.Addr
	// Interval between probes, and how many may go without an answer.
	Interval   time.Duration
	Multiplier int
	// Way is the peer's half in the data plane; nil: nobody needs it.
	Way Way
	// Paths, if there are several ways to the peer. Hold is how long one must have been better than
	// the one in use, while that works, before it takes its place.
	Paths []Path
	Hold  time.Duration
	// Cut: nothing can be sent to it, because our port is down. It is down at once, until it answers again. Of a peer with
	// Paths these say so.
	Cut bool
}

// same says whether it is still the peer that it was, as far as answers go.
func (p *Peer) same(o *Peer) bool {
	return p.Key == o.Key && p.Local == o.Local && p.Remote == o.Remote && p.Interval == o.Interval && p.Multiplier == o.Multiplier
}

// Status of a peer. RTT is smoothed; it, Least and Jitter are 0 before the first answer.
type Status struct {
	State              State
	RTT, Least, Jitter time.Duration
	Lost, Probes       int // of the last ones
	Notice             packet.Notice
}

// Prober probes all peers. Its methods may be called from any goroutine.
type Prober struct {
	o    Options
	wake chan struct{}

	mu      sync.Mutex
	targets map[uint32]*target
	groups  map[uint32]*group // peers with paths
	moot    []*group          // whose paths are to be compared again
	queue   queue
}

// target is a peer with its machine, or one of its paths.
type target struct {
	Peer
	m  machine
	at int // in the queue
	notice
	place wireguard.Endpoint
	path  *path // nil: there is but one
}

// wake is when there is something to do about it.
func (t *target) wake() int64 {
	if t.path != nil {
		return t.path.wake(&t.m)
	}
	return t.m.wake()
}

// shortest is the least that Run sleeps, so that a thousand peers are served in groups.
const shortest = 2 * time.Millisecond

// New makes a prober that knows no peer.
func New(o Options) *Prober {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Prober{o: o, wake: make(chan struct{}, 1), targets: make(map[uint32]*target), groups: make(map[uint32]*group)}
}

// SetPeers replaces the peers. What is known of those that stay is kept.
func (p *Prober) SetPeers(peers []Peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.o.Clock()
	before, groups := p.targets, p.groups
	p.targets, p.groups, p.queue = make(map[uint32]*target, len(peers)), make(map[uint32]*group), p.queue[:0]
	changed := false
	for i, peer := range peers {
		if !peer.Local.IsValid() || peer.Interval <= 0 {
			continue
		}
		// Peers that begin together do not go on in step.
		first := now + int64(peer.Interval)*int64(i)/int64(len(peers))
		if len(peer.Paths) > 0 {
			p.setPaths(groups[peer.ID], peer, first)
			continue
		}
		t := before[peer.ID]
		if t == nil || !t.same(&peer) {
			t = &target{m: machine{state: Unknown, next: first}}
		}
		t.Peer, t.m.interval, t.m.multiplier = peer, int64(peer.Interval), peer.Multiplier
		if peer.Cut && t.m.state == Up {
			t.m.fail()
			changed = true
			p.o.Logger.Warn("peer is down: our port to it is", "peer", t.Name)
		}
		p.targets[peer.ID] = t
		t.at = len(p.queue)
		p.queue = append(p.queue, t)
	}
	heap.Init(&p.queue)
	if p.decideAll(now) || changed {
		p.o.OnChange()
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Status returns what is known of a peer.
func (p *Prober) Status(id uint32) Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.groups[id]; g != nil {
		return g.status(p.o.Clock())
	}
	t := p.targets[id]
	if t == nil {
		return Status{}
	}
	s := t.m.status(p.o.Clock())
	s.Notice = t.said
	return s
}

func (m *machine) status(now int64) Status {
	s := Status{State: m.state, RTT: time.Duration(m.rtt), Least: time.Duration(m.least), Jitter: time.Duration(m.jitter)}
	s.Lost, s.Probes = m.loss(now)
	return s
}

// Dead says whether a peer was alive and is not any more.
func (p *Prober) Dead(id uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.groups[id]; g != nil {
		return g.state() == Down
	}
	t := p.targets[id]
	return t != nil && t.m.state == Down
}

// Run works until ctx ends, and returns nil.
func (p *Prober) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		changed := false
		select {
		case <-ctx.Done():
			return nil
		case r := <-p.o.Replies:
			p.mu.Lock()
			changed = p.answered(r)
			p.mu.Unlock()
		case <-p.wake:
		case <-timer.C:
		}
		timer.Reset(p.work(changed))
	}
}

// Work does what is due and says how long it may wait for the next time; Run calls it.
func (p *Prober) Work() time.Duration { return p.work(false) }

// work is Work after something that has changed a peer's state, or not.
func (p *Prober) work(changed bool) time.Duration {
	p.mu.Lock()
	for more := true; more; {
		select {
		case r := <-p.o.Replies:
			changed = p.answered(r) || changed
		default:
			more = false
		}
	}
	now := p.o.Clock()
	for len(p.queue) > 0 && p.queue[0].wake() <= now {
		t := p.queue[0]
		if t.path != nil {
			p.duePath(t, now)
			heap.Fix(&p.queue, t.at)
			continue
		}
		t.follow(now)
		if t.m.due(now, func(seq uint16) {
			p.o.Send(t.ID, packet.Probe(t.Local, t.Remote, probeTOS, p.o.ID, seq), wireguard.Endpoint{})
		}) {
			changed = true
			p.o.Logger.Warn("peer is down: it answers no probes", "peer", t.Name, "silent", time.Duration(now-t.m.heard))
		}
		heap.Fix(&p.queue, 0)
	}
	changed = p.decideAll(now) || changed
	wait := time.Hour
	if len(p.queue) > 0 {
		wait = max(time.Duration(p.queue[0].wake()-now), shortest)
	}
	p.mu.Unlock()
	if changed {
		p.o.OnChange()
	}
	return wait
}

// probeTOS is CS6, network control (RFC 2474): probes are not to be lost where
// there is more traffic than a link takes.
const probeTOS = 0xc0

func (p *Prober) answered(r relay.EchoReply) (changed bool) {
	if g := p.groups[r.Peer]; g != nil {
		p.answeredPath(g, r)
		return false
	}
	t := p.targets[r.Peer]
	if t == nil {
		return false
	}
	if changed = t.m.answered(r.Seq, r.At); changed {
		p.o.Logger.Info("peer is up: it answers probes", "peer", t.Name, "rtt", time.Duration(t.m.last))
	}
	if t.hear(t.m.seq, r) {
		changed = true
		p.o.Logger.Info("peer says of itself", "peer", t.Name, "elsewhere", t.said&packet.Elsewhere != 0)
	}
	heap.Fix(&p.queue, t.at)
	return changed
}

// queue is a heap of targets by when they are due.
type queue []*target

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].wake() < q[j].wake() }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].at, q[j].at = i, j
}
func (q *queue) Push(x any) { *q = append(*q, x.(*target)) }
func (q *queue) Pop() any {
	old := *q
	t := old[len(old)-1]
	*q = old[:len(old)-1]
	return t
}
