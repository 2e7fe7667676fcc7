package liveness

import (
	"container/heap"
	"time"

	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// A peer with several paths has a machine for each of them, and here is decided which one its
// packets take. A path that fails is left at once, if another works: to go over too
// soon costs nothing, because both work then. Any other reason has to hold for a while.

// Way is the peer's half in the data plane, as *wireguard.Peer is.
type Way interface {
	// Place is where everything goes now.
	Place() *wireguard.Endpoint
	// Use has everything go there.
	Use(wireguard.Endpoint)
	// Stray is a place that it has been heard from and that is none of its paths.
	Stray() wireguard.Endpoint
}

// Path is one of several ways to a peer.
type Path struct {
	Name     string
	Endpoint wireguard.Endpoint
	Priority int  // smaller ones are preferred
	Down     bool // our port is down: nothing can be sent
}

// PathStatus is what is known of a path.
type PathStatus struct {
	Path
	Status
	Used  bool
	Lossy bool // it loses so much that any other is preferred
}

// path is a target's part in its peer's group.
type path struct {
	Path
	group  *group
	looked int64 // when due ran last
	lossy  bool
}

// group is the paths of one peer.
type group struct {
	Peer
	targets []*target // of the paths, in their order, and of the stray place if there is one
	used    int       // index of the path in use, -1: everything goes to some other place
	better  int       // one that is better, and since when
	since   int64
	was     State
	said    packet.Notice // what it last said of itself, over any path
	news    bool          // since it was compared last
}

const (
	// What we chose: a path that loses more than a tenth of its probes is worse than any that does not, until it
	// loses less than a fiftieth. Of fewer than lossProbes probes no share is taken.
	lossyAbove, cleanBelow = 10, 50
	lossProbes             = 20
	// strayName is what the place is called that a peer was heard from and that is none of its paths.
	strayName = "learned"
	// strayPriority is behind all that a configuration can give.
	strayPriority = 1 << 20
	// maxPaths of a peer that are probed, the stray place not among them.
	maxPaths = 15
)

// suspicion is how long a path that is up may say nothing until another is preferred: half an interval less than
// what makes it down, so that traffic is over before that. With the defaults two answers in a row are missing then.
func (m *machine) suspicion() int64 { return m.silence() - m.interval/2 }

func (m *machine) suspect(now int64) bool { return m.state == Up && now-m.heard >= m.suspicion() }

func (p *path) wake(m *machine) int64 {
	at := m.wake()
	if suspect := m.heard + m.suspicion(); m.state == Up && suspect > p.looked {
		at = min(at, suspect)
	}
	return at
}

// setPaths takes in a peer with paths. What is known of those that stay is kept.
func (p *Prober) setPaths(g *group, peer Peer, first int64) {
	before := g
	g = &group{Peer: peer, was: Unknown, better: -1}
	if before != nil && before.same(&peer) {
		g.was, g.said = before.was, before.said
	} else {
		before = nil
	}
	for i, way := range peer.Paths[:min(len(peer.Paths), maxPaths)] {
		var t *target
		if before != nil {
			t = before.target(&way)
		}
		if t == nil {
			t = newPath(i, first)
		}
		p.join(g, t, way)
	}
	if before != nil {
		if n := len(before.targets) - 1; before.targets[n].path.Name == strayName {
			p.join(g, before.targets[n], before.targets[n].path.Path)
		}
	}
	p.groups[peer.ID] = g
	p.moot = append(p.moot, g)
}

// newPath begins with a path that nothing is known of. The numbers of its probes differ from those of the others: so an answer that came by another path tells nothing.
func newPath(i int, first int64) *target {
	return &target{m: machine{state: Unknown, next: first, seq: uint16(i) << 12}}
}

// join makes t the target of a path of the group.
func (p *Prober) join(g *group, t *target, way Path) {
	t.Peer = g.Peer
	t.m.interval, t.m.multiplier = int64(g.Interval), g.Multiplier
	lossy := t.path != nil && t.path.lossy
	t.path = &path{Path: way, group: g, lossy: lossy}
	g.targets = append(g.targets, t)
	t.at = len(p.queue)
	p.queue = append(p.queue, t)
}

// target is that of a path which was there before.
func (g *group) target(way *Path) *target {
	for _, t := range g.targets {
		if t.path.Name == way.Name && t.path.Endpoint.SameWay(&way.Endpoint) {
			return t
		}
	}
	return nil
}

// follow gives a peer that has moved a new chance: its silence at the old place tells nothing about the new one, from
// where it was heard just now.
func (t *target) follow(now int64) {
	if t.Way == nil {
		return
	}
	place := *t.Way.Place()
	moved := place.Remote != t.place.Remote
	if t.place = place; moved && t.m.state == Up {
		t.m.heard, t.m.next = now, now
	}
}

// duePath is what machine.due is for a peer with one path.
func (p *Prober) duePath(t *target, now int64) {
	g := t.path.group
	p.moot = append(p.moot, g)
	p.findStray(g, now)
	t.path.looked = now
	down := t.m.due(now, func(seq uint16) {
		if t.path.Down {
			return
		}
		id := p.o.Standby
		if g.used >= 0 && g.targets[g.used] == t {
			id = p.o.ID // wherever it is known by where its messages come from, the peer follows this one
		}
		p.o.Send(t.ID, packet.Probe(t.Local, t.Peer.Remote, probeTOS, id, seq), t.path.Endpoint)
	})
	if down {
		p.o.Logger.Warn("path is down: no probe over it is answered", "peer", t.Peer.Name, "path", t.path.Name, "endpoint", t.path.Endpoint.Remote)
	}
}

// answeredPath takes in an answer that came by one of a peer's paths.
func (p *Prober) answeredPath(g *group, r relay.EchoReply) {
	p.moot = append(p.moot, g)
	for _, t := range g.targets {
		if !t.path.Endpoint.Takes(&r.From) {
			continue
		}
		if t.m.answered(r.Seq, r.At) {
			t.m.took = 0 // what was lost when it was down is no loss of a path that works
			p.o.Logger.Info("path is up", "peer", t.Peer.Name, "path", t.path.Name, "endpoint", t.path.Endpoint.Remote, "rtt", time.Duration(t.m.last))
		}
		if t.hear(t.m.seq, r) && g.said != t.said {
			g.said, g.news = t.said, true
			p.o.Logger.Info("peer says of itself", "peer", t.Peer.Name, "elsewhere", g.said&packet.Elsewhere != 0)
		}
		heap.Fix(&p.queue, t.at)
	}
}

// findStray probes also the place that the peer was heard from, if that is none of its paths.
func (p *Prober) findStray(g *group, now int64) {
	if g.Way == nil {
		return
	}
	stray := g.Way.Stray()
	last := g.targets[len(g.targets)-1]
	if !stray.Remote.IsValid() || last.path.Endpoint.SameWay(&stray) {
		return
	}
	t := newPath(maxPaths, now)
	if last.path.Name == strayName {
		last.m, last.path.Path.Endpoint = t.m, stray
		last.m.interval, last.m.multiplier = int64(g.Interval), g.Multiplier
		heap.Fix(&p.queue, last.at)
		return
	}
	p.join(g, t, Path{Name: strayName, Endpoint: stray, Priority: strayPriority})
	heap.Fix(&p.queue, t.at)
}

// class says how well a path works; smaller is better.
type class uint8

const (
	good    class = iota
	lossy         // up, and loses much
	silent        // up, and should have answered by now
	unknown       // has never answered
	dead
	cut // our own port is down
)

func (t *target) class(now int64) class {
	if t.path.Down {
		return cut
	}
	switch t.m.state {
	case Up:
	case Down:
		return dead
	default:
		return unknown
	}
	if t.m.suspect(now) {
		return silent
	}
	lost, of := t.m.loss(now)
	switch {
	case of < lossProbes:
	case lost*lossyAbove > of:
		t.path.lossy = true
	case lost*cleanBelow < of:
		t.path.lossy = false
	}
	if t.path.lossy {
		return lossy
	}
	return good
}

// fresh says whether the first probe over the path may still be answered.
func (t *target) fresh(now int64) bool {
	return t.m.state == Unknown && !t.path.Down && (t.m.took == 0 || t.m.took == 1 && now-t.m.begun < t.m.suspicion())
}

// cost compares paths of one class and priority: the round trip, what it varies, and for each probe in a hundred that is lost ten milliseconds.
func (t *target) cost(now int64) int64 {
	lost, of := t.m.loss(now)
	return t.m.rtt + 4*t.m.jitter + int64(time.Second)*int64(lost)/int64(max(of, 1))
}

// preferred says whether a is better than b, by a margin where both are measured to be alike.
func preferred(a, b *target, now int64) bool {
	ca, cb := a.class(now), b.class(now)
	switch {
	case ca != cb:
		return ca < cb
	case a.path.Priority != b.path.Priority:
		return a.path.Priority < b.path.Priority
	case (a.path.Endpoint.Via == nil) != (b.path.Endpoint.Via == nil):
		return a.path.Endpoint.Via == nil // the direct way
	case ca > lossy:
		return false
	}
	// A fifth and a millisecond: what differs less is the same to anybody.
	x, y := a.cost(now), b.cost(now)
	return x < y-y/5 && y-x > int64(time.Millisecond)
}

// inUse finds which of the paths everything takes: the data plane may have changed it, with a handshake.
func (g *group) inUse() int {
	if g.Way != nil {
		place := g.Way.Place()
		for i, t := range g.targets {
			if t.path.Endpoint.SameWay(place) {
				return i
			}
		}
	}
	return -1
}

// decideAll compares the paths of those peers about which there is news, when all of it is in.
func (p *Prober) decideAll(now int64) (changed bool) {
	for _, g := range p.moot {
		if p.groups[g.ID] == g {
			changed = p.decide(g, now) || changed
		}
	}
	clear(p.moot)
	p.moot = p.moot[:0]
	return changed
}

// decide chooses the path that everything takes. changed: the peer's state is another now.
func (p *Prober) decide(g *group, now int64) (changed bool) {
	state := g.state()
	changed, g.was = state != g.was, state
	if changed && state == Down {
		p.o.Logger.Warn("peer is down: it answers probes over none of its paths", "peer", g.Name)
	}
	if changed && state == Up {
		p.o.Logger.Info("peer is up", "peer", g.Name)
	}
	changed, g.news = changed || g.news, false
	g.used = g.inUse()
	best := 0
	for i := range g.targets {
		if preferred(g.targets[i], g.targets[best], now) {
			best = i
		}
	}
	if g.used < 0 {
		p.use(g, best, now, "none was in use")
		return changed
	}
	old, next := g.targets[g.used], g.targets[best]
	if best == g.used || !preferred(next, old, now) {
		g.better = -1
		return changed
	}
	was, is := old.class(now), next.class(now)
	switch {
	case old.fresh(now):
	case was >= silent && is <= lossy:
		p.use(g, best, now, "the one in use does not answer")
	case was >= dead && is < was:
		p.use(g, best, now, "the one in use is down")
	case was >= silent: // nothing speaks for the other
		g.better = -1
	case g.better != best:
		g.better, g.since = best, now
	case now-g.since >= int64(g.Hold):
		p.use(g, best, now, "it has been better for long enough")
	}
	return changed
}

// use has everything take a path, and probes it at once: a peer that knows us by where our messages come from learns of it by that.
func (p *Prober) use(g *group, i int, now int64, why string) {
	from := "none"
	if g.used >= 0 {
		from = g.targets[g.used].path.Name
	}
	t := g.targets[i]
	p.o.Logger.Info("peer is sent to by another path", "peer", g.Name, "from", from, "to", t.path.Name, "endpoint", t.path.Endpoint.Remote, "why", why)
	g.used, g.better = i, -1
	if g.Way != nil {
		g.Way.Use(t.path.Endpoint)
	}
	t.m.next = now
	heap.Fix(&p.queue, t.at)
	if p.o.OnSwitch != nil {
		p.o.OnSwitch(g.ID)
	}
}

// state of a peer: up if any of its paths is, down if some were and none is any more.
func (g *group) state() State {
	state := Unknown
	for _, t := range g.targets {
		switch t.m.state {
		case Up:
			return Up
		case Down:
			state = Down
		}
	}
	return state
}

// status of a peer with paths is that of the one in use, and the peer's own state.
func (g *group) status(now int64) Status {
	s := Status{}
	if i := g.inUse(); i >= 0 {
		s = g.targets[i].m.status(now)
	}
	s.State, s.Notice = g.state(), g.said
	return s
}

// Paths returns what is known of a peer's paths, in their order; nil: it has but one.
func (p *Prober) Paths(id uint32) []PathStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.groups[id]
	if g == nil {
		return nil
	}
	used, now := g.inUse(), p.o.Clock()
	out := make([]PathStatus, len(g.targets))
	for i, t := range g.targets {
		out[i] = PathStatus{Path: t.path.Path, Status: t.m.status(now), Used: i == used, Lossy: t.path.lossy}
	}
	return out
}
