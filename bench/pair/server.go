package pair

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Server answers clients that know its token, one at a time.
type Server struct {
	Token  Token
	Limits Limits
	// Program is the version of this program, for the client's report.
	Program string
	// Log is told who comes and goes; nil: nobody is.
	Log *slog.Logger

	mu     sync.Mutex
	active *session
}

// maxShaking bounds the connections that have proven nothing yet.
const maxShaking = 16

// ErrBusy says that the server has another client.
var ErrBusy = errors.New("the server is busy with another client")

// Serve answers until the context ends. It closes the listener.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if err := s.Limits.Validate(); err != nil {
		return errors.Join(err, l.Close())
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { l.Close() })
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	defer stop()
	shaking := make(chan struct{}, maxShaking)
	for {
		c, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			// Out of descriptors, or the client has gone again.
			s.Log.Warn("accept", "error", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		select {
		case shaking <- struct{}{}:
		default:
			c.Close() // no more than a few strangers at a time
			continue
		}
		wait.Go(func() {
			once := sync.OnceFunc(func() { <-shaking })
			defer once()
			if err := s.answer(ctx, c, once); err != nil && ctx.Err() == nil {
				s.Log.Warn("client", "address", c.RemoteAddr().String(), "error", err)
			}
		})
	}
}

// answer does what a connection is for; shaken is called when it has proven that it knows the token.
func (s *Server) answer(ctx context.Context, raw net.Conn, shaken func()) (err error) {
	c := &conn{Conn: raw, max: maxHello}
	owned := true
	defer func() {
		if owned {
			c.Close()
		}
	}()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	m, err := c.receive(helloTimeout)
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil // a port scan
		}
		return err
	}
	switch m.Kind {
	case kindStream:
		if !s.adopt(m, raw) {
			return fmt.Errorf("%w: a stream of no session", ErrProtocol)
		}
		owned = false
		return nil
	case kindHello:
	default:
		return fmt.Errorf("%w: it begins with %q", ErrProtocol, m.Kind)
	}
	n, err := s.handshake(c, m)
	if err != nil {
		return err
	}
	if m.Flows < 1 || m.Flows > s.Limits.Flows {
		err := fmt.Errorf("%d flows: the server allows 1 to %d", m.Flows, s.Limits.Flows)
		return errors.Join(err, c.send(message{Kind: kindFailed, Error: err.Error()}))
	}
	session, err := s.newSession(c, n, m.Flows)
	if err != nil {
		return errors.Join(err, c.send(message{Kind: kindFailed, Error: err.Error()}))
	}
	shaken()
	defer s.end()
	s.Log.Info("session begins", "address", raw.RemoteAddr().String())
	err = session.run(ctx)
	s.Log.Info("session ended", "address", raw.RemoteAddr().String())
	return err
}

// handshake is the server's part of it.
func (s *Server) handshake(c *conn, hello message) (n nonces, err error) {
	if hello.Protocol != protocol || hello.Version != Version {
		err := fmt.Errorf("%w: the client speaks %q version %d, the server %q version %d",
			ErrProtocol, printable(hello.Protocol), hello.Version, protocol, Version)
		return n, errors.Join(err, c.send(message{Kind: kindFailed, Error: err.Error()}))
	}
	if n[0], err = hello.nonce(); err != nil {
		return n, err
	}
	rand.Read(n[1][:]) // never fails (crypto/rand since Go 1.24)
	if err := c.send(message{Kind: kindChallenge, Version: Version, Nonce: n[1][:], Proof: s.Token.proof(roleServer, n)}); err != nil {
		return n, err
	}
	m, err := c.expect(kindProve, helloTimeout)
	if err != nil {
		return n, err
	}
	if !s.Token.proves(roleClient, n, m.Proof) {
		return n, errors.Join(ErrToken, c.send(message{Kind: kindFailed, Error: ErrToken.Error()}))
	}
	return n, nil
}

// newSession makes the session of a client, unless there is one.
func (s *Server) newSession(c *conn, n nonces, flows int) (*session, error) {
	local, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return nil, err
	}
	remote, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active != nil {
		return nil, ErrBusy
	}
	s.active = &session{
		control: c, limits: s.Limits, host: thisHost(s.Program), flows: make([]outlet, flows),
		local: unmap(local), remote: unmap(remote),
		proof: s.Token.proof(roleStream, n), tag: s.Token.tag(n), streams: make(chan accepted, flows),
	}
	return s.active, nil
}

func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active = nil
}

// adopt gives a TCP connection to the session that it proves to belong to.
func (s *Server) adopt(m message, c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active != nil && s.active.adopt(m, c)
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
