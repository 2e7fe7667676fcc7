package netnstest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// streamFlows is over how many flows a stream is spread, by turns.
const streamFlows = 64

// streamBuffer is what the receiver's kernel may keep: what is counted is the
// network's loss, also when the receiver is not scheduled for a while.
const streamBuffer = 32 << 20

// Stream is numbered UDP packets from one host to another, over many flows, and
// which of them have arrived.
type Stream struct {
	name  string
	begun time.Time
	every time.Duration // between packets
	flows []*net.UDPConn
	in    *net.UDPConn
	stop  chan struct{}
	ended sync.Once
	done  sync.WaitGroup

	mu      sync.Mutex
	sent    uint32
	got     []bool // by number
	arrived int
	strange int // packets of nobody that this stream has sent
}

// StartStream sends so many packets per millisecond until End is called. The port
// must be free at the receiver.
func StartStream(from, to *Host, dst netip.AddrPort, perMilli int) (_ *Stream, err error) {
	s := &Stream{name: fmt.Sprintf("stream from %s to %s", from.Name(), dst), stop: make(chan struct{}), begun: time.Now()}
	if perMilli > 0 {
		s.every = time.Millisecond / time.Duration(perMilli)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", s.name, errors.Join(err, s.close()))
		}
	}()
	if err := to.Do(func() (err error) {
		s.in, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(dst))
		return err
	}); err != nil {
		return nil, err
	}
	raw, err := s.in.SyscallConn()
	if err != nil {
		return nil, err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, streamBuffer)
	}); err != nil || failed != nil {
		return nil, errors.Join(err, failed)
	}
	if err := from.Do(func() error {
		for range streamFlows {
			conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(dst))
			if err != nil {
				return err
			}
			s.flows = append(s.flows, conn)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	go s.receive()
	s.done.Go(func() { s.send(perMilli) })
	return s, nil
}

// String says from where to where.
func (s *Stream) String() string { return s.name }

func (s *Stream) receive() {
	buf := make([]byte, 64)
	for {
		n, err := s.in.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n != 4 {
			continue
		}
		number := binary.BigEndian.Uint32(buf)
		s.mu.Lock()
		if number >= s.sent {
			s.strange++
		} else {
			for int(number) >= len(s.got) {
				s.got = append(s.got, make([]bool, 1+len(s.got))...)
			}
			if !s.got[number] {
				s.got[number] = true
				s.arrived++
			}
		}
		s.mu.Unlock()
	}
}

func (s *Stream) send(perMilli int) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		for range perMilli {
			s.mu.Lock()
			number := s.sent
			s.sent++
			s.mu.Unlock()
			// Refused, for want of a route, is lost as well.
			_, _ = s.flows[number%streamFlows].Write(binary.BigEndian.AppendUint32(nil, number))
		}
	}
}

// Counts is how many packets were sent so far, and how many arrived.
func (s *Stream) Counts() (sent, arrived int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int(s.sent), s.arrived
}

// Strange is how many packets came that this stream has never sent.
func (s *Stream) Strange() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.strange
}

// End stops the stream, waits for what is under way, and says how many packets were
// sent and how many of them never came.
func (s *Stream) End() (sent, lost int) {
	s.ended.Do(func() { close(s.stop) })
	s.done.Wait()
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var arrived int
		if sent, arrived = s.Counts(); sent == arrived || time.Now().After(deadline) {
			_ = s.close() // nothing comes or goes any more
			return sent, sent - arrived
		}
	}
}

func (s *Stream) close() error {
	var errs []error
	if s.in != nil {
		errs = append(errs, s.in.Close())
	}
	for _, f := range s.flows {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// Gaps says when packets were lost, at most ten times; those that are less than a round of all flows apart are one gap.
func (s *Stream) Gaps() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	first, last := -1, -1
	flush := func() {
		if first >= 0 {
			at := time.Duration(first) * s.every
			out = append(out, fmt.Sprintf("packets %d to %d, %v after the beginning (%s)", first, last, at.Round(time.Millisecond), s.begun.Add(at).Format("15:04:05.000")))
		}
	}
	for i := range int(s.sent) {
		if i < len(s.got) && s.got[i] {
			continue
		}
		if first < 0 || i-last > streamFlows {
			flush()
			first = i
		}
		last = i
	}
	flush()
	return strings.Join(out[:min(len(out), 10)], "; ")
}
