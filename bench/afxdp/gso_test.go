package afxdp

import (
	"fmt"
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sluicegw/sluice/afxdp"
)

// The addresses of the generator's packets.
var (
	source = netip.MustParseAddr("10.0.0.1")
	sink   = netip.MustParseAddr("10.0.0.2")
)

const (
	headers     = ethernetLen + 20 + 8 // of IPv4 and UDP, in front of the payload that is sent again
	discardPort = 9
	maxSegments = 64    // UDP_MAX_SEGMENTS of older kernels
	maxPayload  = 65000 // of all segments; an IPv4 packet has 65 507
)

// routeToSink lets the gateway's kernel send from the generator's address to the sink.
func routeToSink(b *testing.B, w *wire) {
	b.Helper()
	for _, args := range [][]string{
		{"addr", "add", source.String() + "/24", "dev", "right"},
		{"neigh", "replace", sink.String(), "lladdr", w.target.MAC.String(), "dev", "right"},
	} {
		if out, err := w.gateway.Command(b.Context(), "ip", args...).CombinedOutput(); err != nil {
			b.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
}

// segmenter sends what was received through a UDP socket of the kernel, up to 64 packets of one size with each call
// (UDP_SEGMENT, Linux 4.18), in place of an AF_XDP socket. It is what a transmit backend for links without zero-copy
// would be, without the look at destinations that a gateway needs.
type segmenter struct {
	fd      int
	to      unix.RawSockaddrInet4
	iovs    [maxSegments]unix.Iovec
	control []byte
}

func newSegmenter() (*segmenter, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: source.As4(), Port: discardPort}); err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8<<20); err != nil {
		return nil, err
	}
	s := &segmenter{fd: fd, control: make([]byte, unix.CmsgSpace(2))}
	s.to = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: discardPort << 8, Addr: sink.As4()}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&s.control[0]))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	return s, nil
}

// send sends the payloads of packets of one size, and gives their frames back.
func (s *segmenter) send(umem *afxdp.UMEM, batch []afxdp.Desc) error {
	size := int(batch[0].Len) - headers
	*(*uint16)(unsafe.Pointer(&s.control[unix.CmsgLen(0)])) = uint16(size)
	for most := min(maxSegments, maxPayload/size); len(batch) > 0; {
		n := min(most, len(batch))
		for i, d := range batch[:n] {
			payload := umem.Frame(d.Addr)[d.Addr-umem.FrameBase(d.Addr)+headers:]
			s.iovs[i] = unix.Iovec{Base: &payload[0], Len: uint64(size)}
		}
		message := unix.Msghdr{
			Name: (*byte)(unsafe.Pointer(&s.to)), Namelen: uint32(unsafe.Sizeof(s.to)), Iov: &s.iovs[0], Iovlen: uint64(n),
			Control: &s.control[0], Controllen: uint64(len(s.control)),
		}
		_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&message)), unix.MSG_DONTWAIT)
		if errno != 0 && errno != unix.EAGAIN && errno != unix.ENOBUFS {
			return fmt.Errorf("send %d segments of %d bytes: %w", n, size, errno)
		}
		for _, d := range batch[:n] {
			umem.Free(d.Addr)
		}
		batch = batch[n:]
	}
	return nil
}

// forwardSegments receives from one port and sends with a segmenter.
func forwardSegments(umem *afxdp.UMEM, in *afxdp.Socket) error {
	s, err := newSegmenter()
	if err != nil {
		return err
	}
	fmt.Println("ready")
	batch := make([]afxdp.Desc, maxSegments)
	for {
		n := in.Receive(batch)
		in.Fill()
		if n == 0 {
			continue
		}
		if err := s.send(umem, batch[:n]); err != nil {
			return err
		}
	}
}
