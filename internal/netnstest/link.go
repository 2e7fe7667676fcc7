package netnstest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Link is a network interface of a host.
type Link struct {
	Host  *Host
	Name  string
	Index int
	MAC   net.HardwareAddr
}

// End is one end of a veth pair. Only Host and Name are needed.
type End struct {
	Host   *Host
	Name   string
	MAC    net.HardwareAddr // default: the kernel's choice
	MTU    int              // default: 1500
	Queues int              // receive and transmit queues; default: 1
	Addrs  []netip.Prefix   // IPv4 and IPv6, usable at once
	Bridge *Link            // the bridge of the same host that the end belongs to
	// Offload keeps checksum and segmentation offload, which are otherwise off.
	Offload bool
}

func (e End) queues() uint32 { return uint32(max(e.Queues, 1)) }

// Connect makes a veth pair; both ends are up.
func (s *Scope) Connect(a, b End) (*Link, *Link) {
	la, lb := &Link{Host: a.Host, Name: a.Name}, &Link{Host: b.Host, Name: b.Name}
	if s.t != nil {
		s.t.Helper()
	}
	s.try(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU, attrs.HardwareAddr = a.Name, a.MTU, a.MAC
		attrs.NumTxQueues, attrs.NumRxQueues = int(a.queues()), int(a.queues())
		veth := netlink.NewVeth(attrs)
		veth.PeerName, veth.PeerMTU, veth.PeerHardwareAddr = b.Name, uint32(b.MTU), b.MAC
		veth.PeerNumTxQueues, veth.PeerNumRxQueues = b.queues(), b.queues()
		veth.PeerNamespace = netlink.NsFd(b.Host.ns)
		if err := a.Host.handle.LinkAdd(veth); err != nil {
			return fmt.Errorf("connect %s %s with %s %s: %w", a.Host.name, a.Name, b.Host.name, b.Name, err)
		}
		err := errors.Join(la.configure(a), lb.configure(b))
		if err == nil {
			// Only with both ends up: given earlier, an IPv6 address does not
			// receive multicast (neighbour solicitations) for up to a second.
			err = errors.Join(la.addAddrs(a.Addrs), lb.addAddrs(b.Addrs))
		}
		if err != nil {
			return fmt.Errorf("connect %s %s with %s %s: %w", a.Host.name, a.Name, b.Host.name, b.Name, err)
		}
		return nil
	})
	return la, lb
}

func (l *Link) configure(e End) error {
	link, err := l.read()
	if err != nil {
		return err
	}
	if !e.Offload {
		if err := l.setOffload(false); err != nil {
			return err
		}
	}
	if e.Bridge != nil {
		if err := l.Host.handle.LinkSetMasterByIndex(link, e.Bridge.Index); err != nil {
			return fmt.Errorf("%s into bridge %s: %w", l.Name, e.Bridge.Name, err)
		}
	}
	if err := l.Host.handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("%s up: %w", l.Name, err)
	}
	return nil
}

// read asks the kernel for the link, and notes its index and MAC.
func (l *Link) read() (netlink.Link, error) {
	link, err := l.Host.handle.LinkByName(l.Name)
	if err != nil {
		return nil, fmt.Errorf("host %s: link %s: %w", l.Host.name, l.Name, err)
	}
	l.Index, l.MAC = link.Attrs().Index, link.Attrs().HardwareAddr
	return link, nil
}

func (l *Link) addAddr(addr netip.Prefix) error {
	a := &netlink.Addr{IPNet: ipNet(addr)}
	if addr.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := l.Host.handle.AddrReplace(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: l.Index}}, a); err != nil {
		return fmt.Errorf("host %s: address %s on %s: %w", l.Host.name, addr, l.Name, err)
	}
	return nil
}

func (l *Link) addAddrs(addrs []netip.Prefix) error {
	for _, addr := range addrs {
		if err := l.addAddr(addr); err != nil {
			return err
		}
	}
	return nil
}

// AddAddr gives the link one more address.
func (l *Link) AddAddr(addr netip.Prefix) {
	l.Host.helper()
	l.Host.scope.try(func() error { return l.addAddr(addr) })
}

// SetUp brings the link up or down.
func (l *Link) SetUp(up bool) {
	l.Host.helper()
	l.change("state", func(link netlink.Link) error {
		if up {
			return l.Host.handle.LinkSetUp(link)
		}
		return l.Host.handle.LinkSetDown(link)
	})
}

// SetMTU changes the link's MTU.
func (l *Link) SetMTU(mtu int) {
	l.Host.helper()
	l.change("mtu", func(link netlink.Link) error { return l.Host.handle.LinkSetMTU(link, mtu) })
}

