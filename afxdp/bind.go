package afxdp

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// bind joins the socket to its queue, over the registration of another socket
// of the UMEM when there is one in the same mode, else over one of its own.
//
// The kernel keeps the registered memory while any socket uses it, but names it
// by a socket that is still bound: one whose interface was deleted answers EBADF.
func (s *Socket) bind(mode Mode) error {
	addr := unix.SockaddrXDP{Ifindex: uint32(s.options.Ifindex), QueueID: uint32(s.options.Queue)}
	for _, other := range s.umem.sockets {
		if other == nil || other.zeroCopy != (mode == ZeroCopy) || other.multiBuffer != s.multiBuffer {
			continue
		}
		addr.Flags, addr.SharedUmemFD = unix.XDP_SHARED_UMEM, uint32(other.fd)
		err := patiently(unix.EBUSY, func() error { return unix.Bind(s.fd, &addr) })
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EBADF):
			continue
		case errors.Is(err, unix.EINVAL) && other.options.Ifindex == s.options.Ifindex && other.options.Queue == s.options.Queue:
			err = unix.EBUSY // the kernel would have us share the rings of the other, too
		}
		return bindError(mode, err)
	}
	if err := s.register(); err != nil {
		return err
	}
	addr.Flags, addr.SharedUmemFD = s.options.bindFlags(mode), 0
	return bindError(mode, patiently(unix.EBUSY, func() error { return unix.Bind(s.fd, &addr) }))
}

// patiently repeats what answers an errno that a socket which was closed a moment ago can be the
// reason of: the kernel gives up its queue and its locked memory in a work queue, after close(2) has returned.
func patiently(errno unix.Errno, f func() error) (err error) {
	const patience = 100 * time.Millisecond // 100 times what it takes on an idle machine
	for wait := time.Millisecond; ; wait *= 2 {
		if err = f(); !errors.Is(err, errno) || wait > patience {
			return err
		}
		time.Sleep(wait)
	}
}

// bindError explains what an operator can do something about.
func bindError(mode Mode, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("bind in %v mode: %w (another socket has this queue)", mode, err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("bind in %v mode: %w (does the interface have this queue?)", mode, err)
	case errors.Is(err, unix.EOPNOTSUPP) && mode == ZeroCopy:
		return fmt.Errorf("bind in %v mode: %w (the driver has no zero-copy; use copy mode)", mode, err)
	}
	return fmt.Errorf("bind in %v mode: %w", mode, err)
}

// register gives the UMEM's memory to the kernel, through this socket. The kernel locks it, and
// without CAP_IPC_LOCK counts it against RLIMIT_MEMLOCK; only when that was too little is the limit touched.
func (s *Socket) register() error {
	u := s.umem
	reg := unix.XDPUmemReg{
		Addr:     address(u.mem),
		Len:      uint64(u.Frames() * u.frameSize),
		Size:     uint32(u.frameSize),
		Headroom: uint32(u.options.Headroom),
	}
	err := registerUMEM(s.fd, &reg)
	if errors.Is(err, unix.ENOBUFS) && raiseMemlock() == nil {
		err = patiently(unix.ENOBUFS, func() error { return registerUMEM(s.fd, &reg) })
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EPERM):
		mib := (reg.Len + 1<<20 - 1) >> 20
		return fmt.Errorf("register umem of %d MiB: cannot lock memory: %w (raise RLIMIT_MEMLOCK above %d MiB, "+
			"in systemd LimitMEMLOCK=infinity, or grant CAP_IPC_LOCK)", mib, err, mib)
	}
	return fmt.Errorf("register umem of %d frames of %d bytes: %w", u.Frames(), u.frameSize, err)
}

// raiseMemlock lifts the limit on locked memory: wholly if we may, else up to the hard limit.
func raiseMemlock() error {
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unlimited) == nil {
		return nil
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit)
}
