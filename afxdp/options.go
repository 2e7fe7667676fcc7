package afxdp

import (
	"errors"
	"fmt"
	"math/bits"
	"time"

	"golang.org/x/sys/unix"
)

// Mode says who moves the bytes between a frame and the device.
type Mode uint8

const (
	Auto     Mode = iota // ZeroCopy where the driver can, otherwise Copy
	Copy                 // the kernel copies: works with every device
	ZeroCopy             // the device reads and writes the frames, or Open fails
)

func (m Mode) String() string {
	switch m {
	case Auto:
		return "auto"
	case Copy:
		return "copy"
	case ZeroCopy:
		return "zero-copy"
	}
	return fmt.Sprintf("mode %d", uint8(m))
}

// What we chose.
const (
	// defaultRing is 2 ms at 1 Mpps: two thirds of what one preemption by the
	// scheduler (3-4 ms) needs, and all of it fits into an L2 cache of 2 MiB
	// together with the frames' first lines.
	defaultRing = 2048
	// defaultTxBudget is a worker's batch. The kernel's own default, 32, is two
	// system calls for each batch of 64.
	defaultTxBudget = 64
	// minTxBudget is the kernel's lower bound (TX_BATCH_SIZE).
	minTxBudget           = 32
	defaultBusyPollBudget = 64
	maxRing               = 1 << 20
)

// SocketOptions say which queue of which interface a socket is for.
type SocketOptions struct {
	// Ifindex of the interface, in the network namespace of the calling thread. Required.
	Ifindex int
	// Queue of the interface. Default 0.
	Queue int
	// Mode is Auto, Copy or ZeroCopy. Default Auto. Socket.ZeroCopy tells what it became.
	Mode Mode
	// RxSize, TxSize, FillSize and CompletionSize are the numbers of entries of
	// the rings: powers of two up to 1048576. Default 2048, and CompletionSize
	// TxSize where that is more. The socket holds up to
	// FillSize + RxSize frames for receiving, TxSize + CompletionSize while sending.
	RxSize, TxSize, FillSize, CompletionSize int
	// TxBudget is how many packets one system call sends in Copy mode, from 32 to TxSize.
	// Default 64. Needs Linux 6.18; before, it is always 32.
	TxBudget int
	// BusyPoll makes the caller's own system calls drive the device (SO_PREFER_BUSY_POLL,
	// Linux 5.11) and spin for so long when poll(2) finds nothing. Default 0: interrupts. It wants
	// napi_defer_hard_irqs and gro_flush_timeout set for the interface, and CAP_NET_ADMIN.
	BusyPoll time.Duration
	// BusyPollBudget is how many packets one poll of the device takes. Default 64.
	BusyPollBudget int
	// MultiBuffer receives packets larger than a frame as several descriptors, all but the
	// last of them marked Continued, and sends such (Linux 6.6). The XDP program must
	// be one for fragments.
	MultiBuffer bool
}

func (o SocketOptions) withDefaults() SocketOptions {
	for _, size := range []*int{&o.RxSize, &o.TxSize, &o.FillSize} {
		if *size == 0 {
			*size = defaultRing
		}
	}
	if o.CompletionSize == 0 {
		o.CompletionSize = max(defaultRing, o.TxSize)
	}
	if o.TxBudget == 0 {
		o.TxBudget = min(defaultTxBudget, o.TxSize)
	}
	if o.BusyPollBudget == 0 {
		o.BusyPollBudget = defaultBusyPollBudget
	}
	return o
}

// Validate reports everything that is wrong with the options.
func (o SocketOptions) Validate() error {
	o = o.withDefaults()
	var problems []error
	wrong := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("socket: "+format, args...))
	}
	if o.Ifindex < 1 || o.Ifindex > 1<<31-1 {
		wrong("ifindex %d: not an interface", o.Ifindex)
	}
	if o.Queue < 0 || o.Queue > 1<<16-1 {
		wrong("queue %d: not in 0 to 65535", o.Queue)
	}
	if o.Mode > ZeroCopy {
		wrong("%v: not auto, copy or zero-copy", o.Mode)
	}
	for _, ring := range []struct {
		name string
		size int
	}{{"rx", o.RxSize}, {"tx", o.TxSize}, {"fill", o.FillSize}, {"completion", o.CompletionSize}} {
		if ring.size < 1 || ring.size > maxRing || bits.OnesCount(uint(ring.size)) != 1 {
			wrong("%s ring of %d: not a power of two up to %d", ring.name, ring.size, maxRing)
		}
	}
	if o.TxBudget < min(minTxBudget, o.TxSize) || o.TxBudget > o.TxSize {
		wrong("tx budget %d: not in %d to the tx ring's %d", o.TxBudget, minTxBudget, o.TxSize)
	}
	if o.BusyPoll < 0 || o.BusyPoll > time.Second {
		wrong("busy poll %v: not in 0 to 1s", o.BusyPoll)
	}
	if o.BusyPollBudget < 1 || o.BusyPollBudget > 1<<16-1 {
		wrong("busy poll budget %d: not in 1 to 65535", o.BusyPollBudget)
	}
	return errors.Join(problems...)
}

// tries are the modes to try, in order.
func (o SocketOptions) tries() []Mode {
	if o.Mode == Auto {
		return []Mode{ZeroCopy, Copy}
	}
	return []Mode{o.Mode}
}

// bindFlags are those of a socket that registers the UMEM itself; one that
// shares a registration has them from there.
func (o SocketOptions) bindFlags(mode Mode) uint16 {
	flags := uint16(unix.XDP_USE_NEED_WAKEUP) // Linux 5.4
	if mode == ZeroCopy {
		flags |= unix.XDP_ZEROCOPY
	} else {
		flags |= unix.XDP_COPY
	}
	if o.MultiBuffer {
		flags |= unix.XDP_USE_SG
	}
	return flags
}
