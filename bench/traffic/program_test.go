package traffic

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sluicegw/sluice/internal/testenv"
)

// The programs run here on single packets, without an interface.

const (
	xdpDrop     = 1
	xdpPass     = 2
	xdpRedirect = 4
)

// The page has garbage in it wherever a receiver may have left some; what comes out is what user space would have made.
func TestEveryHeaderIsWrittenOnEveryRun(t *testing.T) {
	testenv.RequireRoot(t)
	for name, f := range flows() {
		for _, payload := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				f.First = 11
				g := &Generator{options: Options{Flow: f, Payload: payload}, ifindex: 1}
				if err := g.loadFlow(); err != nil {
					t.Fatal(err)
				}
				defer closing(t, g)
				if _, err := g.arm(time.Hour); err != nil {
					t.Fatal(err)
				}
				f := f.withDefaults()
				r := rand.New(rand.NewPCG(1, 2))
				schedule, sequences := f.schedule(), make(map[int]uint32)
				var before uint64
				for n := range 1600 {
					page := make([]byte, g.longest)
					dirty := page
					if !payload {
						dirty = page[:f.offsets().stamp+stampLen]
					}
					for i := range dirty {
						dirty[i] = byte(r.Uint32())
					}
					out := runOnce(t, g.program, page, xdpRedirect)
					flow := f.First + n%f.Flows
					size := f.Sizes[schedule[n%scheduleLen]].Size
					at := binary.NativeEndian.Uint64(out[f.offsets().stamp+8:])
					want := f.frame(stamp{flow: uint16(flow), seq: sequences[flow], time: at}, size)
					sequences[flow]++
					if !bytes.Equal(out, want) {
						t.Fatalf("packet %d:\n got %x\nwant %x", n, out, want)
					}
					if at <= before {
						t.Fatalf("packet %d has time %d, the one before %d", n, at, before)
					}
					before = at
				}
				if sent, err := g.Sent(); err != nil || sent.Packets != 1600 {
					t.Errorf("%+v after 1600 packets, %v", sent, err)
				}
			})
		}
	}
}

// runOnce runs a program on a packet and returns what became of it.
func runOnce(t testing.TB, p *ebpf.Program, in []byte, want uint32) []byte {
	t.Helper()
	opts := ebpf.RunOptions{Data: in, DataOut: make([]byte, len(in)+256), Repeat: 1}
	action, err := p.Run(&opts)
	if err != nil {
		t.Fatal(err)
	}
	if action != want {
		t.Fatalf("action %d, want %d", action, want)
	}
	return opts.DataOut
}

// looseSink is a sink without an interface.
func looseSink(t testing.TB, o SinkOptions) *Sink {
	t.Helper()
	testenv.RequireRoot(t)
	s, err := loadedSink(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closing(t, s) })
	return s
}

func monotonic(t testing.TB) uint64 {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return uint64(now.Nano())
}

func TestSinkFindsTheStampInEveryFormat(t *testing.T) {
	s := looseSink(t, SinkOptions{SumEvery: 1})
	for name, f := range flows() {
		t.Run(name, func(t *testing.T) {
			f := f.withDefaults()
			if err := s.Reset(); err != nil {
				t.Fatal(err)
			}
			var bytes, inner uint64
			for i := range 30 {
				size := []int{77, 594, 1420}[i%3]
				b := f.frame(stamp{flow: uint16(i % 10), seq: uint32(i / 10), time: monotonic(t)}, size)
				bytes, inner = bytes+uint64(len(b)), inner+uint64(size)
				runOnce(t, s.objs.Sink, b, xdpDrop)
			}
			c := read(t, s)
			c.First, c.Last, c.Silence = 0, 0, 0
			if want := (Counts{Packets: 30, Bytes: bytes, InnerBytes: inner, Summed: 30}); c != want {
				t.Errorf("%+v, want %+v", c, want)
			}
			if h, err := s.Latency(); err != nil || h.Count != 30 || h.Max > time.Second {
				t.Errorf("%d latencies up to %v, %v", h.Count, h.Max, err)
			}
		})
	}
}

