package afxdp

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestDescHasTheKernelsLayout(t *testing.T) {
	var ours Desc
	var kernel unix.XDPDesc
	if a, b := unsafe.Sizeof(ours), unsafe.Sizeof(kernel); a != b {
		t.Errorf("Desc has %d bytes, struct xdp_desc %d", a, b)
	}
	if a, b := unsafe.Alignof(ours), unsafe.Alignof(kernel); a != b {
		t.Errorf("Desc is aligned to %d, struct xdp_desc to %d", a, b)
	}
	for _, field := range []struct {
		name         string
		ours, kernel uintptr
	}{
		{"addr", unsafe.Offsetof(ours.Addr), unsafe.Offsetof(kernel.Addr)},
		{"len", unsafe.Offsetof(ours.Len), unsafe.Offsetof(kernel.Len)},
		{"options", unsafe.Offsetof(ours.Options), unsafe.Offsetof(kernel.Options)},
	} {
		if field.ours != field.kernel {
			t.Errorf("%s is at %d, in struct xdp_desc at %d", field.name, field.ours, field.kernel)
		}
	}
}

func TestViewsStayInsideTheirMemory(t *testing.T) {
	mem := newAlignedBytes(64)
	for name, view := range map[string]func(){
		"an index behind the end":             func() { viewUint32(mem, 64) },
		"an index across the end":             func() { viewUint32(mem[:62], 60) },
		"an index that is not aligned":        func() { viewUint32(mem, 2) },
		"addresses across the end":            func() { viewAddrs(mem, 8, 8) },
		"addresses that are not aligned":      func() { viewAddrs(mem, 4, 1) },
		"descriptors across the end":          func() { viewDescs(mem, 0, 5) },
		"descriptors at an offset that wraps": func() { viewDescs(mem, ^uint64(7), 1) },
		"no entries":                          func() { viewAddrs(mem, 0, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("the view was made")
				}
			}()
			view()
		})
	}
	if n := len(viewDescs(mem, 0, 4)); n != 4 {
		t.Errorf("a view that fits has %d entries", n)
	}
}

// starts are first indexes: the rings wrap at 2^32 within a few steps of the last ones.
var starts = []uint32{0, 1, 1<<31 - 3, 1<<32 - 1, 1<<32 - 5}

func TestRingIsFullAndEmptyAtTheRightPlaces(t *testing.T) {
	const size = 4
	for _, start := range starts {
		t.Run(fmt.Sprint("from ", start), func(t *testing.T) {
			mem, at := newAlignedBytes(bytesInMemory(size)), offsetsInMemory()
			viewUint32(mem, at.Producer).Store(start)
			viewUint32(mem, at.Consumer).Store(start)
			p, c := newAddrRing(mem, at, size), newAddrRing(mem, at, size)
			if n := c.ready(8); n != 0 {
				t.Fatalf("an empty ring has %d entries", n)
			}
			next, want := uint64(0), uint64(0)
			for range 3 * size {
				if n := p.room(8); n != size {
					t.Fatalf("an empty ring has room for %d", n)
				}
				for range size {
					p.entries[p.prod&p.mask] = next
					p.prod++
					next++
				}
				if n := c.ready(8); n != 0 {
					t.Fatalf("%d entries are seen before they are published", n)
				}
				p.publish()
				if n := p.room(1); n != 0 {
					t.Fatalf("a full ring has room for %d", n)
				}
				if n := c.ready(3); n != 3 {
					t.Fatalf("%d of 3 entries are ready", n)
				}
				for range size {
					if got := c.entries[c.cons&c.mask]; got != want {
						t.Fatalf("entry is %d, want %d", got, want)
					}
					c.cons++
					want++
				}
				if n := p.room(1); n != 0 {
					t.Fatalf("there is room for %d before the slots are released", n)
				}
				c.release()
				if n := p.pending(); n != 0 {
					t.Fatalf("%d entries are pending in an empty ring", n)
				}
			}
		})
	}
}

// TestForwardsBesideAKernelOnAnotherThread has two kernels, each on a thread of its own, share rings and frames with a
// forwarder. Under -race this also proves that the indexes order all accesses to entries and frames.
func TestForwardsBesideAKernelOnAnotherThread(t *testing.T) {
	const packets = 10000
	for _, start := range starts {
		t.Run(fmt.Sprint("indexes from ", start), func(t *testing.T) {
			u := heapUMEM(t, 64)
			o := SocketOptions{RxSize: 16, TxSize: 8, FillSize: 16, CompletionSize: 8}
			in, inKernel := newSimSocket(t, u, o, start)
			out, outKernel := newSimSocket(t, u, o, start)
			outKernel.tx.flags.Store(0) // this kernel takes packets by itself

			go func() {
				payload := make([]byte, 8)
				for i := uint64(0); i < packets; {
					binary.LittleEndian.PutUint64(payload, i)
					if inKernel.receive(payload) {
						i++
					} else {
						runtime.Gosched()
					}
				}
			}()
			done := make(chan string, 1)
			go func() {
				want, problem := uint64(0), ""
				outKernel.sent = func(d Desc) {
					if got := binary.LittleEndian.Uint64(outKernel.mem[d.Addr:]); got != ^want || d.Len != 8 {
						problem = fmt.Sprintf("packet %d has payload %x and %d bytes", want, got, d.Len)
					}
					want++
				}
				for want < packets && problem == "" {
					outKernel.transmit(3)
					if outKernel.complete(2) == 0 {
						runtime.Gosched()
					}
				}
				outKernel.complete(len(outKernel.flying))
				done <- problem
			}()

			batch := make([]Desc, 5)
			in.Fill()
			for {
				n := in.Receive(batch)
				in.Fill()
				for i := range batch[:n] { // in place, as the relay does
					payload := u.Frame(batch[i].Addr)[batch[i].Addr-u.FrameBase(batch[i].Addr):]
					binary.LittleEndian.PutUint64(payload, ^binary.LittleEndian.Uint64(payload))
				}
				for rest := batch[:n]; len(rest) > 0; {
					n := out.Send(rest)
					if rest = rest[n:]; n == 0 {
						runtime.Gosched() // the kernel's turn
					}
					if err := out.Kick(); err != nil {
						t.Error(err)
					}
					out.Reclaim()
				}
				select {
				case problem := <-done:
					if problem != "" {
						t.Fatal(problem)
					}
					out.Reclaim()
					wantCensus(t, u, Census{Pool: 64 - 16, Rx: 16})
					for _, s := range []*Socket{in, out} {
						if err := s.Close(); err != nil {
							t.Fatal(err)
						}
					}
					wantCensus(t, u, Census{Pool: 64})
					return
				default:
					if n == 0 {
						runtime.Gosched()
					}
				}
				out.Reclaim()
			}
		})
	}
}
