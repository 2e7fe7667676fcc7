package neigh

import (
	"iter"
	"net/netip"
	"slices"
)

// Link is one network interface as it was when the snapshot was taken. Readers must not write to it.
type Link struct {
	Ifindex uint32
	Name    string
	// MAC is zero with NoLink and for hardware addresses that are not Ethernet's.
	MAC [6]byte
	MTU int
	// Addrs are the interface's addresses with their prefix lengths (host bits set), as the kernel orders them.
	Addrs []netip.Prefix
	// Up: the administrator wants it up and it has a carrier.
	Up bool
	// NoLink: its packets have no Ethernet header (tun and other point-to-point interfaces).
	NoLink bool
	// NoARP: it resolves no neighbours.
	NoARP bool
	// RxQueues is the number of receive queues in use, at least 1. A change (ethtool -L) shows when something else of the
	// interfaces changes: the kernel does not announce it.
	RxQueues int
	// Kind is rtnetlink's (veth, bridge, tun, ...), empty for hardware; Driver is what ethtool says, empty if it does not.
	Kind, Driver string
	// Virtual: what it receives may never have been on a wire, so that checksums may be unfinished.
	Virtual bool
}

// Has says whether the address is one of the link's own.
func (l *Link) Has(a netip.Addr) bool {
	return slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == a })
}

// onLink says whether a subnet of the link contains a.
func (l *Link) onLink(a netip.Addr) bool {
	return slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Masked().Contains(a) })
}

func (l *Link) same(o *Link) bool {
	return l.Ifindex == o.Ifindex && l.Name == o.Name && l.MAC == o.MAC && l.MTU == o.MTU && slices.Equal(l.Addrs, o.Addrs) &&
		l.Up == o.Up && l.NoLink == o.NoLink && l.NoARP == o.NoARP && l.RxQueues == o.RxQueues && l.Kind == o.Kind &&
		l.Driver == o.Driver && l.Virtual == o.Virtual
}

// Links is an immutable snapshot of all interfaces of a network namespace. The zero value is an empty one.
type Links struct {
	all []*Link // by ifindex
}

// LinkByIndex returns nil when there is no such link.
func (s *Links) LinkByIndex(ifindex uint32) *Link {
	i, ok := slices.BinarySearchFunc(s.all, ifindex, func(l *Link, ifindex uint32) int { return int(l.Ifindex) - int(ifindex) })
	if !ok {
		return nil
	}
	return s.all[i]
}

// LinkByName returns nil when there is no such link.
func (s *Links) LinkByName(name string) *Link {
	for _, l := range s.all {
		if l.Name == name {
			return l
		}
	}
	return nil
}

// All yields the links by ifindex.
func (s *Links) All() iter.Seq[*Link] { return slices.Values(s.all) }

// Len is the number of links.
func (s *Links) Len() int { return len(s.all) }

// NewLinks makes a snapshot of these links, which it takes over: of the kernel's, or of a test's.
func NewLinks(all []*Link) *Links {
	slices.SortFunc(all, func(a, b *Link) int { return int(a.Ifindex) - int(b.Ifindex) })
	return &Links{all: all}
}

func (s *Links) same(o *Links) bool { return slices.EqualFunc(s.all, o.all, (*Link).same) }
