package gateway

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/relay"
)

// A socket of each family on the WireGuard port takes what the XDP program leaves to the kernel: datagrams that came in
// fragments, which the kernel has put together, and those of queues without an AF_XDP socket. It hands them to the relay
// (relay/arrival.go). Because there is a socket, the kernel does not answer such packets with ICMP errors, and takes path
// MTUs from the ICMP errors about what the relay has sent from that port. Nothing is ever sent through it.

// What we chose.
const (
	listenBatch  = 32
	listenBuffer = 1 << 20 // bytes in the kernel, of each socket: some 500 datagrams of 1500 bytes
)

// listening is what the sockets have taken in the life of the gateway.
type listening struct {
	reassembled atomic.Uint64
	whole       atomic.Uint64
	tooLong     atomic.Uint64
	lost        atomic.Uint64
	overflowed  atomic.Uint64
}

// listener is the sockets on one port.
type listener struct {
	port  uint16
	conns []*net.UDPConn
	done  chan struct{} // closed to end the readers
	wait  sync.WaitGroup
}

// listen makes the sockets be on the configured port. What fails is logged and tried again: the gateway works without,
// but for fragments.
func (g *Gateway) listen() {
	port := g.cfg.WireGuard.ListenPort
	if g.listener != nil && g.listener.port == port {
		return
	}
	g.stopListening()
	l, err := g.openListener(port)
	if err != nil {
		g.log.Error("listen for what comes by way of the kernel", "port", port, "error", err)
		return
	}
	g.listener = l
}

func (g *Gateway) stopListening() {
	if g.listener == nil {
		return
	}
	if err := g.listener.close(); err != nil {
		g.log.Warn("close WireGuard sockets", "error", err)
	}
	g.listener = nil
}

// openListener opens a socket of each family that the kernel has.
func (g *Gateway) openListener(port uint16) (*listener, error) {
	l := &listener{port: port, done: make(chan struct{})}
	for _, network := range []string{"udp4", "udp6"} {
		conn, err := net.ListenUDP(network, &net.UDPAddr{Port: int(port)})
		if errors.Is(err, syscall.EAFNOSUPPORT) {
			continue
		}
		if err == nil {
			l.conns = append(l.conns, conn)
			err = tellMore(conn, network == "udp6")
		}
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
	}
	for _, conn := range l.conns {
		var from reader = ipv6.NewPacketConn(conn)
		if conn.LocalAddr().(*net.UDPAddr).IP.To4() != nil {
			from = ipv4.NewPacketConn(conn)
		}
		l.wait.Go(func() { l.read(from, g.relay, &g.listened, g.log) })
	}
	return l, nil
}

func (l *listener) close() error {
	close(l.done)
	var errs []error
	for _, conn := range l.conns {
		errs = append(errs, conn.Close())
	}
	l.wait.Wait()
	return errors.Join(errs...)
}

// tellMore makes the kernel say of each datagram which address it was sent to, through which interface it came, its
// traffic class, whether it came in fragments, and how many were lost for want of room.
func tellMore(conn *net.UDPConn, six bool) error {
	level, options := unix.IPPROTO_IP, []int{unix.IP_PKTINFO, unix.IP_RECVTOS, unix.IP_RECVFRAGSIZE}
	if six {
		level, options = unix.IPPROTO_IPV6, []int{unix.IPV6_RECVPKTINFO, unix.IPV6_RECVTCLASS, unix.IPV6_RECVFRAGSIZE}
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		for _, option := range options {
			failed = errors.Join(failed, unix.SetsockoptInt(int(fd), level, option, 1))
		}
		failed = errors.Join(failed, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1))
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, listenBuffer) != nil { // not privileged
			failed = errors.Join(failed, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, listenBuffer))
		}
	})
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("set options of a socket on port %d: %w", conn.LocalAddr().(*net.UDPAddr).Port, err)
	}
	return nil
}

// reader reads a batch of datagrams: an ipv4.PacketConn or an ipv6.PacketConn, whose messages are the same type.
type reader interface {
	ReadBatch(messages []ipv4.Message, flags int) (int, error)
}

