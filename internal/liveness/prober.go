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
)

// Options of New. All but Logger are required.
type Options struct {
	// Clock is the workers' (wireguard.Device.Clock): nanoseconds, monotonic, never zero.
	Clock func() int64
	// Send takes a probe for a peer, which it owns from then on. It must not block;
	// false: it is lost.
	Send func(peer uint32, packet []byte) bool
	// Replies to echo requests with the identifier ID.
	Replies <-chan relay.EchoReply
	ID      uint16
	// OnChange is called when the state of a peer is another. It must not block.
	OnChange func()
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
	queue   queue
}

// target is a peer with its machine.
type target struct {
	Peer
	m  machine
	at int // in the queue
	notice
}

// shortest is the least that Run sleeps, so that a thousand peers are served in groups.
const shortest = 2 * time.Millisecond

// New makes a prober that knows no peer.
func New(o Options) *Prober {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Prober{o: o, wake: make(chan struct{}, 1), targets: make(map[uint32]*target)}
}

// SetPeers replaces the peers. What is known of those that stay is kept.
func (p *Prober) SetPeers(peers []Peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.o.Clock()
	before := p.targets
	p.targets, p.queue = make(map[uint32]*target, len(peers)), p.queue[:0]
	for i, peer := range peers {
		if !peer.Local.IsValid() || peer.Interval <= 0 {
			continue
		}
		t := before[peer.ID]
		if t == nil || t.Peer != peer {
			// Peers that begin together do not go on in step.
			t = &target{m: machine{state: Unknown, next: now + int64(peer.Interval)*int64(i)/int64(len(peers))}}
		}
		t.Peer, t.m.interval, t.m.multiplier = peer, int64(peer.Interval), peer.Multiplier
		p.targets[peer.ID] = t
		t.at = len(p.queue)
		p.queue = append(p.queue, t)
	}
	heap.Init(&p.queue)
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Status returns what is known of a peer.
func (p *Prober) Status(id uint32) Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.targets[id]
	if t == nil {
		return Status{}
	}
	s := Status{State: t.m.state, RTT: time.Duration(t.m.rtt), Least: time.Duration(t.m.least), Jitter: time.Duration(t.m.jitter)}
	s.Lost, s.Probes = t.m.loss(p.o.Clock())
	s.Notice = t.said
	return s
}

// Dead says whether a peer was alive and is not any more.
func (p *Prober) Dead(id uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
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
	for len(p.queue) > 0 && p.queue[0].m.wake() <= now {
		t := p.queue[0]
		if t.m.due(now, func(seq uint16) {
			p.o.Send(t.ID, packet.Probe(t.Local, t.Remote, probeTOS, p.o.ID, seq))
		}) {
			changed = true
			p.o.Logger.Warn("peer is down: it answers no probes", "peer", t.Name, "silent", time.Duration(now-t.m.heard))
		}
		heap.Fix(&p.queue, 0)
	}
	wait := time.Hour
	if len(p.queue) > 0 {
		wait = max(time.Duration(p.queue[0].m.wake()-now), shortest)
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
func (q queue) Less(i, j int) bool { return q[i].m.wake() < q[j].m.wake() }
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
