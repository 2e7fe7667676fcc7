package relay

import (
	"math/bits"
	"slices"
	"sync/atomic"
)

// Counters are totals since New. Received + Arrived + Injected + Made is the sum of
// Verdicts plus the packets that are parked or in a worker's hands right now.
type Counters struct {
	Verdicts   [NumVerdicts]uint64 // indexed by Verdict
	Received   uint64              // packets taken from receive rings
	Arrived    uint64              // datagrams taken from Arrive
	Injected   uint64              // datagrams taken from Inject
	Made       uint64              // ICMP errors and answers
	Cut        uint64              // messages to peers that were sent in pieces (tunnelmtu.go)
	Clamped    uint64              // SYNs whose MSS was lowered; they have verdicts of their own
	Parked     uint64              // packets waiting now
	Free       uint64              // frames in the pools after the last batch
	KickErrors uint64              // times the kernel refused to send
	Batches    uint64              // batches that held at least one packet
	Sleeps     uint64              // times a worker slept for want of work
	Untold     uint64              // hosts seen that the learner could not be told of at once
	VPCs       []VPCCounters       // by VNI, ascending
}

// VPCCounters count a VPC's packets that were handed to a port, with the bytes
// of their inner IP packets, and those that were dropped.
type VPCCounters struct {
	VNI                   uint32
	ToPeers, ToPeersBytes uint64
	ToSite, ToSiteBytes   uint64
	Dropped               uint64 // packets of the VPC that met a verdict that is not Good
}

// add adds o to c; both have their VPCs in order.
func (c *Counters) add(o Counters) {
	for v, n := range o.Verdicts {
		c.Verdicts[v] += n
	}
	c.Received += o.Received
	c.Arrived += o.Arrived
	c.Injected += o.Injected
	c.Made += o.Made
	c.Clamped += o.Clamped
	c.Cut += o.Cut
	c.Parked += o.Parked
	c.Free += o.Free
	c.KickErrors += o.KickErrors
	c.Batches += o.Batches
	c.Sleeps += o.Sleeps
	c.Untold += o.Untold
	for _, v := range o.VPCs {
		i, found := slices.BinarySearchFunc(c.VPCs, v.VNI, func(a VPCCounters, vni uint32) int { return int(a.VNI) - int(vni) })
		if !found {
			c.VPCs = slices.Insert(c.VPCs, i, VPCCounters{VNI: v.VNI})
		}
		c.VPCs[i].ToPeers += v.ToPeers
		c.VPCs[i].ToPeersBytes += v.ToPeersBytes
		c.VPCs[i].ToSite += v.ToSite
		c.VPCs[i].ToSiteBytes += v.ToSiteBytes
		c.VPCs[i].Dropped += v.Dropped
	}
}

// tally is how a worker counts: in plain numbers of its own, of which those
// that changed are copied to where others may read them once per batch.
type tally struct {
	verdicts   [NumVerdicts]uint64
	dirty      [(NumVerdicts + 63) / 64]uint64 // bit v: verdicts[v] is to be published
	received   uint64
	arrived    uint64
	injected   uint64
	made       uint64
	clamped    uint64
	cut        uint64
	batches    uint64
	sleeps     uint64
	untold     uint64
	kickErrors uint64
	vpcs       []*vpcTally // by the state's index
	dirtyVPC   []*vpcTally
	routeTallies
	batchSizes histogram
	turnTimes  histogram
	worked     bool // the last turn found something

	published published
}

// published is read by others. It has cache lines of its own: what the worker
// writes beside it must not disturb readers, nor they it.
type published struct {
	_          [64]byte
	verdicts   [NumVerdicts]atomic.Uint64
	received   atomic.Uint64
	arrived    atomic.Uint64
	injected   atomic.Uint64
	made       atomic.Uint64
	clamped    atomic.Uint64
	cut        atomic.Uint64
	parked     atomic.Uint64
	free       atomic.Uint64
	kickErrors atomic.Uint64
	batches    atomic.Uint64
	sleeps     atomic.Uint64
	untold     atomic.Uint64
	vpcs       atomic.Pointer[[]*vpcTally] // every VPC there ever was, by VNI
	_          [64]byte
}

