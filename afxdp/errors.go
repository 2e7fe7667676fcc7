package afxdp

import "errors"

var (
	// ErrClosed is returned by what needs a socket or UMEM that was closed.
	ErrClosed = errors.New("closed")

	// ErrNotSupported means that this kernel cannot do it: AF_XDP with a UMEM
	// shared by several devices needs Linux 5.10 and CONFIG_XDP_SOCKETS.
	ErrNotSupported = errors.New("not supported by this kernel (AF_XDP needs Linux 5.10 with CONFIG_XDP_SOCKETS)")

	// ErrInMemory is returned by Open for a UMEM from NewHeapUMEM: the kernel
	// must not write to memory that Go manages.
	ErrInMemory = errors.New("umem is in Go memory and cannot have sockets")

	// ErrDown is returned by Socket.Kick while the interface is down (ENETDOWN).
	// What is in the TX ring stays there and is sent after the interface comes up.
	ErrDown = errors.New("interface is down")

	// ErrGone is returned by Socket.Kick when the socket is not bound any more
	// (ENXIO): the interface was deleted, or its driver took down the queue. Frames
	// come back with Socket.Close.
	ErrGone = errors.New("interface is gone")
)
