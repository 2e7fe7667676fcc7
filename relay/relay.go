package relay

import (
	"context"
	"log/slog"
	"time"

	"github.com/sluicegw/sluice/afxdp"
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
	// ErrorRate is how many ICMP errors per second one worker sends at most.
	// 0 means 100; negative: none.
	ErrorRate int
	// ParkTime is how long a packet waits for a session or a neighbour before
	// it is dropped. 0 means 5 s (WireGuard's REKEY_TIMEOUT: one lost
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
type Relay struct{}

// New checks the options. The relay forwards nothing until it has queues
// (SetQueues), a snapshot (Update) and runs (Run), in any order.
func New(Options) (*Relay, error) { return nil, nil }

// Update publishes the forwarding state: each worker takes it up with its next
// batch. A snapshot that contradicts itself is refused as a whole, with all
// its problems, and the last one stays.
func (*Relay) Update(*Snapshot) error { return nil }

// SetQueues replaces the queues of one worker (at most one for each port).
// Queues that are in both sets go on undisturbed; those that are gone are closed by the
// worker, with what they hold dropped. It returns when the worker has done
// so, which needs Run, or at once while the relay is not running. An error is
// that of closing a queue; the new set is in force nevertheless.
func (*Relay) SetQueues(worker int, queues []PortQueue) error { return nil }

// Run runs the workers until ctx ends, then returns nil; parked packets are
// dropped, every frame that a worker holds is back in its pool, and the queues
// stay open: SetQueues(worker, nil) closes them.
func (*Relay) Run(ctx context.Context) error { return nil }

// Wake makes sleeping workers look around: call it when the neighbour table
// changed (neigh.Options.OnChange). It never blocks.
func (*Relay) Wake() {}

// Inject hands a datagram of the WireGuard engine (wireguard.Options.Send) to
// a worker, which wraps and sends it. It never blocks; false means that the
// mailbox was full and the datagram is lost, as any datagram may be. d.Data is
// owned: the relay's from now on.
func (*Relay) Inject(d wireguard.Datagram) bool { return false }

// Counters adds up those of all workers; each is as of the end of its last batch.
func (*Relay) Counters() Counters { return Counters{} }

// WorkerCounters are the counters of worker i alone.
func (*Relay) WorkerCounters(i int) Counters { return Counters{} }

// Workers is how many workers there are.
func (*Relay) Workers() int { return 0 }
