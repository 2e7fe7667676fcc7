package netnstest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Host is a network namespace with a name that `ip netns exec` knows.
type Host struct {
	scope  *Scope
	name   string
	ns     netns.NsHandle
	handle *netlink.Handle
}

// NewHost makes a namespace with a loopback link and nothing else. It neither
// forwards nor filters, and takes no router advertisements.
func (s *Scope) NewHost(name string) *Host {
	h := &Host{scope: s, name: name, ns: netns.None()}
	if s.t != nil {
		s.t.Helper()
	}
	s.try(func() error {
		if err := os.Mkdir(h.Dir(), 0o700); err != nil {
			return fmt.Errorf("make host %s: %w", name, err)
		}
		s.mu.Lock()
		s.hosts = append(s.hosts, h) // before the first step that needs undoing
		s.mu.Unlock()
		if err := h.open(); err != nil {
			return fmt.Errorf("make host %s: %w", name, err)
		}
		return h.prepare()
	})
	return h
}

// Name is the host's name in its scope.
func (h *Host) Name() string { return h.name }

// Namespace is the name that `ip netns` knows.
func (h *Host) Namespace() string { return h.scope.id + "-" + h.name }

// Path is the file that the namespace is mounted on.
func (h *Host) Path() string { return filepath.Join(netnsDir, h.Namespace()) }

// Dir is a private folder of the host, removed with the scope.
func (h *Host) Dir() string { return filepath.Join(h.scope.dir, h.name) }

// Netlink is a handle of the host's namespace, for what this package does not do.
func (h *Host) Netlink() *netlink.Handle { return h.handle }

func (h *Host) open() error {
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return err
	}
	err := onThread(netns.None(), func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("new network namespace: %w", err)
		}
		f, err := os.OpenFile(h.Path(), os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		if err := unix.Mount("/proc/thread-self/ns/net", h.Path(), "none", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", h.Path(), err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if h.ns, err = netns.GetFromPath(h.Path()); err != nil {
		return fmt.Errorf("open %s: %w", h.Path(), err)
	}
	if h.handle, err = netlink.NewHandleAt(h.ns, unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("netlink of %s: %w", h.Namespace(), err)
	}
	return nil
}

// prepare gives a namespace the same settings on every machine: the IPv4 ones
// are otherwise inherited from the machine's own.
func (h *Host) prepare() error {
	settings := [][2]string{
		{"net.ipv4.ip_forward", "0"},
		{"net.ipv4.conf.all.rp_filter", "0"},
		{"net.ipv4.conf.default.rp_filter", "0"},
		{"net.ipv6.conf.all.forwarding", "0"},
	}
	for _, conf := range []string{"all", "default"} {
		for _, setting := range [][2]string{
			{"disable_ipv6", "0"},
			{"accept_dad", "0"},
			{"dad_transmits", "0"},
			{"accept_ra", "0"},
			{"router_solicitations", "0"},
		} {
			settings = append(settings, [2]string{"net.ipv6.conf." + conf + "." + setting[0], setting[1]})
		}
	}
	if err := h.Do(func() error {
		for _, s := range settings {
			if err := writeSysctl(s[0], s[1]); err != nil {
				return err
			}
		}
		// With br_netfilter on the machine, bridges would hand packets to IP's
		// hooks (and defragment them).
		for _, name := range []string{"arptables", "iptables", "ip6tables"} {
			err := writeSysctl("net.bridge.bridge-nf-call-"+name, "0")
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("make host %s: %w", h.name, err)
	}
	lo, err := h.handle.LinkByName("lo")
	if err == nil {
		err = h.handle.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("make host %s: loopback: %w", h.name, err)
	}
	return nil
}

// Do calls f on a thread that is in the host's namespace: sockets that f opens
// belong to the host, and stay there when used elsewhere. f runs on a goroutine
// of its own; a panic in it and runtime.Goexit (t.Fatal) reach the caller.
// Goroutines that f starts are not in the namespace.
func (h *Host) Do(f func() error) error {
	if err := h.scope.Err(); err != nil {
		return err
	}
	return onThread(h.ns, f)
}

// onThread runs f on a locked thread, in ns unless that is None. The thread goes
// back to where it was; one that cannot is never reused.
func onThread(ns netns.NsHandle, f func() error) error {
	var (
		err      error
		panicked any
		returned bool
		done     = make(chan struct{})
	)
	go func() {
		defer close(done)
		runtime.LockOSThread()
		home, e := netns.Get()
		if e != nil {
			runtime.UnlockOSThread()
			err, returned = fmt.Errorf("read network namespace: %w", e), true
			return
		}
		defer func() {
			panicked = recover()
			e := netns.Set(home)
			if e == nil {
				// Otherwise the goroutine ends locked, and the runtime ends the thread.
				runtime.UnlockOSThread()
			} else {
				err = errors.Join(err, fmt.Errorf("leave network namespace: %w", e))
			}
			home.Close()
		}()
		if ns.IsOpen() {
			if e := netns.Set(ns); e != nil {
				err, returned = fmt.Errorf("enter network namespace: %w", e), true
				return
			}
		}
		err = f()
		returned = true
	}()
	<-done
	switch {
	case panicked != nil:
		panic(panicked)
	case !returned:
		runtime.Goexit()
	}
	return err
}

// Sysctl sets a value of the host's own, by its dotted name.
func (h *Host) Sysctl(name, value string) {
	h.helper()
	h.scope.try(func() error {
		if err := h.Do(func() error { return writeSysctl(name, value) }); err != nil {
			return fmt.Errorf("host %s: %w", h.name, err)
		}
		return nil
	})
}

// writeSysctl: /proc/sys/net shows the namespace of the thread that opens it.
// Slashes in an interface name are not supported, dots in one are by writing /.
func writeSysctl(name, value string) error {
	if err := os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0); err != nil {
		return fmt.Errorf("set %s to %s: %w", name, value, err)
	}
	return nil
}

// Route adds a route; a zero dst is the default route of via's family.
func (h *Host) Route(dst netip.Prefix, via netip.Addr) {
	h.helper()
	h.scope.try(func() error {
		if !dst.IsValid() {
			dst = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			if via.Is6() {
				dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			}
		}
		route := &netlink.Route{Dst: ipNet(dst), Gw: net.IP(via.AsSlice())}
		if err := h.handle.RouteReplace(route); err != nil {
			return fmt.Errorf("host %s: route %s via %s: %w", h.name, dst, via, err)
		}
		return nil
	})
}

func (h *Host) helper() {
	if h.scope.t != nil {
		h.scope.t.Helper()
	}
}

func (h *Host) close() error {
	if h.handle != nil {
		h.handle.Close()
	}
	err := removeNamespace(h.Path())
	if h.ns.IsOpen() {
		err = errors.Join(err, h.ns.Close())
	}
	return err
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: net.IP(p.Addr().AsSlice()), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Prefixes parses addresses with their prefix lengths, written in the source. It
// panics on a mistake.
func Prefixes(texts ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		all[i] = netip.MustParsePrefix(text)
	}
	return all
}

// MAC parses an Ethernet address written in the source. It panics on a mistake.
func MAC(text string) net.HardwareAddr {
	mac, err := net.ParseMAC(text)
	if err != nil {
		panic(err)
	}
	return mac
}
