package tun

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeProtocol marks the routes that are ours (rtm_protocol), so that those of
// others on the device are left alone. Chosen: one that nobody has in iproute2's
// rt_protos.
const routeProtocol = 83

// genModeNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h.
const genModeNone = 1

// Addresses of a port.
type Addresses struct {
	// Own are given to the device.
	Own []netip.Addr
	// Peers are what can be reached through it: a route is made for each that is of
	// the family of one of ours, with that as the source.
	Peers []netip.Addr
	// MTU of the device.
	MTU int
}

func (p *Port) link() (netlink.Link, error) {
	link, err := netlink.LinkByIndex(int(p.ifindex))
	if err != nil {
		return nil, fmt.Errorf("tun device %s: %w", p.name, err)
	}
	return link, nil
}

// Configure makes the device's MTU, addresses and routes what is wanted, and
// takes it up. What is there already stays untouched, so sockets bound to an
// address that stays do not notice.
func (p *Port) Configure(want Addresses) error {
	link, err := p.link()
	if err != nil {
		return err
	}
	if link.Attrs().MTU != want.MTU {
		if err := netlink.LinkSetMTU(link, want.MTU); err != nil {
			return fmt.Errorf("tun device %s: set mtu %d: %w", p.name, want.MTU, err)
		}
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		// Nobody shares the link: an address of its own on it would only send router solicitations.
		if err := netlink.LinkSetIP6AddrGenMode(link, genModeNone); err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EAFNOSUPPORT) {
			return fmt.Errorf("tun device %s: no link-local address: %w", p.name, err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("tun device %s: set up: %w", p.name, err)
		}
	}
	if err := p.setAddresses(link, want.Own); err != nil {
		return err
	}
	return p.setRoutes(link, want)
}

func (p *Port) setAddresses(link netlink.Link, want []netip.Addr) error {
	have, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("tun device %s: list addresses: %w", p.name, err)
	}
	missing := make(map[netip.Addr]bool, len(want))
	for _, a := range want {
		missing[a] = true
	}
	for i := range have {
		a, _ := netip.AddrFromSlice(have[i].IP)
		a = a.Unmap()
		if missing[a] || a.IsLinkLocalUnicast() {
			delete(missing, a)
			continue
		}
		if err := netlink.AddrDel(link, &have[i]); err != nil {
			return fmt.Errorf("tun device %s: remove address %v: %w", p.name, a, err)
		}
	}
	for a := range missing {
		// No duplicate address detection: there is nobody on the link to object.
		address := netlink.Addr{IPNet: host(a), Flags: unix.IFA_F_NODAD}
		if a.Is4() {
			address.Flags = 0
		}
		if err := netlink.AddrAdd(link, &address); err != nil {
			return fmt.Errorf("tun device %s: add address %v: %w", p.name, a, err)
		}
	}
	return nil
}

// setRoutes makes a route for each peer's address.
func (p *Port) setRoutes(link netlink.Link, want Addresses) error {
	missing := make(map[netip.Addr]netip.Addr, len(want.Peers)) // to the source
	for _, peer := range want.Peers {
		for _, own := range want.Own {
			if own.Is4() == peer.Is4() {
				missing[peer] = own
			}
		}
	}
	filter := &netlink.Route{LinkIndex: link.Attrs().Index, Protocol: routeProtocol}
	have, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return fmt.Errorf("tun device %s: list routes: %w", p.name, err)
	}
	for i := range have {
		var dst, src netip.Addr
		if have[i].Dst != nil {
			dst, _ = netip.AddrFromSlice(have[i].Dst.IP)
			dst = dst.Unmap()
		}
		src, _ = netip.AddrFromSlice(have[i].Src)
		if own, wanted := missing[dst]; wanted && own == src.Unmap() {
			delete(missing, dst)
			continue
		}
		if err := netlink.RouteDel(&have[i]); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("tun device %s: remove route to %v: %w", p.name, dst, err)
		}
	}
	for peer, own := range missing {
		route := netlink.Route{LinkIndex: link.Attrs().Index, Dst: host(peer), Src: own.AsSlice(), Protocol: routeProtocol, Scope: netlink.SCOPE_LINK}
		if err := netlink.RouteReplace(&route); err != nil {
			return fmt.Errorf("tun device %s: add route to %v: %w", p.name, peer, err)
		}
	}
	return nil
}

// host is the prefix of one address.
func host(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}
