package relay

import (
	"github.com/sluicegw/sluice/afxdp"
)

// Where something is limited towards peers the WAN is taken for the bottleneck,
// and the transmit ring for what fills first: then what a queue is given at once is
// put in the order of its classes, so that what finds no room is the newest of
// the lowest. Within a class the order stays, and with it that of every flow.

// ranks are the classes of what waits in a queue.
type ranks [batchSize]uint8

// classOut is the class of a packet that leaves; handshakes are the highest.
func classOut(f *frame) uint8 {
	if f.origin == fromEngine {
		return 0
	}
	return classOf[f.ip.TOS>>2]
}

// rank orders what waits in a queue by class.
func (q *queue) rank() {
	var count [NumClasses]int
	for _, c := range q.ranks[:q.txLen] {
		count[c]++
	}
	if count[q.ranks[0]] == q.txLen {
		return
	}
	var at [NumClasses]int
	for c := 1; c < NumClasses; c++ {
		at[c] = at[c-1] + count[c-1]
	}
	var tx [batchSize]afxdp.Desc
	var verdicts [batchSize]Verdict
	copy(tx[:], q.tx[:q.txLen])
	copy(verdicts[:], q.verdicts[:q.txLen])
	for i, c := range q.ranks[:q.txLen] {
		q.tx[at[c]], q.verdicts[at[c]] = tx[i], verdicts[i]
		at[c]++
	}
}
