package relay

import (
	"sync/atomic"
)

// MeterKey names a count that exists because somebody asked for it: of a rule,
// say. Its numbers go on for as long as every snapshot has it.
type MeterKey struct {
	Kind      MeterKind
	ID        uint32    // RuleMeter, VPCLimitMeter: the VNI; PeerLimitMeter, DirectPeerMeter, RelayLimitMeter, RelayedMeter: the peer's id; PortLimitMeter: the ifindex
	Name      string    // RuleMeter: the rule's ID; empty: what no rule matched
	Direction Direction // of limits, of direct peers, and of what peers exchange through us: from site is what the peer sends
	Class     uint8     // of limits
}

// MeterKind is what a meter counts.
type MeterKind uint8

// The kinds of meter.
const (
	RuleMeter       MeterKind = iota // packets that a rule of a VPC's access list matched
	VPCLimitMeter                    // packets that a limit of a VPC refused
	PeerLimitMeter                   // packets that a limit of a peer refused
	PortLimitMeter                   // packets that the limit of a port towards peers refused
	DirectPeerMeter                  // packets exchanged with a direct peer
	RelayLimitMeter                  // messages that the limit of a peer's messages through us refused
	RelayedMeter                     // messages that a peer has sent or got through us
)

// MeterCount is what was counted: packets, and the bytes of these inner IP packets.
type MeterCount struct{ Packets, Bytes uint64 }

// meter is one worker's part of a count.
type meter struct {
	key    MeterKey
	dirty  bool
	counts [2]uint64
	_      [64]byte // readers must not disturb the worker
	shared [2]atomic.Uint64
}

// meters are those of a worker.
type meters struct {
	list      []*meter // by the state's index
	dirty     []*meter
	published atomic.Pointer[[]*meter]
}

// add counts a packet.
func (m *meters) add(index int32, bytes int) {
	c := m.list[index]
	if !c.dirty {
		c.dirty = true
		m.dirty = append(m.dirty, c)
	}
	c.counts[0]++
	c.counts[1] += uint64(bytes)
}

// adopt lines the meters up with those of a new state.
func (m *meters) adopt(keys []MeterKey) {
	if len(keys) == 0 && len(m.list) == 0 {
		return
	}
	m.publish()
	known := make(map[MeterKey]*meter, len(m.list))
	for _, c := range m.list {
		known[c.key] = c
	}
	list := make([]*meter, len(keys))
	for i, k := range keys {
		if list[i] = known[k]; list[i] == nil {
			list[i] = &meter{key: k}
		}
	}
	m.list, m.dirty = list, make([]*meter, 0, len(list))
	m.published.Store(&list)
}

// publish shows others what changed.
func (m *meters) publish() {
	for _, c := range m.dirty {
		for i, n := range c.counts {
			store(&c.shared[i], n)
		}
		c.dirty = false
	}
	m.dirty = m.dirty[:0]
}

// Meters adds up those of all workers; each is as of the end of its last batch.
func (r *Relay) Meters() map[MeterKey]MeterCount {
	all := make(map[MeterKey]MeterCount)
	for _, w := range r.workers {
		list := w.meters.published.Load()
		if list == nil {
			continue
		}
		for _, m := range *list {
			c := all[m.key]
			c.Packets += m.shared[0].Load()
			c.Bytes += m.shared[1].Load()
			all[m.key] = c
		}
	}
	return all
}

// meter gives a count its index.
func (c *compiler) meter(k MeterKey) int32 {
	c.out.meters = append(c.out.meters, k)
	return int32(len(c.out.meters) - 1)
}
