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
	SrcPort, DstPort uint16 // default: 9, discard; the outer ones: by flow, and the port of the format
}

// Spread is a range of addresses: the first one, then those that follow it when their first Bits bits are counted up.
type Spread struct {
	Count int // default 1
	Bits  int // default: all of the address's
}

// Share is a size and how often it comes: Weight of the sum of all weights.
type Share struct{ Size, Weight int }

// IMIX is the simple mix of packet sizes, 7:4:1, as IP packets of up to 1420 bytes.
func IMIX() []Share { return []Share{{64, 7}, {576, 4}, {1420, 1}} }

// Flow says what a generator's packets look like, and what of them varies from packet to packet. Packet n belongs to
// flow n mod Flows. Flow i has the VNI VNI + i mod VNIs; what is left of i by this division chooses the destination, what
// is left then the source, and the rest is added to the inner source port. With more destinations than flows, the flows
// are spread evenly over the destinations.
type Flow struct {
	Format Format
	Outer  Layer // of all formats but Plain
	Inner  Layer

	VNI, VNIs    int // the first, and how many; default 0 and 1
	Destinations Spread
	Sources      Spread
	Flows        int // default 1, at most 65536

	Size  int     // length of the inner IP packet; default 64
	Sizes []Share // default: all of Size
}

// MaxFlows is the number of flows that the stamp can tell apart.
const MaxFlows = 1 << 16

// Validate reports all problems at once.
func (f Flow) Validate() error { return errors.Join(f.withDefaults().problems()...) }

func (f Flow) withDefaults() Flow { return f }

func (f Flow) problems() []error { return nil }
