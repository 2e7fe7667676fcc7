package relay

import (
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// waker ends a worker's sleep from another goroutine. The flags make a wake
// that comes at any moment count: between the last look around and the sleep it
// is found in pending, later it is written to the descriptor that poll watches.
type waker struct {
	fd      int // eventfd
	asleep  *atomic.Bool
	pending *atomic.Bool
}

func newWaker() (waker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return waker{}, fmt.Errorf("create eventfd: %w", err)
	}
	return waker{fd: fd, asleep: new(atomic.Bool), pending: new(atomic.Bool)}, nil
}

// wake never blocks: an eventfd that is full is readable already.
func (k waker) wake() {
	k.pending.Store(true)
	if k.asleep.Load() {
		one := [8]byte{0: 1} // any count but zero will do, in either byte order
		_, _ = unix.Write(k.fd, one[:])
	}
}

// close gives the descriptor back; wake must not be called any more.
func (k waker) close() error { return unix.Close(k.fd) }

const (
	sleepTime  = 1000 // ms: nothing depends on it, it only bounds the damage of a lost wake-up
	parkedTime = 10   // ms, while packets wait: their sessions and neighbours wake us, their time does not
)

// sleep waits until a queue has packets or somebody calls wake.
func (w *worker) sleep() error {
	w.waker.asleep.Store(true)
	defer w.waker.asleep.Store(false)
	if w.waker.pending.Swap(false) || w.mailbox.count.Load() != 0 {
		return nil
	}
	w.polls = append(w.polls[:0], unix.PollFd{Fd: int32(w.waker.fd), Events: unix.POLLIN})
	for i := range w.queues {
		if fd := w.queues[i].FD(); fd >= 0 {
			w.polls = append(w.polls, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		}
	}
	timeout := sleepTime
	if len(w.park.list) > 0 {
		timeout = parkedTime
	}
	w.sleeps++
	w.publish()
	if _, err := unix.Poll(w.polls, timeout); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("poll queues: %w", err)
	}
	var count [8]byte
	_, _ = unix.Read(w.waker.fd, count[:]) // EAGAIN when a queue has woken us
	return nil
}
