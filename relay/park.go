package relay

import (
	"github.com/sluicegw/sluice/internal/hosts"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// What we chose for Options' zero values.
const (
	defaultParkTime   = 6_000_000_000 // ns
	defaultParkPerKey = 32
	defaultParkTotal  = 1024
)

// parked is a packet that waits. It is an inner packet again, as it was before
// route, or a datagram of the engine before its outer headers.
type parked struct {
	frame
	key      parkKey
	deadline int64
	endpoint wireguard.Endpoint // fromEngine: where to
}

// parkKey is what a packet waits for: the session of a peer, a neighbour, or word of a host.
type parkKey struct {
	peer  *wireguard.Peer
	neigh neigh.Key
	host  hosts.Key
}

// park holds a worker's waiting packets in the order they came, bounded in
// total and for each key. Nothing here is on the fast path.
type park struct {
	list, spare   []parked
	perKey        map[parkKey]int
	limit, keyMax int
	time          int64
	epoch         uint64
	generation    uint64
	retryAt       int64
}

func newPark(limit, keyMax int, time int64) park {
	return park{list: make([]parked, 0, limit), spare: make([]parked, 0, limit), perKey: make(map[parkKey]int),
		limit: limit, keyMax: keyMax, time: time}
}

// parkForSession keeps a packet until its peer has a session. The engine knows
// already: Seal has told it.
func (w *worker) parkForSession(f *frame) {
	w.parkFor(f, parkKey{peer: w.state.peers[f.peer].wireguard}, wireguard.Endpoint{})
}

// parkForNeighbour keeps a packet until there is word of a neighbour.
func (w *worker) parkForNeighbour(f *frame, key neigh.Key) {
	w.parkFor(f, parkKey{neigh: key}, wireguard.Endpoint{})
}

func (w *worker) parkFor(f *frame, key parkKey, to wireguard.Endpoint) {
	if f.flooded { // taken up again it would be flooded again
		v := NoNeighbour
		if key.peer != nil {
			v = NoSession
		}
		w.drop(f, v)
		return
	}
	p := &w.park
	deadline := w.now + p.time
	if f.deadline != 0 { // it has waited before: its time goes on
		deadline = f.deadline
	}
	if len(p.list) >= p.limit || p.perKey[key] >= p.keyMax {
		w.drop(f, ParkFull)
		return
	}
	f.deadline = deadline
	p.perKey[key]++
	p.list = append(p.list, parked{frame: *f, key: key, deadline: deadline, endpoint: to})
}

// retry takes parked packets up again when something they may wait for has
// changed, and ends those whose time is over. Packets keep their order.
func (w *worker) retry() bool {
	p := &w.park
	if len(p.list) == 0 {
		return false
	}
	epoch := w.device.Epoch()
	if epoch == p.epoch && w.generation == p.generation && w.now < p.retryAt {
		return false
	}
	p.epoch, p.generation = epoch, w.generation
	// Without news too, now and then: to expire, and to ask again for
	// neighbours whose question may have been lost.
	p.retryAt = w.now + 100_000_000
	p.list, p.spare = p.spare[:0], p.list
	clear(p.perKey)
	for start := 0; start < len(p.spare); start += batchSize {
		w.resume(p.spare[start:min(start+batchSize, len(p.spare))])
	}
	clear(p.spare)
	return true
}

// resume runs up to a batch of parked packets through the rest of the pipeline.
func (w *worker) resume(batch []parked) {
	w.batchNumber++
	for i := range batch {
		f := &w.frames[i]
		*f = batch[i].frame
		switch {
		case w.now >= batch[i].deadline:
			w.expire(f, batch[i].key)
		case f.origin == fromEngine:
			w.engineOut(f, batch[i].endpoint)
		case f.origin >= fromControl || f.origin == fromKernel:
			w.toPeer(f, f.peer)
		default:
			w.route(f)
		}
	}
	w.sealAll()
	w.flush()
}

// expire ends a packet that has waited too long, with word to its source.
func (w *worker) expire(f *frame, key parkKey) {
	v := ParkExpired
	if key.peer != nil {
		v = NoSession
	}
	if f.origin >= fromEngine {
		w.drop(f, v)
		return
	}
	w.unreachable(f, v)
}

// empty drops all parked packets.
func (w *worker) emptyPark() {
	for i := range w.park.list {
		w.drop(&w.park.list[i].frame, Stopped)
	}
	clear(w.park.list)
	w.park.list = w.park.list[:0]
	clear(w.park.perKey)
}

// remap finds parked packets' VPCs again after the snapshot has changed:
// indexes move, VNIs stay. A packet whose VPC is gone has no route any more.
func (w *worker) remap(old, new *state) {
	kept := w.park.list[:0]
	for i := range w.park.list {
		p := &w.park.list[i]
		switch {
		case p.origin == fromEngine:
		case p.origin >= fromControl || p.origin == fromKernel:
			if int(p.peer) >= len(new.peers) || new.peers[p.peer].wireguard != old.peers[p.peer].wireguard {
				w.drop(&p.frame, NoPeer)
				continue
			}
		default:
			if p.vpc = new.vniVPC.find(uint64(old.vpcs[p.vpc].vni)); p.vpc < 0 {
				w.drop(&p.frame, NoRoute)
				continue
			}
			if !stillAllowed(&p.frame, new.vpcs[p.vpc].policy) {
				w.drop(&p.frame, ACLDenied)
				continue
			}
		}
		kept = append(kept, *p)
	}
	clear(w.park.list[len(kept):])
	w.park.list = kept
}
