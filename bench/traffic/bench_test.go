package traffic

import (
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/sluicegw/sluice/internal/testenv"
)

// benchFlows are the packets that figures are given for.
func benchFlows() []struct {
	name string
	flow Flow
} {
	with := func(f Flow, change func(*Flow)) Flow { change(&f); return f }
	plain := Flow{Inner: inner4, Flows: 1000}
	vxlan := Flow{Format: VXLAN, Inner: inner4, Outer: outer4, VNI: 100, VNIs: 16, Flows: 1000}
	return []struct {
		name string
		flow Flow
	}{
		{"plain 64", plain},
		{"plain 1420", with(plain, func(f *Flow) { f.Size = 1420 })},
		{"plain 64, 65536 flows", with(plain, func(f *Flow) { f.Flows = MaxFlows })},
		{"vxlan 64", vxlan},
		{"vxlan 1420", with(vxlan, func(f *Flow) { f.Size = 1420 })},
		{"vxlan imix", with(vxlan, func(f *Flow) { f.Sizes = IMIX() })},
		{"geneve over ipv6 64", with(vxlan, func(f *Flow) { f.Format, f.Inner, f.Outer = Geneve, inner6, outer6 })},
	}
}

// BenchmarkFlood sends as many packets as possible over a veth pair, on one CPU: the generator, the link, and at the other
// end either nothing but XDP_DROP or the sink. An op is a packet.
func BenchmarkFlood(b *testing.B) {
	for _, c := range benchFlows() {
		b.Run(c.name+" to drop", func(b *testing.B) {
			p := newPair(b)
			attachDrop(b, p)
			flood(b, p, c.flow, nil)
		})
		b.Run(c.name+" to sink", func(b *testing.B) {
			p := newPair(b)
			flood(b, p, c.flow, p.sink(b, SinkOptions{}))
		})
	}
}

func attachDrop(b *testing.B, p pair) {
	b.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpDrop), asm.Return()},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer program.Close()
	l, err := attach(p.b, p.bLink.Name, program, false)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { closing(b, l) })
}

func flood(b *testing.B, p pair, f Flow, s *Sink) {
	g := p.generator(b, Options{Flow: f, Count: uint64(b.N)})
	b.ResetTimer()
	sent := run(b, g, time.Hour)
	b.StopTimer()
	b.ReportMetric(float64(sent.Duration)/float64(b.N), "ns/op") // without the 20 ms in which the kernel prepares
	b.ReportMetric(sent.Rate(), "pps")
	if s == nil {
		return
	}
	if c := read(b, s); c.Packets+sent.Refused < sent.Packets || c.BadSums+c.Malformed+c.Duplicates+c.Reordered > 0 {
		b.Errorf("sent %+v, arrived %+v", sent, c)
	}
}

// BenchmarkPrograms runs each program alone, on a packet that stays where it is: no link, no page that changes.
func BenchmarkPrograms(b *testing.B) {
	testenv.RequireRoot(b)
	for _, c := range benchFlows() {
		b.Run("generator "+c.name, func(b *testing.B) {
			if len(c.flow.Sizes) > 0 {
				b.Skip("the packet would have to become longer again")
			}
			g := &Generator{options: Options{Flow: c.flow}, ifindex: 1}
			if err := g.loadFlow(); err != nil {
				b.Fatal(err)
			}
			defer closing(b, g)
			if _, err := g.arm(time.Hour); err != nil {
				b.Fatal(err)
			}
			alone(b, g.program, make([]byte, g.longest))
		})
		for name, every := range map[string]int{"": -1, ", all sums": 1} {
			b.Run("sink "+c.name+name, func(b *testing.B) {
				s := looseSink(b, SinkOptions{SumEvery: every})
				f := c.flow.withDefaults()
				alone(b, s.objs.Sink, f.frame(stamp{time: monotonic(b)}, f.Sizes[0].Size))
			})
		}
	}
}

func alone(b *testing.B, p *ebpf.Program, in []byte) {
	b.ResetTimer()
	_, each, err := p.Benchmark(in, min(b.N, math.MaxInt32), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(each), "ns/op")
}

// BenchmarkReplay sends frames that are in memory, to XDP_DROP.
func BenchmarkReplay(b *testing.B) {
	for _, size := range []int{64, 1420} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			p := newPair(b)
			attachDrop(b, p)
			f := Flow{Inner: inner4}.withDefaults()
			row := make([]Frame, 1<<16)
			for i := range row {
				row[i].Data = f.frame(stamp{seq: uint32(i)}, size)
			}
			frames, err := NewFrames(row)
			if err != nil {
				b.Fatal(err)
			}
			defer closing(b, frames)
			g := p.generator(b, Options{Frames: frames, Loop: true, Count: uint64(b.N)})
			b.ResetTimer()
			sent := run(b, g, time.Hour)
			b.ReportMetric(float64(sent.Duration)/float64(b.N), "ns/op")
			b.ReportMetric(sent.Rate(), "pps")
		})
	}
}

// BenchmarkSeal makes messages for the decrypt side, with their memory.
func BenchmarkSeal(b *testing.B) {
	_, _, peer := newTunnel(b, "192.0.2.1", "192.0.2.2")
	for _, size := range []int{64, 1420} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			for done := 0; done < b.N; {
				n := min(b.N-done, 100_000)
				frames, err := peer.Seal(SealOptions{Flow: Flow{Inner: inner4, Size: size}, Count: n})
				if err != nil {
					b.Fatal(err)
				}
				closing(b, frames)
				done += n
			}
		})
	}
}
