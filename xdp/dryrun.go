package xdp

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// DryRun says what the program, deciding by s, does with a packet that comes in through queue 0 of an interface. It
// loads a copy with maps of its own and lets the kernel run it on the packet (BPF_PROG_TEST_RUN): nothing live is
// touched and nothing live counts. The copy has a socket for the queue, so what would be diverted is.
func DryRun(s State, packet []byte, ifindex int) (v Verdict, err error) {
	p, err := Load(Options{})
	if err != nil {
		return 0, fmt.Errorf("dry run: %w", err)
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	if err := p.SetState(s); err != nil {
		return 0, fmt.Errorf("dry run: %w", err)
	}
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // a test run does not send: it need not be bound
	if err != nil {
		return 0, fmt.Errorf("dry run: socket: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := p.SetSocket(ifindex, 0, fd); err != nil {
		return 0, fmt.Errorf("dry run: %w", err)
	}
	return p.dryRun(packet, ifindex)
}

// runContext is struct xdp_md as BPF_PROG_TEST_RUN takes it (Linux 5.15).
type runContext struct{ Data, DataEnd, DataMeta, IngressIfindex, RxQueueIndex, EgressIfindex uint32 }

// dryRun runs a program that nothing is attached to: the one counter that counts is the packet's.
func (p *Program) dryRun(packet []byte, ifindex int) (Verdict, error) {
	before, err := p.Counters()
	if err != nil {
		return 0, fmt.Errorf("dry run: %w", err)
	}
	_, err = p.objs.Sluice.Run(&ebpf.RunOptions{Data: packet, DataOut: make([]byte, len(packet)+256),
		Context: runContext{DataEnd: uint32(len(packet)), IngressIfindex: uint32(ifindex)}})
	if err != nil {
		return 0, fmt.Errorf("dry run of %d bytes: %w", len(packet), err)
	}
	after, err := p.Counters()
	if err != nil {
		return 0, fmt.Errorf("dry run: %w", err)
	}
	for v := range after {
		if after[v] != before[v] {
			return Verdict(v), nil
		}
	}
	return 0, errors.New("dry run: no counter has counted the packet")
}
