package relay

import (
	"encoding/binary"

	"github.com/sluicegw/sluice/internal/packet"
)

// deliver sends an inner packet to its place at this site: to the VTEP of its
// host, in the overlay's format, or in plain Ethernet to a routed neighbour.
func (w *worker) deliver(f *frame, id uint32) {
	d := &w.state.deliveries[id]
	if d.kind == Routed {
		w.deliverRouted(f, d)
		return
	}
	adj := w.hostAdjacency(id)
	if adj.state != ready {
		w.notReady(f, adj)
		return
	}
	options := 0
	if d.kind == Geneve {
		options = f.optsLen
	} else if f.critical {
		w.drop(f, CriticalOption)
		return
	}
	inner := packet.GeneveLen + options + packet.EthernetLen // VXLANLen is the same
	limit := adj.mtu - adj.ipLen - packet.UDPLen - inner
	if f.ip.Len > limit {
		w.tooBig(f, limit)
		return
	}
	if !f.room(inner + adj.headerLen) {
		w.drop(f, NoRoom)
		return
	}
	vpc := &w.state.vpcs[f.vpc]
	if options > 0 {
		carryOptions(f, f.off-packet.EthernetLen)
	}
	packet.PutEthernet(f.chunk[f.off-packet.EthernetLen:f.off], d.mac, vpc.mac, etherTypeOf(f.ip.Version))
	f.off -= inner
	if d.kind == Geneve {
		packet.PutGeneve(f.chunk[f.off:f.off+packet.GeneveLen], packet.TypeEthernet, vpc.vni, options, f.critical)
	} else {
		packet.PutVXLAN(f.chunk[f.off:f.off+packet.VXLANLen], vpc.vni)
	}
	v := w.delivered(f)
	f.off -= adj.headerLen
	b := f.data()
	copy(b[:adj.headerLen], adj.header[:adj.headerLen])
	binary.BigEndian.PutUint16(b[packet.EthernetLen+adj.ipLen:], packet.EntropyPort(f.flow))
	adj.finishOuter(b, f.ip.TOS)
	w.send(f, adj.slot, v)
}

// deliverRouted sends an inner packet as it is.
func (w *worker) deliverRouted(f *frame, d *deliveryState) {
	if f.critical {
		w.drop(f, CriticalOption)
		return
	}
	adj := w.neighbourAdjacency(f.ip.Dst(f.data()), d.ifindex)
	if adj.state != ready {
		w.notReady(f, adj)
		return
	}
	if f.ip.Len > adj.mtu {
		w.tooBig(f, adj.mtu)
		return
	}
	if !f.room(packet.EthernetLen) {
		w.drop(f, NoRoom)
		return
	}
	v := w.delivered(f)
	f.off -= packet.EthernetLen
	copy(f.chunk[f.off:f.off+packet.EthernetLen], adj.header[:packet.EthernetLen])
	w.send(f, adj.slot, v)
}

// delivered counts a packet for its VPC and says which verdict it goes under.
func (w *worker) delivered(f *frame) Verdict {
	if f.origin == fromRelay {
		return Originated
	}
	w.vpcCount(f).toSite(f.ip.Len)
	return ToSite
}
