package node

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// linkPrefix begins the names of our links; the VNI follows.
const linkPrefix = "sluice"

// protocol marks our routes and rules for people: `ip route show table all proto 83`. Not assigned in
// /etc/iproute2/rt_protos.
const protocol = 83

// noAddresses is IN6_ADDR_GEN_MODE_NONE (linux/if_link.h): no link-local address, and so no question of IPv6's goes out.
const noAddresses = 1

// Metrics of routes: the lower wins.
const (
	metricGateway = 1024
	metricRefuse  = 4096
)

// The next hop on our links. Nobody has these addresses, and nobody is asked for them (the links do no ARP): they keep
// the kernel from having a neighbour for every pod, and stay when the gateway changes.
var (
	nextHop4 = netip.AddrFrom4([4]byte{169, 254, 83, 1})
	nextHop6 = netip.MustParseAddr("fe80::53:1")
)

// Kernel is the part of the kernel's network that is ours, in the namespace that it was opened in. It belongs to one
// goroutine.
type Kernel struct {
	config  Config
	handle  *netlink.Handle
	nft     *nftables.Conn
	written string // the nftables table as it was after it was written last
	wanted  string // and what it was written from
	changes []string
}

// OpenKernel needs CAP_NET_ADMIN.
func OpenKernel(c Config) (*Kernel, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	nft, err := nftables.New(nftables.AsLasting())
	if err != nil {
		handle.Close()
		return nil, fmt.Errorf("nftables: %w", err)
	}
	return &Kernel{config: c, handle: handle, nft: nft}, nil
}

// Close leaves what the kernel was told.
func (k *Kernel) Close() error {
	k.handle.Close()
	return k.nft.CloseLasting()
}

// Apply makes the kernel what s says, and returns what it changed. What one part refuses keeps no other from being
// done: an error is about some of them.
func (k *Kernel) Apply(s State) (changes []string, err error) {
	k.changes = nil
	steps := []func(State) error{k.translation, k.links, k.routes, k.rules}
	if len(s.Routes) == 0 { // the other way round: packets are led nowhere that is gone already
		slices.Reverse(steps)
	}
	var problems []error
	for _, step := range steps {
		problems = append(problems, step(s))
	}
	return k.changes, errors.Join(problems...)
}

// Remove removes everything that is ours.
func (k *Kernel) Remove() ([]string, error) { return k.Apply(State{}) }

// did notes a change, or says what could not be done.
func (k *Kernel) did(err error, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	k.changes = append(k.changes, what)
	return nil
}

// Addresses of this machine, by which Plan knows where it is.
func (k *Kernel) Addresses() (list []Address, err error) {
	links, err := k.handle.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	for _, link := range links {
		attrs := link.Attrs()
		if attrs.Flags&net.FlagLoopback != 0 || ours(link) {
			continue
		}
		addrs, err := k.handle.AddrList(link, netlink.FAMILY_ALL)
		if errors.As(err, new(netlink.LinkNotFoundError)) || errors.Is(err, unix.ENODEV) {
			continue // it is gone
		} else if err != nil {
			return nil, fmt.Errorf("addresses of %s: %w", attrs.Name, err)
		}
		for _, a := range addrs {
			bits, _ := a.Mask.Size()
			if ip, ok := netip.AddrFromSlice(a.IP); ok && !ip.Unmap().IsLinkLocalUnicast() {
				list = append(list, Address{netip.PrefixFrom(ip.Unmap(), bits), attrs.Name, attrs.MTU})
			}
		}
	}
	return list, nil
}

// ours says whether a link is of our making.
func ours(link netlink.Link) bool {
	number, found := strings.CutPrefix(link.Attrs().Name, linkPrefix)
	return found && number != "" && strings.Trim(number, "0123456789") == "" && link.Type() == "vxlan"
}

