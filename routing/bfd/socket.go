package bfd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// maxHops is the TTL that packets have, and must have (RFC 5881 section 5).
	maxHops = 255
	// tos is network control (CS6).
	tos = 0xc0
	// sourceTries is how many ports are tried until one is free. Chosen: a session takes one of 16384.
	sourceTries = 16
)

// listen opens the socket that all routers of the interface send to.
func listen(o *Options) (*net.UDPConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error {
			return errors.Join(bind(fd, o), set(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				set(fd, unix.IPPROTO_IP, unix.IP_RECVTTL, 1), set(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1))
		})
	}}
	conn, err := config.ListenPacket(context.Background(), "udp", fmt.Sprintf("[::]:%d", o.Port))
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// dial opens a socket to send to a router.
func dial(o *Options, router netip.Addr) (*net.UDPConn, error) {
	to := netip.AddrPortFrom(router, o.Port)
	if router.IsLinkLocalUnicast() && router.Is6() && router.Zone() == "" && o.Ifindex != 0 {
		to = netip.AddrPortFrom(router.WithZone(fmt.Sprint(o.Ifindex)), o.Port)
	}
	network := "udp6"
	if router.Is4() {
		network = "udp4"
	}
	var err error
	for range sourceTries {
		dialer := net.Dialer{
			LocalAddr: &net.UDPAddr{Port: firstSource + rand.IntN(1<<16-firstSource)},
			Control: func(_, _ string, c syscall.RawConn) error {
				return control(c, func(fd int) error {
					if router.Is4() {
						return errors.Join(bind(fd, o), set(fd, unix.IPPROTO_IP, unix.IP_TTL, maxHops), set(fd, unix.IPPROTO_IP, unix.IP_TOS, tos))
					}
					return errors.Join(bind(fd, o), set(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, maxHops), set(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, tos))
				})
			},
		}
		var conn net.Conn
		if conn, err = dialer.Dial(network, to.String()); err == nil {
			return conn.(*net.UDPConn), nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return nil, err
}

// bind has a socket see and use one interface only: others may have routers of the same address.
func bind(fd int, o *Options) error {
	if o.Ifindex == 0 {
		return nil
	}
	return set(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, int(o.Ifindex))
}

func set(fd, level, option, value int) error {
	if err := unix.SetsockoptInt(fd, level, option, value); err != nil {
		return fmt.Errorf("socket option %d of level %d: %w", option, level, err)
	}
	return nil
}

func control(c syscall.RawConn, f func(fd int) error) error {
	var failed error
	if err := c.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// hops reads the TTL or hop limit of a packet from its control messages; -1: there is none.
func hops(oob []byte) int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return -1
	}
	for _, m := range messages {
		ttl := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_TTL
		if limit := m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_HOPLIMIT; (ttl || limit) && len(m.Data) >= 4 {
			return int(int32(binary.NativeEndian.Uint32(m.Data)))
		}
	}
	return -1
}
