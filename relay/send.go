package relay

import (
	"github.com/sluicegw/sluice/afxdp"
)

// batchSize is how many packets a worker takes at a time: beyond 32 a batch
// gains nothing, beyond 64 it leaves the first-level cache.
const batchSize = 64

// queue is a worker's queue of one port, with what waits to be sent.
type queue struct {
	Queue
	ifindex  uint32
	port     int32 // index in the state's ports, -1 when the snapshot lacks it
	joining  joining
	looks    uint32 // a random number for looksOut
	txLen    int
	tx       [batchSize]afxdp.Desc
	verdicts [batchSize]Verdict // what each will have met when it is sent
	ranks    ranks              // where something is limited
}

// send queues a finished packet. Its verdict counts once the port has taken it.
func (w *worker) send(f *frame, slot int32, v Verdict) {
	if len(w.taps) > 0 {
		w.tapSent(f, slot, v)
	}
	if f.long > 0 {
		w.sendLong(f, slot, v)
		return
	}
	q := &w.queues[slot]
	if q.txLen == batchSize {
		w.flushQueue(q)
	}
	q.tx[q.txLen] = afxdp.Desc{Addr: f.base + uint64(f.off), Len: uint32(f.end - f.off)}
	q.verdicts[q.txLen] = v
	if w.state.shaped {
		q.ranks[q.txLen] = classOut(f)
	}
	q.txLen++
}

// flush gives every port what waits for it.
func (w *worker) flush() {
	for i := range w.queues {
		if w.queues[i].txLen > 0 {
			w.flushQueue(&w.queues[i])
		}
	}
}

// flushQueue sends and kicks. What finds no room even after the kernel was
// told to send and its completions were taken back is dropped: the newest,
// because the ring keeps what it has; of the lowest class, where there are limits.
func (w *worker) flushQueue(q *queue) {
	if w.state.shaped {
		q.rank()
	}
	sent := q.Send(q.tx[:q.txLen])
	w.kick(q)
	if sent < q.txLen {
		q.Reclaim()
		if more := q.Send(q.tx[sent:q.txLen]); more > 0 {
			sent += more
			w.kick(q)
		}
	}
	for i := sent; i < q.txLen; i++ {
		w.unsent(q, i)
	}
	if w.trace != nil {
		w.trace.sent(q)
	}
	for _, v := range q.verdicts[:q.txLen] {
		if v != pending { // only a part of a packet
			w.tally.count(v)
		}
	}
	q.txLen = 0
}

// unsent ends a packet for which a transmit ring had no room.
func (w *worker) unsent(q *queue, i int) {
	if len(w.taps) > 0 {
		w.tapUnsent(q, i)
	}
	w.umem.Free(q.tx[i].Addr)
	if q.verdicts[i] != pending {
		q.verdicts[i] = TxFull
	}
}

func (w *worker) kick(q *queue) {
	if err := q.Kick(); err != nil {
		// Counted, not logged: it may be so for every batch while a link is
		// down. The packets stay in the ring or are dropped by the kernel.
		w.kickErrors++
	}
}

// drop ends a packet: its frame is free again.
func (w *worker) drop(f *frame, v Verdict) {
	w.end(f, v)
	w.free(f)
}

// end gives a packet its verdict; its frame stays the worker's.
func (w *worker) end(f *frame, v Verdict) {
	w.count(v)
	if v.Good() {
		return
	}
	if f.vpc >= 0 {
		w.vpcCount(f).counts[4]++
	}
	if len(w.taps) > 0 {
		w.tapDropped(f, v)
	}
}

func (w *worker) count(v Verdict) {
	if w.trace != nil {
		w.trace.verdict(v)
	}
	w.tally.count(v)
}
