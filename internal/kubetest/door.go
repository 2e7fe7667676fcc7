package kubetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sluicegw/sluice/internal/netnstest"
)

// door carries TCP connections from this machine's loopback into a namespace, so
// that kubectl reaches a cluster and the machine's network stays as it is.
type door struct {
	listener net.Listener
	dial     func(context.Context) (net.Conn, error)
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

func openDoor(host *netnstest.Host, to netip.AddrPort) (*door, error) {
	listener, err := net.Listen("tcp", netip.AddrPortFrom(loopback, 0).String())
	if err != nil {
		return nil, fmt.Errorf("open a way to %s: %w", to, err)
	}
	d := &door{listener: listener, dial: func(ctx context.Context) (net.Conn, error) {
		return dialFrom(host)(ctx, "tcp", to.String())
	}}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.running.Go(d.accept)
	return d, nil
}

func (d *door) address() netip.AddrPort {
	return d.listener.Addr().(*net.TCPAddr).AddrPort()
}

func (d *door) accept() {
	for {
		conn, err := d.listener.Accept()
		if err != nil {
			if d.ctx.Err() != nil {
				return
			}
			time.Sleep(pollEvery) // no descriptor is free, or the like: it passes
			continue
		}
		d.running.Go(func() { d.carry(conn) })
	}
}

// carry copies in both directions until both have ended or the door is closed.
func (d *door) carry(outside net.Conn) {
	defer outside.Close()
	inside, err := d.dial(d.ctx)
	if err != nil {
		return // the caller sees the connection end
	}
	defer inside.Close()
	stop := context.AfterFunc(d.ctx, func() {
		outside.Close()
		inside.Close()
	})
	defer stop()
	var copies sync.WaitGroup
	for _, way := range [2][2]net.Conn{{outside, inside}, {inside, outside}} {
		copies.Go(func() {
			io.Copy(way[1], way[0])
			if half, ok := way[1].(*net.TCPConn); ok {
				half.CloseWrite()
			}
		})
	}
	copies.Wait()
}

func (d *door) close() error {
	d.cancel()
	err := d.listener.Close()
	d.running.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// dialFrom dials out of a host: the socket is made on a thread in its namespace.
func dialFrom(host *netnstest.Host) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = host.Do(func() error {
			// To an address, not a name: nothing here starts other goroutines, which would not be in the namespace.
			var dialer net.Dialer
			conn, err = dialer.DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
}
