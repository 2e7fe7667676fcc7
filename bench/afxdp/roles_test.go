package afxdp

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sluicegw/sluice/afxdp"
)

// roleVariable in the environment makes the test binary one of the benchmark's other processes.
const roleVariable = "SLUICE_BENCH_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch role := os.Getenv(roleVariable); role {
	case "":
		os.Exit(m.Run())
	case "forward":
		err = forward(os.Args[1:])
	default:
		err = fmt.Errorf("unknown role %q", role)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// pin keeps this goroutine on a thread and the thread on a CPU.
func pin(cpu string) error {
	runtime.LockOSThread()
	n, err := strconv.Atoi(cpu)
	if err != nil {
		return err
	}
	var set unix.CPUSet
	set.Set(n)
	return unix.SchedSetaffinity(0, &set)
}

// forward is the forwarder on package afxdp, with the same arguments as xskfwd: IFNAME XSKMAP-ID IFNAME XSKMAP-ID CPU.
func forward(args []string) error {
	if len(args) != 5 {
		return errors.New("usage: IFNAME XSKMAP-ID IFNAME XSKMAP-ID CPU")
	}
	if err := pin(args[4]); err != nil {
		return err
	}
	name := os.Getenv(variantVariable)
	v := variants[name]
	memory := afxdp.UMEMOptions{Frames: 8192}
	if v.umem != nil {
		v.umem(&memory)
	}
	umem, err := afxdp.NewUMEM(memory)
	if err != nil {
		return err
	}
	left, err := openPort(umem, args[0], args[1], v)
	if err != nil {
		return err
	}
	if name == "udp-gso" {
		return forwardSegments(umem, left)
	}
	right, err := openPort(umem, args[2], args[3], v)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	batch := make([]afxdp.Desc, 64)
	for {
		if err := errors.Join(move(umem, batch, left, right), move(umem, batch, right, left)); err != nil {
			return err
		}
	}
}

// move forwards one batch.
func move(umem *afxdp.UMEM, batch []afxdp.Desc, in, out *afxdp.Socket) error {
	n := in.Receive(batch)
	in.Fill()
	if n == 0 {
		return nil
	}
	sent := out.Send(batch[:n])
	for _, d := range batch[sent:n] {
		umem.Free(d.Addr)
	}
	err := out.Kick()
	out.Reclaim()
	return err
}

func openPort(umem *afxdp.UMEM, name, mapID string, v variant) (*afxdp.Socket, error) {
	port, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	id, err := strconv.ParseUint(mapID, 10, 32)
	if err != nil {
		return nil, err
	}
	xsks, err := ebpf.NewMapFromID(ebpf.MapID(id))
	if err != nil {
		return nil, err
	}
	defer xsks.Close()
	options := afxdp.SocketOptions{Ifindex: port.Index, Mode: afxdp.Copy}
	if v.socket != nil {
		v.socket(&options)
	}
	s, err := afxdp.Open(umem, options)
	if err != nil {
		return nil, err
	}
	return s, xsks.Put(uint32(0), uint32(s.FD()))
}
