package afxdp_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/sluicegw/sluice/afxdp"
)

func TestMain(m *testing.M) {
	if arguments, is := os.LookupEnv(memlockVariable); is {
		if err := openWithLimit(arguments); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func TestForwardsBetweenTwoDevicesOverOneUMEM(t *testing.T) {
	for name, o := range map[string]afxdp.SocketOptions{
		"with interrupts":   {},
		"with busy polling": {BusyPoll: 50 * time.Microsecond},
		"in copy mode":      {Mode: afxdp.Copy},
		"with small rings":  smallRings(),
		"with large rings":  {RxSize: 4096, TxSize: 4096, FillSize: 4096, CompletionSize: 8192, TxBudget: 256},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 1)
			u := b.umem(afxdp.UMEMOptions{Frames: 16384})
			left, right := b.open(u, b.leftPort, o), b.open(u, b.rightPort, o)
			if left.ZeroCopy() || right.ZeroCopy() {
				t.Error("veth has no zero-copy, but the socket says so")
			}
			for first := 0; first < 2000; first += 50 {
				b.inject(b.leftPacket, first, 50, 60)
				b.wantPackets(b.rightPacket, first, 50, 60, func() { b.forward(u, left, right) })
				b.inject(b.rightPacket, first, 50, 1514)
				b.wantPackets(b.leftPacket, first, 50, 1514, func() { b.forward(u, right, left) })
			}
			stats, err := left.Stats()
			if err != nil {
				t.Fatal(err)
			}
			if stats.RxNoFrame+stats.RxRingFull+stats.TxInvalid+stats.FillInvalid != 0 || stats.Kicks == 0 {
				t.Errorf("stats are %+v", stats)
			}
		})
	}
}

func TestEveryQueueHasItsSocket(t *testing.T) {
	b := newBench(t, 2)
	u := b.umem(afxdp.UMEMOptions{})
	var sockets []*afxdp.Socket
	for queue := range 2 {
		o := smallRings()
		o.Queue = queue
		sockets = append(sockets, b.open(u, b.leftPort, o), b.open(u, b.rightPort, o))
	}
	b.inject(b.leftPacket, 0, 30, 60)
	b.wantPackets(b.rightPacket, 0, 30, 60, func() {
		b.forward(u, sockets[0], sockets[3]) // in by queue 0, out by queue 1
		b.forward(u, sockets[2], sockets[3])
	})
}

func TestHeadroomIsInFrontOfEveryPacket(t *testing.T) {
	b := newBench(t, 1)
	u := b.umem(afxdp.UMEMOptions{Frames: 64, Headroom: 128})
	s := b.open(u, b.leftPort, smallRings())
	b.inject(b.leftPacket, 7, 1, 60)
	var batch [1]afxdp.Desc
	b.until("a packet is there", func() bool { return s.Receive(batch[:]) == 1 })
	d := batch[0]
	if room := d.Addr - u.FrameBase(d.Addr); room != afxdp.KernelHeadroom+128 {
		t.Errorf("there are %d bytes in front", room)
	}
	if got := u.Frame(d.Addr)[d.Addr-u.FrameBase(d.Addr):][:d.Len]; string(got) != string(packet(7, 60)) {
		t.Errorf("the packet is % x", got)
	}
	u.Free(d.Addr)
}