func TestSinkLooksBehindATag(t *testing.T) {
	s := looseSink(t, SinkOptions{})
	b := Flow{Inner: inner4}.withDefaults().frame(stamp{}, 64)
	tagged := append(append(bytes.Clone(b[:12]), 0x81, 0x00, 0x00, 0x05), b[12:]...)
	runOnce(t, s.objs.Sink, tagged, xdpDrop)
}

func TestSinkSeesDamage(t *testing.T) {
	s := looseSink(t, SinkOptions{SumEvery: 1})
	for name, f := range flows() {
		f := f.withDefaults()
		o := f.offsets()
		for damage, c := range map[string]struct {
			at        int
			malformed bool
		}{
			"in the payload":           {at: o.stamp + stampLen + 20},
			"in the last byte":         {at: o.ip + 594},
			"in the stamp's time":      {at: o.stamp + 9},
			"in the inner address":     {at: o.udp - 1},
			"in the udp length":        {at: o.udp + 5, malformed: true},
			"in the udp checksum":      {at: o.udp + 6},
			"in the inner source port": {at: o.udp},
			"in the time to live":      {at: o.ip + 8},
		} {
			if f.Inner.Src.Is6() && c.at == o.ip+8 {
				continue // IPv6 headers have no sum
			}
			t.Run(name+" "+damage, func(t *testing.T) {
				if err := s.Reset(); err != nil {
					t.Fatal(err)
				}
				b := f.frame(stamp{}, 595)
				b[c.at] ^= 0x04
				runOnce(t, s.objs.Sink, b, xdpDrop)
				got := read(t, s)
				if c.malformed && got.Malformed == 0 || !c.malformed && got.BadSums != 1 {
					t.Errorf("not seen: %+v", got)
				}
			})
		}
	}
}

func TestSinkLeavesWhatIsNotOursToTheKernel(t *testing.T) {
	s := looseSink(t, SinkOptions{})
	plain := Flow{Inner: inner4}.withDefaults()
	stamped := plain.frame(stamp{}, 64)
	arp := make([]byte, 60)
	arp[12], arp[13] = 0x08, 0x06
	noStamp := bytes.Clone(stamped)
	noStamp[plain.offsets().stamp] = 0
	fragment := bytes.Clone(stamped)
	fragment[20] = 0x20
	for name, b := range map[string][]byte{
		"arp": arp, "udp without a stamp": noStamp, "a fragment": fragment, "a cut packet": stamped[:50],
		"a handshake": sealed(1, 148-32, 0), "a keepalive": sealed(4, 0, 0),
	} {
		before := read(t, s)
		runOnce(t, s.objs.Sink, b, xdpPass)
		if after := read(t, s); after.Passed != before.Passed+1 || after.Packets != 0 {
			t.Errorf("%s: %+v", name, after)
		}
	}
}

// sealed is a message that looks like WireGuard's.
func sealed(kind byte, payload int, counter uint64) []byte {
	f := Flow{Inner: Layer{Src: outer4.Src, Dst: outer4.Dst, SrcPort: 51820, DstPort: 51820}}.withDefaults()
	b := f.frame(stamp{}, 28+32+payload)
	m := b[f.offsets().stamp:]
	clear(m)
	m[0], m[4] = kind, 9
	binary.LittleEndian.PutUint64(m[8:], counter)
	return b
}

func TestSinkFollowsSealedMessages(t *testing.T) {
	s := looseSink(t, SinkOptions{})
	for _, counter := range []uint64{7, 8, 10, 9, 10} {
		runOnce(t, s.objs.Sink, sealed(4, 64, counter), xdpDrop)
	}
	c := read(t, s)
	if c.Packets != 5 || c.Sealed != 5 || c.Gaps != 1 || c.Missing != 0 || c.Reordered != 1 || c.Duplicates != 1 || c.InnerBytes != 5*64 {
		t.Errorf("%+v", c)
	}
}

