package neigh

import (
	"fmt"
	"net/netip"
	"sync/atomic"
)

// Key asks for the way to Dst.
type Key struct {
	// Dst is the address that the packet carries. It has no zone: a link-local destination needs an Ifindex.
	Dst netip.Addr
	// Ifindex 0 leaves the choice of the interface to the kernel's routing table; otherwise only routes through this
	// interface count, so that two interfaces may have overlapping subnets.
	Ifindex uint32
}

func (k Key) String() string {
	if k.Ifindex == 0 {
		return k.Dst.String()
	}
	return fmt.Sprintf("%v through ifindex %d", k.Dst, k.Ifindex)
}

// State says whether packets can be sent.
type State uint8

const (
	// Resolved: packets can be sent through Egress.
	Resolved State = iota + 1
	// Unreachable: the kernel has no usable route (none, blackhole, prohibit, multicast, interface down, ...).
	Unreachable
	// Failed: there is a route, but the next hop did not answer ARP or neighbour discovery.
	Failed
	// Local: the address is one of this host's own.
	Local
)

func (s State) String() string {
	switch s {
	case Resolved:
		return "resolved"
	case Unreachable:
		return "unreachable"
	case Failed:
		return "failed"
	case Local:
		return "local"
	default:
		return fmt.Sprintf("state %d", uint8(s))
	}
}

// Entry is what the kernel says about a Key. It is immutable but for the mark that Use sets.
type Entry struct {
	Key
	State State
	// Reason says in words why State is not Resolved.
	Reason string
	// Egress is the interface that packets leave through.
	Egress uint32
	// Src is the source address that the kernel would choose; invalid when it has none of that family.
	Src netip.Addr
	// SrcMAC is Egress's own, DstMAC that of NextHop. Both are zero with NoLink.
	SrcMAC, DstMAC [6]byte
	// NextHop is the gateway, or Dst itself when that is on the link. It may be of the other family (RFC 5549 routes).
	NextHop netip.Addr
	// MTU is the route's, or else that of Egress: the largest IP packet that can be sent.
	MTU int
	// NoLink: packets leave without an Ethernet header (tun and other point-to-point interfaces).
	NoLink bool

	used atomic.Bool
}

// Use marks the entry as used since the last look of whoever maintains it: used entries are kept fresh, unused ones
// age out. A worker calls it once per batch or per packet, at the cost of one load: the store, which takes the cache line
// away from the other workers, happens only when the mark is not yet there.
func (e *Entry) Use() {
	if !e.used.Load() {
		e.used.Store(true)
	}
}

// takeUse says whether the entry was used since the last call.
func (e *Entry) takeUse() bool { return e.used.Load() && e.used.Swap(false) }

// same says whether a packet would notice no difference between e and o.
func (e *Entry) same(o *Entry) bool {
	return e.Key == o.Key && e.State == o.State && e.Reason == o.Reason && e.Egress == o.Egress && e.Src == o.Src &&
		e.SrcMAC == o.SrcMAC && e.DstMAC == o.DstMAC && e.NextHop == o.NextHop && e.MTU == o.MTU && e.NoLink == o.NoLink
}

func (e *Entry) String() string {
	if e.State != Resolved {
		return fmt.Sprintf("%v: %v: %s", e.Key, e.State, e.Reason)
	}
	return fmt.Sprintf("%v: via %v ifindex %d mac %x", e.Key, e.NextHop, e.Egress, e.DstMAC)
}
