package afxdp

import (
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkForwardInMemory is what a forwarder spends in this package, batch by batch, on rings whose other
// side costs next to nothing: the frames do not change hands, only the indexes move.
func BenchmarkForwardInMemory(b *testing.B) {
	u, err := NewHeapUMEM(UMEMOptions{})
	if err != nil {
		b.Fatal(err)
	}
	in, inKernel := newSimSocket(b, u, SocketOptions{}, 0)
	out, outKernel := newSimSocket(b, u, SocketOptions{}, 0)
	const size = 64
	received := func() { // the next frames of the fill ring hold packets now
		cons, prod := inKernel.fill.consumer.Load(), inKernel.rx.producer.Load()
		for i := range uint32(size) {
			inKernel.rx.descs[(prod+i)%inKernel.rx.size] = Desc{Addr: inKernel.fill.addrs[(cons+i)%inKernel.fill.size] + 256, Len: 60}
		}
		inKernel.fill.consumer.Store(cons + size)
		inKernel.rx.producer.Store(prod + size)
	}
	out.kick = func(int) unix.Errno {
		cons, prod := outKernel.tx.consumer.Load(), outKernel.completion.producer.Load()
		n := outKernel.tx.entries()
		for i := range n {
			outKernel.completion.addrs[(prod+i)%outKernel.completion.size] = outKernel.tx.descs[(cons+i)%outKernel.tx.size].Addr
		}
		outKernel.tx.consumer.Store(cons + n)
		outKernel.completion.producer.Store(prod + n)
		return 0
	}
	in.Fill()
	batch := make([]Desc, size)
	b.ReportAllocs()
	for b.Loop() {
		received()
		n := in.Receive(batch)
		in.Fill()
		if out.Send(batch[:n]) != size {
			b.Fatal("not all were taken")
		}
		if err := out.Kick(); err != nil {
			b.Fatal(err)
		}
		out.Reclaim()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/size, "ns/packet")
	if u.Misuses() != 0 {
		b.Error("frames were misused")
	}
	for _, s := range []*Socket{in, out} {
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
