package pair

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/sluicegw/sluice/bench/method"
)

// session is a client at the server.
type session struct {
	control       *conn
	limits        Limits
	host          Host
	local, remote netip.AddrPort
	proof         []byte // of a TCP connection that belongs to it
	tag           [tagLen]byte
	streams       chan accepted

	endpoint *endpoint
	mu       sync.Mutex
	flows    []outlet // by number, where it knocked; a zero one has not
	reflect  bucket
}

// accepted is a TCP connection of the session.
type accepted struct {
	number int
	conn   net.Conn
}

// idle is how long a client may think.
const idle = time.Minute

// grace is how much longer than it should something may take, before we give up.
const grace = 10 * time.Second

// run answers requests until the client goes, the time is over, or the context ends.
func (s *session) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.Session)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { s.control.Close() })
	defer stop()
	defer s.dropStreams()
	if err := s.open(ctx); err != nil {
		return errors.Join(err, s.control.send(message{Kind: kindFailed, Error: err.Error()}))
	}
	defer func() { err = errors.Join(err, s.endpoint.close()) }()
	if err := s.control.send(message{Kind: kindWelcome, Limits: &s.limits, Host: &s.host}); err != nil {
		return err
	}
	// Requests are read also while one is at work: that the client is gone ends what we send.
	requests := make(chan message)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer cancel()
		defer close(requests)
		for {
			m, err := s.control.receive(s.limits.Trial + idle)
			if err != nil {
				return
			}
			select {
			case requests <- m:
			case <-ctx.Done():
				return
			}
		}
	})
	defer func() {
		cancel()
		s.control.Close()
		reading.Wait()
	}()
	for m := range requests {
		answer, err := s.do(ctx, m, requests)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			answer = message{Kind: kindFailed, Error: err.Error()}
		}
		if err := s.control.send(answer); err != nil {
			return err
		}
	}
	return nil
}

// open makes the UDP sockets, at the address and port that the client has connected to.
func (s *session) open(ctx context.Context) error {
	s.reflect = newBucket(float64(s.limits.PacketRate))
	s.endpoint = &endpoint{tag: s.tag, v6: s.local.Addr().Is6(), peer: s.remote.Addr(), handle: s.handle}
	for range min(len(s.flows), runtime.NumCPU()) {
		u, err := listen(ctx, s.local)
		if err != nil {
			return errors.Join(fmt.Errorf("open udp port: %w", err), s.endpoint.close())
		}
		s.endpoint.sockets = append(s.endpoint.sockets, u)
	}
	s.endpoint.start()
	return nil
}

// handle answers echoes and knocks: with as many bytes as came, to where they came from, which is the client's
// address.
func (s *session) handle(u *socket, h header, p packet) {
	if !p.from.IsValid() || h.What != echo && h.What != knock || int(h.Flow) >= len(s.flows) || !s.reflect.take() {
		return
	}
	if h.What == knock {
		s.mu.Lock()
		s.flows[h.Flow] = outlet{u, p.from}
		s.mu.Unlock()
		h.What = known
	} else {
		h.What, h.Received, h.Answered = answer, p.at, time.Now().UnixNano()
	}
	h.put(p.payload, s.tag)
	// Lost like any packet if it cannot be sent: the client counts.
	_, _ = u.conn.WriteToUDPAddrPort(p.payload, p.from)
}

// do does what a request asks for, and returns the last answer.
func (s *session) do(ctx context.Context, m message, requests <-chan message) (message, error) {
	switch {
	case m.Kind == kindRate && m.Trial != nil:
		if err := m.Trial.validate(s.limits, s.endpoint.v6); err != nil {
			return message{}, err
		}
		if m.Trial.Flows > len(s.flows) {
			return message{}, fmt.Errorf("%d flows, of %d that the session has", m.Trial.Flows, len(s.flows))
		}
		if m.Trial.Direction == Down {
			return s.sendDown(ctx, *m.Trial)
		}
		return s.receiveUp(ctx, *m.Trial, requests)
	case m.Kind == kindTCP && m.TCP != nil:
		if err := m.TCP.validate(s.limits); err != nil {
			return message{}, err
		}
		return s.carry(ctx, *m.TCP)
	}
	return message{}, fmt.Errorf("%w: %q is no request", ErrProtocol, printable(string(m.Kind)))
}