// The slow twin remembers every number.
func TestSequencesAreJudgedAsByASlowTwin(t *testing.T) {
	f := Flow{Inner: inner4, Flows: 4}.withDefaults()
	s := looseSink(t, SinkOptions{SumEvery: -1})
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		if err := s.Reset(); err != nil {
			t.Fatal(err)
		}
		var want Counts
		seen := make([]map[uint32]bool, f.Flows)
		next := make([]uint32, f.Flows)
		for i := range seen {
			seen[i] = make(map[uint32]bool)
			next[i] = math.MaxUint32 - 50 - uint32(r.IntN(50)) // the number wraps
		}
		for range 500 {
			flow := r.IntN(f.Flows)
			seq := next[flow]
			switch r.IntN(8) {
			case 0:
				seq += uint32(r.IntN(100))
			case 1:
				seq -= uint32(1 + r.IntN(200))
			case 2:
				seq -= 1
			}
			if r.IntN(100) == 0 {
				seq += 5000 // past the whole window
			}
			runOnce(t, s.objs.Sink, f.frame(stamp{flow: uint16(flow), seq: seq}, 64), xdpDrop)
			want.Packets++
			if ahead := int32(seq - next[flow]); len(seen[flow]) == 0 || ahead >= 0 {
				if len(seen[flow]) > 0 && ahead > 0 {
					want.Gaps++
					want.Missing += uint64(ahead)
				}
				next[flow] = seq + 1
			} else if ((next[flow]-1)/64-seq/64)%(1<<26) >= 16 {
				want.Late++
			} else if seen[flow][seq] {
				want.Duplicates++
			} else {
				want.Reordered++
				want.Missing--
			}
			seen[flow][seq] = true
		}
		got := read(t, s)
		got = Counts{Packets: got.Packets, Gaps: got.Gaps, Missing: got.Missing, Reordered: got.Reordered, Duplicates: got.Duplicates, Late: got.Late}
		if got != want {
			t.Fatalf("seed %d: %+v, want %+v", seed, got, want)
		}
	}
}

func TestWhatIsTooLateIsCountedAsSuch(t *testing.T) {
	f := Flow{Inner: inner4}.withDefaults()
	s := looseSink(t, SinkOptions{})
	for _, seq := range []uint32{0, 5000, 1} {
		runOnce(t, s.objs.Sink, f.frame(stamp{seq: seq}, 64), xdpDrop)
	}
	if c := read(t, s); c.Late != 1 || c.Gaps != 1 || c.Missing != 4999 {
		t.Errorf("%+v", c)
	}
}

func TestLatencyIsWhatPassedSinceTheStamp(t *testing.T) {
	f := Flow{Inner: inner4}.withDefaults()
	s := looseSink(t, SinkOptions{})
	for _, late := range []time.Duration{time.Microsecond, time.Millisecond, 100 * time.Millisecond, 100 * time.Second} {
		if err := s.Reset(); err != nil {
			t.Fatal(err)
		}
		runOnce(t, s.objs.Sink, f.frame(stamp{time: monotonic(t) - uint64(late)}, 64), xdpDrop)
		h, err := s.Latency()
		if err != nil || h.Count != 1 {
			t.Fatalf("%d packets, %v", h.Count, err)
		}
		// The test itself may be held up; the packet cannot be early.
		if h.Min < late || h.Min != h.Max || h.Mean() != h.Min || h.Quantile(0.5) != h.Min {
			t.Errorf("%v late: min %v, max %v, mean %v, median %v", late, h.Min, h.Max, h.Mean(), h.Quantile(0.5))
		}
		if late >= time.Millisecond && h.Min > late+late/2+50*time.Millisecond {
			t.Errorf("%v late: %v", late, h.Min)
		}
	}
	runOnce(t, s.objs.Sink, f.frame(stamp{time: monotonic(t) + 1e9}, 64), xdpDrop)
	if h, err := s.Latency(); err != nil || h.Min != 0 {
		t.Errorf("from the future: %v, %v", h.Min, err)
	}
}
