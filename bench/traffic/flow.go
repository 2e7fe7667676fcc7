package traffic

import (
	"errors"
	"fmt"
	"net/netip"
)

// Format is what a packet looks like on the link.
type Format uint8

const (
	// Plain is the inner packet itself, in the Ethernet header of Flow.Inner.
	Plain Format = iota
	// VXLAN is the inner frame in VXLAN (RFC 7348).
	VXLAN
	// Geneve is the inner frame in Geneve without options (RFC 8926).
	Geneve
	// GeneveIP is the inner IP packet in Geneve, without an inner Ethernet header, as between gateways.
	GeneveIP

	numFormats
)

func (f Format) String() string {
	if f < numFormats {
		return [...]string{"plain", "vxlan", "geneve", "geneve-ip"}[f]
	}
	return fmt.Sprintf("format %d", uint8(f))
}

// Layer is one Ethernet, IP and UDP header.
type Layer struct {
	SrcMAC, DstMAC   [6]byte // default: 02:00:00:00:00:01 and ff:ff:ff:ff:ff:ff
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16 // default: 9, discard; of outer ones: by flow, and the port of the format
}

// Spread is a row of addresses: the first one of its Layer, then those that follow when the first Bits bits are
// counted up. So 10.0.0.1 with a Count of 3 and 24 Bits is 10.0.0.1, 10.0.1.1, 10.0.2.1.
type Spread struct {
	Count int // default 1
	Bits  int // default: all bits of the address
}

// Share is a size and how often it comes: Weight of the sum of all weights.
type Share struct{ Size, Weight int }

// IMIX is the simple mix of packet sizes, 7:4:1. The largest is not the usual 1500, which does not fit into tunnels.
func IMIX() []Share { return []Share{{64, 7}, {594, 4}, {1420, 1}} }

// Flow says what packets look like, and what of them varies from packet to packet. Packets belong to flows First to
// First + Flows - 1 in turns. Flow i has the VNI number i mod VNIs, what is left of i by this division chooses the
// destination in the same way, what is left then the source, and the rest is added to the inner source port. With more
// destinations than flows, the flows are spread evenly over the destinations.
type Flow struct {
	Format Format
	Outer  Layer // of all formats but Plain
	Inner  Layer // GeneveIP does not use its MACs

	VNI, VNIs    int    // the first, and how many; default 0 and 1
	Destinations Spread // inner ones
	Sources      Spread
	Flows        int // default 1
	First        int // number of the first flow: several generators with different ones send different flows

	Size  int     // length of the inner IP packet; default 64
	Sizes []Share // instead of Size, up to 8
}

// MaxFlows is how many flows the stamp can tell apart.
const MaxFlows = 1 << 16

const (
	stampMagic = 0x51ce
	stampLen   = 16
	stampIndex = 1 << 63

	maxSizes = 8
	// maxFrame is what fits into a page beside what live frames need (struct xdp_page_head, headroom, skb_shared_info), with room to spare.
	maxFrame = 3072
	maxVNI   = 1<<24 - 1

	discardPort = 9 // RFC 863
	vxlanPort   = 4789
	genevePort  = 6081
)

func (f Flow) withDefaults() Flow {
	for _, l := range []*Layer{&f.Outer, &f.Inner} {
		if l.SrcMAC == [6]byte{} {
			l.SrcMAC = [6]byte{0x02, 0, 0, 0, 0, 0x01}
		}
		if l.DstMAC == [6]byte{} {
			l.DstMAC = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		}
	}
	setDefault(&f.Inner.SrcPort, discardPort)
	setDefault(&f.Inner.DstPort, discardPort)
	switch f.Format {
	case VXLAN:
		setDefault(&f.Outer.DstPort, vxlanPort)
	case Geneve, GeneveIP:
		setDefault(&f.Outer.DstPort, genevePort)
	}
	setDefault(&f.VNIs, 1)
	setDefault(&f.Flows, 1)
	setDefault(&f.Size, 64)
	if len(f.Sizes) == 0 {
		f.Sizes = []Share{{f.Size, 1}}
	}
	for _, s := range []*Spread{&f.Destinations, &f.Sources} {
		setDefault(&s.Count, 1)
		setDefault(&s.Bits, f.Inner.Dst.BitLen())
	}
	return f
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports all problems at once.
func (f Flow) Validate() error { return errors.Join(f.withDefaults().problems()...) }

func (f Flow) problems() (all []error) {
	wrong := func(format string, args ...any) { all = append(all, fmt.Errorf("flow: "+format, args...)) }
	if f.Format >= numFormats {
		wrong("%v is unknown", f.Format)
		return all
	}
	layers := map[string]Layer{"inner": f.Inner}
	if f.Format != Plain {
		layers["outer"] = f.Outer
	}
	for name, l := range layers {
		if !l.Src.IsValid() || !l.Dst.IsValid() || l.Src.Is4() != l.Dst.Is4() || l.Src.Is4In6() || l.Dst.Is4In6() {
			wrong("%s addresses %v and %v are not two of one family", name, l.Src, l.Dst)
		}
	}
	if len(all) > 0 {
		return all
	}
	if f.Flows < 1 || f.First < 0 || f.First+f.Flows > MaxFlows {
		wrong("%d flows from number %d on, not 1 to %d in all", f.Flows, f.First, MaxFlows)
	}
	if f.VNI < 0 || f.VNIs < 1 || f.VNI+f.VNIs-1 > maxVNI {
		wrong("vni %d to %d have more than 24 bits", f.VNI, f.VNI+f.VNIs-1)
	}
	for name, s := range map[string]Spread{"destinations": f.Destinations, "sources": f.Sources} {
		if s.Bits < 1 || s.Bits > f.Inner.Dst.BitLen() || s.Count < 1 || s.Count > 1<<wordBits(s.Bits) {
			wrong("%d %s cannot be counted in the %d bits that end at bit %d", s.Count, name, wordBits(s.Bits), s.Bits)
		}
	}
	if len(f.Sizes) > maxSizes {
		wrong("%d sizes, more than %d", len(f.Sizes), maxSizes)
	}
	o := f.offsets()
	for _, s := range f.Sizes {
		if smallest, largest := o.stamp+stampLen-o.ip, maxFrame-o.ip; s.Size < smallest || s.Size > largest || s.Weight < 1 {
			wrong("size %d with weight %d, not %d to %d with at least 1", s.Size, s.Weight, smallest, largest)
		}
	}
	if weights := f.weights(); weights > scheduleLen {
		wrong("weights add up to %d, more than %d", weights, scheduleLen)
	}
	return all
}

// wordBits is how many bits there are up to this one in the aligned 32-bit word that has it: the program changes one word.
func wordBits(bits int) int { return (bits-1)%32 + 1 }

func (f Flow) weights() (sum int) {
	for _, s := range f.Sizes {
		sum += s.Weight
	}
	return sum
}

// choice is what a flow has of everything that varies.
type choice struct {
	vni, dst, src, port int
}

func (f Flow) choose(i int) (c choice) {
	c.vni, i = i%f.VNIs, i/f.VNIs
	if f.Destinations.Count > f.Flows {
		c.dst, i = int(int64(i)*int64(f.VNIs)*int64(f.Destinations.Count)/int64(f.Flows))%f.Destinations.Count, i*f.VNIs/f.Flows
	} else {
		c.dst, i = i%f.Destinations.Count, i/f.Destinations.Count
	}
	c.src, i = i%f.Sources.Count, i/f.Sources.Count
	c.port = i
	return c
}
