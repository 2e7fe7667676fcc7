package afxdp

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// drainTime is how long Close waits for packets that the kernel is sending. In copy mode some drivers
// (virtio_net) send right out of the frame: one that is given away before the packet has left
// would put another packet's bytes on the wire.
const drainTime = 20 * time.Millisecond

// Close closes the socket, unmaps its rings, and takes the frames of both its sides back to the pool,
// with what was received and not yet taken, and what was to be sent. All methods
// may still be called and find nothing. Closing twice is no error.
func (s *Socket) Close() error {
	if s.fd < 0 {
		return nil
	}
	s.drain()
	s.umem.sockets[s.side] = nil
	if err := s.release(); err != nil {
		return fmt.Errorf("close socket on ifindex %d queue %d: %w", s.options.Ifindex, s.options.Queue, err)
	}
	return nil
}

// drain waits until the kernel has completed what it has taken from the TX ring.
func (s *Socket) drain() {
	for waited := time.Duration(0); waited < drainTime; waited += time.Millisecond {
		s.Reclaim()
		if s.txHeld <= int(s.tx.pending()) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// release undoes what Open has done, as far as it came. Closing the descriptor stops the kernel:
// it leaves the XSKMAPs, the device and the frames before close(2) returns.
func (s *Socket) release() error {
	var problems []error
	if err := unix.Close(s.fd); err != nil {
		problems = append(problems, fmt.Errorf("close: %w", err))
	}
	s.fd = -1
	mappings := s.mappings
	s.mappings = nil
	s.fill, s.completion = emptyAddrRing(), emptyAddrRing()
	s.rx, s.tx = emptyDescRing(), emptyDescRing()
	for _, mem := range mappings {
		if err := unix.Munmap(mem); err != nil {
			problems = append(problems, fmt.Errorf("unmap ring: %w", err))
		}
	}
	s.umem.pool.takeBack(s.rxPlace, s.txPlace)
	s.rxHeld, s.txHeld, s.fillDue = 0, 0, false
	return errors.Join(problems...)
}

// emptyAddrRing is a ring that stays empty and has no room: both indexes are one word.
func emptyAddrRing() addrRing { return addrRing{ring: emptyRing()} }

func emptyDescRing() descRing { return descRing{ring: emptyRing()} }

func emptyRing() ring {
	word := viewUint32(newAlignedBytes(8), 0)
	return ring{producer: word, consumer: word, flags: word}
}
