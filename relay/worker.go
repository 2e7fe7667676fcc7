package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicegw/sluice/afxdp"
	"github.com/sluicegw/sluice/internal/hosts"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// worker is one thread of the data plane. It owns queue i of every port, a
// UMEM and everything below; only mailbox, awake and published are shared.
type worker struct {
	index   int
	umem    *afxdp.UMEM
	device  *wireguard.Device
	batch   *wireguard.Batch
	source  neigh.Source
	learner *hosts.Learner // nil: no host is learned
	logger  *slog.Logger
	spin    time.Duration
	cpu     int // -1: not pinned

	shared   *atomic.Pointer[state]
	newMTUs  *atomic.Pointer[[]int]             // see Relay.SetPeerMTUs
	echoes   *atomic.Pointer[[]echoListener]    // who waits for answers
	messages *atomic.Pointer[[]messageListener] // who waits for datagrams
	mailbox  mailbox
	waker    waker

	// As of the turn's beginning.
	now         int64
	state       *state
	table       *neigh.Table
	known       *hosts.Table
	mtus        *[]int
	generation  uint64 // of state, table, MTUs and queues together
	batchNumber uint64

	queues []queue
	frames [batchSize]frame
	descs  [batchSize]afxdp.Desc

	routes      routeCache
	routing     []*frame
	found       [batchSize]found // by index in routing
	touched     uint32           // see touchRoutes
	opening     []*frame
	openPackets []wireguard.Packet
	sealing     []*frame
	sealPackets []wireguard.Packet
	alone       [1]wireguard.Packet // see toPeerOver
	spareMail   mail

	spareArrivals []Arrival
	nextHandshake int64 // of those that come by way of the kernel

	longs      longBuffers
	copies     [copySlots]frame
	copied     int
	peers      []peerAdjacency
	hosts      []adjacency // by delivery
	neighbours []adjacency // by neighbourSlot
	park       park
	places     *placeCache
	glimpses   *[glimpseSlots]glimpse
	looks      bool  // at the sources of the batch in hand
	toldAt     int64 // begin of the millisecond in which the learner was told of
	told       int   // so many hosts
	meters     meters
	rules      *aclCache // nil until a list is long
	credits    []credit  // by limiter
	cutID      uint32    // identification of the last message that was cut; begins anywhere, as others send from our address too

	kernel int32 // the queue that leads to the host's kernel, -1: none

	taps          []*tap // of captures; set by Do
	sendingToPeer bool   // what is sent now is for a peer
	trace         *trace // nil: live

	tally
	polls   []unix.PollFd
	doubled doubled    // see through.go
	errors  errorLimit // last: it is large and rarely touched
}

// newWorker makes a worker of r.
func newWorker(index int, o Options, r *Relay) (*worker, error) {
	waker, err := newWaker()
	if err != nil {
		return nil, err
	}
	umem := o.UMEMs[index]
	total := min(o.ParkTotal, umem.Frames()/4)
	w := &worker{
		index: index, umem: umem, device: o.Device, batch: o.Device.NewBatch(), source: o.Neighbours, learner: o.Hosts,
		logger: o.Logger, spin: o.Spin, cpu: -1, waker: waker, generation: 1,
		shared: &r.state, newMTUs: &r.mtus, echoes: &r.echoes, messages: &r.messages, cutID: rand.Uint32(),
		routing: make([]*frame, 0, batchSize),
		opening: make([]*frame, 0, batchSize), openPackets: make([]wireguard.Packet, 0, batchSize),
		sealing: make([]*frame, 0, batchSize), sealPackets: make([]wireguard.Packet, 0, batchSize),
		neighbours: make([]adjacency, neighbourSlots), errors: newErrorLimit(o.ErrorRate),
		park: newPark(total, o.ParkPerKey, int64(o.ParkTime)), doubled: newDoubled(),
	}
	w.batch.Locate = w.locate
	if len(o.CPUs) > 0 {
		w.cpu = o.CPUs[index%len(o.CPUs)]
	}
	w.begin()
	return w, nil
}

// run works until ctx ends.
func (w *worker) run(ctx context.Context) error {
	// Not unlocked when pinned: the thread ends with the goroutine, and with it its affinity.
	runtime.LockOSThread()
	if w.cpu >= 0 {
		var set unix.CPUSet
		set.Set(w.cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("pin worker %d to cpu %d: %w", w.index, w.cpu, err)
		}
	} else {
		defer runtime.UnlockOSThread()
	}
	w.logger.Debug("worker runs", "worker", w.index, "cpu", w.cpu, "frames", w.umem.Frames())
	stop := context.AfterFunc(ctx, w.waker.wake)
	defer stop()
	var idleSince int64
	for ctx.Err() == nil {
		if w.turn() {
			idleSince = 0
			continue
		}
		if idleSince == 0 {
			idleSince = w.now
		}
		if w.now-idleSince < int64(w.spin) {
			continue
		}
		if err := w.sleep(); err != nil {
			return fmt.Errorf("worker %d: %w", w.index, err)
		}
		idleSince = 0
	}
	w.emptyPark()
	w.publish()
	return nil
}

