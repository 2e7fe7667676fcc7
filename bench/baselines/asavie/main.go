// Asavie is a forwarder on the Go library github.com/asavie/xdp, which package afxdp is measured against:
//
//	asavie IFNAME XSKMAP-ID IFNAME XSKMAP-ID CPU
//
// It takes what xskfwd takes, and does the same: what is received on one interface is sent on the other, unchanged, in
// a busy loop. It follows the library's own example l2fwd, without its blocking poll(2) and its counting, and with
// larger rings: with the library's default of 64 packets it would lose most of a flood while it sends. The library has
// a packet memory per socket, so packets are copied from one to the other.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"

	"github.com/asavie/xdp"
	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// The rings are those of afxdp and xskfwd. The library looks for free frames from the first one on, at each batch: so
// there are no more of them than two rings need.
var options = xdp.SocketOptions{
	NumFrames: 4096, FrameSize: 2048,
	FillRingNumDescs: 2048, CompletionRingNumDescs: 2048, RxRingNumDescs: 2048, TxRingNumDescs: 2048,
}

// batch is how many packets a call to the kernel sends in copy mode: the library does not call again for the rest.
const batch = 32

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "asavie:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 5 {
		return errors.New("usage: IFNAME XSKMAP-ID IFNAME XSKMAP-ID CPU")
	}
	runtime.LockOSThread()
	cpu, err := strconv.Atoi(args[4])
	if err != nil {
		return err
	}
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin to cpu %d: %w", cpu, err)
	}
	xdp.DefaultSocketFlags = unix.XDP_COPY
	left, err := open(args[0], args[1])
	if err != nil {
		return err
	}
	right, err := open(args[2], args[3])
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		forward(left, right)
		forward(right, left)
	}
}

func open(name, mapID string) (*xdp.Socket, error) {
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
	s, err := xdp.NewSocket(port.Index, 0, &options)
	if err != nil {
		return nil, err
	}
	s.Fill(s.GetDescs(s.NumFreeFillSlots()))
	return s, xsks.Put(uint32(0), uint32(s.FD()))
}

// forward forwards one batch. The library takes a received frame for free at once, so the order matters: it is copied
// before any frame is given to the kernel.
func forward(in, out *xdp.Socket) {
	if n := out.NumCompleted(); n > 0 {
		out.Complete(n)
	}
	received := in.Receive(min(in.NumReceived(), batch))
	if len(received) == 0 {
		return
	}
	free := out.GetDescs(min(out.NumFreeTxSlots(), len(received)))
	for i := range free {
		free[i].Len = uint32(copy(out.GetFrame(free[i]), in.GetFrame(received[i])))
	}
	if len(free) > 0 {
		out.Transmit(free)
	}
	in.Fill(in.GetDescs(min(in.NumFreeFillSlots(), len(received))))
}
