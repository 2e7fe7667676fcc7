package xdp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sluicegw/sluice/internal/packet"
)

// hopSlots gives hops their keys in the program's maps. A hop keeps its key for as long as it is the same place, whatever
// else of it changes: then one write replaces all of it at once, and no route has to follow. Another place gets another
// key, even under the same ID: as long as old routes are still in the maps, they lead where they led.
type hopSlots struct {
	byID map[uint32]placed
	last uint32 // given out
}

type placed struct {
	slot uint32
	hop  Hop
}

func newHopSlots() *hopSlots { return &hopSlots{byID: make(map[uint32]placed)} }

// assign gives every hop its key; fresh are the keys that were another hop's, or nobody's. Keys in use by the kernel are not
// given out: there are twice as many as a State may have hops.
func (h *hopSlots) assign(hops []Hop, kernel map[uint32]bpfHop) (slots map[uint32]uint32, fresh []uint32) {
	slots = make(map[uint32]uint32, len(hops))
	next := make(map[uint32]placed, len(hops))
	taken := make(map[uint32]bool, len(hops))
	for _, hop := range hops {
		if p, ok := h.byID[hop.ID]; ok && samePlace(p.hop, hop) {
			if !hop.Resolved() {
				hop.DstMAC = p.hop.DstMAC // remembered: see samePlace
			}
			next[hop.ID] = placed{p.slot, hop}
			taken[p.slot] = true
		}
	}
	for _, hop := range hops {
		p, ok := next[hop.ID]
		if !ok {
			p = placed{h.free(taken, kernel), hop}
			next[hop.ID] = p
			taken[p.slot] = true
			fresh = append(fresh, p.slot)
		}
		slots[hop.ID] = p.slot
	}
	h.byID = next
	return slots, fresh
}

func (h *hopSlots) free(taken map[uint32]bool, kernel map[uint32]bpfHop) uint32 {
	for {
		h.last = h.last%(2*MaxHops) + 1
		if _, ok := kernel[h.last]; !ok && !taken[h.last] {
			return h.last
		}
	}
}

// samePlace says whether packets to a are right at b.
func samePlace(a, b Hop) bool {
	if a.Kind != b.Kind || a.VNI != b.VNI || a.Peer != b.Peer || a.Dst != b.Dst || a.UDPPort != b.UDPPort ||
		a.RemoteVNI != b.RemoteVNI || a.InnerDst != b.InnerDst {
		return false
	}
	return a.Kind != ToRouted || a.DstMAC == b.DstMAC || !b.Resolved() || a.DstMAC == [6]byte{}
}

// entry is the hop as the program has it.
func (h *Hop) entry() bpfHop {
	out := bpfHop{Ifindex: uint32(h.Ifindex), Vni: h.VNI}
	if !h.Resolved() {
		return out
	}
	out.Mtu = uint32(h.MTU)
	switch {
	case h.NoClamp:
	case h.MaxMSS == 0:
		out.Mss = math.MaxUint16
	default:
		out.Mss = h.MaxMSS
	}
	b := out.Headers[:0]
	add := func(n int) []byte {
		b = b[:len(b)+n]
		return b[len(b)-n:]
	}
	src, dst := h.Src.Unmap(), h.Dst.Unmap()
	etherType := uint16(packet.TypeIPv4)
	if dst.Is6() {
		etherType = packet.TypeIPv6
	}
	if h.Kind == ToRouted {
		etherType = 0 // the inner packet's
	}
	packet.PutEthernet(add(packet.EthernetLen), h.DstMAC, h.SrcMAC, etherType)
	if h.Kind == ToRouted {
		out.Size = bpfHeadersTO_ROUTED
		return out
	}
	if dst.Is6() {
		packet.PutIPv6(add(packet.IPv6Len), 0, 0, 0, 64, packet.ProtoUDP, src.As16(), dst.As16())
	} else {
		header := add(packet.IPv4Len)
		packet.PutIPv4(header, 0, 0, 64, packet.ProtoUDP, src.As4(), dst.As4())
		out.Sum = ^binary.NativeEndian.Uint16(header[10:])
		header[10], header[11] = 0, 0
	}
	packet.PutUDP(add(packet.UDPLen), 0, h.UDPPort, 0)
	switch h.Kind {
	case ToPeer:
		packet.PutGeneve(add(packet.GeneveLen), 0, h.RemoteVNI, 0, false)
	case ToGeneve:
		packet.PutGeneve(add(packet.GeneveLen), packet.TypeEthernet, h.RemoteVNI, 0, false)
	case ToVXLAN:
		packet.PutVXLAN(add(packet.VXLANLen), h.RemoteVNI)
	}
	if h.Kind != ToPeer {
		packet.PutEthernet(add(packet.EthernetLen), h.InnerDst, h.InnerSrc, 0)
	}
	out.Size = bpfHeaders(len(b))
	if out.Size == bpfHeadersTO_VTEP6 {
		const addresses = packet.EthernetLen + 8 // from here on everything is under the UDP checksum
		out.Sum = bits.ReverseBytes16(packet.Sum(packet.ProtoUDP, b[addresses:]))
	}
	return out
}