type vpcTally struct {
	vni    uint32
	dirty  bool
	counts [5]uint64
	_      [64]byte
	shared [5]atomic.Uint64
	_      [64]byte
}

func (t *vpcTally) toPeer(bytes int) {
	t.counts[0]++
	t.counts[1] += uint64(bytes)
}

func (t *vpcTally) toSite(bytes int) {
	t.counts[2]++
	t.counts[3] += uint64(bytes)
}

// vpcCount returns the tally of the packet's VPC and marks it.
func (w *worker) vpcCount(f *frame) *vpcTally {
	t := w.vpcs[f.vpc]
	if !t.dirty {
		t.dirty = true
		w.dirtyVPC = append(w.dirtyVPC, t)
	}
	return t
}

// adoptVPCs lines the tallies up with a new state. A VPC's numbers go on by
// its VNI, also when it was away for a while.
func (w *worker) adoptVPCs(s *state) {
	var known []*vpcTally
	if p := w.published.vpcs.Load(); p != nil {
		known = slices.Clone(*p)
	}
	w.vpcs = make([]*vpcTally, len(s.vpcs))
	for i := range s.vpcs {
		at, found := slices.BinarySearchFunc(known, s.vpcs[i].vni, func(t *vpcTally, vni uint32) int { return int(t.vni) - int(vni) })
		if !found {
			known = slices.Insert(known, at, &vpcTally{vni: s.vpcs[i].vni})
		}
		w.vpcs[i] = known[at]
	}
	w.dirtyVPC = slices.Grow(w.dirtyVPC, len(known))
	w.published.vpcs.Store(&known)
}

// count is of its own, and small, because it is inlined where a batch is sent.
func (t *tally) count(v Verdict) {
	t.verdicts[v]++
	t.dirty[v>>6] |= 1 << (v & 63)
}

// publish shows others what changed since the last time.
func (w *worker) publish() {
	p := &w.published
	for word := range w.dirty {
		for word64 := w.dirty[word]; word64 != 0; word64 &= word64 - 1 {
			v := word<<6 + bits.TrailingZeros64(word64)
			p.verdicts[v].Store(w.verdicts[v])
		}
		w.dirty[word] = 0
	}
	p.received.Store(w.received)
	store(&p.arrived, w.arrived)
	store(&p.injected, w.injected)
	store(&p.made, w.made)
	store(&p.clamped, w.clamped)
	store(&p.cut, w.cut)
	store(&p.parked, uint64(len(w.park.list)))
	store(&p.free, uint64(w.umem.FreeCount()))
	store(&p.kickErrors, w.kickErrors)
	store(&p.batches, w.batches)
	store(&p.sleeps, w.sleeps)
	store(&p.untold, w.untold)
	for _, t := range w.dirtyVPC {
		for i := range t.counts {
			store(&t.shared[i], t.counts[i])
		}
		t.dirty = false
	}
	w.dirtyVPC = w.dirtyVPC[:0]
	if w.now >= w.lateAt {
		w.publishLate()
	}
	w.meters.publish()
}

// store writes only what changed: a load is free, an atomic store is not.
func store(to *atomic.Uint64, n uint64) {
	if to.Load() != n {
		to.Store(n)
	}
}

// counters reads what was published; any goroutine may call it.
func (w *worker) counters() Counters {
	p := &w.published
	c := Counters{Received: p.received.Load(), Arrived: p.arrived.Load(), Injected: p.injected.Load(), Made: p.made.Load(), Clamped: p.clamped.Load(), Cut: p.cut.Load(),
		Parked: p.parked.Load(), Free: p.free.Load(), KickErrors: p.kickErrors.Load(), Batches: p.batches.Load(), Sleeps: p.sleeps.Load(), Untold: p.untold.Load()}
	for v := range c.Verdicts {
		c.Verdicts[v] = p.verdicts[v].Load()
	}
	if vpcs := p.vpcs.Load(); vpcs != nil {
		for _, t := range *vpcs {
			c.VPCs = append(c.VPCs, VPCCounters{VNI: t.vni, ToPeers: t.shared[0].Load(), ToPeersBytes: t.shared[1].Load(),
				ToSite: t.shared[2].Load(), ToSiteBytes: t.shared[3].Load(), Dropped: t.shared[4].Load()})
		}
	}
	return c
}
