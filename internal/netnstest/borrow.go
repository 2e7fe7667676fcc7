package netnstest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// carrierTimeout is how long a NIC may take until its link is up: negotiation takes seconds.
const carrierTimeout = 15 * time.Second

// Idle reports why an interface of the machine is not free to be borrowed: nothing may depend on it.
func Idle(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("interface %s is in use: %s", name, fmt.Sprintf(format, args...))
	}
	attrs := link.Attrs()
	switch {
	case attrs.Flags&net.FlagLoopback != 0:
		return refuse("it is the loopback")
	case attrs.MasterIndex != 0:
		return refuse("it belongs to a bridge or bond")
	case attrs.Xdp != nil && attrs.Xdp.Attached:
		return refuse("it has an XDP program")
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("interface %s: addresses: %w", name, err)
	}
	for _, a := range addrs {
		if !a.IP.IsLinkLocalUnicast() { // IPv6 gives itself one
			return refuse("it has the address %s", a.IPNet)
		}
	}
	routes, err := netlink.RouteList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("interface %s: routes: %w", name, err)
	}
	for _, r := range routes {
		if r.Dst == nil || !r.Dst.IP.IsLinkLocalUnicast() && !r.Dst.IP.IsMulticast() {
			return refuse("a route leads through it: %s", r)
		}
	}
	others, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	for _, o := range others {
		if o.Attrs().ParentIndex == attrs.Index && o.Type() != "veth" { // the two ends of a pair name each other
			return refuse("%s is on top of it", o.Attrs().Name)
		}
	}
	return nil
}

// Borrow moves an interface of the namespace that it is called in into a host, as the end of a link whose cable is
// there already, and gives it e's name, MTU, MAC and addresses. Close gives it back as it was, offload of checksums,
// segmentation and receiving (GRO) included. An interface that is not Idle is refused.
func (s *Scope) Borrow(name string, e End) *Link {
	l := &Link{Host: e.Host, Name: e.Name}
	if s.t != nil {
		s.t.Helper()
	}
	s.try(func() error {
		if err := l.borrow(name, e); err != nil {
			return fmt.Errorf("borrow %s for %s: %w", name, e.Host.name, err)
		}
		return nil
	})
	return l
}

// loan is an interface as it was.
type loan struct {
	home     netns.NsHandle
	link     netlink.Link
	offloads map[uint32]bool // by the command that sets it
}

func (l *Link) borrow(name string, e End) (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := Idle(name); err != nil {
		return err
	}
	was := &loan{offloads: make(map[uint32]bool)}
	if was.link, err = netlink.LinkByName(name); err != nil {
		return err
	}
	for get, set := range map[uint32]uint32{unix.ETHTOOL_GTXCSUM: unix.ETHTOOL_STXCSUM, unix.ETHTOOL_GTSO: unix.ETHTOOL_STSO, unix.ETHTOOL_GGRO: unix.ETHTOOL_SGRO} {
		value, err := ethtool(name, get, false)
		if err != nil {
			return fmt.Errorf("read offload: %w", err)
		}
		was.offloads[set] = value
	}
	if was.home, err = netns.Get(); err != nil {
		return err
	}
	if err := errors.Join(netlink.LinkSetDown(was.link), netlink.LinkSetNsFd(was.link, int(e.Host.ns))); err != nil {
		return errors.Join(err, was.home.Close())
	}
	s := e.Host.scope
	s.mu.Lock()
	s.loans = append(s.loans, func() error { return l.giveBack(was) }) // before the first step that needs undoing
	s.mu.Unlock()
	h := e.Host.handle
	if err := h.LinkSetName(was.link, e.Name); err != nil {
		return err
	}
	if e.MTU != 0 {
		if err := h.LinkSetMTU(was.link, e.MTU); err != nil {
			return fmt.Errorf("mtu %d: %w", e.MTU, err)
		}
	}
	if e.MAC != nil {
		if err := h.LinkSetHardwareAddr(was.link, e.MAC); err != nil {
			return fmt.Errorf("mac %s: %w", e.MAC, err)
		}
	}
	return errors.Join(l.configure(e), l.addAddrs(e.Addrs))
}

// giveBack undoes borrow, as far as it went.
func (l *Link) giveBack(was *loan) error {
	attrs, h := was.link.Attrs(), l.Host.handle
	current, err := h.LinkByIndex(attrs.Index)
	if err != nil {
		return errors.Join(fmt.Errorf("give %s back: %w", attrs.Name, err), was.home.Close())
	}
	errs := []error{
		h.LinkSetDown(current), h.LinkSetName(current, attrs.Name), h.LinkSetMTU(current, attrs.MTU),
		h.LinkSetHardwareAddr(current, attrs.HardwareAddr), h.LinkSetNsFd(current, int(was.home)),
	}
	errs = append(errs, onThread(was.home, func() error {
		for command, on := range was.offloads {
			if _, err := ethtool(attrs.Name, command, on); err != nil {
				return err
			}
		}
		if attrs.Flags&net.FlagUp == 0 {
			return nil
		}
		home, err := netlink.LinkByName(attrs.Name)
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(home)
	}), was.home.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("give %s back: %w", attrs.Name, err)
	}
	return nil
}

// Carrier waits until the link is up at both of its ends.
func (l *Link) Carrier() error {
	for deadline := time.Now().Add(carrierTimeout); ; time.Sleep(50 * time.Millisecond) {
		link, err := l.read()
		if err != nil || link.Attrs().OperState == netlink.OperUp {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("host %s: %s has no carrier: is its cable in, and is the other end up?", l.Host.name, l.Name)
		}
	}
}

// ReceiveQueues is how many receive queues of an interface are in use.
func ReceiveQueues(name string) (int, error) {
	var channels struct { // struct ethtool_channels
		cmd, maxRx, maxTx, maxOther, maxCombined uint32
		rx, tx, other, combined                  uint32
	}
	channels.cmd = unix.ETHTOOL_GCHANNELS
	err := askDriver(name, unsafe.Pointer(&channels))
	if errors.Is(err, unix.EOPNOTSUPP) { // a driver with one
		return 1, nil
	}
	if err != nil {
		return 0, fmt.Errorf("interface %s: queues: %w", name, err)
	}
	return int(channels.rx + channels.combined), nil
}

// Describe is the driver of an interface and its speed, if the kernel tells one.
func Describe(name string) (string, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	info, err := unix.IoctlGetEthtoolDrvinfo(fd, name)
	if err != nil {
		return "", fmt.Errorf("interface %s: driver: %w", name, err)
	}
	text := unix.ByteSliceToString(info.Driver[:])
	if speed, err := os.ReadFile(filepath.Join("/sys/class/net", name, "speed")); err == nil {
		text += " " + strings.TrimSpace(string(speed)) + " Mb/s"
	}
	return text, nil
}
