package afxdp

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// sendSome puts n packets into the TX ring.
func sendSome(t *testing.T, u *UMEM, s *Socket, n int) {
	t.Helper()
	addrs := make([]uint64, n)
	if got := u.Alloc(addrs); got != n {
		t.Fatalf("only %d frames", got)
	}
	descs := make([]Desc, n)
	for i, addr := range addrs {
		descs[i] = Desc{Addr: addr + 256, Len: 60}
	}
	if got := s.Send(descs); got != n {
		t.Fatalf("only %d were taken", got)
	}
}

func TestKickOutcomes(t *testing.T) {
	// Each step answers one system call; drop and take say how many packets it takes away.
	type step struct {
		errno    unix.Errno
		take     int
		complete int // frames that get into the completion ring meanwhile
	}
	for _, c := range []struct {
		name     string
		zeroCopy bool
		steps    []step // the last one answers all further calls
		calls    int
		left     int // in the TX ring
		err      error
	}{
		{name: "all sent at once", steps: []step{{0, 10, 0}}, calls: 1},
		{name: "EAGAIN with progress goes on", steps: []step{{unix.EAGAIN, 4, 0}, {unix.EAGAIN, 4, 0}, {0, 2, 0}}, calls: 3},
		{name: "EAGAIN after the last packet ends", steps: []step{{unix.EAGAIN, 10, 0}}, calls: 1},
		{name: "EAGAIN without progress waits for the next kick", steps: []step{{unix.EAGAIN, 0, 0}}, calls: 1, left: 10},
		{name: "EAGAIN with a full completion ring reclaims and goes on", steps: []step{{unix.EAGAIN, 4, 4}, {unix.EAGAIN, 0, 0}, {0, 6, 0}}, calls: 3},
		{name: "EAGAIN after reclaiming waits", steps: []step{{unix.EAGAIN, 4, 4}, {unix.EAGAIN, 0, 0}}, calls: 3, left: 6},
		{name: "EBUSY goes on with the next packet", steps: []step{{unix.EBUSY, 1, 1}, {unix.EBUSY, 1, 1}, {0, 8, 0}}, calls: 3},
		{name: "EBUSY for every packet drops all of them", steps: []step{{unix.EBUSY, 1, 1}}, calls: 10},
		{name: "EBUSY without progress ends", steps: []step{{unix.EBUSY, 0, 0}}, calls: 14, left: 10},
		{name: "EBUSY in zero-copy mode waits", zeroCopy: true, steps: []step{{unix.EBUSY, 0, 0}}, calls: 1, left: 10},
		{name: "ENOBUFS waits", steps: []step{{unix.ENOBUFS, 2, 0}}, calls: 1, left: 8},
		{name: "ENOMEM waits", steps: []step{{unix.ENOMEM, 2, 0}}, calls: 1, left: 8},
		{name: "ENETDOWN is reported", steps: []step{{unix.ENETDOWN, 0, 0}}, calls: 1, left: 10, err: ErrDown},
		{name: "ENXIO is reported", steps: []step{{unix.ENXIO, 0, 0}}, calls: 1, left: 10, err: ErrGone},
		{name: "ENXIO after some is reported", steps: []step{{unix.EAGAIN, 3, 0}, {unix.ENXIO, 0, 0}}, calls: 2, left: 7, err: ErrGone},
		{name: "what nobody knows is reported", steps: []step{{unix.EINVAL, 0, 0}}, calls: 1, left: 10, err: unix.EINVAL},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := heapUMEM(t, 32)
			s, k := newSimSocket(t, u, SocketOptions{TxSize: 16, FillSize: 8}, 1<<32-6)
			s.zeroCopy = c.zeroCopy
			calls := 0
			s.kick = func(int) unix.Errno {
				step := c.steps[min(calls, len(c.steps)-1)]
				calls++
				for range min(step.take, int(k.tx.entries())) {
					k.takeOne()
				}
				k.complete(step.complete)
				return step.errno
			}
			sendSome(t, u, s, 10)
			if err := s.Kick(); !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Errorf("kick: %v, want %v", err, c.err)
			}
			if calls != c.calls {
				t.Errorf("%d system calls, want %d", calls, c.calls)
			}
			if left := int(k.tx.entries()); left != c.left {
				t.Errorf("%d packets are left, want %d", left, c.left)
			}
			wantConserved(t, u, []*simKernel{k}, map[uint64]bool{})
			k.complete(99)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			wantCensus(t, u, Census{Pool: 32})
		})
	}
}

