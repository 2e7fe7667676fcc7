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
)

// ErrClosed is returned by Run after Close.
var ErrClosed = errors.New("neighbour watch is closed")

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
	k.table.Store(newTable())
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