func (s *session) sendDown(ctx context.Context, t trial) (message, error) {
	s.mu.Lock()
	outlets := append([]outlet(nil), s.flows[:t.Flows]...)
	s.mu.Unlock()
	for i, o := range outlets {
		if o.socket == nil {
			return message{}, fmt.Errorf("flow %d has not shown its port", i)
		}
	}
	done, err := send(ctx, t, s.tag, s.endpoint.v6, outlets)
	return message{Kind: kindSent, Sent: &done}, err
}

func (s *session) receiveUp(ctx context.Context, t trial, requests <-chan message) (message, error) {
	meter, err := method.StartMeter(nil)
	if err != nil {
		return message{}, err
	}
	r, overrun := newReceiver(t), s.endpoint.overrun()
	s.endpoint.receiver.Store(r)
	defer s.endpoint.receiver.Store(nil)
	if err := s.control.send(message{Kind: kindReady}); err != nil {
		return message{}, err
	}
	select {
	case m, ok := <-requests:
		if !ok || m.Kind != kindSent {
			return message{}, fmt.Errorf("%w: %q where %q was due", ErrProtocol, printable(string(m.Kind)), kindSent)
		}
	case <-time.After(t.Duration + grace):
		return message{}, errors.New("the client does not say that it has sent")
	case <-ctx.Done():
		return message{}, ctx.Err()
	}
	r.drain()
	usage, err := meter.Stop()
	c := r.finish()
	c.Steal, c.Overrun = usage.Steal, s.endpoint.overrun()-overrun
	return message{Kind: kindCounts, Counts: &c}, err
}

// adopt takes a TCP connection that proves to belong to the session.
func (s *session) adopt(m message, c net.Conn) bool {
	from, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil || unmap(from).Addr() != s.remote.Addr() || !hmac.Equal(m.Proof, s.proof) {
		return false
	}
	select {
	case s.streams <- accepted{m.Number, c}:
		return true
	default:
		return false
	}
}

// dropStreams closes what nobody has asked for.
func (s *session) dropStreams() {
	for {
		select {
		case a := <-s.streams:
			a.conn.Close()
		default:
			return
		}
	}
}

// carry is the server's part of a TCP measurement.
func (s *session) carry(ctx context.Context, t stream) (message, error) {
	s.dropStreams()
	if err := s.control.send(message{Kind: kindReady}); err != nil {
		return message{}, err
	}
	conns := make([]net.Conn, 0, t.Streams)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	late := time.After(grace)
	for len(conns) < t.Streams {
		select {
		case a := <-s.streams:
			conns = append(conns, a.conn)
		case <-late:
			return message{}, fmt.Errorf("%d of %d tcp connections came", len(conns), t.Streams)
		case <-ctx.Done():
			return message{}, ctx.Err()
		}
	}
	if t.Direction == Down {
		done, err := write(ctx, conns, t.Duration)
		return message{Kind: kindSent, Sent: &done}, err
	}
	c, err := drink(ctx, conns, t.Duration+grace)
	return message{Kind: kindCounts, Counts: &c}, err
}

// bucket bounds a rate: it lets through as many as in a tenth of a second at once. Several
// readers use it.
type bucket struct {
	mu           sync.Mutex
	rate, tokens float64
	last         time.Time
}

func newBucket(rate float64) bucket { return bucket{rate: rate, last: time.Now()} }

func (b *bucket) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.tokens = min(b.tokens+b.rate*now.Sub(b.last).Seconds(), max(b.rate/10, 1))
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
