package memory

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/relay/wireguard/aead"
)

// Path is something that seals and opens packets of one size.
type Path interface {
	Name() string
	// Seal and Open take n packets through and return the CPU time that took.
	Seal(ctx context.Context, n int) (time.Duration, error)
	Open(ctx context.Context, n int) (time.Duration, error)
	Close() error
}

// Counted is a Path that knows how many system calls it would have made over sockets.
type Counted interface {
	Path
	SystemCalls() uint64
}

// The names of the paths.
const (
	Relay          = "relay"
	RelayBest      = "relay, best cipher"
	Session        = "session"
	Reference      = "reference" // a copy and the bare cipher
	WireGuardGo    = "wireguard-go"
	WireGuardGoAll = "wireguard-go, all cores" // with as many Ps as CPUs, as it is shipped; still CPU time for a packet
	defaultTimeout = 20 * time.Second
)

// New makes a path for IP packets of a size.
func New(name string, size int) (Path, error) {
	switch name {
	case Relay:
		return newRelayPath(name, size, aead.Generic(), 1)
	case RelayBest:
		return newRelayPath(name, size, aead.Best(), 1)
	case Session:
		return newSessionPath(size, aead.Generic())
	case Reference:
		return newReferencePath(size), nil
	case WireGuardGo:
		return newDevicePath(name, size, 1)
	case WireGuardGoAll:
		return newDevicePath(name, size, runtime.NumCPU())
	}
	return nil, fmt.Errorf("path %q: there is no such path", name)
}

// feed is packets on their way in. The taker alone moves next.
type feed struct {
	packets *store
	next    int
	step    int // several takers share the packets in turns, so that none is far ahead of a replay window
	want    int
}

// tally counts packets on their way out; the counter alone calls add.
type tally struct {
	got, want int
	end       time.Duration
	err       error
	done      chan struct{}
	keep      [][]byte // copies of the first ones
	keepMax   int
}

// add counts a packet, and reads the clock when it was the last one.
func (t *tally) add(b []byte) {
	if len(t.keep) < t.keepMax {
		t.keep = append(t.keep, append([]byte(nil), b...))
	}
	t.got++
	if t.got == t.want {
		t.end, t.err = method.ProcessTime()
		close(t.done)
	}
}

// slice is one measurement under way, as source and sink see it.
type slice struct {
	in  atomic.Pointer[feed]
	out atomic.Pointer[tally]
}

// run feeds n packets, every step-th from number first on, and waits until they have come out. wake is called when they may be taken.
func (s *slice) run(ctx context.Context, packets *store, first, step, n, keep int, wake func()) (took time.Duration, kept [][]byte, err error) {
	t := &tally{want: n, keepMax: keep, done: make(chan struct{})}
	s.out.Store(t)
	begin, err := method.ProcessTime()
	if err != nil {
		return 0, nil, err
	}
	s.in.Store(&feed{packets: packets, next: first, step: step, want: first + step*n})
	wake()
	timeout := time.NewTimer(defaultTimeout)
	defer timeout.Stop()
	select {
	case <-t.done:
		return t.end - begin, t.keep, t.err
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	case <-timeout.C:
		return 0, nil, errors.New("packets got lost in memory")
	}
}
