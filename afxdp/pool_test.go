package afxdp

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAllocGivesTheFrameThatWasFreedLast(t *testing.T) {
	u := heapUMEM(t, 4)
	var got [8]uint64
	if n := u.Alloc(got[:]); n != 4 {
		t.Fatalf("4 frames gave %d", n)
	}
	if n := u.Alloc(got[:1]); n != 0 {
		t.Fatalf("an empty pool gave %d", n)
	}
	wantCensus(t, u, Census{Caller: 4})
	u.Free(got[1] + 300) // anywhere in the frame
	u.Free(got[3])
	var again [1]uint64
	if u.Alloc(again[:]); again[0] != got[3] {
		t.Errorf("got frame %#x, want %#x", again[0], got[3])
	}
	if u.Alloc(again[:]); again[0] != got[1] {
		t.Errorf("got frame %#x, want the base %#x", again[0], got[1])
	}
}

func TestFrameIsTheWholeChunk(t *testing.T) {
	u := heapUMEM(t, 4)
	frame := u.Frame(2*2048 + 777)
	if len(frame) != 2048 || cap(frame) != 2048 || &frame[0] != &u.mem[2*2048] {
		t.Errorf("frame has %d bytes, capacity %d", len(frame), cap(frame))
	}
	if got := u.FrameBase(2*2048 + 777); got != 4096 {
		t.Errorf("base is %d", got)
	}
}

// misuses are what a caller may do wrong with a frame.
var misuses = map[string]func(*UMEM, *Socket, uint64){
	"free twice": func(u *UMEM, _ *Socket, addr uint64) { u.Free(addr); u.Free(addr + 100) },
	"send twice": func(_ *UMEM, s *Socket, addr uint64) {
		s.Send([]Desc{{Addr: addr, Len: 60}, {Addr: addr + 100, Len: 60}})
	},
	"free after send":      func(u *UMEM, s *Socket, addr uint64) { s.Send([]Desc{{Addr: addr, Len: 60}}); u.Free(addr) },
	"send after free":      func(u *UMEM, s *Socket, addr uint64) { u.Free(addr); s.Send([]Desc{{Addr: addr, Len: 60}}) },
	"free outside":         func(u *UMEM, _ *Socket, _ uint64) { u.Free(1 << 40) },
	"send outside":         func(_ *UMEM, s *Socket, _ uint64) { s.Send([]Desc{{Addr: 1 << 40, Len: 60}}) },
	"refused after free":   func(u *UMEM, s *Socket, addr uint64) { u.Free(addr); s.Send([]Desc{{Addr: addr}}) },
	"free a frame to fill": func(u *UMEM, s *Socket, _ uint64) { s.Fill(); u.Free(s.fill.entries[0]) },
}

