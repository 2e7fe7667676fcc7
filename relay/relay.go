package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluicegw/sluice/afxdp"
	"github.com/sluicegw/sluice/internal/hosts"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// Queue is one hardware queue of a port. *afxdp.Socket is one; relaytest has
// one in memory. Only the worker that owns the queue calls its methods, so
// none of them needs to be safe for concurrent use.
type Queue interface {
	// Receive moves up to len(dst) received packets to the worker.
	Receive(dst []afxdp.Desc) int
	// Fill gives the queue free frames of the UMEM's pool to receive into.
	Fill() int
	// Send takes as many packets as there is room for and says how many; the
	// frames of the others stay the worker's.
	Send(src []afxdp.Desc) int
	// Kick makes the kernel send what was given, if it needs to be told.
	Kick() error
	// Reclaim returns the frames of packets that have left to the pool.
	Reclaim() int
	// FD is waited on when there is nothing to do; -1 if there is none.
	FD() int
	// Close is called when the worker lets go of the queue, on the worker's
	// thread, because it returns frames to the worker's pool.
	Close() error
}

// PortQueue is a worker's queue of one port.
type PortQueue struct {
	Ifindex uint32
	Queue   Queue
}

// Options of a Relay. Device, Neighbours and at least one UMEM are required.
type Options struct {
	// Device holds the peers' sessions.
	Device *wireguard.Device
	// Neighbours resolves next hops.
	Neighbours neigh.Source
	// Hosts finds and learns the hosts of deliveries that are Learned; nil: there are none.
	Hosts *hosts.Learner
	// UMEMs, one for each worker. Worker i is given queue i of every port,
	// and all of these are sockets on UMEMs[i]. Owned by the caller, who may
	// look at a pool only while its worker does not run.
	UMEMs []*afxdp.UMEM
	// CPUs to pin the workers' threads to, worker i to CPUs[i%len]. Empty:
	// the scheduler decides.
	CPUs []int
	// Spin is how long an idle worker looks at its rings before it sleeps in
	// poll(2). 0 means 30 µs; negative: sleep at once.
	Spin time.Duration
	// ErrorRate is how many ICMP errors per second one worker sends at most, and
	// ten times as many as to any one host. 0 means 1000; negative: none.
	ErrorRate int
	// ParkTime is how long a packet waits for a session or a neighbour before
	// it is dropped. 0 means 6 s (more than WireGuard's REKEY_TIMEOUT with its jitter: one lost
	// handshake message does not lose the packet).
	ParkTime time.Duration
	// ParkPerKey bounds the packets that wait for one peer or neighbour
	// (0 means 32), ParkTotal those of one worker (0 means 1024, and never
	// more than a quarter of its frames).
	ParkPerKey, ParkTotal int
	// Logger takes what an operator wants to know of; nil: nothing is logged.
	Logger *slog.Logger
}

// Relay moves packets between the ports of a gateway. Its methods may be
// called from any goroutine.
type Relay struct {
	workers []*worker
	state   atomic.Pointer[state]

	mu      sync.Mutex // guards running, changes of echoes and messages, and the workers themselves while running is false
	running bool
	next    atomic.Uint32 // worker for the next injected datagram

	mtus     atomic.Pointer[[]int]
	echoes   atomic.Pointer[[]echoListener]
	messages atomic.Pointer[[]messageListener]

	captures     sync.Mutex // guards captureCount; held while taps come and go
	captureCount int
}

// New checks the options. The relay forwards nothing until it has queues
// (SetQueues), a snapshot (Update) and runs (Run), in any order. Close ends it.
func New(o Options) (*Relay, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	r := new(Relay)
	r.init(&state{defaultVPC: -1}, new([]int))
	for i := range o.UMEMs {
		w, err := newWorker(i, o, r)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("new relay: %w", err), r.closeWakers())
		}
		r.workers = append(r.workers, w)
	}
	return r, nil
}

// init publishes what workers take up first.
func (r *Relay) init(s *state, mtus *[]int) {
	r.state.Store(s)
	r.mtus.Store(mtus)
	r.echoes.Store(new([]echoListener))
	r.messages.Store(new([]messageListener))
}

