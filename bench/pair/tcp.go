package pair

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicegw/sluice/bench/method"
)

// chunk is what one call writes or reads.
const chunk = 128 << 10

// write sends as much as the connections carry, for a time, and closes their sending sides.
func write(ctx context.Context, conns []net.Conn, d time.Duration) (sum sent, err error) {
	meter, err := method.StartMeter(nil)
	if err != nil {
		return sum, err
	}
	stop := closeWith(ctx, conns)
	defer stop()
	begin := time.Now()
	var total, again atomic.Uint64
	errs := make([]error, len(conns))
	var wait sync.WaitGroup
	for i, c := range conns {
		wait.Go(func() {
			b := make([]byte, chunk)
			errs[i] = c.SetWriteDeadline(begin.Add(d))
			for errs[i] == nil {
				var n int
				n, errs[i] = c.Write(b)
				total.Add(uint64(n))
			}
			var timeout net.Error
			if errors.As(errs[i], &timeout) && timeout.Timeout() {
				errs[i] = nil
			}
			n, err := retransmitted(c)
			again.Add(n)
			errs[i] = errors.Join(errs[i], err, closeWrite(c))
		})
	}
	wait.Wait()
	usage, err := meter.Stop()
	return sent{Bytes: total.Load(), Retransmitted: again.Load(), Duration: time.Since(begin), Steal: usage.Steal}, errors.Join(append(errs, err, ctx.Err())...)
}

// drink reads until the other side has closed all connections, for at most a time.
func drink(ctx context.Context, conns []net.Conn, limit time.Duration) (c counts, err error) {
	meter, err := method.StartMeter(nil)
	if err != nil {
		return c, err
	}
	stop := closeWith(ctx, conns)
	defer stop()
	type span struct {
		bytes       uint64
		first, last time.Duration
	}
	spans, errs := make([]span, len(conns)), make([]error, len(conns))
	begin := time.Now()
	var wait sync.WaitGroup
	for i, conn := range conns {
		wait.Go(func() {
			b := make([]byte, chunk)
			errs[i] = conn.SetReadDeadline(begin.Add(limit))
			for errs[i] == nil {
				var n int
				if n, errs[i] = conn.Read(b); n > 0 {
					s := &spans[i]
					if s.last = time.Since(begin); s.bytes == 0 {
						s.first = s.last
					}
					s.bytes += uint64(n)
				}
			}
			if errors.Is(errs[i], io.EOF) {
				errs[i] = nil
			}
		})
	}
	wait.Wait()
	usage, err := meter.Stop()
	c.Steal = usage.Steal
	first, last := limit, time.Duration(0)
	for _, s := range spans {
		c.Bytes += s.bytes
		if s.bytes > 0 {
			first, last = min(first, s.first), max(last, s.last)
		}
	}
	c.Window = max(last-first, 0)
	return c, errors.Join(append(errs, err, ctx.Err())...)
}

// closeWith closes the connections when the context ends; the function it returns calls that off.
func closeWith(ctx context.Context, conns []net.Conn) func() bool {
	return context.AfterFunc(ctx, func() {
		for _, c := range conns {
			c.Close()
		}
	})
}

func closeWrite(c net.Conn) error {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return fmt.Errorf("close: %T is no tcp connection", c)
	}
	return tcp.CloseWrite()
}

// retransmitted segments of a connection, as its kernel counts them.
func retransmitted(c net.Conn) (n uint64, err error) {
	raw, ok := c.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("tcp info: %T has no descriptor", c)
	}
	r, err := raw.SyscallConn()
	if err != nil {
		return 0, err
	}
	var info *unix.TCPInfo
	failed := r.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if err = errors.Join(failed, err); err != nil {
		return 0, fmt.Errorf("tcp info: %w", err)
	}
	return uint64(info.Total_retrans), nil
}
