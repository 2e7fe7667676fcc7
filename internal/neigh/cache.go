package neigh

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"
)

// What we chose, with the reasons.
const (
	// answerTimeout: the kernel gives up after three probes, one second apart, and says so; this is for when it does not.
	answerTimeout = 6 * time.Second
	// firstBackoff doubles with each failure in a row up to lastBackoff. A host that starts announces itself, and the
	// kernel tells us at once, so that the back-off delays nobody but the silent.
	firstBackoff = time.Second
	lastBackoff  = 16 * time.Second
	// activeFor: a record that was used within this time is kept alive when its neighbour goes.
	activeFor = 30 * time.Second
	// reprobeInterval and reprobeBudget bound how often one stale neighbour is verified, and how many in one scan.
	reprobeInterval = 5 * time.Second
	reprobeBudget   = 256
	// refreshAfter: routes in use are asked for anew now and then, for what the kernel does not announce (path MTUs that it
	// has learned and forgotten, IPv4 routes that went with an interface).
	refreshAfter = time.Minute
)

func backoff(failures int) time.Duration {
	return min(firstBackoff<<min(failures, 16), lastBackoff)
}

// system is the kernel as the cache asks it: rtnetlink, or a script in the tests of the cache alone.
type system interface {
	// route asks for the route of k. The error is for when the kernel could not be asked; no route is an answer.
	route(k Key) (routing, error)
	// routed says whether a route through k.Ifindex covers k.Dst.
	routed(k Key) (bool, error)
	// probe makes the kernel resolve or verify a neighbour.
	probe(hopKey) error
}

// routing is the kernel's answer about a route.
type routing struct {
	state  State // Resolved: there is a route, Unreachable or Local
	reason string
	egress uint32
	hop    netip.Addr
	src    netip.Addr
	mtu    int // 0: the route has none of its own
}

// record is what the cache knows about one key.
type record struct {
	key      Key
	route    routing
	routedAt time.Time
	hop      *hop   // nil when there is nothing to resolve
	entry    *Entry // nil: not answered yet
	lastUsed time.Time
	failures int
	retryAt  time.Time // for routes: not to be asked again before
	queued   bool      // in cache.stale
}

// cache turns routes, neighbours and links into entries. It is plain data and belongs to the goroutine of Run, which sets
// now before each round of calls.
type cache struct {
	sys         system
	log         *slog.Logger
	maxEntries  int
	idleTimeout time.Duration

	now     time.Time
	links   *Links
	records map[Key]*record
	hops    map[hopKey]*hop
	waiting map[*hop]struct{}
	stale   []*record // whose route is to be asked for anew

	changes map[Key]*Entry // not yet published; nil: no entry any more
	urgent  bool           // somebody waits for one of them
}

func newCache(sys system, o Options) *cache {
	return &cache{
		sys: sys, log: o.Logger, maxEntries: o.MaxEntries, idleTimeout: o.IdleTimeout,
		links: new(Links), records: make(map[Key]*record), hops: make(map[hopKey]*hop), waiting: make(map[*hop]struct{}),
		changes: make(map[Key]*Entry),
	}
}

// ask starts a record for k. When there is one already, its answer is under way or was published meanwhile.
func (c *cache) ask(k Key) {
	if r := c.records[k]; r != nil {
		if r.entry != nil {
			r.entry.Use()
			c.changes[k] = r.entry // so that the question ends
		}
		return
	}
	if len(c.records) >= c.maxEntries {
		c.evict()
	}
	r := &record{key: k, lastUsed: c.now}
	c.records[k] = r
	c.resolve(r)
}

// resolve asks the kernel for the route of r, and for the neighbour if need be.
func (c *cache) resolve(r *record) {
	route, err := c.route(r.key)
	r.routedAt = c.now
	if err != nil {
		route = routing{state: Failed, reason: err.Error()}
	}
	if route.state == Resolved {
		r.failures, r.retryAt = 0, time.Time{}
	} else {
		r.retryAt = c.now.Add(backoff(r.failures))
		r.failures++
	}
	r.route = route
	c.attach(r)
	if r.hop != nil && !r.hop.usable() && !c.noARP(r.hop) {
		if !c.active(r) {
			c.forget(r) // nobody would notice; the next packet asks
			return
		}
		c.resolveHop(r.hop)
	}
	c.rebuild(r)
}

