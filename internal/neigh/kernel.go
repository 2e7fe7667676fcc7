package neigh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrClosed is returned by Run after Close.
var ErrClosed = errors.New("neighbour watch is closed")

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

// Options of Watch; the zero value works.
type Options struct {
	// OnChange is called from the goroutine of Run after a new Table or new Links were published. It must not block.
	OnChange func()
	// Logger gets what cannot be returned to anybody (a socket that had to be reopened). Default: discard.
	Logger *slog.Logger
	// MaxEntries bounds the table; beyond it the entries that were unused the longest are forgotten. Default 16384.
	MaxEntries int
	// IdleTimeout is how long an entry stays without being used. Default 10 minutes.
	IdleTimeout time.Duration

	buffer int // of the subscription; 0: receiveBuffer
}

func (o Options) withDefaults() (Options, error) {
	if o.MaxEntries < 0 || o.IdleTimeout < 0 {
		return o, fmt.Errorf("watch neighbours: negative limit (%d entries, idle timeout %v)", o.MaxEntries, o.IdleTimeout)
	}
	if o.OnChange == nil {
		o.OnChange = func() {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxEntries == 0 {
		o.MaxEntries = 16384
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = 10 * time.Minute
	}
	if o.buffer == 0 {
		o.buffer = receiveBuffer
	}
	return o, nil
}

// Kernel is a Source that asks the kernel of one network namespace and follows its changes.
type Kernel struct {
	options   Options
	ns        netns.NsHandle
	table     atomic.Pointer[Table]
	links     atomic.Pointer[Links]
	questions *questions
	closing   chan struct{}

	mu      sync.Mutex // guards the life of the sockets
	closed  bool
	running bool
	ended   chan struct{} // closed when Run has returned

	// Of the goroutine of Run, or of Watch before there is one.
	netlink   *rtnetlink
	cache     *cache
	linksAt   time.Time // when to read the links, zero: no need
	routesAt  time.Time // when to ask for the routes of changed prefixes
	prefixes  []netip.Prefix
	allRoutes bool
	publishAt time.Time
	scanAt    time.Time
	changed   bool // OnChange is to be called
	batch     []Key
}

// Watch opens the sockets in the calling thread's network namespace and reads the links, so that Links is complete
// when it returns. Run does the rest; Close is to be called also when Run never was.
func Watch(o Options) (_ *Kernel, err error) {
	if o, err = o.withDefaults(); err != nil {
		return nil, err
	}
	k := &Kernel{options: o, questions: newQuestions(), closing: make(chan struct{}), ended: make(chan struct{})}
	k.table.Store(new(Table))
	k.links.Store(new(Links))
	if k.ns, err = netns.Get(); err != nil {
		return nil, fmt.Errorf("watch neighbours: open network namespace: %w", err)
	}
	k.cache = newCache(nil, o)
	if err := k.connect(netns.None()); err != nil {
		return nil, errors.Join(fmt.Errorf("watch neighbours: %w", err), k.ns.Close())
	}
	return k, nil
}

// Table implements Source.
func (k *Kernel) Table() *Table { return k.table.Load() }

// Links returns the current snapshot of the interfaces, never nil.
func (k *Kernel) Links() *Links { return k.links.Load() }

// Resolve implements Source. For a key without an entry it costs a mutex that is held for one map operation.
func (k *Kernel) Resolve(key Key) {
	if e := k.Table().Lookup(key); e != nil {
		e.Use()
		return
	}
	k.questions.add(key)
}

// Close stops Run, waits for its end and closes the sockets. It may be called more than once.
func (k *Kernel) Close() error {
	k.mu.Lock()
	first, running := !k.closed, k.running
	k.closed = true
	k.mu.Unlock()
	if first {
		close(k.closing)
	}
	if running {
		<-k.ended
		return nil
	}
	if first {
		return k.release()
	}
	return nil
}

func (k *Kernel) release() error {
	k.netlink.close()
	return k.ns.Close()
}

// Run answers questions and follows changes until ctx is done (it returns nil) or Close is called (ErrClosed). It runs
// once: the sockets are closed when it returns.
func (k *Kernel) Run(ctx context.Context) error {
	k.mu.Lock()
	if k.closed || k.running {
		k.mu.Unlock()
		return ErrClosed
	}
	k.running = true
	k.mu.Unlock()
	defer func() {
		if err := k.release(); err != nil {
			k.options.Logger.Warn("close network namespace", "err", err)
		}
		close(k.ended)
	}()
	for {
		err := k.follow(ctx)
		if err == nil {
			return nil
		}
		if errors.Is(err, ErrClosed) {
			return err
		}
		k.options.Logger.Warn("follow rtnetlink, opening it again", "err", err)
		if err := k.reconnect(ctx); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// connect opens the sockets and reads everything: what happened while there were none shows in the difference.
func (k *Kernel) connect(ns netns.NsHandle) error {
	n, err := open(ns, k.options.buffer)
	if err != nil {
		return err
	}
	k.netlink, k.cache.sys, k.cache.now = n, n, time.Now()
	if err := k.resync(); err != nil {
		n.close()
		return err
	}
	return nil
}

// reconnect tries until it works, ctx is done (nil) or the Kernel is closed.
func (k *Kernel) reconnect(ctx context.Context) error {
	k.netlink.close()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := k.reopen()
		if err == nil {
			return nil
		}
		k.options.Logger.Warn("open rtnetlink again", "err", err, "again_in", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-k.closing:
			return ErrClosed
		case <-time.After(pause):
		}
	}
}

// reopen enters the namespace of Watch only when this thread is in another: entering takes CAP_SYS_ADMIN.
func (k *Kernel) reopen() error {
	here, err := netns.Get()
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	ns := k.ns
	if here.Equal(k.ns) {
		ns = netns.None()
	}
	return errors.Join(k.connect(ns), here.Close())
}

// resync reads links and neighbours and asks for all routes anew.
func (k *Kernel) resync() error {
	neighbours, err := k.netlink.neighbours()
	if err != nil {
		return err
	}
	if err := k.readLinks(); err != nil {
		return err
	}
	k.cache.replaceNeighbours(neighbours)
	return nil
}

func (k *Kernel) readLinks() error {
	links, err := k.netlink.readLinks()
	if err != nil {
		return err
	}
	k.linksAt = time.Time{}
	changed := k.cache.setLinks(links)
	k.cache.reroute(nil)
	if changed {
		k.links.Store(links)
		k.changed = true
	}
	return nil
}

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
