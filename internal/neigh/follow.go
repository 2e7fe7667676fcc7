package neigh

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// settleTime is how long changes gather before links are read and routes are asked for anew: a change of the
	// administrator's makes a row of events.
	settleTime = 10 * time.Millisecond
	// publishTime is how long changes of entries gather. The first answer to a question does not wait.
	publishTime = 5 * time.Millisecond
	// scanInterval is how soon a mark is seen, and how precise timeouts are.
	scanInterval = 500 * time.Millisecond
	// Between two looks at events and questions: a route takes some 10 µs to ask for.
	questionsPerRound, routesPerRound, eventsPerRound = 64, 64, 1024
	// manyPrefixes: with so many changed prefixes all routes are asked for.
	manyPrefixes = 64
)

// follow is one life of the sockets. It returns nil when ctx is done.
func (k *Kernel) follow(ctx context.Context) error {
	received := make(chan received, 64)
	stop := make(chan struct{})
	var reader sync.WaitGroup
	defer reader.Wait()
	defer k.netlink.events.Close() // ends the reader's waiting
	defer close(stop)
	reader.Go(func() { read(k.netlink, received, stop) })

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.closing:
			return ErrClosed
		case r := <-received:
			k.cache.now = time.Now()
			if err := k.receive(r, received); err != nil {
				return err
			}
		case <-k.questions.wake:
			k.cache.now = time.Now()
			k.batch = k.questions.take(k.batch[:0], questionsPerRound)
			for _, key := range k.batch {
				k.cache.ask(key)
			}
		case <-timer.C:
			k.cache.now = time.Now()
		}
		if err := k.round(); err != nil {
			return err
		}
		timer.Reset(k.next())
	}
}

// received is what the reader hands over.
type received struct {
	events []event
	err    error
}

// read is the goroutine that waits for the kernel; it decides nothing.
func read(n *rtnetlink, to chan<- received, stop <-chan struct{}) {
	for {
		events, err := n.receive()
		select {
		case to <- received{events, err}:
		case <-stop:
			return
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
	}
}

// receive takes in r and what else is there.
func (k *Kernel) receive(r received, more <-chan received) error {
	for n := 0; ; {
		switch {
		case errors.Is(r.err, unix.ENOBUFS):
			// The kernel had more to tell than the socket could hold: what is in the buffer is older than what we read now, and
			// comes to the same in the end.
			k.options.Logger.Info("rtnetlink overflow, reading everything again")
			if err := k.resync(); err != nil {
				return err
			}
		case r.err != nil:
			return fmt.Errorf("receive from rtnetlink: %w", r.err)
		}
		for _, ev := range r.events {
			k.event(ev)
		}
		if n += len(r.events); n >= eventsPerRound {
			return nil
		}
		select {
		case r = <-more:
		default:
			return nil
		}
	}
}

func (k *Kernel) event(ev event) {
	switch ev.kind {
	case neighbourEvents:
		k.cache.neighbour(ev.neighbour)
	case linkEvents:
		soon(&k.linksAt, k.cache.now.Add(settleTime))
	case routeEvents:
		soon(&k.routesAt, k.cache.now.Add(settleTime))
		k.allRoutes = k.allRoutes || !ev.prefix.IsValid() || len(k.prefixes) >= manyPrefixes
		if !k.allRoutes {
			k.prefixes = append(k.prefixes, ev.prefix)
		}
	}
}

// soon sets a time unless there is one.
func soon(t *time.Time, at time.Time) {
	if t.IsZero() {
		*t = at
	}
}

func due(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

// round does what is due.
func (k *Kernel) round() error {
	c := k.cache
	if due(k.linksAt, c.now) {
		if err := k.readLinks(); err != nil {
			return err
		}
	}
	if due(k.routesAt, c.now) {
		k.reroute()
	}
	c.work(routesPerRound)
	if !c.now.Before(k.scanAt) {
		k.scanAt = c.now.Add(scanInterval)
		c.scan()
	}
	if c.pending() {
		soon(&k.publishAt, c.now.Add(publishTime))
	}
	if c.urgent || due(k.publishAt, c.now) {
		k.publishAt = time.Time{}
		old := k.Table()
		if t := c.publish(old, k.questions.done); t != old {
			k.table.Store(t)
			k.changed = true
		}
	}
	if k.changed {
		k.changed = false
		k.options.OnChange()
	}
	return nil
}

func (k *Kernel) reroute() {
	var match func(netip.Addr) bool
	if !k.allRoutes {
		match = func(a netip.Addr) bool {
			for _, p := range k.prefixes {
				if p.Contains(a) {
					return true
				}
			}
			return false
		}
	}
	k.cache.reroute(match)
	k.routesAt, k.prefixes, k.allRoutes = time.Time{}, k.prefixes[:0], false
}

// next is how long there is nothing to do.
func (k *Kernel) next() time.Duration {
	if len(k.cache.stale) > 0 {
		return 0
	}
	at := k.scanAt
	if len(k.cache.records) == 0 {
		at = k.cache.now.Add(time.Hour) // no marks to look at
	}
	for _, t := range []time.Time{k.linksAt, k.routesAt, k.publishAt} {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	return max(0, time.Until(at))
}
