package afxdp

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// kickRetries are the calls of a Kick that need not move a packet: one after a Reclaim, and
// some to spare, as the kernel shows what it has taken later when it dropped it.
const kickRetries = 4

// Kick has the kernel send what is in the TX ring, unless it does so by itself
// (zero-copy, while the device is busy). It never loses a frame: whatever the
// outcome, a frame is in the TX ring, on its way, or in the completion ring.
//
//	nil      sent, or as much as there was room for: the rest goes with the next Kick
//	ErrDown  the interface is down; packets wait in the TX ring
//	ErrGone  the interface does not exist any more; frames come back with Close
//	other    what no known kernel returns, with the errno
//
// What the kernel says, and what it means for us (net/xdp/xsk.c):
//
//	EAGAIN   more than TxBudget packets: again; or the completion ring is full: Reclaim and
//	         again; or the driver's queue or the socket's buffer is: later
//	EBUSY    copy: one packet was dropped (no carrier, full queue), its frame is completed: on with the next
//	ENOBUFS  no memory for an skb: later
func (s *Socket) Kick() error {
	if s.fd < 0 {
		return ErrClosed
	}
	if !s.tx.needsWakeup() {
		return nil
	}
	pending := s.tx.pending()
	if pending == 0 {
		return nil
	}
	// Every call but the last few takes at least one packet away, so this ends.
	reclaimed := false
	for tries := int(pending) + kickRetries; tries > 0; tries-- {
		s.kicks.Add(1)
		switch errno := s.kick(s.fd); errno {
		case 0:
			return nil
		case unix.EAGAIN:
			left := s.tx.pending()
			switch {
			case left == 0:
				return nil
			case left < pending:
				pending = left
			case !reclaimed && s.Reclaim() > 0:
				reclaimed = true
			default:
				s.again.Add(1)
				return nil
			}
		case unix.EBUSY:
			s.busy.Add(1)
			// In zero-copy mode the driver is being reconfigured, and nothing was dropped.
			if s.zeroCopy || s.tx.pending() == 0 {
				return nil
			}
		case unix.ENOBUFS, unix.ENOMEM:
			s.noBuffers.Add(1)
			return nil
		case unix.ENETDOWN:
			return ErrDown
		case unix.ENXIO:
			return ErrGone
		default:
			return fmt.Errorf("send on ifindex %d queue %d: %w", s.options.Ifindex, s.options.Queue, errno)
		}
	}
	return nil
}

// poll has the kernel look at the fill ring, and at the device when busy polling.
// Its errors are those of Kick, which reports them.
func (s *Socket) poll() {
	if s.fd < 0 {
		return
	}
	s.wakes.Add(1)
	s.wake(s.fd)
}