func (k *Kernel) links(s State) error {
	all, err := k.handle.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var problems []error
	for _, have := range all {
		name := have.Attrs().Name
		i := slices.IndexFunc(s.Links, func(l Link) bool { return l.Name == name })
		if ours(have) && (i < 0 || !s.Links[i].is(have)) {
			problems = append(problems, k.did(k.handle.LinkDel(have), "delete link %s", name))
		}
	}
	for _, l := range s.Links {
		problems = append(problems, k.link(l))
	}
	return errors.Join(problems...)
}

// is says whether a link differs from l in nothing that cannot be changed.
func (l *Link) is(link netlink.Link) bool {
	have, ok := link.(*netlink.Vxlan)
	return ok && have.VxlanId == int(l.VNI) && have.Port == int(l.UDPPort) && sameAddr(have.SrcAddr, l.Local) && have.Group == nil && !have.Learning && !have.FlowBased &&
		have.VtepDevIndex == 0 && bytes.Equal(have.HardwareAddr, l.LocalMAC[:]) && have.RawFlags&unix.IFF_NOARP != 0
}

func sameAddr(ip net.IP, a netip.Addr) bool {
	have, ok := netip.AddrFromSlice(ip)
	return ok && have.Unmap() == a || !ok && !a.IsValid()
}

// link makes a link, or what is different in it. The gateway is in the link's forwarding table, as that alone can be
// replaced in one step.
func (k *Kernel) link(l Link) error {
	have, err := k.handle.LinkByName(l.Name)
	switch {
	case errors.As(err, new(netlink.LinkNotFoundError)):
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU, attrs.HardwareAddr = l.Name, l.MTU, l.LocalMAC[:]
		made := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: int(l.VNI), SrcAddr: l.Local.AsSlice(), Port: int(l.UDPPort)}
		if err := k.did(k.handle.LinkAdd(made), "add link %s: VNI %d from %s", l.Name, l.VNI, l.Local); err != nil {
			return err
		}
		if have, err = k.handle.LinkByName(l.Name); err != nil {
			return err
		}
		if err := errors.Join(k.handle.LinkSetARPOff(have), k.handle.LinkSetIP6AddrGenMode(have, noAddresses)); err != nil {
			return errors.Join(fmt.Errorf("set up link %s: %w", l.Name, err), k.handle.LinkDel(have)) // half of one would never be finished
		}
	case err != nil:
		return err
	case !ours(have):
		return fmt.Errorf("link %s is there, and is no VXLAN: remove it", l.Name)
	}
	var problems []error
	if have.Attrs().MTU != l.MTU {
		problems = append(problems, k.did(k.handle.LinkSetMTU(have, l.MTU), "set the MTU of link %s to %d", l.Name, l.MTU))
	}
	problems = append(problems, k.gateway(have.Attrs().Index, l))
	if have.Attrs().Flags&net.FlagUp == 0 {
		problems = append(problems, k.did(k.handle.LinkSetUp(have), "set link %s up", l.Name))
	}
	return errors.Join(problems...)
}

// gateway says where the packets of a link go. All have one MAC address, which is the link's own, as it does no ARP.
func (k *Kernel) gateway(index int, l Link) error {
	have, err := k.handle.NeighList(index, unix.AF_BRIDGE)
	if err != nil {
		return fmt.Errorf("forwarding table of link %s: %w", l.Name, err)
	}
	var problems []error
	found := false
	for i := range have {
		switch e := &have[i]; {
		case !bytes.Equal(e.HardwareAddr, l.LocalMAC[:]):
			e.Flags |= netlink.NTF_SELF
			problems = append(problems, k.did(k.handle.NeighDel(e), "delete %s at %s from link %s", e.HardwareAddr, e.IP, l.Name))
		case sameAddr(e.IP, l.Gateway):
			found = true
		}
	}
	if !found {
		problems = append(problems, k.did(k.handle.NeighSet(&netlink.Neigh{
			LinkIndex: index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT, Flags: netlink.NTF_SELF, IP: l.Gateway.AsSlice(), HardwareAddr: l.LocalMAC[:],
		}), "lead link %s to the gateway at %s", l.Name, l.Gateway))
	}
	return errors.Join(problems...)
}
