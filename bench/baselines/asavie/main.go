// Asavie is a forwarder on the Go library github.com/asavie/xdp, which package afxdp is measured against:
//
//	asavie IFNAME XSKMAP-ID IFNAME XSKMAP-ID CPU [example]
//
// It takes what xskfwd takes, and does the same: what is received on one interface is sent on the other, unchanged. The
// library has a packet memory per socket, so packets are copied from one to the other.
//
// It has the rings of xskfwd, its busy loop and batches: the most that we could get out of the library (rings of 256 and
// batches of 64 made no difference). With "example" it is what the library's own example l2fwd is: rings of 64 packets,
// which are the library's default, poll(2) before each batch, and as many packets at once as there are.
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
	example := len(args) == 6 && args[5] == "example"
	if len(args) != 5 && !example {
		return errors.New("usage: IFNAME XSKMAP-ID IFNAME XSKMAP-ID CPU [example]")
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
	most := batch
	if example {
		options, most = xdp.DefaultSocketOptions, xdp.DefaultSocketOptions.RxRingNumDescs
	}
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
		if example {
			if err := wait(left, right); err != nil {
				return err
			}
		}
		forward(left, right, most)
		forward(right, left, most)
	}
}

// wait blocks until one of them has received something, or sent.
func wait(all ...*xdp.Socket) error {
	var fds [2]unix.PollFd
	for i, s := range all {
		fds[i] = unix.PollFd{Fd: int32(s.FD()), Events: unix.POLLIN}
		if s.NumTransmitted() > 0 {
			fds[i].Events |= unix.POLLOUT
		}
	}
	if _, err := unix.Poll(fds[:], -1); err != nil && err != unix.EINTR {
		return fmt.Errorf("poll: %w", err)
	}
	return nil
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

// forward forwards up to most packets. The library takes a received frame for free at once, so the order matters: it is copied
// before any frame is given to the kernel.
func forward(in, out *xdp.Socket, most int) {
	if n := out.NumCompleted(); n > 0 {
		out.Complete(n)
	}
	received := in.Receive(min(in.NumReceived(), most))
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