func TestMisuseIsCountedAndChangesNothing(t *testing.T) {
	for name, misuse := range misuses {
		t.Run(name, func(t *testing.T) {
			u := heapUMEM(t, 8)
			u.pool.strict = false
			s, k := newSimSocket(t, u, SocketOptions{FillSize: 2, TxSize: 4}, 0)
			var addr [1]uint64
			u.Alloc(addr[:])
			misuse(u, s, addr[0])
			if got := u.Misuses(); got != 1 {
				t.Errorf("%d misuses are counted, want 1", got)
			}
			wantConserved(t, u, []*simKernel{k}, nil)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMisusePanicsWhenStrict(t *testing.T) {
	for name, misuse := range misuses {
		t.Run(name, func(t *testing.T) {
			u := heapUMEM(t, 8)
			s, _ := newSimSocket(t, u, SocketOptions{FillSize: 2, TxSize: 4}, 0)
			defer s.Close()
			var addr [1]uint64
			u.Alloc(addr[:])
			defer func() {
				if text, _ := recover().(string); !strings.Contains(text, "frame 0x") {
					t.Errorf("panic says %q", text)
				}
			}()
			misuse(u, s, addr[0])
			t.Error("no panic")
		})
	}
}

// wantConserved is the slow twin of the places: it looks for every frame in every ring, in the hands of the
// simulated kernels, of the caller and in the pool, and wants each exactly once.
func wantConserved(tb testing.TB, u *UMEM, kernels []*simKernel, caller map[uint64]bool) {
	tb.Helper()
	seen := make(map[uint64]int)
	for _, addr := range u.pool.free {
		seen[u.FrameBase(addr)]++
	}
	want := Census{Pool: len(u.pool.free)}
	for _, k := range kernels {
		for _, addr := range k.everywhere() {
			seen[u.FrameBase(addr)]++
		}
		want.Rx += int(k.fill.entries()+k.rx.entries()) + len(k.unused)
		want.Tx += int(k.tx.entries()+k.completion.entries()) + len(k.flying)
	}
	for addr := range caller {
		seen[addr]++
	}
	got := u.Census()
	if caller != nil {
		want.Caller = len(caller)
	} else { // whatever no one else has
		want.Caller = u.Frames() - want.Pool - want.Rx - want.Tx
	}
	if got != want || got.Total() != u.Frames() {
		tb.Fatalf("frames are at %+v, want %+v", got, want)
	}
	for addr, n := range seen {
		if n != 1 {
			tb.Fatalf("frame %#x is at %d places", addr, n)
		}
	}
	if caller != nil && len(seen) != u.Frames() {
		tb.Fatalf("%d of %d frames are somewhere", len(seen), u.Frames())
	}
}

// TestNoSequenceOfOperationsLosesAFrame does what comes to its mind with two sockets, while the kernel refuses system
// calls with every errno, and counts after every step.
func TestNoSequenceOfOperationsLosesAFrame(t *testing.T) {
	errnos := []unix.Errno{0, unix.EAGAIN, unix.EBUSY, unix.ENOBUFS, unix.ENOMEM, unix.ENETDOWN, unix.ENXIO, unix.EINVAL, unix.EINTR}
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 1))
		u := heapUMEM(t, 8+random.IntN(80))
		o := SocketOptions{RxSize: 1 << random.IntN(5), TxSize: 1 << random.IntN(5), FillSize: 1 << random.IntN(5),
			CompletionSize: 1 << random.IntN(5), TxBudget: 0, MultiBuffer: random.IntN(2) == 0}
		u.options.Reserve = random.IntN(3)
		sockets, kernels := make([]*Socket, 2), make([]*simKernel, 2)
		open := func(i int) {
			s, k := newSimSocket(t, u, o, starts[random.IntN(len(starts))])
			s.kick = func(int) unix.Errno {
				switch errno := errnos[random.IntN(len(errnos))]; errno {
				case 0:
					return k.transmit(1 + random.IntN(4))
				case unix.EAGAIN: // some progress, or none
					for n := random.IntN(3); n > 0 && k.tx.entries() > 0 && len(k.flying)+int(k.completion.entries()) < int(k.completion.size); n-- {
						k.takeOne()
					}
					return errno
				case unix.EBUSY: // one is dropped, and completed
					if k.transmit(1) == 0 || len(k.flying) > 0 {
						k.complete(1)
					}
					return errno
				default:
					return errno
				}
			}
			sockets[i], kernels[i] = s, k
		}
		open(0)
		open(1)
		caller := make(map[uint64]bool)
		var descs []Desc // the caller's
		take := func(d Desc) { caller[u.FrameBase(d.Addr)] = true; descs = append(descs, d) }
		for range 3000 {
			i := random.IntN(2)
			s, k := sockets[i], kernels[i]
			switch random.IntN(10) {
			case 0:
				batch := make([]Desc, random.IntN(6))
				for _, d := range batch[:s.Receive(batch)] {
					take(d)
				}
			case 1:
				s.Fill()
			case 2, 3:
				n := min(random.IntN(8), len(descs))
				batch := descs[len(descs)-n:]
				for j := range batch {
					batch[j].Options = 0
					if s.multiBuffer && j < n-1 && random.IntN(3) == 0 {
						batch[j].Options = Continued
					}
					switch random.IntN(12) {
					case 0:
						batch[j].Len = 0
					case 1:
						batch[j].Len = 5000
					default:
						batch[j].Len = 64
					}
				}
				sent := s.Send(batch)
				for _, d := range batch[:sent] {
					delete(caller, u.FrameBase(d.Addr))
				}
				descs = append(descs[:len(descs)-n], batch[sent:]...)
			case 4:
				_ = s.Kick() // any outcome: that no frame is lost is what counts here
			case 5:
				s.Reclaim()
			case 6:
				addrs := make([]uint64, random.IntN(4))
				for _, addr := range addrs[:u.Alloc(addrs)] {
					take(Desc{Addr: addr + 256, Len: 64})
				}
			case 7:
				if len(descs) > 0 {
					d := descs[len(descs)-1]
					descs = descs[:len(descs)-1]
					delete(caller, u.FrameBase(d.Addr))
					u.Free(d.Addr)
				}
			case 8:
				for range random.IntN(8) {
					k.receive([]byte("packet"))
				}
				k.complete(random.IntN(8))
			case 9:
				if random.IntN(100) == 0 {
					k.transmit(99)
					k.complete(99) // Close would wait for these
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					open(i)
				}
			}
			wantConserved(t, u, kernels, caller)
		}
		for _, d := range descs {
			u.Free(d.Addr)
		}
		for i, s := range sockets {
			kernels[i].complete(99)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		wantCensus(t, u, Census{Pool: u.Frames()})
	}
}

func TestFillLeavesTheReserve(t *testing.T) {
	u := heapUMEM(t, 16)
	u.options.Reserve = 6
	s, _ := newSimSocket(t, u, SocketOptions{FillSize: 16}, 0)
	if n := s.Fill(); n != 10 {
		t.Errorf("fill took %d frames, want 10", n)
	}
	if n := u.Alloc(make([]uint64, 16)); n != 6 {
		t.Errorf("%d frames were left, want 6", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFillWakesAKernelThatWaits(t *testing.T) {
	u := heapUMEM(t, 16)
	s, k := newSimSocket(t, u, SocketOptions{FillSize: 8}, 0)
	wakes := 0
	s.wake = func(int) unix.Errno { wakes++; k.fill.flags.Store(0); return 0 }
	if s.Fill(); wakes != 0 {
		t.Error("a kernel that does not wait was woken")
	}
	k.fill.flags.Store(unix.XDP_RING_NEED_WAKEUP)
	if n := s.Fill(); n != 0 || wakes != 1 {
		t.Errorf("fill added %d frames and woke %d times, want 0 and 1", n, wakes)
	}
	for k.fill.entries() > 0 { // the kernel takes all and gives nothing back
		k.fill.consumer.Add(1)
	}
	k.fill.flags.Store(unix.XDP_RING_NEED_WAKEUP)
	frames := make([]uint64, 16)
	frames = frames[:u.Alloc(frames)] // there is none to fill with
	if s.Fill(); wakes != 1 {
		t.Error("the kernel was woken for an empty fill ring")
	}
	for _, addr := range frames {
		u.Free(addr)
	}
	if n := s.Fill(); n != 8 || wakes != 2 {
		t.Errorf("fill added %d frames and woke %d times, want 8 and 2", n, wakes)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestBusyPollingReceiveAsksTheKernel(t *testing.T) {
	u := heapUMEM(t, 16)
	s, k := newSimSocket(t, u, SocketOptions{FillSize: 8, BusyPoll: time.Microsecond}, 0)
	s.wake = func(int) unix.Errno { k.receive([]byte("polled")); return 0 }
	s.Fill()
	var batch [4]Desc
	if n := s.Receive(batch[:]); n != 1 || batch[0].Len != 6 || batch[0].Addr%2048 != KernelHeadroom {
		t.Errorf("received %d packets, the first %+v", n, batch[0])
	}
	u.Free(batch[0].Addr)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