func (o Options) check() error {
	var errs []error
	if o.Device == nil {
		errs = append(errs, errors.New("new relay: no device"))
	}
	if o.Neighbours == nil {
		errs = append(errs, errors.New("new relay: no neighbour source"))
	}
	if len(o.UMEMs) == 0 {
		errs = append(errs, errors.New("new relay: no umem"))
	}
	for i, u := range o.UMEMs {
		if u == nil {
			errs = append(errs, fmt.Errorf("new relay: umem %d is nil", i))
		}
	}
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	if o.Spin == 0 {
		o.Spin = 30 * time.Microsecond
	}
	if o.ErrorRate == 0 {
		o.ErrorRate = defaultErrorRate
	}
	if o.ParkTime == 0 {
		o.ParkTime = defaultParkTime
	}
	if o.ParkPerKey == 0 {
		o.ParkPerKey = defaultParkPerKey
	}
	if o.ParkTotal == 0 {
		o.ParkTotal = defaultParkTotal
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Update publishes the forwarding state: each worker takes it up with its next
// batch. A snapshot that contradicts itself is refused as a whole, with all
// its problems, and the last one stays.
func (r *Relay) Update(s *Snapshot) error {
	next, err := compile(s)
	if err != nil {
		return err
	}
	next.fill(r.state.Load(), len(r.workers))
	r.state.Store(next)
	r.Wake() // what is parked may have somewhere to go now
	return nil
}

// SetQueues replaces the queues of one worker (at most one for each port).
// Queues that are in both sets go on undisturbed; those that are gone are
// closed by the worker. It returns when the new set is in force. An error is
// that of closing a queue; the new set is in force nevertheless.
func (r *Relay) SetQueues(worker int, queues []PortQueue) error {
	if worker < 0 || worker >= len(r.workers) {
		return fmt.Errorf("set queues: no worker %d", worker)
	}
	for i := range queues {
		for _, q := range queues[:i] {
			if q.Ifindex == queues[i].Ifindex {
				return fmt.Errorf("set queues of worker %d: ifindex %d occurs twice", worker, q.Ifindex)
			}
		}
	}
	var err error
	r.Do(worker, func() { err = r.workers[worker].setQueues(queues) })
	return err
}

// Do calls f on worker i's goroutine between two batches, or right here while
// the relay does not run, and returns when f has returned. That is where
// sockets are opened, because a worker owns the pool of its UMEM. f must be
// short, and must not call Do or SetQueues.
func (r *Relay) Do(i int, f func()) {
	w := r.workers[i]
	r.mu.Lock()
	if !r.running {
		defer r.mu.Unlock()
		f()
		return
	}
	done := make(chan struct{})
	w.mailbox.call(call{do: f, done: done})
	r.mu.Unlock()
	w.waker.wake()
	<-done
}

// Run runs the workers until ctx ends, then returns nil; parked packets are
// dropped, and the queues stay open: SetQueues(worker, nil) closes them. An
// error of one worker stops all. Run may be called again.
func (r *Relay) Run(ctx context.Context) error {
	r.mu.Lock()
	if r.running {
		r.mu.Unlock()
		return errors.New("run relay: it runs already")
	}
	r.running = true
	r.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	for _, w := range r.workers {
		g.Go(func() error { return w.run(ctx) })
	}
	err := g.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = false
	for _, w := range r.workers {
		w.mail() // what came too late for the worker still has somebody waiting
		w.emptyPark()
		w.publish()
	}
	if err != nil {
		return fmt.Errorf("run relay: %w", err)
	}
	return nil
}

// Close releases what New took, after Run has returned. The queues are
// closed; the UMEMs stay the caller's.
func (r *Relay) Close() error {
	var errs []error
	for i := range r.workers {
		errs = append(errs, r.SetQueues(i, nil))
	}
	return errors.Join(append(errs, r.closeWakers())...)
}

func (r *Relay) closeWakers() error {
	var errs []error
	for _, w := range r.workers {
		errs = append(errs, w.waker.close())
	}
	return errors.Join(errs...)
}

// Wake makes sleeping workers look around: call it when the neighbour table or
// that of hosts changed (neigh.Options.OnChange, hosts.Options.OnChange). It never blocks.
func (r *Relay) Wake() {
	for _, w := range r.workers {
		w.waker.wake()
	}
}

// Inject hands a datagram of the WireGuard engine (wireguard.Options.Send) to
// a worker, which wraps and sends it. It never blocks; false means that the
// mailbox was full and the datagram is lost, as any datagram may be. d.Data is
// owned: the relay's from now on.
func (r *Relay) Inject(d wireguard.Datagram) bool {
	w := r.workers[int(r.next.Add(1))%len(r.workers)]
	if !w.mailbox.post(d) {
		return false
	}
	w.waker.wake()
	return true
}

// Counters adds up those of all workers; each is as of the end of its last batch.
func (r *Relay) Counters() Counters {
	var sum Counters
	for _, w := range r.workers {
		sum.add(w.counters())
	}
	return sum
}

// WorkerCounters are the counters of worker i alone.
func (r *Relay) WorkerCounters(i int) Counters { return r.workers[i].counters() }

// Workers is how many workers there are.
func (r *Relay) Workers() int { return len(r.workers) }
