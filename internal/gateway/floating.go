package gateway

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/internal/packet"
)

// Addresses that move with the active gateway of a VPC are the kernel's, with a lifetime: those of a process that was killed
// or frozen end by themselves. The kernel counts lifetimes in seconds.

const (
	holdInterval = time.Second
	holdLifetime = 4 // seconds
	// announcements of an address, one at each interval: a host may have asked the one before for it meanwhile.
	announcements = 4
)

// floating is an address that this gateway has put on a port.
type floating struct {
	ifindex uint32
	address netip.Prefix
}

// holdAddresses puts the addresses on the ports that this gateway is to have, for another while, and takes off the others.
func (g *Gateway) holdAddresses() {
	links := g.kernel.Links()
	wanted := make(map[floating]bool)
	for i := range g.cfg.Cluster.VPCs {
		v := &g.cfg.Cluster.VPCs[i]
		for _, a := range v.Addresses {
			link := links.LinkByName(a.Port)
			if link == nil {
				continue
			}
			f := floating{link.Ifindex, a.Address}
			switch {
			case g.carries(v.Name):
				wanted[f] = true
				if err := g.holdAddress(f, link); err != nil {
					g.log.Error("cluster: put address on port", "port", a.Port, "address", a.Address, "error", err)
				}
			case link.Has(a.Address.Addr()): // also of a process before us
				g.held[f] = 0
			}
		}
	}
	for f := range g.held {
		if wanted[f] {
			continue
		}
		delete(g.held, f)
		err := netlink.AddrDel(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: int(f.ifindex)}}, &netlink.Addr{IPNet: netOf(f.address)})
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
			g.log.Warn("cluster: take address off port", "address", f.address, "error", err)
		}
	}
}

func (g *Gateway) holdAddress(f floating, link *neigh.Link) error {
	a := &netlink.Addr{IPNet: netOf(f.address), ValidLft: holdLifetime, PreferedLft: holdLifetime}
	if f.address.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD // its owner before may still answer for it
	}
	if err := netlink.AddrReplace(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: int(f.ifindex)}}, a); err != nil {
		return err
	}
	if g.held[f]++; g.held[f] > announcements {
		return nil
	}
	return announceAddress(link, f.address.Addr())
}

func netOf(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// allNodes is the group of everybody on an IPv6 link.
var allNodes = netip.MustParseAddr("ff02::1").As16()

// announceAddress tells the link that an address is ours: a gratuitous ARP request (RFC 5227 section 3), or an unsolicited
// neighbour advertisement (RFC 4861 section 7.2.6).
func announceAddress(link *neigh.Link, a netip.Addr) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("announce %s: %w", a, err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, announcementOf(link.MAC, a), 0, &unix.SockaddrLinklayer{Ifindex: int(link.Ifindex)}); err != nil {
		return fmt.Errorf("announce %s on %s: %w", a, link.Name, err)
	}
	return nil
}

// announcementOf is the frame that says that an address is at mac.
func announcementOf(mac [6]byte, a netip.Addr) []byte {
	if a.Is4() {
		b := make([]byte, packet.EthernetLen+packet.ARPLen)
		packet.PutEthernet(b, packet.Broadcast, mac, packet.TypeARP)
		packet.PutARPRequest(b[packet.EthernetLen:], mac, a.As4(), a.As4())
		return b
	}
	b := make([]byte, packet.EthernetLen+packet.IPv6Len+packet.NDAdvertLen)
	packet.PutEthernet(b, packet.GroupMAC(allNodes[:]), mac, packet.TypeIPv6)
	ip := b[packet.EthernetLen:]
	packet.PutIPv6(ip, 0, 0, packet.NDAdvertLen, 255, packet.ProtoICMPv6, a.As16(), allNodes)
	packet.PutAdvert(ip[packet.IPv6Len:], a.As16(), mac, false)
	packet.PutTransportChecksum(ip, packet.IPv6Len, packet.ProtoICMPv6)
	return b
}
