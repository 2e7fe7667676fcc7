package neigh

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// hopKey names a neighbour as the kernel does: an address on an interface.
type hopKey struct {
	ifindex uint32
	addr    netip.Addr
}

// hop is one entry of the kernel's neighbour table, or one that we wait for.
type hop struct {
	key    hopKey
	nud    uint16 // the kernel's state (NUD_*), 0: it has no entry
	mac    [6]byte
	hasMAC bool
	users  map[*record]struct{} // the records that go through it

	waiting  bool      // the kernel was asked to resolve it and has not said anything
	vanished bool      // while it was: it was deleted, and nobody asks any more
	asked    time.Time // when it was asked last, zero: never
	failed   bool      // it did not answer; stays until it does
	problem  string    // why, in place of "does not answer"
	failures int       // in a row
	retryAt  time.Time // not to be asked again before
}

// usableStates: the kernel itself sends to neighbours in these, also while it verifies them (RFC 4861 section 7.3.2).
const usableStates = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE | unix.NUD_PERMANENT | unix.NUD_NOARP

func (h *hop) usable() bool { return h.hasMAC && h.nud&usableStates != 0 }

// neighbourEvent is what the kernel says about one neighbour.
type neighbourEvent struct {
	key    hopKey
	nud    uint16
	mac    [6]byte
	hasMAC bool
	gone   bool
}

// neighbour takes in what the kernel says.
func (c *cache) neighbour(ev neighbourEvent) {
	h := c.hops[ev.key]
	if h == nil {
		if ev.gone {
			return
		}
		h = c.hop(ev.key)
	}
	was := h.usable()
	h.nud, h.mac, h.hasMAC = ev.nud, ev.mac, ev.hasMAC
	if ev.gone {
		h.nud, h.hasMAC = 0, false
	}
	switch {
	case h.usable():
		c.answered(h)
		h.failed, h.problem, h.failures, h.retryAt = false, "", 0, time.Time{}
	case was:
		// It is gone, or no longer answers at the address where it was. Before giving up, ask again: by broadcast now, which
		// finds a neighbour that has moved to another MAC.
		c.lost(h)
	case h.waiting && h.nud&unix.NUD_FAILED != 0:
		c.fail(h, "")
	case h.waiting && ev.gone:
		h.vanished = true // the next scan asks: at once would be a race with whoever deletes it
	}
	for r := range h.users {
		c.rebuild(r)
	}
	c.drop(h)
}

// lost asks again for a neighbour whose records are in use and forgets those that are not: the next packet asks.
func (c *cache) lost(h *hop) {
	for r := range h.users {
		if !c.active(r) {
			c.forget(r)
		}
	}
	if len(h.users) > 0 {
		h.retryAt = time.Time{}
		c.resolveHop(h)
	}
}

// hop returns the hop of k, new if need be.
func (c *cache) hop(k hopKey) *hop {
	h := c.hops[k]
	if h == nil {
		h = &hop{key: k, users: make(map[*record]struct{})}
		c.hops[k] = h
	}
	return h
}

// drop forgets a hop that neither the kernel nor a record knows.
func (c *cache) drop(h *hop) {
	if h.nud == 0 && len(h.users) == 0 {
		c.answered(h)
		delete(c.hops, h.key)
	}
}

// resolveHop asks the kernel to resolve the hop, unless it is being asked already or failed too recently.
func (c *cache) resolveHop(h *hop) {
	if h.usable() || h.waiting || c.now.Before(h.retryAt) {
		return
	}
	h.asked = c.now
	if err := c.sys.probe(h.key); err != nil {
		c.fail(h, err.Error())
		return
	}
	h.waiting = true
	c.waiting[h] = struct{}{}
}

// refreshHop makes the kernel verify a neighbour that it has not heard of for a while. The kernel does that by itself only
// when it sends packets, and ours do not pass through it.
func (c *cache) refreshHop(h *hop, budget *int) {
	if h.nud&unix.NUD_STALE == 0 || *budget <= 0 || c.now.Sub(h.asked) < reprobeInterval {
		return
	}
	*budget--
	h.asked = c.now
	if err := c.sys.probe(h.key); err != nil {
		*budget = 0 // the others would not fare better
		c.log.Warn("verify neighbour", "neighbour", h.key.addr, "ifindex", h.key.ifindex, "err", err)
	}
}

func (c *cache) fail(h *hop, problem string) {
	c.answered(h)
	h.failed, h.problem = true, problem
	h.retryAt = c.now.Add(backoff(h.failures))
	h.failures++
	for r := range h.users {
		c.rebuild(r)
	}
}

func (c *cache) answered(h *hop) {
	h.waiting, h.vanished = false, false
	delete(c.waiting, h)
}

// wait looks after the hops that the kernel has said nothing about. It normally says FAILED by itself.
func (c *cache) wait() {
	for h := range c.waiting {
		switch {
		case h.vanished:
			c.answered(h)
			c.resolveHop(h)
		case c.now.Sub(h.asked) >= answerTimeout:
			c.fail(h, "")
		}
	}
}

// replaceNeighbours takes in a whole dump: what it lacks is gone.
func (c *cache) replaceNeighbours(all []neighbourEvent) {
	there := make(map[hopKey]struct{}, len(all))
	for _, ev := range all {
		there[ev.key] = struct{}{}
		c.neighbour(ev)
	}
	for k, h := range c.hops {
		if _, ok := there[k]; !ok && (h.nud != 0 || h.waiting) {
			c.neighbour(neighbourEvent{key: k, gone: true})
		}
	}
}
