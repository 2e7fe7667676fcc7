package pair

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// socket is a UDP socket that sends and receives in batches.
type socket struct {
	conn  *net.UDPConn
	batch batcher
}

// batcher is what the packages ipv4 and ipv6 have in common.
type batcher interface {
	ReadBatch([]ipv4.Message, int) (int, error)
	WriteBatch([]ipv4.Message, int) (int, error)
}

// buffer of a socket, in bytes: some milliseconds of a fast link. The kernel may grant less.
const buffer = 8 << 20

// listen opens a socket that others may be opened beside, the kernel spreading flows over them.
func listen(ctx context.Context, at netip.AddrPort) (*socket, error) {
	c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return control(raw, at.Addr().Is6(), func(fd int) error {
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
	}}
	conn, err := c.ListenPacket(ctx, network(at.Addr()), at.String())
	if err != nil {
		return nil, err
	}
	return newSocket(conn.(*net.UDPConn), at.Addr().Is6()), nil
}

// dial opens a socket that is connected.
func dial(ctx context.Context, to netip.AddrPort) (*socket, error) {
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return control(raw, to.Addr().Is6(), func(int) error { return nil })
	}}
	conn, err := d.DialContext(ctx, network(to.Addr()), to.String())
	if err != nil {
		return nil, err
	}
	return newSocket(conn.(*net.UDPConn), to.Addr().Is6()), nil
}

func network(a netip.Addr) string {
	if a.Is6() {
		return "udp6"
	}
	return "udp4"
}

func newSocket(conn *net.UDPConn, v6 bool) *socket {
	if v6 {
		return &socket{conn: conn, batch: ipv6.NewPacketConn(conn)}
	}
	return &socket{conn: conn, batch: ipv4.NewPacketConn(conn)}
}

// control sets the options of a socket: the kernel's receive timestamps and count of overruns, large
// buffers, and packets that are never fragmented, whatever the kernel believes of the path.
func control(raw syscall.RawConn, v6 bool, more func(fd int) error) (err error) {
	set := func(fd int) error {
		errs := []error{
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1),
			more(fd),
		}
		for _, o := range [][2]int{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
			// The first needs CAP_NET_ADMIN, the second gives what the administrator allows.
			if unix.SetsockoptInt(fd, unix.SOL_SOCKET, o[0], buffer) != nil {
				errs = append(errs, unix.SetsockoptInt(fd, unix.SOL_SOCKET, o[1], buffer))
			}
		}
		if v6 {
			errs = append(errs, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE),
				unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1))
		} else {
			errs = append(errs, unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE))
		}
		return errors.Join(errs...)
	}
	failed := raw.Control(func(fd uintptr) { err = set(int(fd)) })
	if err = errors.Join(failed, err); err != nil {
		return fmt.Errorf("set socket options: %w", err)
	}
	return nil
}

// packet is one that came, valid until the next read.
type packet struct {
	payload []byte
	from    netip.AddrPort
	at      int64 // by the kernel's clock, ns since 1970
}

// reader reads batches from a socket.
type reader struct {
	socket   *socket
	messages []ipv4.Message
	packets  []packet
	overrun  uint32 // packets that had no room, since the socket was opened
}

// oobLen holds a timestamp and a count.
var oobLen = unix.CmsgSpace(16) + unix.CmsgSpace(4)

func newReader(s *socket) *reader {
	r := &reader{socket: s, messages: make([]ipv4.Message, batchSize), packets: make([]packet, 0, batchSize)}
	for i := range r.messages {
		r.messages[i].Buffers = [][]byte{make([]byte, MaxSize)}
		r.messages[i].OOB = make([]byte, oobLen)
	}
	return r
}

// read waits for packets. A port that nobody listens on yet is no error.
func (r *reader) read() ([]packet, error) {
	n, err := r.socket.batch.ReadBatch(r.messages, 0)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			return nil, nil
		}
		return nil, err
	}
	now := time.Now().UnixNano()
	r.packets = r.packets[:0]
	for i := range n {
		m := &r.messages[i]
		p := packet{payload: m.Buffers[0][:m.N], at: now}
		if a, ok := m.Addr.(*net.UDPAddr); ok && a != nil {
			p.from = a.AddrPort()
			p.from = netip.AddrPortFrom(p.from.Addr().Unmap(), p.from.Port())
		}
		r.ancillary(m.OOB[:m.NN], &p)
		r.packets = append(r.packets, p)
	}
	return r.packets, nil
}

// ancillary reads what the kernel says beside a packet.
func (r *reader) ancillary(b []byte, p *packet) {
	for len(b) >= unix.CmsgLen(0) {
		head, value, rest, err := unix.ParseOneSocketControlMessage(b)
		if err != nil || head.Level != unix.SOL_SOCKET {
			return
		}
		switch {
		case head.Type == unix.SCM_TIMESTAMPNS && len(value) >= 16:
			p.at = int64(binary.NativeEndian.Uint64(value))*int64(time.Second) + int64(binary.NativeEndian.Uint64(value[8:]))
		case head.Type == unix.SO_RXQ_OVFL && len(value) >= 4:
			r.overrun = binary.NativeEndian.Uint32(value)
		}
		b = rest
	}
}
