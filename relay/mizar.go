package relay

import (
	"github.com/sluicegw/sluice/internal/packet"
)

// Mizar marks a Geneve attachment whose nodes are Mizar's: they read 64 bytes
// of options at fixed offsets (packet.IsMizar) and drop what lacks them. For
// prefixes of other sites the gateway is their bouncer.
//
// Between gateways the options travel as any do. On delivery the first of
// them, "return to sender", gets our own address: the far host learns from it
// where the source is, and would send its answers past the gateways.
type Mizar struct {
	// Labels of packets that come from where there are none, a site without
	// Mizar: what Mizar's network policies then see.
	PodLabel, NamespaceLabel uint32
}

// mizarBlock is the options of a packet that came without.
type mizarBlock [packet.MizarLen]byte

// mizarOptions gives f, which is about to be delivered, the options that it
// must have there: where the nodes are Mizar's all of theirs, with us as the
// sender, elsewhere none of Mizar's. It says whether the packet lives.
func (w *worker) mizarOptions(f *frame, d *deliveryState, a *adjacency) bool {
	have := packet.IsMizar(f.carried())
	switch {
	case have != (d.mizar != nil) && f.critical: // what the packet has is not carried on
		w.drop(f, CriticalOption)
		return false
	case d.mizar == nil && have:
		f.optsLen = 0 // the addresses of another site's hosts, and labels that mean nothing here
		return true
	case d.mizar == nil:
		return true
	case !have:
		if !f.room(packet.EthernetLen + packet.MizarLen) {
			w.drop(f, NoRoom)
			return false
		}
		// Where deliver would carry it to.
		f.options, f.optsLen = f.off-packet.EthernetLen-packet.MizarLen, packet.MizarLen
		copy(f.chunk[f.options:], d.mizar[:])
	}
	a.headers.mizarSender(f.carried())
	return true
}

// mizarSender writes where the packets with these headers come from into
// Mizar's options. The outer header is IPv4: compile has seen to it.
func (t *template) mizarSender(options []byte) {
	packet.SetMizarSender(options, t.bytes[t.ip+12:t.ip+16], t.bytes[6:12])
}

// mizarAnswer prepares the options of an answer to the ARP request f, which
// came from a Mizar node: the request's, or new ones, with us as the sender;
// nil when the attachment is no Mizar's. outer is the offset of the outer IP header.
func (w *worker) mizarAnswer(f *frame, o overlay, outer int, block *mizarBlock) []byte {
	if !o.mizar || f.chunk[outer]>>4 != 4 {
		return nil
	}
	port := w.queues[f.slot].port
	at := w.state.mizars.find(attachmentKey(int(port), o.udp, w.state.vpcs[f.vpc].vni))
	if at < 0 {
		return nil
	}
	*block = w.state.mizarBlocks[at]
	if options := f.carried(); packet.IsMizar(options) {
		copy(block[:], options)
	}
	packet.SetMizarSender(block[:], f.chunk[outer+16:outer+20], w.state.ports[port].mac[:])
	return block[:]
}

// bounces says whether a Mizar node that asks for this address is answered by
// us: it lies in another site's prefix, whose bouncer we are. That includes the
// first address of a subnet, which Mizar's pods have as their gateway.
func (w *worker) bounces(f *frame, target []byte) bool {
	r := w.routes.route(w.state.vpcs, f.vpc, target)
	return r != nil && remote(r)
}

// mizar takes in a Mizar attachment.
func (c *compiler) mizar(name string, a Attachment, o *overlay, key uint64) {
	if a.Kind != Geneve {
		c.problem("vpc %s: a %v attachment has no Mizar options", name, a.Kind)
		return
	}
	if c.mizars == nil {
		c.mizars = make(map[uint64]int32)
	}
	o.mizar = true
	c.mizars[key] = int32(len(c.out.mizarBlocks))
	var b mizarBlock
	packet.PutMizar(b[:], a.Mizar.PodLabel, a.Mizar.NamespaceLabel)
	c.out.mizarBlocks = append(c.out.mizarBlocks, b)
}

// mizarDelivery takes in a delivery behind a Mizar attachment.
func (c *compiler) mizarDelivery(i int, a Attachment, d *deliveryState) {
	if d.vtep.Is6() {
		c.problem("delivery %d: the VTEP %v of a Mizar attachment is not an IPv4 address", i, d.vtep)
		return
	}
	at, ok := c.portAt[a.Ifindex]
	if !ok {
		return // reported with the attachment
	}
	if block, ok := c.mizars[attachmentKey(at, d.udp, c.out.vpcs[d.vpc].vni)]; ok {
		d.mizar = &c.out.mizarBlocks[block]
	}
}