// route asks the kernel, and mends what it answers for a given interface.
func (c *cache) route(k Key) (routing, error) {
	if reason := refuse(k); reason != "" {
		return routing{state: Unreachable, reason: reason}, nil
	}
	route, err := c.sys.route(k)
	if err != nil || k.Ifindex == 0 {
		return route, err
	}
	link := c.links.LinkByIndex(k.Ifindex)
	if link == nil {
		return route, nil
	}
	if route.state != Resolved || !k.Dst.Is4() || route.hop != k.Dst || link.onLink(k.Dst) {
		return route, nil
	}
	// For IPv4 the kernel takes a destination without a route for on-link when it is given the interface
	// (ip_route_output_key_hash_rcu). ARP for the whole Internet is not what anybody wants.
	ok, err := c.sys.routed(k)
	if err == nil && !ok {
		return routing{state: Unreachable, reason: "no route through " + link.Name}, nil
	}
	return route, err
}

// refuse says why the kernel need not be asked.
func refuse(k Key) string {
	switch a := k.Dst; {
	case !a.IsValid() || a.IsUnspecified():
		return "not a destination"
	case a.Zone() != "":
		return "zone in the address (ask with the interface)"
	case a.Is4In6():
		return "IPv4-mapped IPv6 address"
	case a.IsMulticast():
		return "multicast"
	case a.Is6() && a.IsLinkLocalUnicast() && k.Ifindex == 0:
		return "link-local address without an interface"
	}
	return ""
}

// attach points r at the hop that its route goes through.
func (c *cache) attach(r *record) {
	var to *hop
	if r.route.state == Resolved {
		// A link that is not in the snapshot is new: its event is under way, and brings us here again.
		if link := c.links.LinkByIndex(r.route.egress); link == nil || !link.NoLink {
			to = c.hop(hopKey{r.route.egress, r.route.hop})
		}
	}
	if r.hop == to {
		return
	}
	c.detach(r)
	if to != nil {
		r.hop = to
		to.users[r] = struct{}{}
	}
}

func (c *cache) detach(r *record) {
	if h := r.hop; h != nil {
		r.hop = nil
		delete(h.users, r)
		c.drop(h)
	}
}

func (c *cache) noARP(h *hop) bool {
	link := c.links.LinkByIndex(h.key.ifindex)
	return link != nil && link.NoARP
}

// rebuild makes the entry of r anew and notes a change if it makes a difference.
func (c *cache) rebuild(r *record) {
	e := c.build(r)
	old := r.entry
	if old == nil && e == nil || old != nil && e != nil && old.same(e) {
		return
	}
	if old == nil {
		c.urgent = true
	} else if old.takeUse() {
		r.lastUsed = c.now
		if e != nil {
			e.Use()
		}
	}
	r.entry = e
	c.changes[r.key] = e
}

// build returns nil while the neighbour is being resolved.
func (c *cache) build(r *record) *Entry {
	e := &Entry{Key: r.key, State: r.route.state, Reason: r.route.reason}
	if r.route.state != Resolved {
		return e
	}
	e.Egress, e.Src, e.NextHop = r.route.egress, r.route.src, r.route.hop
	not := func(s State, reason string) *Entry {
		return &Entry{Key: r.key, State: s, Reason: reason, Egress: e.Egress}
	}
	link := c.links.LinkByIndex(e.Egress)
	switch {
	case link == nil:
		return not(Unreachable, fmt.Sprintf("no interface with index %d", e.Egress))
	case !link.Up:
		return not(Unreachable, "interface "+link.Name+" is down")
	}
	e.SrcMAC, e.NoLink, e.MTU = link.MAC, link.NoLink, link.MTU
	if r.route.mtu > 0 {
		e.MTU = min(e.MTU, r.route.mtu)
	}
	switch h := r.hop; {
	case link.NoLink:
	case h.usable():
		e.DstMAC = h.mac
	case link.NoARP:
		e.DstMAC = link.MAC // as the kernel does
	case h.failed && h.problem != "":
		return not(Failed, h.problem)
	case h.failed:
		return not(Failed, fmt.Sprintf("%v does not answer on %s", e.NextHop, link.Name))
	default:
		return nil
	}
	return e
}

// setLinks takes in a new snapshot and says whether it differs. The caller follows up with reroute: an interface that
// changes changes routes, and IPv4 routes that go with it are not announced.
func (c *cache) setLinks(next *Links) bool {
	old := c.links
	if old.same(next) {
		return false
	}
	c.links = next
	unchanged := func(ifindex uint32) bool {
		a, b := old.LinkByIndex(ifindex), next.LinkByIndex(ifindex)
		return a == b || a != nil && b != nil && a.same(b)
	}
	for _, h := range c.hops {
		if !unchanged(h.key.ifindex) {
			h.failures, h.retryAt = 0, time.Time{} // what failed on the old link may answer on the new
		}
	}
	for _, r := range c.records {
		if r.route.state == Resolved && !unchanged(r.route.egress) {
			c.rebuild(r)
		}
	}
	return true
}
