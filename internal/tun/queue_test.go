package tun

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"

	wgtun "golang.zx2c4.com/wireguard/tun"

	"github.com/sluicegw/sluice/afxdp"
)

// kernel is a TUN device whose kernel is the test.
type kernel struct {
	wgtun.Device
	toRelay chan []byte
	got     chan []byte
	closed  chan struct{}
}

func newKernel() *kernel {
	return &kernel{toRelay: make(chan []byte), got: make(chan []byte, 10000), closed: make(chan struct{})}
}

func (k *kernel) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	select {
	case b := <-k.toRelay:
		if b == nil {
			return 0, wgtun.ErrTooManySegments
		}
		sizes[0] = copy(bufs[0][offset:], b)
		return 1, nil
	case <-k.closed:
		return 0, os.ErrClosed
	}
}

func (k *kernel) Write(bufs [][]byte, offset int) (int, error) {
	for _, b := range bufs {
		k.got <- bytes.Clone(b[offset:])
	}
	return len(bufs), nil
}

func (k *kernel) Close() error {
	close(k.closed)
	return nil
}

func newPort(t *testing.T, k *kernel, umems ...*afxdp.UMEM) *Port {
	t.Helper()
	p := start("test", 1, k, Options{UMEMs: umems, Notify: func() {}})
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		for i, u := range umems {
			if u.FreeCount() != u.Frames() || u.Misuses() != 0 {
				t.Errorf("worker %d: %d of %d frames are back, %d misuses", i, u.FreeCount(), u.Frames(), u.Misuses())
			}
		}
	})
	return p
}

func newUMEM(t *testing.T, frames int) *afxdp.UMEM {
	t.Helper()
	u, err := afxdp.NewHeapUMEM(afxdp.UMEMOptions{Frames: frames, Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// numbered is a packet that says which it is.
func numbered(i, length int) []byte {
	b := make([]byte, length)
	binary.BigEndian.PutUint32(b, uint32(i))
	return b
}

// send gives packets to the queue as a worker does; each is cut into pieces.
func send(t *testing.T, u *afxdp.UMEM, q *Queue, pieces ...[]byte) int {
	t.Helper()
	var descs []afxdp.Desc
	for i, b := range pieces {
		var base [1]uint64
		if u.Alloc(base[:]) == 0 {
			t.Fatal("no frame")
		}
		copy(u.Frame(base[0])[100:], b)
		d := afxdp.Desc{Addr: base[0] + 100, Len: uint32(len(b))}
		if i < len(pieces)-1 {
			d.Options = afxdp.Continued
		}
		descs = append(descs, d)
	}
	n := q.Send(descs)
	for _, d := range descs[n:] {
		u.Free(d.Addr)
	}
	if err := q.Kick(); err != nil {
		t.Fatal(err)
	}
	return n
}

// More packets than the rings hold go both ways, in order, and wait for each other.
func TestPacketsPassInOrder(t *testing.T) {
	const packets = 5 * ringSize
	u, k := newUMEM(t, 64), newKernel()
	q := newPort(t, k, u).Queue(0)
	go func() {
		for i := range packets {
			k.toRelay <- numbered(i, 4+i%1400)
		}
	}()
	var descs [48]afxdp.Desc
	deadline := time.Now().Add(30 * time.Second)
	for next, sent := 0, 0; next < packets || sent < packets; {
		if time.Now().After(deadline) {
			t.Fatalf("%d received, %d sent", next, sent)
		}
		for _, d := range descs[:q.Receive(descs[:])] {
			b := u.Frame(d.Addr)[d.Addr-u.FrameBase(d.Addr):][:d.Len]
			if want := numbered(next, 4+next%1400); !bytes.Equal(b, want) {
				t.Fatalf("packet %d is %x of %d bytes", next, b[:4], len(b))
			}
			next++
			u.Free(d.Addr)
		}
		if sent < packets {
			sent += send(t, u, q, numbered(sent, 4+sent%1400))
		}
	}
	for i := range packets {
		select {
		case b := <-k.got:
			if want := numbered(i, 4+i%1400); !bytes.Equal(b, want) {
				t.Fatalf("the kernel's packet %d is %x of %d bytes", i, b[:4], len(b))
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("the kernel got %d packets", i)
		}
	}
}

func TestAPacketOfSeveralFramesIsPutTogether(t *testing.T) {
	u, k := newUMEM(t, 64), newKernel()
	p := newPort(t, k, u)
	whole := bytes.Repeat([]byte("0123456789"), 200)
	if n := send(t, u, p.Queue(0), whole[:900], whole[900:1800], whole[1800:]); n != 3 {
		t.Fatalf("%d descriptors taken", n)
	}
	if got := <-k.got; !bytes.Equal(got, whole) {
		t.Errorf("got %d bytes", len(got))
	}
	// What no slot holds is lost as a whole, and counted.
	send(t, u, p.Queue(0), make([]byte, 1900), make([]byte, 1900))
	send(t, u, p.Queue(0), []byte("next"))
	if got := <-k.got; string(got) != "next" {
		t.Errorf("got %d bytes", len(got))
	}
	if toKernel, _ := p.Lost(); toKernel != 1 {
		t.Errorf("%d lost", toKernel)
	}
}

func TestAFullRingTowardsTheKernelTakesNoMore(t *testing.T) {
	u := newUMEM(t, 64)
	q := &Queue{umem: u, out: newRing(2048)} // nobody reads
	for i := range ringSize {
		if send(t, u, q, numbered(i, 4)) != 1 {
			t.Fatalf("packet %d was refused", i)
		}
	}
	if send(t, u, q, numbered(0, 4)) != 0 {
		t.Error("one more was taken")
	}
	if u.FreeCount() != u.Frames() {
		t.Errorf("%d of %d frames are free", u.FreeCount(), u.Frames())
	}
}

func TestWithoutAFrameAPacketWaits(t *testing.T) {
	u, k := newUMEM(t, 16), newKernel()
	q := newPort(t, k, u).Queue(0)
	frames := make([]uint64, 16)
	u.Alloc(frames)
	k.toRelay <- numbered(7, 8)
	k.toRelay <- nil // taken when the packet is in the ring
	var descs [4]afxdp.Desc
	if n := q.Receive(descs[:]); n != 0 {
		t.Fatalf("%d packets without a frame", n)
	}
	for _, f := range frames {
		u.Free(f)
	}
	if n := q.Receive(descs[:]); n != 1 || descs[0].Len != 8 {
		t.Fatalf("%d packets", n)
	}
	u.Free(descs[0].Addr)
}

func TestADeviceThatIsGoneIsTold(t *testing.T) {
	u, k := newUMEM(t, 16), newKernel()
	told := make(chan struct{}, 1)
	p := start("test", 1, k, Options{UMEMs: []*afxdp.UMEM{u}, Notify: func() { told <- struct{}{} }})
	close(k.closed)
	<-told
	if err := p.Err(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
	k.closed = make(chan struct{})
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func BenchmarkReceiveNothing(b *testing.B) {
	q := &Queue{in: newRing(64)}
	var descs [64]afxdp.Desc
	for b.Loop() {
		q.Receive(descs[:])
		q.Reclaim()
		q.Fill()
	}
}
