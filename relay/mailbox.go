package relay

import (
	"sync"
	"sync/atomic"

	"github.com/sluicegw/sluice/internal/hosts"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// mailboxSize bounds the engine's datagrams that wait for a worker: a
// handshake each for as many peers.
const mailboxSize = 1024

// mailbox is how others reach a worker. The worker looks at count once per
// turn and takes the lock only when there is something.
type mailbox struct {
	count     atomic.Int32
	mu        sync.Mutex
	datagrams []wireguard.Datagram
	questions []hosts.Question
	packets   []PeerPacket
	arrivals  []Arrival // see arrival.go
	calls     []call
}

// call is something to do on the worker's goroutine; done is closed afterwards.
type call struct {
	do   func()
	done chan struct{}
}

func (m *mailbox) post(d wireguard.Datagram) bool { return postTo(m, &m.datagrams, d) }

func (m *mailbox) postQuestion(q hosts.Question) bool { return postTo(m, &m.questions, q) }

func (m *mailbox) postPacket(p PeerPacket) bool { return postTo(m, &m.packets, p) }

// postTo adds v to one of m's queues. False: it is full.
func postTo[T any](m *mailbox, queue *[]T, v T) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(*queue) >= mailboxSize {
		return false
	}
	*queue = append(*queue, v)
	m.count.Add(1)
	return true
}

func (m *mailbox) call(c call) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, c)
	m.count.Add(1)
}

// mail is what was in a mailbox.
type mail struct {
	datagrams []wireguard.Datagram
	questions []hosts.Question
	packets   []PeerPacket
	calls     []call
}

// take empties the mailbox and leaves the memory of spare in it.
func (m *mailbox) take(spare mail) mail {
	m.mu.Lock()
	defer m.mu.Unlock()
	got := mail{m.datagrams, m.questions, m.packets, m.calls}
	m.datagrams, m.questions, m.packets, m.calls = spare.datagrams[:0], nil, spare.packets[:0], nil
	m.count.Store(0)
	return got
}

// mail does what was posted: calls first, then the engine's datagrams, the
// learner's questions, the packets for peers and what came by way of the kernel.
func (w *worker) mail() bool {
	if w.mailbox.count.Load() == 0 {
		return false
	}
	got := w.mailbox.take(w.spareMail)
	for _, c := range got.calls {
		c.do()
		close(c.done)
	}
	if len(got.calls) > 0 {
		w.begin() // a call may have taken its time
	}
	for i := range got.datagrams {
		w.inject(&w.frames[0], &got.datagrams[i])
	}
	for i := range got.questions {
		w.question(&w.frames[0], &got.questions[i])
	}
	for i := range got.packets {
		if i > 0 && i%batchSize == 0 {
			w.sealAll() // the frames are needed again
		}
		w.control(&w.frames[i%batchSize], &got.packets[i])
	}
	w.sealAll()
	w.flush()
	clear(got.datagrams)
	clear(got.packets)
	w.spareMail = got
	w.arrivals()
	return true
}

// engineOffset is where what was posted starts in its frame: behind room
// for the outer headers.
const engineOffset = 192

// inject copies a datagram into a frame and sends it.
func (w *worker) inject(f *frame, d *wireguard.Datagram) {
	w.injected++
	if w.posted(f, fromEngine, d.Data) {
		w.engineOut(f, d.Endpoint)
	}
}

// posted makes f a packet with the bytes of something that was posted. False:
// there was no memory, or too little, and the packet has met its end.
func (w *worker) posted(f *frame, from origin, data []byte) bool {
	*f = frame{off: engineOffset, end: engineOffset + len(data), slot: -1, vpc: -1, origin: from}
	if f.end+maxSealing > w.umem.FrameSize() {
		f.long = 1 // whichever is free
	}
	if !w.alloc(f) {
		w.count(TxFull)
		return false
	}
	if f.end > len(f.chunk) {
		w.drop(f, NoRoom)
		return false
	}
	copy(f.data(), data)
	return true
}

// engineOut wraps and sends a datagram of the engine, or parks it until the
// way is known.
func (w *worker) engineOut(f *frame, to wireguard.Endpoint) {
	var adj adjacency
	w.buildPeer(&adj, to)
	w.keepAlive(&adj)
	switch adj.state {
	case ready:
		w.outer(f, &adj, 0, EngineSent)
	case through:
		f.cut = true // to wrap
		w.outer(f, &adj, 0, EngineSent)
		for i := range w.doubled.out {
			w.doubled.out[i].to = to
		}
		w.sealThrough()
	case unresolved:
		w.parkFor(f, parkKey{neigh: adj.key}, to)
	case noNeighbour:
		w.drop(f, NoNeighbour)
	case noPort:
		w.drop(f, NoPort)
	case noEndpoint:
		w.drop(f, NoEndpoint)
	default:
		w.drop(f, NeighbourUnreachable)
	}
}