// SetMAC changes the link's Ethernet address.
func (l *Link) SetMAC(mac net.HardwareAddr) {
	l.Host.helper()
	l.change("mac", func(link netlink.Link) error {
		l.MAC = mac
		return l.Host.handle.LinkSetHardwareAddr(link, mac)
	})
}

// Delete removes the link (and the other end of a veth pair).
func (l *Link) Delete() {
	l.Host.helper()
	l.change("delete", l.Host.handle.LinkDel)
}

func (l *Link) change(what string, f func(netlink.Link) error) {
	l.Host.helper()
	l.Host.scope.try(func() error {
		link, err := l.read()
		if err != nil {
			return err
		}
		if err := f(link); err != nil {
			return fmt.Errorf("host %s: %s of %s: %w", l.Host.name, what, l.Name, err)
		}
		return nil
	})
}

func (l *Link) setOffload(on bool) error {
	for _, command := range []uint32{unix.ETHTOOL_STXCSUM, unix.ETHTOOL_STSO} {
		if err := l.ethtool(command, on); err != nil {
			return err
		}
	}
	return nil
}

func (l *Link) ethtool(command uint32, on bool) error {
	err := l.Host.Do(func() error {
		_, err := ethtool(l.Name, command, on)
		return err
	})
	if err != nil {
		return fmt.Errorf("host %s: offload of %s: %w", l.Host.name, l.Name, err)
	}
	return nil
}

// ethtool sets or gets a value of an interface of this thread's namespace. It uses the calls from before feature
// names: one value per kind of offload, which covers every feature of that kind that the kernel knows.
func ethtool(name string, command uint32, on bool) (bool, error) {
	value := struct{ cmd, data uint32 }{cmd: command}
	if on {
		value.data = 1
	}
	err := askDriver(name, unsafe.Pointer(&value))
	return value.data != 0, err
}

// askDriver calls SIOCETHTOOL; data points to a struct of linux/ethtool.h, which begins with its command.
func askDriver(name string, data unsafe.Pointer) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var request struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // struct ifreq is 40 bytes, its union 24
	}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	request.data = data
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}

// NewBridge makes a bridge that is up, floods multicast and forwards at once.
func (h *Host) NewBridge(name string, addrs ...netip.Prefix) *Link {
	l := &Link{Host: h, Name: name}
	h.helper()
	h.scope.try(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		// With snooping on and no querier, neighbour solicitations can be lost.
		snooping := false
		if err := h.handle.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
			return fmt.Errorf("host %s: bridge %s: %w", h.name, name, err)
		}
		if err := l.configure(End{Host: h, Name: name, Offload: true}); err != nil {
			return err
		}
		return l.addAddrs(addrs)
	})
	return l
}

// VXLAN describes a kernel VXLAN device.
type VXLAN struct {
	Name   string
	VNI    uint32
	Port   uint16 // default: 4789
	Local  netip.Addr
	Remote []netip.Addr // where broadcast and unknown destinations go
	MTU    int
	Bridge *Link
	Addrs  []netip.Prefix
	// NoLearning: somebody else says where MACs are.
	NoLearning bool
}

// NewVXLAN makes a VXLAN device that is up and, unless told otherwise, learns where MACs are.
func (h *Host) NewVXLAN(v VXLAN) *Link {
	l := &Link{Host: h, Name: v.Name}
	h.helper()
	h.scope.try(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = v.Name, v.MTU
		device := &netlink.Vxlan{
			LinkAttrs: attrs, VxlanId: int(v.VNI), Port: 4789,
			SrcAddr: net.IP(v.Local.AsSlice()), Learning: !v.NoLearning,
			// RFC 6935 allows zero sums over IPv6, and gateways send them.
			UDP6ZeroCSumTx: v.Local.Is6(), UDP6ZeroCSumRx: v.Local.Is6(),
		}
		if v.Port != 0 {
			device.Port = int(v.Port)
		}
		if err := h.handle.LinkAdd(device); err != nil {
			return fmt.Errorf("host %s: vxlan %s: %w", h.name, v.Name, err)
		}
		if err := l.configure(End{Host: h, Name: v.Name, Bridge: v.Bridge, Offload: true}); err != nil {
			return err
		}
		if err := l.addAddrs(v.Addrs); err != nil {
			return err
		}
		for _, remote := range v.Remote {
			entry := &netlink.Neigh{
				LinkIndex: l.Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF,
				State: netlink.NUD_PERMANENT | netlink.NUD_NOARP,
				IP:    net.IP(remote.AsSlice()), HardwareAddr: make(net.HardwareAddr, 6),
			}
			if err := h.handle.NeighAppend(entry); err != nil {
				return fmt.Errorf("host %s: vxlan %s: remote %s: %w", h.name, v.Name, remote, err)
			}
		}
		return nil
	})
	return l
}
