package afxdp_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sluicegw/sluice/afxdp"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// etherType marks the tests' packets (IEEE 802 local experimental), so that what the kernel sends by itself is left alone.
const etherType = 0x88b5

// bench is a forwarder between two hosts: left.eth0 - gateway.left, gateway.right - right.eth0.
type bench struct {
	t                       *testing.T
	scope                   *netnstest.Scope
	left, gateway, right    *netnstest.Host
	leftEth, rightEth       *netnstest.Link
	leftPort, rightPort     *netnstest.Link
	leftXSKs, rightXSKs     *ebpf.Map
	leftPacket, rightPacket int // AF_PACKET sockets at the outer ends
}

func newBench(t *testing.T, queues int) *bench {
	t.Helper()
	testenv.RequireRoot(t)
	b := &bench{t: t, scope: netnstest.New(t)}
	b.left, b.gateway, b.right = b.scope.NewHost("left"), b.scope.NewHost("gateway"), b.scope.NewHost("right")
	b.leftEth, b.leftPort = b.scope.Connect(netnstest.End{Host: b.left, Name: "eth0", MTU: 3000},
		netnstest.End{Host: b.gateway, Name: "left", Queues: queues, MTU: 3000})
	b.rightPort, b.rightEth = b.scope.Connect(netnstest.End{Host: b.gateway, Name: "right", Queues: queues, MTU: 3000},
		netnstest.End{Host: b.right, Name: "eth0", MTU: 3000})
	b.leftXSKs, b.rightXSKs = b.redirect(b.leftPort), b.redirect(b.rightPort)
	b.leftPacket, b.rightPacket = b.packetSocket(b.left, b.leftEth), b.packetSocket(b.right, b.rightEth)
	return b
}

// redirect attaches a program that gives the tests' packets to the socket of their queue.
func (b *bench) redirect(port *netnstest.Link) *ebpf.Map {
	b.t.Helper()
	xsks, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 4})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { xsks.Close() })
	const pass = 2 // XDP_PASS
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "Dual BSD/GPL", Flags: unix.BPF_F_XDP_HAS_FRAGS,
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, 0, asm.Word),  // data
			asm.LoadMem(asm.R3, asm.R1, 4, asm.Word),  // data_end
			asm.LoadMem(asm.R6, asm.R1, 16, asm.Word), // rx_queue_index
			asm.Mov.Reg(asm.R4, asm.R2),
			asm.Add.Imm(asm.R4, 14),
			asm.JGT.Reg(asm.R4, asm.R3, "pass"),
			asm.LoadMem(asm.R5, asm.R2, 12, asm.Half),
			asm.HostTo(asm.BE, asm.R5, asm.Half),
			asm.JNE.Imm(asm.R5, etherType, "pass"),
			asm.LoadMapPtr(asm.R1, xsks.FD()),
			asm.Mov.Reg(asm.R2, asm.R6),
			asm.Mov.Imm(asm.R3, pass),
			asm.FnRedirectMap.Call(),
			asm.Return(),
			asm.Mov.Imm(asm.R0, pass).WithSymbol("pass"),
			asm.Return(),
		},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	defer program.Close()
	err = b.gateway.Do(func() error {
		l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: port.Index, Flags: link.XDPDriverMode})
		if err == nil {
			b.t.Cleanup(func() { l.Close() })
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return xsks
}

// packetSocket sends and receives the tests' packets at the far end of a port.
func (b *bench) packetSocket(host *netnstest.Host, eth *netnstest.Link) (fd int) {
	b.t.Helper()
	protocol := uint16(etherType>>8 | etherType<<8&0xff00)
	err := host.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(protocol))
		if err != nil {
			return err
		}
		b.t.Cleanup(func() { unix.Close(fd) })
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
			unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: eth.Index, Protocol: protocol}))
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return fd
}

