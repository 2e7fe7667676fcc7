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
	calls     []call
}

// call is something to do on the worker's goroutine; done is closed afterwards.
type call struct {
	do   func()
	done chan struct{}
}

func (m *mailbox) post(d wireguard.Datagram) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.datagrams) >= mailboxSize {
		return false
	}
	m.datagrams = append(m.datagrams, d)
	m.count.Add(1)
	return true
}

func (m *mailbox) postQuestion(q hosts.Question) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.questions) >= mailboxSize {
		return false
	}
	m.questions = append(m.questions, q)
	m.count.Add(1)
	return true
}

func (m *mailbox) call(c call) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, c)
	m.count.Add(1)
}

// take empties the mailbox and leaves the memory of datagrams in it.
func (m *mailbox) take(datagrams []wireguard.Datagram) ([]wireguard.Datagram, []hosts.Question, []call) {
	m.mu.Lock()
	defer m.mu.Unlock()
	got, questions, calls := m.datagrams, m.questions, m.calls
	m.datagrams, m.questions, m.calls = datagrams[:0], nil, nil
	m.count.Store(0)
	return got, questions, calls
}

// mail does what was posted: calls first, then the engine's datagrams and the
// learner's questions.
func (w *worker) mail() bool {
	if w.mailbox.count.Load() == 0 {
		return false
	}
	datagrams, questions, calls := w.mailbox.take(w.spareMail)
	for _, c := range calls {
		c.do()
		close(c.done)
	}
	if len(calls) > 0 {
		w.begin() // a call may have taken its time
	}
	for i := range datagrams {
		w.inject(&w.frames[0], &datagrams[i])
		datagrams[i] = wireguard.Datagram{}
	}
	for i := range questions {
		w.question(&w.frames[0], &questions[i])
	}
	w.flush()
	w.spareMail = datagrams[:0]
	return true
}

// engineOffset is where what was posted starts in its frame: behind room
// for the outer headers.
const engineOffset = 128

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
