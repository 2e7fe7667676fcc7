package gateway_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A host sends to a group; a host of the other site that has joined it, with sockets of its kernel, receives it. Of
// another group it receives nothing.
func TestAMulticastGroupReachesTheOtherSite(t *testing.T) {
	_, sites := newSites(t)
	for _, s := range sites {
		s.start(t)
		s.edit(t, "  - name: default\n    vni: 0\n", "  - name: default\n    vni: 0\n    multicastGroups: [239.1.0.0/16, \"ff08::/16\"]\n")
	}
	reach(t, sites, 1)
	for _, c := range []struct {
		group  string
		passes bool
	}{{"239.1.2.3", true}, {"ff08::2:3", true}, {"239.2.2.3", false}} {
		got, err := sendToGroup(sites[0], sites[1], netip.AddrPortFrom(netip.MustParseAddr(c.group), 5001), c.passes)
		if err != nil {
			t.Errorf("%s: %v", c.group, err)
		}
		if (got > 0) != c.passes {
			t.Errorf("%s: %d packets arrive; sent %d, %d", c.group, got, sites[0].counter(t, "xdp", "divert_routed"), sites[0].counter(t, "relay", "multicast"))
		}
	}
}

// sendToGroup has a host of one site send to a group until a host of the other has heard it, or for a while.
func sendToGroup(from, to *site, group netip.AddrPort, expected bool) (received int, err error) {
	const patience, silence = 5 * time.Second, time.Second
	var in *net.UDPConn
	var out net.Conn
	network := "udp4"
	if group.Addr().Is6() {
		network = "udp6"
	}
	err = to.host.Do(func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		in, err = net.ListenMulticastUDP(network, link, net.UDPAddrFromAddrPort(group))
		return err
	})
	if err != nil {
		return 0, err
	}
	defer in.Close()
	err = from.host.Do(func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
			var failed error
			err := raw.Control(func(fd uintptr) {
				if network == "udp4" {
					failed = errors.Join(unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, 8),
						unix.SetsockoptIPMreqn(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(link.Index)}))
				} else {
					failed = errors.Join(unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 8),
						unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, link.Index))
				}
			})
			return errors.Join(err, failed)
		}}
		source := from.addr4()
		if network == "udp6" {
			source = from.addr6()
		}
		dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
		out, err = dialer.Dial(network, group.String())
		return err
	})
	if err != nil {
		return 0, err
	}
	defer out.Close()
	limit := silence
	if expected {
		limit = patience
	}
	buf := make([]byte, 100)
	for deadline := time.Now().Add(limit); received == 0 && time.Now().Before(deadline); {
		if _, err := out.Write([]byte("to everybody")); err != nil {
			return received, fmt.Errorf("send: %w", err)
		}
		if err := in.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			return received, err
		}
		if n, _, err := in.ReadFromUDPAddrPort(buf); err == nil && string(buf[:n]) == "to everybody" {
			received++
		}
	}
	return received, nil
}