// setEgress lets packets leave through the interfaces that hops name. They are written each time: the kernel takes out
// what disappears, and does not say so. One that is not there is left out, and its packets go to the relay.
func (p *Program) setEgress(s State) error {
	for ifindex := range egressOf(s.Hops) {
		err := p.objs.Egress.Put(ifindex, ifindex)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("add ifindex %d to egress: %w", ifindex, err)
		}
	}
	return nil
}

// trimEgress takes out what no hop names any more.
func (p *Program) trimEgress(s State) error {
	want := egressOf(s.Hops)
	var gone []uint32
	var key, value uint32
	entries := p.objs.Egress.Iterate()
	for entries.Next(&key, &value) {
		if !want[key] {
			gone = append(gone, key)
		}
	}
	if err := entries.Err(); err != nil {
		return fmt.Errorf("read egress: %w", err)
	}
	for _, ifindex := range gone {
		if err := p.objs.Egress.Delete(ifindex); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("delete ifindex %d from egress: %w", ifindex, err)
		}
	}
	return nil
}

func egressOf(hops []Hop) map[uint32]bool {
	out := make(map[uint32]bool)
	for i := range hops {
		if hops[i].Resolved() {
			out[uint32(hops[i].Ifindex)] = true
		}
	}
	return out
}

// HopCount is what the program has forwarded by itself: inner packets and their bytes, To the hop and From it.
type HopCount struct {
	ToPackets, ToBytes     uint64
	FromPackets, FromBytes uint64
}

// HopCounters reads the counters of all hops of the State, by ID, since they became the place that they are. Those of a
// hop that leaves the State are gone with it.
func (p *Program) HopCounters() (map[uint32]HopCount, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make(map[uint32]HopCount, len(p.hops.byID))
	var perCPU []bpfHopCount
	for id, placed := range p.hops.byID {
		if err := p.objs.HopCounts.Lookup(placed.slot, &perCPU); err != nil {
			return nil, fmt.Errorf("read counters of hop %d: %w", id, err)
		}
		var sum HopCount
		for _, n := range perCPU {
			sum.ToPackets += n.ToPackets
			sum.ToBytes += n.ToBytes
			sum.FromPackets += n.FromPackets
			sum.FromBytes += n.FromBytes
		}
		out[id] = sum
	}
	return out, nil
}

// clearCounts makes the counters of keys zero that get a new hop.
func (p *Program) clearCounts(slots []uint32) error {
	if len(slots) == 0 {
		return nil
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count processors: %w", err)
	}
	zero := make([]bpfHopCount, cpus)
	for _, slot := range slots {
		if err := p.objs.HopCounts.Put(slot, zero); err != nil {
			return fmt.Errorf("clear hop counters: %w", err)
		}
	}
	return nil
}
