package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// pathMTU sends packets of size bytes that may not be fragmented, until the
// kernel has been told of a smaller limit, and returns what it then knows.
func (e *endpoint) pathMTU(ctx context.Context, to netip.Addr, size int, patience time.Duration) (int, error) {
	conn, err := e.dial(ctx, "udp", to, patience)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	level, discover, know, do, header := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_MTU, unix.IP_PMTUDISC_DO, 20+8
	if to.Is6() {
		level, discover, know, do, header = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_MTU, unix.IPV6_PMTUDISC_DO, 40+8
	}
	var mtu int
	option := func(f func(fd int) error) error {
		var e error
		return errors.Join(raw.Control(func(fd uintptr) { e = f(int(fd)) }), e)
	}
	if err := option(func(fd int) error { return unix.SetsockoptInt(fd, level, discover, do) }); err != nil {
		return 0, fmt.Errorf("%s: %w", e.name, err)
	}
	packet := make([]byte, size-header)
	copy(packet, e.site.lab.marker)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		// Once the kernel knows, it refuses with EMSGSIZE, which is the news.
		if _, err := conn.Write(packet); err != nil && !errors.Is(err, unix.EMSGSIZE) {
			return 0, fmt.Errorf("%s: %w", e.name, err)
		}
		err := option(func(fd int) (err error) { mtu, err = unix.GetsockoptInt(fd, level, know); return err })
		if err != nil {
			return 0, fmt.Errorf("%s: %w", e.name, err)
		}
		if mtu < size {
			return mtu, nil
		}
	}
	return 0, fmt.Errorf("%s: nobody said that %d bytes to %s are too long", e.name, size, to)
}
