package neigh

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// virtualDrivers hand over packets that another guest or process of the same machine made, and that were never on a wire;
// these need no rtnetlink kind. (The others, veth or tun, have one.)
var virtualDrivers = map[string]bool{"virtio_net": true, "vif": true, "xen_netfront": true, "hv_netvsc": true, "vmxnet3": true}

// readLinks reads all interfaces with their addresses. When they change meanwhile (ErrDumpInterrupted) the event of the
// change makes us read them again.
func (n *rtnetlink) readLinks() (*Links, error) {
	links, err := n.requests.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("read links: %w", err)
	}
	addrs, err := n.requests.AddrList(nil, unix.AF_UNSPEC)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("read addresses: %w", err)
	}
	byLink := make(map[int][]netip.Prefix)
	for _, a := range addrs {
		if p := prefix(a); p.IsValid() && a.Flags&unix.IFA_F_DADFAILED == 0 {
			byLink[a.LinkIndex] = append(byLink[a.LinkIndex], p)
		}
	}
	out := make([]*Link, 0, len(links))
	n.ethtool.begin()
	for _, l := range links {
		out = append(out, n.link(l, byLink[l.Attrs().Index]))
	}
	n.ethtool.end()
	return NewLinks(out), nil
}

func (n *rtnetlink) link(l netlink.Link, addrs []netip.Prefix) *Link {
	a := l.Attrs()
	out := &Link{
		Ifindex: uint32(a.Index), Name: a.Name, MTU: a.MTU, Addrs: addrs,
		// IFF_LOWER_UP is the carrier itself, and what the kernel's own sending goes by. IFF_RUNNING would be the
		// operational state (RFC 2863), which follows the carrier up to a second later.
		Up:     a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_LOWER_UP != 0,
		NoLink: a.EncapType != "ether",
		NoARP:  a.RawFlags&(unix.IFF_NOARP|unix.IFF_POINTOPOINT|unix.IFF_LOOPBACK) != 0,
		Kind:   l.Type(),
	}
	switch out.Kind {
	case "device":
		out.Kind = ""
	case "tuntap":
		out.Kind = "tun" // as the kernel calls it
	}
	if len(a.HardwareAddr) == len(out.MAC) && !out.NoLink {
		out.MAC = [6]byte(a.HardwareAddr)
	}
	out.Driver = n.ethtool.driver(a.Index, a.Name)
	if out.RxQueues = n.ethtool.rxQueues(a.Index); out.RxQueues == 0 {
		out.RxQueues = max(1, a.NumRxQueues) // those there are, which may be more than those in use
	}
	out.Virtual = out.Kind != "" || virtualDrivers[out.Driver] || a.RawFlags&unix.IFF_LOOPBACK != 0
	return out
}

// prefix is the address with the length of its subnet. A point-to-point address has the peer's subnet, which says nothing
// about neighbours: it stands alone.
func prefix(a netlink.Addr) netip.Prefix {
	if a.IPNet == nil {
		return netip.Prefix{}
	}
	bits, _ := a.Mask.Size()
	return netip.PrefixFrom(fromIP(a.IP), bits)
}

// fromIP: the netlink package has IPv4 addresses of four bytes and no IPv4-mapped ones.
func fromIP(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a
}
