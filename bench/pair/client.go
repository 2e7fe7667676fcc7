package pair

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluicegw/sluice/bench/method"
)

// client is the side that runs the measurements. One goroutine uses it.
type client struct {
	control *conn
	remote  netip.AddrPort
	limits  Limits
	server  Host
	proof   []byte
	*endpoint
	outlets []outlet
	trials  atomic.Uint32 // made so far

	known  []atomic.Bool // by flow: the server has answered its knock
	echoes atomic.Pointer[echoes]
}

// connect makes a session with a server; flows is how many UDP ports are used.
func connect(ctx context.Context, address string, token Token, flows int) (_ *client, err error) {
	raw, err := (&net.Dialer{Timeout: helloTimeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &client{control: &conn{Conn: raw, max: maxMessage}, known: make([]atomic.Bool, flows)}
	defer func() {
		if err != nil {
			err = errors.Join(err, raw.Close())
		}
	}()
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	if c.remote, err = netip.ParseAddrPort(raw.RemoteAddr().String()); err != nil {
		return nil, err
	}
	c.remote = unmap(c.remote)
	tag, err := c.handshake(token, flows)
	if err != nil {
		return nil, err
	}
	c.endpoint = &endpoint{tag: tag, v6: c.remote.Addr().Is6(), peer: c.remote.Addr(), handle: c.handle}
	for range flows {
		s, err := dial(ctx, c.remote)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open udp port: %w", err), c.endpoint.close())
		}
		c.sockets, c.outlets = append(c.sockets, s), append(c.outlets, outlet{socket: s})
	}
	c.start()
	return c, nil
}

// handshake is the client's part of it.
func (c *client) handshake(token Token, flows int) (tag [tagLen]byte, err error) {
	var n nonces
	rand.Read(n[0][:]) // never fails (crypto/rand since Go 1.24)
	if err := c.control.send(message{Kind: kindHello, Protocol: protocol, Version: Version, Nonce: n[0][:], Flows: flows}); err != nil {
		return tag, err
	}
	m, err := c.control.expect(kindChallenge, helloTimeout)
	if err != nil {
		return tag, err
	}
	if n[1], err = m.nonce(); err != nil {
		return tag, err
	}
	if !token.proves(roleServer, n, m.Proof) {
		return tag, ErrToken
	}
	if err := c.control.send(message{Kind: kindProve, Proof: token.proof(roleClient, n)}); err != nil {
		return tag, err
	}
	if m, err = c.control.expect(kindWelcome, helloTimeout); err != nil {
		return tag, err
	}
	if m.Limits == nil || m.Host == nil {
		return tag, fmt.Errorf("%w: a welcome without limits", ErrProtocol)
	}
	if err := m.Limits.Validate(); err != nil {
		return tag, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	c.limits, c.server, c.proof = *m.Limits, m.Host.printable(), token.proof(roleStream, n)
	return token.tag(n), nil
}

func (c *client) close() error { return errors.Join(c.endpoint.close(), c.control.Close()) }

// handle takes answers.
func (c *client) handle(_ *socket, h header, p packet) {
	switch {
	case h.What == known && int(h.Flow) < len(c.known):
		c.known[h.Flow].Store(true)
	case h.What == answer:
		if e := c.echoes.Load(); e != nil {
			e.take(h, p)
		}
	}
}

// knocks are how often a port is shown to the server, a fifth of a second apart.
const knocks = 25

// knock shows the server the ports of all flows: what is between may have forgotten them.
func (c *client) knock(ctx context.Context) error {
	b := make([]byte, headerLen)
	for i := range c.known {
		c.known[i].Store(false)
	}
	for range knocks {
		missing := 0
		for i, o := range c.outlets {
			if c.known[i].Load() {
				continue
			}
			missing++
			header{What: knock, Flow: uint16(i), Sent: time.Now().UnixNano()}.put(b, c.tag)
			if _, err := o.socket.conn.Write(b); err != nil && !temporary(err) {
				return fmt.Errorf("show udp port: %w", err)
			}
		}
		for wait := time.Duration(0); missing > 0 && wait < 200*time.Millisecond; wait += time.Millisecond {
			time.Sleep(time.Millisecond)
			missing = 0
			for i := range c.known {
				if !c.known[i].Load() {
					missing++
				}
			}
		}
		if missing == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return fmt.Errorf("%s does not answer on UDP (TCP works): is UDP port %d closed on the way?", c.remote.Addr(), c.remote.Port())
}

// outcome of a trial, as both sides have counted it.
type outcome struct {
	sent   sent
	counts counts
}

// lost packets on the way and at the receiver.
func (o outcome) lost() uint64 { return o.sent.Packets - o.counts.Received }

// counted is the outcome in the words of package method.
func (o outcome) counted() method.Counts {
	return method.Counts{
		Window: max(o.sent.Duration, 1), Offered: o.sent.Packets, Received: o.counts.Received, Bytes: o.counts.Bytes,
		Reordered: o.counts.Reordered, Duplicates: o.counts.Duplicates,
		Usage:   method.Usage{Wall: o.sent.Duration, Steal: max(o.sent.Steal, o.counts.Steal)},
		Latency: o.counts.Variation,
	}
}

// trial sends packets in a direction and returns what both sides counted.
func (c *client) trial(ctx context.Context, t trial) (o outcome, err error) {
	t.ID = c.trials.Add(1)
	if err := t.validate(c.limits, c.v6); err != nil {
		return o, err
	}
	if t.Direction == Down {
		if err := c.knock(ctx); err != nil {
			return o, err
		}
		return c.receiveDown(ctx, t)
	}
	if err := c.control.send(message{Kind: kindRate, Trial: &t}); err != nil {
		return o, err
	}
	if _, err := c.control.expect(kindReady, grace); err != nil {
		return o, err
	}
	var failed error
	if o.sent, failed = send(ctx, t, c.tag, c.v6, c.outlets); failed != nil {
		return o, failed
	}
	if err := c.control.send(message{Kind: kindSent, Sent: &o.sent}); err != nil {
		return o, err
	}
	m, err := c.control.expect(kindCounts, drainFor+grace)
	if err != nil {
		return o, err
	}
	if m.Counts == nil || !m.Counts.validate(o.sent) {
		return o, fmt.Errorf("%w: counts that cannot be", ErrProtocol)
	}
	o.counts = *m.Counts
	return o, nil
}

func (c *client) receiveDown(ctx context.Context, t trial) (o outcome, err error) {
	meter, err := method.StartMeter(nil)
	if err != nil {
		return o, err
	}
	r, overrun := newReceiver(t), c.overrun()
	c.receiver.Store(r)
	defer c.receiver.Store(nil)
	if err := c.control.send(message{Kind: kindRate, Trial: &t}); err != nil {
		return o, err
	}
	m, err := c.control.expect(kindSent, t.Duration+grace)
	if err != nil {
		return o, err
	}
	if m.Sent == nil || m.Sent.Duration < 0 || m.Sent.Duration > t.Duration+grace || m.Sent.Steal < 0 {
		return o, fmt.Errorf("%w: a trial that cannot be", ErrProtocol)
	}
	o.sent = *m.Sent
	r.drain()
	usage, err := meter.Stop()
	o.counts = r.finish()
	o.counts.Steal, o.counts.Overrun = usage.Steal, c.overrun()-overrun
	if o.counts.Received > o.sent.Packets {
		return o, fmt.Errorf("%w: %d packets came, %d were sent", ErrProtocol, o.counts.Received, o.sent.Packets)
	}
	return o, err
}

// tcp carries bytes over TCP connections in a direction.
func (c *client) tcp(ctx context.Context, t stream) (o outcome, err error) {
	if err := t.validate(c.limits); err != nil {
		return o, err
	}
	if err := c.control.send(message{Kind: kindTCP, TCP: &t}); err != nil {
		return o, err
	}
	if _, err := c.control.expect(kindReady, grace); err != nil {
		return o, err
	}
	conns := make([]net.Conn, 0, t.Streams)
	defer func() {
		for _, s := range conns {
			s.Close()
		}
	}()
	for i := range t.Streams {
		s, err := (&net.Dialer{Timeout: grace}).DialContext(ctx, "tcp", c.remote.String())
		if err != nil {
			return o, err
		}
		conns = append(conns, s)
		if err := (&conn{Conn: s}).send(message{Kind: kindStream, Number: i, Proof: c.proof}); err != nil {
			return o, err
		}
	}
	var g errgroup.Group
	var answer message
	g.Go(func() (err error) {
		if t.Direction == Up {
			o.sent, err = write(ctx, conns, t.Duration)
		} else {
			o.counts, err = drink(ctx, conns, t.Duration+grace)
		}
		return err
	})
	g.Go(func() (err error) {
		due := kindCounts
		if t.Direction == Down {
			due = kindSent
		}
		answer, err = c.control.expect(due, t.Duration+2*grace)
		return err
	})
	if err := g.Wait(); err != nil {
		return o, err
	}
	switch {
	case t.Direction == Up && answer.Counts != nil && answer.Counts.Bytes <= o.sent.Bytes && answer.Counts.Window >= 0:
		o.counts = *answer.Counts
	case t.Direction == Down && answer.Sent != nil && o.counts.Bytes <= answer.Sent.Bytes:
		o.sent = *answer.Sent
	default:
		return o, fmt.Errorf("%w: tcp counts that cannot be", ErrProtocol)
	}
	return o, nil
}

// echoes of one measurement.
type echoes struct {
	trial uint32
	mu    sync.Mutex
	seen  map[uint64]bool
	last  time.Time
	trips histogram
	// variation of the delay there and back is above these.
	delays [2][]int64
}

func (e *echoes) take(h header, p packet) {
	if h.Trial != e.trial {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.seen[h.Seq] {
		return
	}
	e.seen[h.Seq] = true
	e.last = time.Now()
	e.trips.add(time.Duration((p.at - h.Sent) - (h.Answered - h.Received)))
	e.delays[0] = append(e.delays[0], h.Received-h.Sent)
	e.delays[1] = append(e.delays[1], p.at-h.Answered)
}

// received is how many came back.
func (e *echoes) received() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return uint64(len(e.seen))
}

// variation of the delay there (0) or back (1).
func (e *echoes) variation(way int) []method.Bucket {
	h := histogram{}
	if len(e.delays[way]) > 0 {
		least := e.delays[way][0]
		for _, d := range e.delays[way] {
			least = min(least, d)
		}
		for _, d := range e.delays[way] {
			h.add(time.Duration(d - least))
		}
	}
	return h.buckets()
}

// echo sends packets that the server answers, at a rate, and waits for the last ones. The server sees the first flow's
// port.
func (c *client) echo(ctx context.Context, size int, rate float64, d time.Duration) (e *echoes, offered uint64, err error) {
	e = &echoes{trial: c.trials.Add(1), seen: map[uint64]bool{}, trips: histogram{}}
	c.echoes.Store(e)
	defer c.echoes.Store(nil)
	b := make([]byte, size-overhead(c.v6))
	socket := c.outlets[0].socket
	begin := time.Now()
	for gap := time.Duration(float64(time.Second) / rate); time.Since(begin) < d; {
		if ctx.Err() != nil {
			return e, offered, ctx.Err()
		}
		if wait := time.Until(begin.Add(time.Duration(offered) * gap)); wait > 0 {
			time.Sleep(wait)
		}
		header{What: echo, Trial: e.trial, Seq: offered, Sent: time.Now().UnixNano()}.put(b, c.tag)
		if _, err := socket.conn.Write(b); err != nil && !temporary(err) {
			return e, offered, fmt.Errorf("send echo: %w", err)
		}
		offered++
	}
	for end := time.Now().Add(drainFor); e.received() < offered && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	return e, offered, nil
}
