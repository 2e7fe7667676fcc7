package bfd

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/osrg/gobgp/v4/pkg/packet/bfd"
)

// Session is how a router's life is watched.
type Session struct {
	// Interval of our packets, and the most that we let the router's be apart.
	Interval time.Duration
	// Multiplier: after so many of our intervals without a packet the router takes us for dead.
	Multiplier uint8
}

// Options of New.
type Options struct {
	// Ifindex of the interface that the routers are on. 0: any, for tests on a loopback.
	Ifindex uint32
	// Port to listen at and to send to; 0: 3784.
	Port uint16
	// OnDown is called when a session that was up has failed. It must not block.
	OnDown func(router netip.Addr, why string)
	// Logger; nil logs nothing.
	Logger *slog.Logger
}

// Status of a session.
type Status struct {
	State    State
	Failures uint64
	Why      string // it failed last
}

// Watcher watches the routers of one interface. All methods may be called from any goroutine.
type Watcher struct {
	o       Options
	log     *slog.Logger
	begun   time.Time
	conn    *net.UDPConn
	poke    chan struct{}
	stop    chan struct{}
	stopped sync.WaitGroup

	mu       sync.Mutex
	sessions map[netip.Addr]*session
	refused  uint64 // packets for no session, or that are none
}

type session struct {
	Session
	machine *machine
	router  netip.Addr
	conn    *net.UDPConn // nil: could not be opened yet
	retry   int64
	problem string
}

const (
	listenPort = 3784 // RFC 5881 section 4
	// firstSource to the last port are those to send from, another for each session.
	firstSource = 49152
	// openRetry is how often a socket is tried again that could not be opened.
	openRetry = time.Second
)

// New listens, and watches nobody yet.
func New(o Options) (*Watcher, error) {
	if o.Port == 0 {
		o.Port = listenPort
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	w := &Watcher{o: o, log: o.Logger, begun: time.Now(), poke: make(chan struct{}, 1), stop: make(chan struct{}), sessions: make(map[netip.Addr]*session)}
	var err error
	if w.conn, err = listen(&o); err != nil {
		return nil, fmt.Errorf("listen for bfd: %w", err)
	}
	w.stopped.Go(w.read)
	w.stopped.Go(w.run)
	return w, nil
}

// Close ends all sessions.
func (w *Watcher) Close() {
	close(w.stop)
	w.conn.Close()
	w.stopped.Wait()
	w.Set(nil)
}

func (w *Watcher) now() int64 { return int64(time.Since(w.begun)) + 1 }

// Set says whom to watch. A session whose terms are the same goes on.
func (w *Watcher) Set(sessions map[netip.Addr]Session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for router, s := range w.sessions {
		if want, ok := sessions[router]; !ok || want != s.Session {
			s.close()
			delete(w.sessions, router)
		}
	}
	for router, want := range sessions {
		if w.sessions[router] == nil {
			w.sessions[router] = &session{Session: want, machine: newMachine(want.Interval, want.Multiplier, w.now()), router: router}
		}
	}
	w.wake()
}

func (w *Watcher) wake() {
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

// Status of a router's session; false: it is not watched.
func (w *Watcher) Status(router netip.Addr) (Status, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.sessions[router]
	if s == nil {
		return Status{}, false
	}
	return Status{State: s.machine.state, Failures: s.machine.failures, Why: s.machine.wentAway}, true
}

// run sends what is due, until Close.
func (w *Watcher) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-w.poke:
		case <-timer.C:
		}
		timer.Reset(w.work())
	}
}

func (w *Watcher) work() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	wake := now + int64(time.Hour)
	for _, s := range w.sessions {
		if s.conn == nil && now >= s.retry {
			s.open(&w.o, now)
			if s.problem != "" {
				w.log.Debug("bfd", "router", s.router, "error", s.problem)
			}
		}
		s.machine.due(now, s.send)
		w.report(s)
		wake = min(wake, s.machine.wake())
		if s.conn == nil {
			wake = min(wake, s.retry)
		}
	}
	return max(time.Duration(wake-now), 100*time.Microsecond)
}

// report tells of what has happened to a session. Under mu.
func (w *Watcher) report(s *session) {
	m := s.machine
	if m.died {
		m.died, m.cameUp = false, false
		w.log.Warn("bfd: the router is down", "router", s.router, "why", m.wentAway)
		if w.o.OnDown != nil {
			w.o.OnDown(s.router, m.wentAway)
		}
	}
	if m.cameUp {
		m.cameUp = false
		w.log.Info("bfd: the router is up", "router", s.router)
	}
}

// read takes in packets, until Close.
func (w *Watcher) read() {
	buf, control := make([]byte, 256), make([]byte, 128)
	for {
		n, m, _, from, err := w.conn.ReadMsgUDPAddrPort(buf, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // the interface went down; what comes next may be fine
			select {
			case <-w.stop:
				return
			case <-time.After(time.Millisecond):
			}
			continue
		}
		w.take(buf[:n], from.Addr(), hops(control[:m]))
	}
}

// take takes in a packet that came with so many hops left.
func (w *Watcher) take(b []byte, from netip.Addr, hops int) {
	var p bfd.BFDHeader
	err := parse(b, hops, &p)
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.sessions[from.Unmap()]
	if s == nil { // of a link, perhaps: those have the interface's name with them
		s = w.sessions[from.WithZone("")]
	}
	if err != nil || s == nil {
		w.refused++
		return
	}
	next := s.machine.next
	if !s.machine.take(&p, w.now(), s.send) {
		w.refused++
		return
	}
	w.report(s)
	if s.machine.next < next {
		w.wake()
	}
}

// parse reads a packet. One that came through a router is none of a neighbour's (RFC 5881 section 5).
func parse(b []byte, hops int, p *bfd.BFDHeader) error {
	const authenticated, multipoint = 1 << 2, 1 << 0
	switch err := p.UnmarshalBinary(b); {
	case err != nil:
		return err
	case b[1]&(authenticated|multipoint) != 0:
		return errors.New("a bfd packet that is authenticated, or for many: neither is in use")
	case hops != maxHops:
		return fmt.Errorf("a bfd packet that has come through a router: its TTL is %d", hops)
	}
	return nil
}

func (s *session) send(p *bfd.BFDHeader) {
	if s.conn == nil {
		return
	}
	b, err := p.MarshalBinary()
	if err != nil {
		panic("bfd: " + err.Error()) // all of it is ours
	}
	_, _ = s.conn.Write(b) // what is lost is said again
}

func (s *session) close() {
	s.machine.leave(s.send)
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// open opens the socket to send from.
func (s *session) open(o *Options, now int64) {
	var err error
	if s.conn, err = dial(o, s.router); err != nil {
		s.problem, s.retry = err.Error(), now+int64(openRetry)
		return
	}
	s.problem = ""
}
