package relay

import (
	"slices"

	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/packet"
)

// Multicast is dropped and counted, but for the groups that a VPC carries
// between sites. Of those every peer of the VPC gets a copy of what the site
// sends, and every node and routed port of the site a copy of what a peer
// sends: there is no membership, and a copy goes no further, so nothing can loop.
// Broadcast and link-local groups are never carried (the snapshot refuses them).

// copySlots is how many copies may wait to be sealed.
const copySlots = batchSize

// carries says whether the multicast packet f is for a group of its VPC.
func (w *worker) carries(f *frame) bool {
	groups := w.state.vpcs[f.vpc].groups
	if len(groups) == 0 {
		return false
	}
	dst := f.ip.Dst(f.data())
	for _, g := range groups {
		if g.Contains(dst) {
			return true
		}
	}
	return false
}

// flood sends a packet to a group on to everybody on the other side. The packet
// itself is the last one; the others are copies, which the relay has made.
func (w *worker) flood(f *frame) {
	vpc := &w.state.vpcs[f.vpc]
	to := vpc.peers
	if f.origin == fromPeer {
		to = vpc.flood
	}
	if len(to) == 0 {
		w.drop(f, Multicast)
		return
	}
	f.flooded, f.route = true, 0
	for _, id := range to[1:] {
		if c := w.copyOf(f); c != nil {
			w.floodTo(c, id)
		}
	}
	w.floodTo(f, to[0])
}

func (w *worker) floodTo(f *frame, id uint32) {
	if f.origin == fromPeer {
		w.deliver(f, id)
		return
	}
	w.encap(f, id)
}

// copyOf makes a copy of a packet, with its Geneve options. Nil: no memory is
// left, and the copy has met its end.
func (w *worker) copyOf(f *frame) *frame {
	w.made++
	if w.copied == len(w.copies) {
		w.sealAll() // the copies that wait are on their way
		w.copied = 0
	}
	c := &w.copies[w.copied]
	*c = *f
	if !w.alloc(c) {
		w.count(TxFull)
		return nil
	}
	w.copied++
	from := f.off
	if f.optsLen > 0 {
		from = min(from, f.options)
	}
	copy(c.chunk[from:f.end], f.chunk[from:f.end])
	return c
}

// alloc gives f memory of its own, of the kind that it has.
func (w *worker) alloc(f *frame) bool {
	if f.long > 0 {
		n := w.longs.take()
		if n < 0 {
			return false
		}
		f.chunk, f.long = w.longs.buffer(n), n+1
		return true
	}
	var base [1]uint64
	if w.umem.Alloc(base[:]) == 0 {
		return false
	}
	f.chunk, f.base = w.umem.Frame(base[0]), base[0]
	return true
}

// deliverGroup sends a packet to a group out of a routed port. There is no
// neighbour to ask for: the group is the Ethernet address (RFC 1112 section 6.4,
// RFC 2464 section 7).
func (w *worker) deliverGroup(f *frame, d *deliveryState) {
	if f.critical {
		w.drop(f, CriticalOption)
		return
	}
	slot := w.slotOf(d.ifindex)
	if slot < 0 || w.queues[slot].port < 0 {
		w.drop(f, NoPort)
		return
	}
	port := &w.state.ports[w.queues[slot].port]
	if f.ip.Len > port.mtu {
		w.tooBig(f, port.mtu)
		return
	}
	if !f.room(packet.EthernetLen) {
		w.drop(f, NoRoom)
		return
	}
	mac := packet.GroupMAC(f.ip.DstBytes(f.data()))
	v := w.delivered(f)
	f.off -= packet.EthernetLen
	packet.PutEthernet(f.data()[:packet.EthernetLen], mac, port.mac, etherTypeOf(f.ip.Version))
	w.send(f, int32(slot), v)
}

// groups checks what a VPC says about multicast, and finds its peers.
func (c *compiler) groups(vs *vpcState, v *VPC, index int32) {
	if len(vs.groups) == 0 {
		return
	}
	for _, g := range vs.groups {
		if !packet.CarriedGroup(g) {
			c.problem("vpc %s: %v are no multicast groups that may leave their link", v.Name, g)
		}
	}
	for _, id := range vs.flood {
		if int(id) >= len(c.out.deliveries) || c.out.deliveries[id].vpc != index || c.out.deliveries[id].learned {
			c.problem("vpc %s: multicast to delivery %d, which is no place of the vpc", v.Name, id)
		}
	}
	for r := range vs.routes.All() {
		for _, hop := range r.NextHops {
			if hop.Kind == fib.Remote && !slices.Contains(vs.peers, hop.ID) {
				vs.peers = append(vs.peers, hop.ID)
			}
		}
	}
	slices.Sort(vs.peers)
}
