package relay

import (
	"encoding/binary"

	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/packet"
)

// deliver sends an inner packet to its place at this site: to the VTEP of its
// host, in the overlay's format, or in plain Ethernet to a routed neighbour.
func (w *worker) deliver(f *frame, id uint32) {
	d := &w.state.deliveries[id]
	if d.kind == Routed {
		if f.flooded {
			w.deliverGroup(f, d)
		} else {
			w.deliverRouted(f, id, d)
		}
		return
	}
	var adj *adjacency
	mac := d.mac
	if f.flooded {
		mac = packet.GroupMAC(f.ip.DstBytes(f.data()))
	}
	if !d.learned {
		adj = w.hostAdjacency(id)
	} else if adj, mac = w.learnedAdjacency(f, id); adj == nil {
		return
	}
	if w.trace != nil {
		w.trace.way(w, "deliver", "VTEP", adj)
	}
	if adj.state != ready {
		w.notReady(f, adj)
		return
	}
	if (d.mizar != nil || f.optsLen == packet.MizarLen) && !w.mizarOptions(f, d, adj) {
		return
	}
	options, announced := 0, uint16(0)
	if d.kind == Geneve {
		options, announced = f.optsLen, packet.GeneveOptions(f.optsLen, f.critical)
	} else if f.critical {
		w.drop(f, CriticalOption)
		return
	}
	ethernet := packet.EthernetLen + options
	limit := adj.limit - ethernet
	if f.syn() {
		w.clampMSS(f, limit, w.backLimit(f), w.senderMSS(f))
	}
	if f.ip.Len > limit {
		w.tooLong(f, limit, fib.NextHop{Kind: fib.Local, ID: id})
		return
	}
	if !f.room(ethernet + adj.headers.len) {
		w.drop(f, NoRoom)
		return
	}
	if options > 0 {
		carryOptions(f, f.off-packet.EthernetLen)
	}
	packet.PutEthernet(f.chunk[f.off-packet.EthernetLen:f.off], mac, w.state.vpcs[f.vpc].mac, etherTypeOf(f.ip.Version))
	f.off -= ethernet
	v := w.delivered(f)
	f.off -= adj.headers.len
	adj.headers.put(f.data(), f.ip.TOS, f.flow, announced, &f.ip)
	w.send(f, adj.slot, v)
}

// deliverRouted sends an inner packet as it is.
func (w *worker) deliverRouted(f *frame, id uint32, d *deliveryState) {
	if f.critical {
		w.drop(f, CriticalOption)
		return
	}
	adj := w.routedAdjacency(f, id, d)
	if w.trace != nil {
		w.trace.way(w, "deliver", "routed neighbour", adj)
	}
	if adj.state != ready {
		w.notReady(f, adj)
		return
	}
	if f.syn() {
		w.clampMSS(f, adj.limit, w.backLimit(f), w.senderMSS(f))
	}
	if f.ip.Len > adj.limit {
		w.tooLong(f, adj.limit, fib.NextHop{Kind: fib.Local, ID: id})
		return
	}
	if !f.room(packet.EthernetLen) {
		w.drop(f, NoRoom)
		return
	}
	v := w.delivered(f)
	f.off -= packet.EthernetLen
	copy(f.chunk[f.off:f.off+packet.EthernetLen], adj.headers.bytes[:packet.EthernetLen])
	binary.BigEndian.PutUint16(f.chunk[f.off+12:], etherTypeOf(f.ip.Version)) // the router may be of the other family (RFC 8950)
	w.send(f, adj.slot, v)
}

// delivered counts a packet for its VPC and says which verdict it goes under.
func (w *worker) delivered(f *frame) Verdict {
	if f.origin == fromRelay {
		return Originated
	}
	w.vpcCount(f).toSite(f.ip.Len)
	w.routeCount(f)
	return ToSite
}
