package pair

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// endpoint is one side's UDP sockets in a session, with a goroutine that reads each.
type endpoint struct {
	tag     [tagLen]byte
	v6      bool
	peer    netip.Addr // what comes from elsewhere is not of the session
	sockets []*socket
	// receiver of the trial that is under way, or nil.
	receiver atomic.Pointer[receiver]
	// handle gets what is no data of a trial; the payload is valid until it returns.
	handle   func(s *socket, h header, p packet)
	overruns []atomic.Uint32 // by socket
	wait     sync.WaitGroup
}

// start begins to read.
func (e *endpoint) start() {
	e.overruns = make([]atomic.Uint32, len(e.sockets))
	for i, s := range e.sockets {
		e.wait.Go(func() { e.read(s, &e.overruns[i]) })
	}
}

// close ends the sockets and waits for those who read.
func (e *endpoint) close() error {
	var errs []error
	for _, s := range e.sockets {
		errs = append(errs, s.conn.Close())
	}
	e.wait.Wait()
	return errors.Join(errs...)
}

func (e *endpoint) read(s *socket, overrun *atomic.Uint32) {
	r := newReader(s)
	for {
		packets, err := r.read()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(time.Millisecond) // an ICMP error, or no memory: the next one may come
			continue
		}
		overrun.Store(r.overrun)
		e.batch(s, packets)
	}
}

func (e *endpoint) batch(s *socket, packets []packet) {
	r := e.receiver.Load()
	if r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
	}
	for _, p := range packets {
		h, ok := parseHeader(p.payload, e.tag)
		if !ok || p.from.IsValid() && p.from.Addr().WithZone("") != e.peer.WithZone("") {
			continue
		}
		if h.What != data {
			e.handle(s, h, p)
		} else if r != nil {
			r.take(h, len(p.payload)+overhead(e.v6), p.at)
		}
	}
}

// overrun is what the sockets had no room for so far.
func (e *endpoint) overrun() (sum uint64) {
	for i := range e.overruns {
		sum += uint64(e.overruns[i].Load())
	}
	return sum
}