// turn is one round: once over the mailbox, what is parked and every queue. It
// says whether there was anything to do.
func (w *worker) turn() bool {
	before := w.now
	w.begin()
	if w.worked {
		w.turnTimes.observe(uint64(w.now - before))
	}
	worked := w.mail()
	worked = w.retry() || worked
	for slot := range w.queues {
		worked = w.receive(slot) || worked
	}
	for i := range w.queues {
		w.queues[i].Reclaim()
		w.queues[i].Fill()
	}
	if worked {
		w.publish()
	} else if w.worked {
		w.publishLate()
	}
	w.worked = worked
	return worked
}

// begin reads the clock and takes up what others have published since.
func (w *worker) begin() {
	w.now = w.device.Clock()
	w.batchNumber++
	if w.learner != nil {
		w.takeHosts()
	}
	table, state, mtus := w.source.Table(), w.shared.Load(), w.newMTUs.Load()
	if table == w.table && state == w.state && mtus == w.mtus {
		return
	}
	w.generation++
	w.table, w.mtus = table, mtus
	if state != w.state {
		w.adopt(state)
	}
}

// adopt makes a new state the worker's own.
func (w *worker) adopt(s *state) {
	if w.state != nil {
		w.remap(w.state, s)
	}
	w.state = s
	clear(w.routes[:])
	w.peers = make([]peerAdjacency, len(s.peers))
	w.hosts = make([]adjacency, len(s.deliveries))
	w.longs.provide(s.ports, w.umem.FrameSize())
	w.adoptVPCs(s)
	w.adoptRoutes(s.counters)
	w.adoptPlaces(s)
	w.meters.adopt(s.meters)
	w.adoptRules(s)
	w.adoptLimits(s)
	w.bindPorts()
}

// bindPorts finds the ports of the queues.
func (w *worker) bindPorts() {
	if w.glimpses != nil {
		clear(w.glimpses[:]) // they name queues by their index
	}
	for i := range w.queues {
		q := &w.queues[i]
		q.port = -1
		for at := range w.state.ports {
			if w.state.ports[at].ifindex == q.ifindex {
				q.port = int32(at)
			}
		}
	}
	w.bindKernel()
}

// slotOf is the index of the queue of an interface, or -1.
func (w *worker) slotOf(ifindex uint32) int {
	for i := range w.queues {
		if w.queues[i].ifindex == ifindex {
			return i
		}
	}
	return -1
}

// setQueues replaces the queues: those that stay keep what they hold, those
// that go are closed.
func (w *worker) setQueues(queues []PortQueue) error {
	next := make([]queue, 0, len(queues))
	for _, p := range queues {
		q := queue{Queue: p.Queue, ifindex: p.Ifindex}
		for i := range w.queues {
			if w.queues[i].Queue == p.Queue {
				q = w.queues[i]
				q.ifindex = p.Ifindex
				w.queues[i].Queue = nil
			}
		}
		next = append(next, q)
	}
	var errs []error
	for i := range w.queues {
		if old := w.queues[i].Queue; old != nil {
			w.longs.abandon(&w.queues[i].joining)
			if err := old.Close(); err != nil {
				errs = append(errs, fmt.Errorf("close queue of ifindex %d: %w", w.queues[i].ifindex, err))
			}
		}
	}
	for i := range w.park.list {
		w.park.list[i].slot = -1
	}
	w.queues = next
	w.generation++
	w.bindPorts()
	for i := range w.queues {
		w.queues[i].Fill()
	}
	return errors.Join(errs...)
}

// receive takes a batch from one queue through the pipeline.
func (w *worker) receive(slot int) bool {
	n := w.queues[slot].Receive(w.descs[:])
	if n == 0 {
		return false
	}
	w.batches++
	w.batchSizes.observe(uint64(n))
	q := &w.queues[slot]
	w.looks = w.looksOut(q, n)
	for i := range n {
		f, d := &w.frames[i], w.descs[i]
		if d.Options&descContinued != 0 || q.joining.active {
			whole, alive := w.join(q, f, d, slot)
			if whole {
				w.received++
			}
			if !alive {
				continue
			}
		} else {
			w.received++
			w.take(f, d, slot)
		}
		if len(w.taps) > 0 {
			w.tapReceived(f)
		}
		w.classify(f)
	}
	w.openAll()
	w.routeAll()
	w.sealAll()
	w.flush()
	return true
}