func TestKickDoesNotCallForNothing(t *testing.T) {
	u := heapUMEM(t, 8)
	s, k := newSimSocket(t, u, SocketOptions{TxSize: 4, FillSize: 2}, 0)
	s.kick = func(int) unix.Errno { t.Error("a system call was made"); return 0 }
	if err := s.Kick(); err != nil { // nothing to send
		t.Error(err)
	}
	k.tx.flags.Store(0) // the driver is at work
	sendSome(t, u, s, 2)
	if err := s.Kick(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Kick(); !errors.Is(err, ErrClosed) {
		t.Errorf("kick of a closed socket: %v", err)
	}
}

func TestSendTakesWhatFits(t *testing.T) {
	u := heapUMEM(t, 16)
	s, k := newSimSocket(t, u, SocketOptions{TxSize: 4, FillSize: 2}, 1<<32-2)
	addrs := make([]uint64, 6)
	u.Alloc(addrs)
	descs := make([]Desc, 6)
	for i, addr := range addrs {
		descs[i] = Desc{Addr: addr, Len: 2048}
	}
	if n := s.Send(descs); n != 4 {
		t.Fatalf("a ring of 4 took %d", n)
	}
	if n := s.Send(descs[4:]); n != 0 {
		t.Fatalf("a full ring took %d", n)
	}
	k.takeOne()
	if n := s.Send(descs[4:]); n != 1 {
		t.Fatalf("a ring with room for one took %d", n)
	}
	wantCensus(t, u, Census{Pool: 10, Caller: 1, Tx: 5})
	k.complete(1)
	if n := s.Reclaim(); n != 1 {
		t.Errorf("reclaimed %d", n)
	}
	u.Free(descs[5].Addr)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantCensus(t, u, Census{Pool: 16})
}

func TestSendRefusesWhatTheKernelWouldSwallow(t *testing.T) {
	for name, change := range map[string]func(*Desc){
		"an empty packet":                  func(d *Desc) { d.Len = 0 },
		"a packet across the frame's end":  func(d *Desc) { d.Addr += 2000; d.Len = 49 },
		"a length of 4 GiB":                func(d *Desc) { d.Len = 1<<32 - 1 },
		"a continuation in single buffers": func(d *Desc) { d.Options = Continued },
		"an unknown option":                func(d *Desc) { d.Options = 1 << 20 },
	} {
		t.Run(name, func(t *testing.T) {
			u := heapUMEM(t, 8)
			s, k := newSimSocket(t, u, SocketOptions{TxSize: 4, FillSize: 2}, 0)
			var addrs [3]uint64
			u.Alloc(addrs[:])
			descs := []Desc{{Addr: addrs[0], Len: 60}, {Addr: addrs[1], Len: 60}, {Addr: addrs[2], Len: 60}}
			change(&descs[1])
			if n := s.Send(descs); n != 3 {
				t.Errorf("%d were taken, want all 3", n)
			}
			if n := k.tx.entries(); n != 2 {
				t.Errorf("%d reached the ring, want 2", n)
			}
			if n := s.refused.Load(); n != 1 {
				t.Errorf("%d are counted as refused, want 1", n)
			}
			wantCensus(t, u, Census{Pool: 6, Tx: 2})
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestChainsAreSentWhole(t *testing.T) {
	u := heapUMEM(t, 64)
	s, k := newSimSocket(t, u, SocketOptions{TxSize: 8, FillSize: 2, MultiBuffer: true}, 0)
	chain := func(n int) []Desc {
		addrs, descs := make([]uint64, n), make([]Desc, n)
		if u.Alloc(addrs) != n {
			t.Fatal("no frames")
		}
		for i := range descs {
			descs[i] = Desc{Addr: addrs[i], Len: 100, Options: Continued}
		}
		descs[n-1].Options = 0
		return descs
	}
	first, second := chain(6), chain(3)
	if n := s.Send(append(first, second...)); n != 6 {
		t.Errorf("%d were taken, want the first packet's 6", n)
	}
	if n := s.Send(second); n != 0 {
		t.Errorf("%d of a packet of 3 were taken where 2 fit", n)
	}
	k.takeOne()
	if n := s.Send(second); n != 3 {
		t.Errorf("%d of 3 were taken", n)
	}
	for range 8 {
		k.takeOne()
	}
	k.complete(9)
	s.Reclaim()

	endless := chain(3)
	endless[2].Options = Continued
	broken := chain(3)
	broken[1].Len = 0
	for name, descs := range map[string][]Desc{"no end": endless, "an empty part": broken} {
		if n := s.Send(descs); n != 3 || k.tx.entries() != 0 {
			t.Errorf("%s: %d were taken and %d reached the ring, want 3 and 0", name, n, k.tx.entries())
		}
	}
	if n := s.refused.Load(); n != 6 {
		t.Errorf("%d are counted as refused, want 6", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantCensus(t, u, Census{Pool: 64})
}

func TestChainsThatTheKernelWouldDropAreRefused(t *testing.T) {
	u := heapUMEM(t, 64)
	s, k := newSimSocket(t, u, SocketOptions{TxSize: 32, FillSize: 2, MultiBuffer: true}, 0)
	for n, want := range map[int]uint32{maxChain: maxChain, maxChain + 1: 0} {
		addrs, descs := make([]uint64, n), make([]Desc, n)
		u.Alloc(addrs)
		for i := range descs {
			descs[i] = Desc{Addr: addrs[i], Len: 100, Options: Continued}
		}
		descs[n-1].Options = 0
		before := k.tx.entries()
		if taken := s.Send(descs); taken != n || k.tx.entries()-before != want {
			t.Errorf("%d descriptors: %d taken, %d in the ring, want %d", n, taken, k.tx.entries()-before, want)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
