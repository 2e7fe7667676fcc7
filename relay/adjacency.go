package relay

import (
	"encoding/binary"
	"net/netip"

	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// adjacency is a next hop as the worker last knew it: the queue to send
// through and the headers to put in front. It holds for a batch; with the next one
// it is looked at again, and built anew only if the snapshot, the neighbour
// table or the set of queues has changed since.
type adjacency struct {
	batch      uint64 // the batch that it was last looked at
	generation uint64 // of the worker, when it was built
	key        neigh.Key
	entry      *neigh.Entry
	state      adjacencyState
	slot       int32    // of the queue; through: the peer between
	limit      int      // the longest packet that may follow the headers
	inner      int      // a peer: the longest packet that may go into a message to it (narrow)
	headers    template // only Ethernet for a routed neighbour
}

type adjacencyState uint8

const (
	unresolved  adjacencyState = iota // asked for; park
	ready                             // send
	noNeighbour                       // does not answer
	noPath                            // the kernel has no route
	noPort                            // leads out of something that is no port of ours
	noEndpoint                        // a peer that nobody has heard of yet
	through                           // send, inside the tunnel of another peer
)

// peerAdjacency is the way to a peer's endpoint.
type peerAdjacency struct {
	adjacency
	endpoint *wireguard.Endpoint
	echoes   errorBucket // echo requests that may be answered
}

// peerAdjacency returns the way to peer id, which exists.
func (w *worker) peerAdjacency(id uint32) *adjacency {
	p := &w.peers[id]
	if p.batch == w.batchNumber {
		return &p.adjacency
	}
	p.batch = w.batchNumber
	if to := w.state.peers[id].direct; to.IsValid() {
		if p.generation != w.generation {
			w.buildDirect(&p.adjacency, to)
		}
		w.keepAlive(&p.adjacency)
		return &p.adjacency
	}
	endpoint := w.state.peers[id].wireguard.Place()
	if p.generation != w.generation || p.endpoint != endpoint {
		p.endpoint = endpoint
		w.buildPeer(&p.adjacency, *endpoint)
		w.narrow(&p.adjacency, id)
		if ports := w.state.peers[id].flowPorts; ports.Count > 0 && p.state != through {
			p.headers.spreadOver(ports.First, ports.Count)
		}
	}
	w.keepAlive(&p.adjacency)
	return &p.adjacency
}

func (w *worker) buildPeer(a *adjacency, e wireguard.Endpoint) {
	if !e.Remote.IsValid() {
		a.state, a.generation, a.entry = noEndpoint, w.generation, nil
		return
	}
	if e.Via != nil {
		w.buildThrough(a, &e)
		return
	}
	dst := e.Remote.Addr().Unmap()
	w.build(a, neigh.Key{Dst: dst.WithZone(""), Ifindex: e.Ifindex})
	if a.state == ready {
		local := e.Local.Unmap()
		if !w.state.local.has(local) {
			local = netip.Addr{} // the peer talked to an address that has been taken away since
		}
		w.tunnelHeaders(a, local, dst, w.state.wireguard, e.Remote.Port())
	}
}

// hostAdjacency returns the way to the VTEP of delivery id.
func (w *worker) hostAdjacency(id uint32) *adjacency {
	d := &w.state.deliveries[id]
	return w.vtepAdjacency(&w.hosts[id], d, d.vtep)
}

// vtepAdjacency makes a the way to a VTEP of the delivery's attachment.
func (w *worker) vtepAdjacency(a *adjacency, d *deliveryState, vtep netip.Addr) *adjacency {
	if a.batch == w.batchNumber {
		return a
	}
	a.batch = w.batchNumber
	if a.generation != w.generation {
		w.build(a, neigh.Key{Dst: vtep, Ifindex: d.ifindex})
		if a.state == ready {
			w.tunnelHeaders(a, netip.Addr{}, vtep, 0, d.udp)
			a.headers.entropy()
			w.overlayHeader(a, d)
		}
	}
	w.keepAlive(a)
	return a
}

// routedAdjacency returns the way to the router of a routed delivery or, without
// one, to the packet's destination.
func (w *worker) routedAdjacency(f *frame, id uint32, d *deliveryState) *adjacency {
	if !d.via.IsValid() {
		return w.neighbourAdjacency(f, d.ifindex)
	}
	a := &w.hosts[id]
	if a.batch == w.batchNumber {
		return a
	}
	a.batch = w.batchNumber
	if a.generation != w.generation {
		w.build(a, neigh.Key{Dst: d.via, Ifindex: d.ifindex})
	}
	w.keepAlive(a)
	return a
}

// neighbourAdjacency returns the way to the destination of an inner packet
// through a routed attachment. The cache is direct-mapped: two neighbours that
// collide take turns.
func (w *worker) neighbourAdjacency(f *frame, ifindex uint32) *adjacency {
	b := f.data()
	a := &w.neighbours[neighbourSlot(f.ip.Version, b, ifindex)]
	key := neigh.Key{Dst: f.ip.Dst(b), Ifindex: ifindex}
	same := a.key == key
	if same && a.batch == w.batchNumber {
		return a
	}
	a.batch = w.batchNumber
	if !same || a.generation != w.generation {
		w.build(a, key)
	}
	w.keepAlive(a)
	return a
}

// neighbourSlots is how many routed neighbours one worker keeps at hand.
const neighbourSlots = 1024

// neighbourSlot hashes the destination of the IP packet b.
func neighbourSlot(version uint8, b []byte, ifindex uint32) int {
	x := uint64(ifindex) << 32
	if version == 4 {
		x ^= uint64(binary.BigEndian.Uint32(b[16:20]))
	} else {
		x ^= binary.BigEndian.Uint64(b[24:32]) ^ binary.BigEndian.Uint64(b[32:40])
	}
	return int(x * 0x9e3779b97f4a7c15 >> 54)
}

// build looks a key up and turns what is known into an adjacency without its
// IP and UDP headers.
func (w *worker) build(a *adjacency, key neigh.Key) {
	e := w.table.Lookup(key)
	a.key, a.entry, a.generation, a.state = key, e, w.generation, unresolved
	if e == nil {
		return
	}
	switch e.State {
	case neigh.Resolved:
	case neigh.Failed:
		a.state = noNeighbour
		return
	default:
		a.state = noPath
		return
	}
	slot := w.slotOf(e.Egress)
	if slot < 0 || e.NoLink {
		a.state = noPort
		return
	}
	a.state, a.slot, a.limit = ready, int32(slot), e.MTU
	if port := w.queues[slot].port; port >= 0 && (a.limit == 0 || a.limit > w.state.ports[port].mtu) {
		a.limit = w.state.ports[port].mtu
	}
	a.headers = template{}
	packet.PutEthernet(a.headers.add(packet.EthernetLen), e.DstMAC, e.SrcMAC, etherTypeFor(key.Dst))
}

func etherTypeFor(a netip.Addr) uint16 {
	if a.Is4() {
		return packet.TypeIPv4
	}
	return packet.TypeIPv6
}

// tunnelHeaders adds outer IP and UDP. An invalid source leaves the choice to
// the kernel's routing table, as a socket would.
func (w *worker) tunnelHeaders(a *adjacency, src, dst netip.Addr, srcPort, dstPort uint16) {
	if !src.IsValid() || src.Is4() != dst.Is4() {
		src = a.entry.Src.Unmap()
	}
	if !src.IsValid() || src.Is4() != dst.Is4() {
		a.state = noPath
		return
	}
	a.headers.tunnel(src, dst, srcPort, dstPort)
	a.headers.checksum = true
	a.limit -= a.headers.overhead()
}

// overlayHeader adds the header of the overlay.
func (w *worker) overlayHeader(a *adjacency, d *deliveryState) {
	a.headers.overlay(d.kind, w.state.vpcs[d.vpc].vni)
	a.limit -= packet.GeneveLen // VXLANLen is the same
}

// keepAlive runs once per batch for an adjacency in use: it keeps a good entry
// fresh and asks for one that is not.
func (w *worker) keepAlive(a *adjacency) {
	switch {
	case a.entry != nil && a.entry.State == neigh.Resolved:
		a.entry.Use()
	case a.state != noEndpoint:
		w.source.Resolve(a.key)
	}
}

// notReady ends or parks a packet whose next hop cannot be sent to.
func (w *worker) notReady(f *frame, a *adjacency) {
	switch a.state {
	case unresolved:
		w.parkForNeighbour(f, a.key)
	case noNeighbour:
		w.unreachable(f, NoNeighbour)
	case noPort:
		w.drop(f, NoPort)
	case noEndpoint:
		w.unreachable(f, NoEndpoint)
	default:
		w.unreachable(f, NeighbourUnreachable)
	}
}
