package afxdp

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Open makes a socket and binds it to a queue. The first socket of a UMEM
// registers the memory with the kernel; later ones share the registration
// (XDP_SHARED_UMEM) through any socket that is still bound, so it does not matter in
// which order sockets are closed. A registration is for one mode: sockets in
// the other register the same memory once more, which the kernel allows.
//
// The fill ring is filled before the socket is bound, as some drivers never
// start a queue that was empty then.
func Open(u *UMEM, o SocketOptions) (*Socket, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	s, err := u.open(o)
	if err != nil {
		return nil, fmt.Errorf("open socket on ifindex %d queue %d: %w", o.Ifindex, o.Queue, err)
	}
	return s, nil
}

func (u *UMEM) open(o SocketOptions) (*Socket, error) {
	switch {
	case u.closed:
		return nil, ErrClosed
	case !u.mapped:
		return nil, ErrInMemory
	}
	side := slices.Index(u.sockets, nil)
	if side < 0 {
		if len(u.sockets) == maxSockets {
			return nil, fmt.Errorf("umem has %d sockets already", maxSockets)
		}
		side = len(u.sockets)
		u.sockets = append(u.sockets, nil)
	}
	var err error
	for _, mode := range o.tries() {
		var s *Socket
		if s, err = u.openMode(o, mode, side); err == nil {
			u.sockets[side] = s
			return s, nil
		}
		if errors.Is(err, unix.EBUSY) { // in every mode
			break
		}
	}
	return nil, err
}

// openMode makes a socket in one mode. Each mode gets a socket of its own: once one has registered
// the memory, for a mode that then fails, it cannot share another's registration any more.
func (u *UMEM) openMode(o SocketOptions, mode Mode, side int) (_ *Socket, err error) {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EAFNOSUPPORT):
		return nil, fmt.Errorf("socket: %w", ErrNotSupported)
	case errors.Is(err, unix.EPERM):
		return nil, fmt.Errorf("socket: %w (needs CAP_NET_RAW)", err)
	case err != nil:
		return nil, fmt.Errorf("socket: %w", err)
	}
	s := &Socket{
		umem:        u,
		fd:          fd,
		calls:       calls{kick: kick, wake: wake},
		rxPlace:     rxSide(side),
		txPlace:     txSide(side),
		fillDue:     true,
		multiBuffer: o.MultiBuffer,
		busyPoll:    o.BusyPoll > 0,
		side:        side,
		options:     o,
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	if err := s.makeRings(); err != nil {
		return nil, err
	}
	if err := s.setPolling(); err != nil {
		return nil, err
	}
	s.topUp()
	if err := s.bind(mode); err != nil {
		return nil, err
	}
	flags, err := optionFlags(fd)
	if err != nil {
		return nil, fmt.Errorf("read mode: %w", err)
	}
	s.zeroCopy = flags&unix.XDP_OPTIONS_ZEROCOPY != 0
	return s, nil
}

// makeRings has the kernel make the four rings, and maps them.
func (s *Socket) makeRings() error {
	o := s.options
	for _, ring := range []struct {
		option, size int
		name         string
	}{
		{unix.XDP_UMEM_FILL_RING, o.FillSize, "fill"},
		{unix.XDP_UMEM_COMPLETION_RING, o.CompletionSize, "completion"},
		{unix.XDP_RX_RING, o.RxSize, "rx"},
		{unix.XDP_TX_RING, o.TxSize, "tx"},
	} {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_XDP, ring.option, ring.size); err != nil {
			return fmt.Errorf("make %s ring of %d: %w", ring.name, ring.size, err)
		}
	}
	// Before Linux 6.18 the option is unknown, and the budget 32.
	err := unix.SetsockoptInt(s.fd, unix.SOL_XDP, unix.XDP_MAX_TX_SKB_BUDGET, o.TxBudget)
	if err != nil && !errors.Is(err, unix.ENOPROTOOPT) && o.TxBudget >= minTxBudget {
		return fmt.Errorf("set tx budget %d: %w", o.TxBudget, err)
	}
	at, err := ringOffsets(s.fd)
	if err != nil {
		return fmt.Errorf("ring offsets: %w", err)
	}
	var mem [4][]byte
	for i, ring := range []struct {
		page int64
		size uint64
		name string
	}{
		{unix.XDP_UMEM_PGOFF_FILL_RING, at.Fr.Desc + 8*uint64(o.FillSize), "fill"},
		{unix.XDP_UMEM_PGOFF_COMPLETION_RING, at.Cr.Desc + 8*uint64(o.CompletionSize), "completion"},
		{unix.XDP_PGOFF_RX_RING, at.Rx.Desc + 16*uint64(o.RxSize), "rx"},
		{unix.XDP_PGOFF_TX_RING, at.Tx.Desc + 16*uint64(o.TxSize), "tx"},
	} {
		mem[i], err = unix.Mmap(s.fd, ring.page, int(ring.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
		if err != nil {
			return fmt.Errorf("map %s ring: %w", ring.name, err)
		}
		s.mappings = append(s.mappings, mem[i])
	}
	s.fill = newAddrRing(mem[0], at.Fr, uint32(o.FillSize))
	s.completion = newAddrRing(mem[1], at.Cr, uint32(o.CompletionSize))
	s.rx = newDescRing(mem[2], at.Rx, uint32(o.RxSize))
	s.tx = newDescRing(mem[3], at.Tx, uint32(o.TxSize))
	return nil
}

// setPolling sets the busy-poll options.
func (s *Socket) setPolling() error {
	if !s.busyPoll {
		return nil
	}
	for _, option := range []struct {
		name  string
		id    int
		value int
	}{
		{"SO_PREFER_BUSY_POLL", unix.SO_PREFER_BUSY_POLL, 1},
		{"SO_BUSY_POLL", unix.SO_BUSY_POLL, int(math.Ceil(float64(s.options.BusyPoll) / float64(time.Microsecond)))},
		{"SO_BUSY_POLL_BUDGET", unix.SO_BUSY_POLL_BUDGET, s.options.BusyPollBudget},
	} {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, option.id, option.value); err != nil {
			return fmt.Errorf("busy poll: set %s: %w (needs CAP_NET_ADMIN and Linux 5.11)", option.name, err)
		}
	}
	return nil
}