// umem is closed, and its frames counted, when the test ends.
func (b *bench) umem(o afxdp.UMEMOptions) *afxdp.UMEM {
	b.t.Helper()
	o.Strict = true
	u, err := afxdp.NewUMEM(o)
	if err != nil {
		b.t.Fatal(err)
	}
	descriptors, mappings := openDescriptors(b.t), ringMappings(b.t)
	b.t.Cleanup(func() {
		if got, want := u.Census(), (afxdp.Census{Pool: u.Frames()}); got != want {
			b.t.Errorf("in the end frames are at %+v, want %+v", got, want)
		}
		if got := openDescriptors(b.t); len(got) > len(descriptors) {
			b.t.Errorf("descriptors leaked: %v, were %v", got, descriptors)
		}
		if got := ringMappings(b.t); got != mappings {
			b.t.Errorf("%d rings are mapped, were %d", got, mappings)
		}
		if err := u.Close(); err != nil {
			b.t.Error(err)
		}
	})
	return u
}

// open makes a socket on a port of the gateway and puts it into the program's map. It is closed when the test ends.
func (b *bench) open(u *afxdp.UMEM, port *netnstest.Link, o afxdp.SocketOptions) *afxdp.Socket {
	b.t.Helper()
	s, err := b.tryOpen(u, port, o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.t.Error(err)
		}
	})
	xsks := b.leftXSKs
	if port == b.rightPort {
		xsks = b.rightXSKs
	}
	if port == b.leftPort || port == b.rightPort {
		if err := xsks.Put(uint32(o.Queue), uint32(s.FD())); err != nil {
			b.t.Fatal(err)
		}
	}
	return s
}

func (b *bench) tryOpen(u *afxdp.UMEM, port *netnstest.Link, o afxdp.SocketOptions) (s *afxdp.Socket, err error) {
	o.Ifindex = port.Index
	doErr := b.gateway.Do(func() error {
		s, err = afxdp.Open(u, o)
		return nil
	})
	if doErr != nil {
		b.t.Fatal(doErr)
	}
	return s, err
}

func openDescriptors(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && strings.HasPrefix(target, "socket:") {
			names = append(names, e.Name()+" "+target)
		}
	}
	return names
}

func ringMappings(t *testing.T) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(maps, []byte("socket:["))
}

// packet is one of the tests' packets, with a number in it.
func packet(number, size int) []byte {
	p := append(slices.Repeat([]byte{0xff}, 6), net.HardwareAddr{2, 0, 0, 0, 0, 1}...)
	p = binary.BigEndian.AppendUint16(p, etherType)
	p = binary.BigEndian.AppendUint32(p, uint32(number))
	for len(p) < size {
		p = append(p, byte(number+len(p)))
	}
	return p
}

// inject sends numbered packets from an outer end.
func (b *bench) inject(fd, first, n, size int) {
	b.t.Helper()
	for i := first; i < first+n; i++ {
		if _, err := unix.Write(fd, packet(i, size)); err != nil {
			b.t.Fatalf("write to packet socket: %v", err)
		}
	}
}

// wantPackets takes numbered packets at an outer end, all of them in order and unharmed.
func (b *bench) wantPackets(fd, first, n, size int, work func()) {
	b.t.Helper()
	buf := make([]byte, 4096)
	deadline := time.Now().Add(5 * time.Second)
	for i := first; i < first+n; {
		work()
		got, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENETDOWN): // the latter once, after the link was down
			if time.Now().After(deadline) {
				b.t.Fatalf("packet %d did not arrive", i)
			}
		case err != nil:
			b.t.Fatal(err)
		case !bytes.Equal(buf[:got], packet(i, size)):
			b.t.Fatalf("packet %d arrived as %d bytes, number %d", i, got, binary.BigEndian.Uint32(buf[14:]))
		default:
			i++
		}
	}
}

// forward moves what there is from one socket to another, as the package comment shows.
func (b *bench) forward(u *afxdp.UMEM, in, out *afxdp.Socket) {
	b.t.Helper()
	var batch [64]afxdp.Desc
	n := in.Receive(batch[:])
	in.Fill()
	sent := out.Send(batch[:n])
	for _, d := range batch[sent:n] {
		u.Free(d.Addr)
	}
	if err := out.Kick(); err != nil {
		b.t.Fatal(err)
	}
	out.Reclaim()
}

// until repeats until something is so.
func (b *bench) until(what string, f func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("still not so: %s", what)
		}
	}
}

// smallRings make the limits visible.
func smallRings() afxdp.SocketOptions {
	return afxdp.SocketOptions{RxSize: 64, TxSize: 64, FillSize: 64, CompletionSize: 64}
}
