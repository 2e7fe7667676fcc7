package xdp

import "errors"

// Options of Load. The zero value works: nothing pinned, default handshake limits.
type Options struct {
	// PinPath is the directory for pins, on a bpffs; one is mounted when there is none. Links pinned there survive the
	// process, and the next Attach replaces the program on them atomically. Each gateway process needs its own.
	// Default: nothing is pinned, everything ends with the process.
	PinPath string
	// HandshakeRate limits WireGuard messages of type 1 and 2 per second and source address (IPv6: per /64).
	// Default 200; negative: no limit.
	HandshakeRate int
	// HandshakeBurst is how many of them may come at once. Default 500.
	HandshakeBurst int
}

// Program is the loaded eBPF program with its maps. Its methods may be called from any goroutine.
type Program struct{}

// Load loads the program and creates its maps. Nothing is attached yet.
func Load(Options) (*Program, error) { return nil, errors.ErrUnsupported }

// SetState makes the program decide by s: applies only what differs, and adds before it deletes.
func (p *Program) SetState(s State) error { return errors.ErrUnsupported }

// SetSocket gives the packets of a queue to the AF_XDP socket fd. The port must be in the State.
func (p *Program) SetSocket(ifindex, queue, fd int) error { return errors.ErrUnsupported }

// ClearSocket lets the packets of a queue pass to the kernel again.
func (p *Program) ClearSocket(ifindex, queue int) error { return errors.ErrUnsupported }

// Counters reads one number per verdict.
func (p *Program) Counters() (Counters, error) { return Counters{}, errors.ErrUnsupported }

// Close detaches and unpins everything, and frees the program.
func (p *Program) Close() error { return errors.ErrUnsupported }

// Handover frees the program's descriptors but leaves its pins: the attached program goes on, passing what it would
// divert once the sockets are closed, until another process's Attach replaces it.
func (p *Program) Handover() error { return errors.ErrUnsupported }
