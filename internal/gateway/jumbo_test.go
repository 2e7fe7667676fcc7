package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/sluicegw/sluice/internal/netnstest"
)

// Links of 9000 bytes everywhere: pings that fill them, and TCP with segments of that size.
func TestJumboFramesCross(t *testing.T) {
	_, sites := newSites(t)
	for _, s := range sites {
		for _, port := range []string{"host0", "wan0"} {
			s.run(t, "ip", "link", "set", port, "mtu", "9000")
		}
		if err := s.host.Command(t.Context(), "ip", "link", "set", "eth0", "mtu", "9000").Run(); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range sites {
		s.start(t)
	}
	reach(t, sites, 2)
	const innerMTU = 9000 - 60 // IPv4, UDP, WireGuard
	for _, size := range []int{1400, 3000, 5000, innerMTU - 28} {
		err := netnstest.Ping(t.Context(), sites[0].host, sites[1].addr4(), netnstest.PingOptions{Count: 3, All: true, DontFragment: true, Size: size})
		if err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	for _, s := range sites {
		if n := s.counter(t, "relay", "multi_buffer"); n != 0 {
			t.Errorf("gateway %d dropped %d packets of several frames", s.number, n)
		}
	}
	if err := copyOver(t.Context(), sites[0], sites[1], 20<<20); err != nil {
		t.Error(err)
	}
	if err := copyOver(t.Context(), sites[1], sites[0], 20<<20); err != nil {
		t.Error(err)
	}
}

// copyOver sends n bytes by TCP from the host of one site to the other's and compares them.
func copyOver(ctx context.Context, from, to *site, n int) error {
	return copyBetween(ctx, from.host, to.host, to.addr4(), n)
}

// copyBetween sends n bytes by TCP from one host to an address of another and compares them.
func copyBetween(ctx context.Context, from, to *netnstest.Host, addr netip.Addr, n int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	data := bytes.Repeat([]byte("0123456789abcdef-and-seventeen-more"), n/35+1)[:n]
	var listener net.Listener
	err := to.Do(func() (err error) {
		listener, err = net.Listen("tcp", netip.AddrPortFrom(addr, 7000).String())
		return err
	})
	if err != nil {
		return err
	}
	defer listener.Close()
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	received := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			received <- err
			return
		}
		defer conn.Close()
		deadline, _ := ctx.Deadline()
		err = conn.SetDeadline(deadline)
		got, readErr := io.ReadAll(conn)
		if !bytes.Equal(got, data) {
			err = errors.Join(err, fmt.Errorf("%d of %d bytes arrived, or others", len(got), n))
		}
		received <- errors.Join(err, readErr)
	}()
	err = from.Do(func() error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", listener.Addr().String())
		if err != nil {
			return err
		}
		deadline, _ := ctx.Deadline()
		if err := conn.SetDeadline(deadline); err != nil {
			return errors.Join(err, conn.Close())
		}
		_, err = conn.Write(data)
		return errors.Join(err, conn.Close())
	})
	return errors.Join(err, <-received)
}