// read hands datagrams to the relay until the listener is closed.
func (l *listener) read(from reader, to *relay.Relay, count *listening, log *slog.Logger) {
	messages := make([]ipv4.Message, listenBatch)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, relay.MaxArrival)}
		messages[i].OOB = make([]byte, 256)
	}
	var overflowed uint32
	for {
		n, err := from.ReadBatch(messages, 0)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no memory, say
			log.Warn("read what comes by way of the kernel", "error", err)
			select {
			case <-l.done:
				return
			case <-time.After(time.Second):
			}
			continue
		}
		for i := range messages[:n] {
			m := &messages[i]
			a := relay.Arrival{Data: m.Buffers[0][:m.N]}
			if from, ok := m.Addr.(*net.UDPAddr); ok {
				a.From = from.AddrPort()
			}
			told := readTold(&a, m.OOB[:m.NN])
			if told.fragmented {
				count.reassembled.Add(1)
			} else {
				count.whole.Add(1)
			}
			if told.overflowed != 0 {
				count.overflowed.Add(uint64(told.overflowed - overflowed))
				overflowed = told.overflowed
			}
			switch {
			case m.Flags&unix.MSG_TRUNC != 0:
				count.tooLong.Add(1)
			case !to.Arrive(a):
				count.lost.Add(1)
			}
		}
	}
}

// told is what the kernel says of a datagram beside what an Arrival has.
type told struct {
	fragmented bool
	overflowed uint32 // datagrams lost since the socket was opened; 0: it has nothing to say
}

// readTold reads control messages, in host byte order as they are.
func readTold(a *relay.Arrival, oob []byte) (t told) {
	for len(oob) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return t // the kernel does not write such
		}
		oob = rest
		switch kind := [2]int32{header.Level, header.Type}; {
		case kind == [2]int32{unix.IPPROTO_IP, unix.IP_PKTINFO} && len(data) >= unix.SizeofInet4Pktinfo:
			// struct in_pktinfo: interface, the local address, and the destination in the header
			a.Ifindex = binary.NativeEndian.Uint32(data)
			a.To = netip.AddrFrom4([4]byte(data[8:12]))
		case kind == [2]int32{unix.IPPROTO_IPV6, unix.IPV6_PKTINFO} && len(data) >= unix.SizeofInet6Pktinfo:
			a.To = netip.AddrFrom16([16]byte(data))
			a.Ifindex = binary.NativeEndian.Uint32(data[16:])
		case kind == [2]int32{unix.IPPROTO_IP, unix.IP_TOS} && len(data) >= 1:
			a.TOS = data[0]
		case kind == [2]int32{unix.IPPROTO_IPV6, unix.IPV6_TCLASS} && len(data) >= 4:
			a.TOS = uint8(binary.NativeEndian.Uint32(data))
		case kind == [2]int32{unix.IPPROTO_IP, unix.IP_RECVFRAGSIZE}, kind == [2]int32{unix.IPPROTO_IPV6, unix.IPV6_RECVFRAGSIZE}:
			t.fragmented = true
		case kind == [2]int32{unix.SOL_SOCKET, unix.SO_RXQ_OVFL} && len(data) >= 4:
			t.overflowed = binary.NativeEndian.Uint32(data)
		}
	}
	return t
}

func (g *Gateway) listenCounters() ([]*sluicev1.Counter, error) {
	c := &g.listened
	return []*sluicev1.Counter{
		packets("reassembled", c.reassembled.Load(), "datagrams for the WireGuard port that came in fragments and were put together by the kernel", false),
		packets("whole", c.whole.Load(), "datagrams for the WireGuard port that came by way of the kernel for another reason: no AF_XDP socket on the queue, an IPv6 extension header", false),
		packets("too_long", c.tooLong.Load(), "of these, longer than 16 KiB", true),
		packets("mailbox_full", c.lost.Load(), "of these, those that their worker had no room for", true),
		packets("overflow", c.overflowed.Load(), "datagrams that came faster than they were read", true),
	}, nil
}
