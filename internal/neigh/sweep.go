package neigh

import (
	"cmp"
	"net/netip"
	"slices"
)

// reroute asks again for the routes that a changed prefix may concern: all of them when match is nil.
func (c *cache) reroute(match func(netip.Addr) bool) {
	for _, r := range c.records {
		if !r.queued && (match == nil || match(r.key.Dst)) {
			c.queue(r)
		}
	}
}

func (c *cache) queue(r *record) {
	if !r.queued {
		r.queued = true
		c.stale = append(c.stale, r)
	}
}

// work asks for at most n routes of the queue.
func (c *cache) work(n int) {
	n = min(n, len(c.stale))
	for _, r := range c.stale[:n] {
		r.queued = false
		if c.records[r.key] == r {
			c.resolve(r)
		}
	}
	c.stale = slices.Delete(c.stale, 0, n)
}

// scan looks at the marks of the entries: it keeps used ones fresh, retries failed ones that somebody wants, and forgets
// what was unused for long.
func (c *cache) scan() {
	budget := reprobeBudget
	for _, r := range c.records {
		if r.entry == nil {
			continue // under way
		}
		if !r.entry.takeUse() {
			if c.now.Sub(r.lastUsed) >= c.idleTimeout {
				c.forget(r)
			}
			continue
		}
		r.lastUsed = c.now
		switch {
		case r.entry.State == Resolved:
			if r.hop != nil {
				c.refreshHop(r.hop, &budget)
			}
			if c.now.Sub(r.routedAt) >= refreshAfter {
				c.queue(r)
			}
		case r.hop != nil && r.hop.failed:
			c.resolveHop(r.hop)
		case !c.now.Before(r.retryAt):
			c.queue(r)
		}
	}
	c.wait()
}

// active says whether r was used lately.
func (c *cache) active(r *record) bool {
	if r.entry != nil && r.entry.takeUse() {
		r.lastUsed = c.now
		r.entry.Use() // the next scan has more to do with it
	}
	return c.now.Sub(r.lastUsed) < activeFor
}

func (c *cache) forget(r *record) {
	c.detach(r)
	delete(c.records, r.key)
	c.changes[r.key] = nil
}

// evict makes room: the least recently used 64th of the records goes at once, so that a full cache sorts its records once
// per so many new keys.
func (c *cache) evict() {
	all := make([]*record, 0, len(c.records))
	for _, r := range c.records {
		c.active(r) // takes the mark in
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *record) int { return cmp.Compare(a.lastUsed.UnixNano(), b.lastUsed.UnixNano()) })
	for _, r := range all[:max(1, len(all)/64)] {
		c.forget(r)
	}
}

// pending says whether there is something to publish.
func (c *cache) pending() bool { return len(c.changes) > 0 }

// publish returns the table that follows t, which is t itself when no packet would notice a difference. It calls done
// for each key whose question has ended.
func (c *cache) publish(t *Table, done func(Key)) *Table {
	for k, e := range c.changes {
		r := c.records[k]
		if e != nil || r == nil {
			done(k)
		}
		old := t.Lookup(k)
		switch {
		case old == e:
			delete(c.changes, k)
		case old != nil && e != nil && old.same(e):
			r.entry = old // it went back to what it was before anybody saw the change
			delete(c.changes, k)
		}
	}
	c.urgent = false
	if len(c.changes) == 0 {
		return t
	}
	t = t.with(c.changes)
	clear(c.changes)
	return t
}