// TestSocketsDoNotNeedTheFirst closes the one that registered the UMEM.
func TestSocketsDoNotNeedTheFirst(t *testing.T) {
	b := newBench(t, 1)
	u := b.umem(afxdp.UMEMOptions{})
	left := b.open(u, b.leftPort, smallRings())
	right := b.open(u, b.rightPort, smallRings())
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	if err := u.Close(); err == nil || !strings.Contains(err.Error(), "1 sockets are still open") {
		t.Fatalf("the memory of a living socket was unmapped: %v", err)
	}
	left = b.open(u, b.leftPort, smallRings()) // shares the registration of the second
	b.inject(b.leftPacket, 0, 20, 60)
	b.wantPackets(b.rightPacket, 0, 20, 60, func() { b.forward(u, left, right) })
	for _, s := range []*afxdp.Socket{left, right} {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	left, right = b.open(u, b.leftPort, smallRings()), b.open(u, b.rightPort, smallRings()) // all anew
	b.inject(b.leftPacket, 20, 20, 60)
	b.wantPackets(b.rightPacket, 20, 20, 60, func() { b.forward(u, left, right) })
}

// TestSocketsOpenAfterTheFirstLostItsDevice has the first socket open, but unbound by the kernel.
func TestSocketsOpenAfterTheFirstLostItsDevice(t *testing.T) {
	b := newBench(t, 1)
	u := b.umem(afxdp.UMEMOptions{})
	left := b.open(u, b.leftPort, smallRings())
	b.leftPort.Delete()
	right := b.open(u, b.rightPort, smallRings())
	b.inject(b.rightPacket, 0, 20, 60)
	b.wantPackets(b.rightPacket, 0, 20, 60, func() { b.forward(u, right, right) })
	if left.FD() < 0 {
		t.Error("the first socket was closed")
	}
}

func TestInterfaceDownKeepsPacketsUntilItIsUp(t *testing.T) {
	b := newBench(t, 1)
	u := b.umem(afxdp.UMEMOptions{})
	right := b.open(u, b.rightPort, smallRings())
	b.rightPort.SetUp(false)
	b.send(u, right, 0, 10)
	for range 3 {
		if err := right.Kick(); !errors.Is(err, afxdp.ErrDown) {
			t.Fatalf("kick: %v, want %v", err, afxdp.ErrDown)
		}
	}
	if c := u.Census(); c.Tx != 10 {
		t.Errorf("frames are at %+v, want 10 to be sent", c)
	}
	b.rightPort.SetUp(true)
	b.wantPackets(b.rightPacket, 0, 10, 60, func() {
		if err := right.Kick(); err != nil {
			t.Fatal(err)
		}
	})
	b.until("all frames are back", func() bool { right.Reclaim(); return u.Census().Tx == 0 })
}

// TestNoCarrierDropsAndCompletes has the kernel answer EBUSY for every packet.
func TestNoCarrierDropsAndCompletes(t *testing.T) {
	b := newBench(t, 1)
	u := b.umem(afxdp.UMEMOptions{})
	right := b.open(u, b.rightPort, smallRings())
	b.rightEth.SetUp(false)
	b.send(u, right, 0, 50)
	if err := right.Kick(); err != nil {
		t.Fatal(err)
	}
	right.Reclaim()
	if c := u.Census(); c.Tx != 0 {
		t.Errorf("frames are at %+v, want none on the sending side", c)
	}
	if stats, err := right.Stats(); err != nil || stats.TxDropped != 50 {
		t.Errorf("%d packets are counted as dropped, want 50 (%v)", stats.TxDropped, err)
	}
	b.rightEth.SetUp(true)
	b.send(u, right, 50, 10)
	b.wantPackets(b.rightPacket, 50, 10, 60, func() {
		if err := right.Kick(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestDeletedInterfaceGivesEveryFrameBack(t *testing.T) {
	b := newBench(t, 1)
	u := b.umem(afxdp.UMEMOptions{})
	left, right := b.open(u, b.leftPort, smallRings()), b.open(u, b.rightPort, smallRings())
	b.inject(b.leftPacket, 0, 20, 60)
	b.wantPackets(b.rightPacket, 0, 20, 60, func() { b.forward(u, left, right) })
	b.send(u, right, 20, 10)
	b.rightEth.Delete() // and with it the port
	if err := right.Kick(); !errors.Is(err, afxdp.ErrGone) {
		t.Errorf("kick: %v, want %v", err, afxdp.ErrGone)
	}
	b.send(u, right, 30, 10)
	if err := right.Kick(); !errors.Is(err, afxdp.ErrGone) {
		t.Errorf("kick again: %v, want %v", err, afxdp.ErrGone)
	}
	right.Fill()
	if n := right.Receive(make([]afxdp.Desc, 4)); n != 0 {
		t.Errorf("%d packets were received on no interface", n)
	}
	if err := right.Close(); err != nil {
		t.Fatal(err)
	}
	if c, held := u.Census(), 64; c.Rx != held || c.Tx != 0 {
		t.Errorf("frames are at %+v, want only the left socket's %d", c, held)
	}
	b.inject(b.leftPacket, 0, 20, 60)
	b.wantPackets(b.leftPacket, 0, 20, 60, func() { b.forward(u, left, left) })
}

func TestFullTxRingIsEmptiedByKicks(t *testing.T) {
	b := newBench(t, 1)
	u := b.umem(afxdp.UMEMOptions{})
	right := b.open(u, b.rightPort, smallRings())
	b.send(u, right, 0, 64)
	if n := right.Send(make([]afxdp.Desc, 1)); n != 0 {
		t.Errorf("a full ring took %d", n)
	}
	// No Reclaim here: Kick must make room in the completion ring of 64 by itself.
	next := 64
	b.wantPackets(b.rightPacket, 0, 640, 60, func() {
		if err := right.Kick(); err != nil {
			t.Fatal(err)
		}
		if next < 640 && u.Census().Tx <= 64 {
			b.send(u, right, next, 64)
			next += 64
		}
	})
}

// send puts numbered packets into the TX ring, from frames of the pool.
func (b *bench) send(u *afxdp.UMEM, s *afxdp.Socket, first, n int) {
	b.t.Helper()
	addrs, descs := make([]uint64, n), make([]afxdp.Desc, n)
	if u.Alloc(addrs) != n {
		b.t.Fatal("no frames")
	}
	for i, addr := range addrs {
		descs[i] = afxdp.Desc{Addr: addr + 256, Len: uint32(copy(u.Frame(addr)[256:], packet(first+i, 60)))}
	}
	for len(descs) > 0 {
		sent := s.Send(descs)
		if descs = descs[sent:]; sent == 0 {
			if err := s.Kick(); err != nil {
				b.t.Fatal(err)
			}
			s.Reclaim()
		}
	}
}

func TestStatsNameWhatWasLost(t *testing.T) {
	b := newBench(t, 1)
	u := b.umem(afxdp.UMEMOptions{})
	o := smallRings()
	o.RxSize, o.FillSize = 32, 64
	left := b.open(u, b.leftPort, o)
	b.inject(b.leftPacket, 0, 100, 60)
	b.until("the RX ring is full", func() bool { stats, _ := left.Stats(); return stats.RxRingFull == 100-32 })
	batch := make([]afxdp.Desc, 64)
	if n := left.Receive(batch); n != 32 {
		t.Errorf("received %d of 32", n)
	}
	for _, d := range batch[:32] {
		u.Free(d.Addr)
	}
	// Without Fill 32 of the 64 frames are left. The kernel may have one of them in hand, for the packet that did not fit.
	var addrs []uint64
	b.inject(b.leftPacket, 0, 32, 60)
	b.until("all frames are used", func() bool {
		for _, d := range batch[:left.Receive(batch)] {
			addrs = append(addrs, d.Addr)
		}
		return u.Census().Rx == 0
	})
	b.inject(b.leftPacket, 0, 5, 60)
	b.until("packets without a frame are counted", func() bool {
		stats, err := left.Stats()
		return err == nil && stats.RxNoFrame == 5 && stats.FillRingEmpty > 0
	})
	for _, addr := range addrs {
		u.Free(addr)
	}
}

func TestPacketsLargerThanAFrame(t *testing.T) {
	b := newBench(t, 1)
	u := b.umem(afxdp.UMEMOptions{})
	o := smallRings()
	o.MultiBuffer = true
	left, right := b.open(u, b.leftPort, o), b.open(u, b.rightPort, o)
	const size = 2900
	b.inject(b.leftPacket, 0, 10, size)
	b.wantPackets(b.rightPacket, 0, 10, size, func() { b.forward(u, left, right) })
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	b := newBench(t, 1)
	u := b.umem(afxdp.UMEMOptions{})
	b.open(u, b.leftPort, smallRings())
	other := b.umem(afxdp.UMEMOptions{})
	heap, err := afxdp.NewHeapUMEM(afxdp.UMEMOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		umem   *afxdp.UMEM
		change func(*afxdp.SocketOptions)
		errno  error
		text   string
	}{
		{"zero-copy that the driver has not", u, func(o *afxdp.SocketOptions) { o.Mode = afxdp.ZeroCopy }, unix.EOPNOTSUPP, "driver has no zero-copy"},
		{"a queue that has a socket of the same UMEM", u, func(o *afxdp.SocketOptions) { o.Ifindex = b.leftPort.Index }, unix.EBUSY, "another socket has this queue"},
		{"a queue that has a socket of another UMEM", other, func(o *afxdp.SocketOptions) { o.Ifindex = b.leftPort.Index }, unix.EBUSY, "another socket has this queue"},
		{"a queue that does not exist", other, func(o *afxdp.SocketOptions) { o.Queue = 7 }, unix.EINVAL, "does the interface have this queue?"},
		{"an interface that does not exist", u, func(o *afxdp.SocketOptions) { o.Ifindex = 9999 }, unix.ENODEV, "open socket on ifindex 9999 queue 0"},
		{"Go memory", heap, func(*afxdp.SocketOptions) {}, afxdp.ErrInMemory, "Go memory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := smallRings()
			o.Ifindex = b.rightPort.Index
			c.change(&o)
			var s *afxdp.Socket
			var err error
			if doErr := b.gateway.Do(func() error { s, err = afxdp.Open(c.umem, o); return nil }); doErr != nil {
				t.Fatal(doErr)
			}
			if !errors.Is(err, c.errno) || !strings.Contains(fmt.Sprint(err), c.text) {
				t.Errorf("open: %v", err)
			}
			if err == nil {
				s.Close()
			}
		})
	}
}

func TestClosedIsClosed(t *testing.T) {
	b := newBench(t, 1)
	u := b.umem(afxdp.UMEMOptions{})
	s := b.open(u, b.leftPort, smallRings())
	b.inject(b.leftPacket, 0, 5, 60) // left in the RX ring
	b.until("packets are there", func() bool { return pollable(t, s.FD()) })
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	batch := make([]afxdp.Desc, 4)
	if n := s.Receive(batch) + s.Fill() + s.Send(batch) + s.Reclaim(); n != 0 {
		t.Errorf("a closed socket moved %d frames", n)
	}
	if _, err := s.Stats(); !errors.Is(err, afxdp.ErrClosed) {
		t.Errorf("stats: %v", err)
	}
	if err := s.Kick(); !errors.Is(err, afxdp.ErrClosed) {
		t.Errorf("kick: %v", err)
	}
	if s.FD() != -1 {
		t.Errorf("descriptor is %d", s.FD())
	}
}

func pollable(t *testing.T, fd int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n == 1
}

func TestHugePagesAreOptional(t *testing.T) {
	b := newBench(t, 1)
	u := b.umem(afxdp.UMEMOptions{Frames: 1000, HugePages: true}) // not a multiple of 2 MiB
	free, err := os.ReadFile("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.TrimSpace(string(free)); n == "0" && u.HugePages() {
		t.Error("the memory is on huge pages, of which none is reserved")
	}
	left, right := b.open(u, b.leftPort, smallRings()), b.open(u, b.rightPort, smallRings())
	b.inject(b.leftPacket, 0, 20, 60)
	b.wantPackets(b.rightPacket, 0, 20, 60, func() { b.forward(u, left, right) })
}
