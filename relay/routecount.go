package relay

import (
	"sync/atomic"
)

// MaxRouteCounters bounds fib.Route.Counter: what a faulty control plane can
// take of memory (80 B each, for every worker).
const MaxRouteCounters = 1 << 20

// RouteCounters count a route's packets that were handed to a port, with the
// bytes of the inner IP packets: To those whose destination took the route, From
// those whose source lies in it. From is counted where the source is looked up.
type RouteCounters struct {
	ToPackets, ToBytes     uint64
	FromPackets, FromBytes uint64
}

// Sub returns what was counted since o.
func (c RouteCounters) Sub(o RouteCounters) RouteCounters {
	return RouteCounters{c.ToPackets - o.ToPackets, c.ToBytes - o.ToBytes, c.FromPackets - o.FromPackets, c.FromBytes - o.FromBytes}
}

// latePublishInterval is how long a busy worker may keep to itself what it
// counted for routes, in nanoseconds. Flows may take as many routes as a batch has
// packets, and publishing them all after every batch would cost more than
// counting them; a worker that runs out of work publishes at once.
const latePublishInterval = 1_000_000

// routeTally is one route at one worker.
type routeTally struct {
	counts [4]uint64
	dirty  bool
	shared [4]atomic.Uint64
}

// tallyChunk is how the tallies grow: a chunk stays where it is, so that readers
// and the worker go on while there are more.
const tallyChunk = 1024

// routeTallies are a worker's tallies, by fib.Route.Counter. Number 0 is for
// routes that nobody counts: counted too, which is cheaper than to ask.
type routeTallies struct {
	chunks      []*[tallyChunk]routeTally
	dirtyRoutes []*routeTally
	lateAt      int64 // when to publish again
	shownRoutes atomic.Pointer[[]*[tallyChunk]routeTally]
}

// maxDirtyRoutes is when to publish early.
const maxDirtyRoutes = 256

// adoptRoutes makes room for n counters. What was counted stays.
func (w *worker) adoptRoutes(n uint32) {
	if w.dirtyRoutes == nil {
		w.dirtyRoutes = make([]*routeTally, 0, maxDirtyRoutes)
	}
	before := len(w.chunks)
	for uint32(len(w.chunks))*tallyChunk < max(n, 1) {
		w.chunks = append(w.chunks, new([tallyChunk]routeTally))
	}
	if len(w.chunks) > before {
		shown := w.chunks[:len(w.chunks):len(w.chunks)]
		w.shownRoutes.Store(&shown)
	}
}

// routeCount counts a packet that goes to a port for the route to its
// destination, and for the one back to its source.
func (w *worker) routeCount(f *frame) {
	t := w.of(f.route)
	w.markRoute(t)
	t.counts[0]++
	t.counts[1] += uint64(f.ip.Len)
	if f.source != 0 {
		t = w.of(f.source)
		w.markRoute(t)
		t.counts[2]++
		t.counts[3] += uint64(f.ip.Len)
	}
}

// of is the tally of a route's counter.
func (t *routeTallies) of(n uint32) *routeTally { return &t.chunks[n/tallyChunk][n%tallyChunk] }

// markRoute has a tally published late. Its first lines are a function of their own, small enough to be inlined.
func (w *worker) markRoute(t *routeTally) {
	if !t.dirty {
		w.markDirty(t)
	}
}

func (w *worker) markDirty(t *routeTally) {
	if len(w.dirtyRoutes) == maxDirtyRoutes {
		w.publishLate()
	}
	t.dirty = true
	w.dirtyRoutes = append(w.dirtyRoutes, t)
}

// publishLate shows others what was counted for routes since the last time, and
// the histograms.
func (w *worker) publishLate() {
	for _, t := range w.dirtyRoutes {
		for i := range t.counts {
			store(&t.shared[i], t.counts[i])
		}
		t.dirty = false
	}
	w.dirtyRoutes = w.dirtyRoutes[:0]
	w.batchSizes.publish()
	w.turnTimes.publish()
	w.lateAt = w.now + latePublishInterval
}

// RouteCounter adds up what all workers have counted for a fib.Route.Counter, at
// most a millisecond old. A number that is given to another route goes on from
// where it was: subtract what it had then (Sub).
func (r *Relay) RouteCounter(n uint32) (sum RouteCounters) {
	for _, w := range r.workers {
		shown := w.shownRoutes.Load()
		if shown == nil || int(n/tallyChunk) >= len(*shown) {
			continue
		}
		c := &(*shown)[n/tallyChunk][n%tallyChunk].shared
		sum.ToPackets += c[0].Load()
		sum.ToBytes += c[1].Load()
		sum.FromPackets += c[2].Load()
		sum.FromBytes += c[3].Load()
	}
	return sum
}
