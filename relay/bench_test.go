package relay

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/relaytest"
	"github.com/sluicegw/sluice/relay/wireguard/aead"
)

// The whole path of one worker, both ways, in memory: from the receive ring of
// one port to the transmit ring of another. Each benchmark seals or opens the
// same bytes with the bare cipher too, batch by batch in turns, and reports the
// difference, because on a shared machine only what is measured together
// compares.
//
//	go test -run=- -bench=Path -benchtime=2s ./relay
//
// ns/packet is the path with the cipher, cipher-ns the bare cipher on as many
// bytes, own-ns the rest: rings in memory, stages, WireGuard's bookkeeping.

var benchSizes = []int{64, 512, 1420}

func BenchmarkPathOut(b *testing.B) {
	for _, place := range []int{atRouted, atVXLAN4, atGeneve4} {
		for _, size := range benchSizes {
			b.Run(benchName(place, size), func(b *testing.B) { benchmarkOut(b, place, size, 4) })
		}
	}
}

func BenchmarkPathIn(b *testing.B) {
	for _, place := range []int{atRouted, atVXLAN4, atGeneve4} {
		for _, size := range benchSizes {
			b.Run(benchName(place, size), func(b *testing.B) { benchmarkIn(b, place, size, 4) })
		}
	}
}

// The same for IPv6 inside, and outside too where there is an overlay.
func BenchmarkSixPathOut(b *testing.B) {
	for _, place := range []int{atRouted, atVXLAN6, atGeneve6} {
		for _, size := range benchSizes {
			b.Run(benchName(place, size), func(b *testing.B) { benchmarkOut(b, place, size, 6) })
		}
	}
}

func BenchmarkSixPathIn(b *testing.B) {
	for _, place := range []int{atRouted, atVXLAN6, atGeneve6} {
		for _, size := range benchSizes {
			b.Run(benchName(place, size), func(b *testing.B) { benchmarkIn(b, place, size, 6) })
		}
	}
}

func benchName(place, size int) string {
	vpc := "red"
	if place == atRouted {
		vpc = "default"
	}
	return fmt.Sprintf("%s %s/%d", placeName(place), vpc, size)
}

// benchPackets are a batch of packets of 64 flows, of this many bytes each.
func benchPackets(place, size, version int) (v vpcName, ifindex uint32, frames [][]byte) {
	v = red
	if place == atRouted {
		v = defaultVPC
	}
	headers := packet.IPv4Len + packet.UDPLen
	if version == 6 {
		headers = packet.IPv6Len + packet.UDPLen
	}
	for i := range batchSize {
		size := min(size, 1400) // what fits the path of a VPC in Geneve
		if place == atRouted {
			size = min(1420, size)
		}
		inner := udpPacket(v.host(1, place, version), v.host(2, place, version), 64, 0, uint16(1000+i), 2000, make([]byte, size-headers))
		var b []byte
		ifindex, b = fromHost(v, 1, place, inner)
		frames = append(frames, b)
	}
	return v, ifindex, frames
}

func benchmarkOut(b *testing.B, place, size, version int) {
	p := newPair(b, gatewayOptions{})
	p.connect(b)
	_, ifindex, frames := benchPackets(place, size, version)
	in, out := p.a.queues[0][ifindex], p.a.queues[0][wanPort]
	w := p.a.relay.workers[0]
	plain := min(size, 1400) + 36 // Geneve between tunnel addresses
	if place == atRouted {
		plain = size
	}
	bare := newBareCipher((plain + 15) &^ 15)
	run := func() {
		w.turn()
		if n := out.Discard(); n != batchSize {
			b.Fatalf("%d packets sent: %v", n, nonzero(p.a.relay.Counters()))
		}
	}
	measure(b, in, func() [][]byte { return frames }, run, bare.seal)
}

func benchmarkIn(b *testing.B, place, size, version int) {
	p := newPair(b, gatewayOptions{})
	p.connect(b)
	_, ifindex, frames := benchPackets(place, size, version)
	out := uint32(sitePort)
	if place == atRouted {
		out = hostPort
	}
	w := p.b.relay.workers[0]
	// A message can be opened once, so site 1 seals what follows, some batches
	// at a time (all within the replay window) and outside the measured time.
	in := p.b.queues[0][wanPort]
	const ahead = 32
	var messages [][]byte
	garbage := 0
	seal := func() {
		messages = messages[:0]
		if garbage++; garbage%64 == 0 {
			runtime.GC()
		}
		for range ahead {
			for _, f := range frames {
				p.a.queues[0][ifindex].Inject(f)
			}
			p.a.turn()
			messages = append(messages, p.a.queues[0][wanPort].Collect()...)
		}
	}
	seal()
	bare := newBareCipher(len(messages[0]) - 14 - 20 - 8 - 32)
	var path, cipher []time.Duration
	packets := 0
	defer calm()()
	b.ResetTimer()
	for packets < b.N {
		if len(messages) == 0 {
			seal()
		}
		for _, m := range messages[:batchSize] {
			in.Inject(m)
		}
		messages = messages[batchSize:]
		bare.seal()
		start := time.Now()
		w.turn()
		path = append(path, time.Since(start))
		if n := p.b.queues[0][out].Discard(); n != batchSize {
			b.Fatalf("%d packets delivered: %v", n, nonzero(p.b.relay.Counters()))
		}
		start = time.Now()
		bare.open()
		cipher = append(cipher, time.Since(start))
		packets += batchSize
	}
	b.StopTimer()
	report(b, path, cipher)
}

// measure runs batches through the path and, in turns, through the bare cipher.
func measure(b *testing.B, in *relaytest.Queue, batch func() [][]byte, run, bare func()) {
	var path, cipher []time.Duration
	packets := 0
	defer calm()()
	b.ResetTimer()
	for packets < b.N {
		for _, f := range batch() {
			in.Inject(f)
		}
		start := time.Now()
		run()
		middle := time.Now()
		bare()
		path, cipher = append(path, middle.Sub(start)), append(cipher, time.Since(middle))
		packets += batchSize
	}
	b.StopTimer()
	report(b, path, cipher)
}

// calm keeps the garbage collector away: while it marks, every pointer that is
// stored costs more (100 ns a packet in all), and it marks most of the time when a
// test makes garbage. What it returns lets it come back.
func calm() (restore func()) {
	runtime.GC()
	percent := debug.SetGCPercent(-1)
	return func() { debug.SetGCPercent(percent) }
}

// report gives medians over the batches: a batch that the machine was taken
// away in says nothing.
func report(b *testing.B, path, cipher []time.Duration) {
	slices.Sort(path)
	slices.Sort(cipher)
	p, c := float64(path[len(path)/2])/batchSize, float64(cipher[len(cipher)/2])/batchSize
	b.ReportMetric(p, "ns/packet")
	b.ReportMetric(c, "cipher-ns")
	b.ReportMetric(p-c, "own-ns")
	b.ReportMetric(0, "ns/op") // b.N counts packets, and that time has the test's own copies in it
}

// bareCipher seals and opens a batch of messages with nothing around it.
type bareCipher struct {
	cipher aead.Cipher
	key    aead.Key
	ops    [batchSize]aead.Op
	memory []byte
	size   int
	nonce  uint64
}

func newBareCipher(size int) *bareCipher {
	c := &bareCipher{cipher: aead.Best(), memory: make([]byte, batchSize*2048)}
	c.key.Set(&[aead.KeySize]byte{1})
	c.resize(size)
	return c
}

func (c *bareCipher) resize(size int) {
	c.size = size
	for i := range c.ops {
		c.ops[i].Key = &c.key
		c.ops[i].Data = c.memory[i*2048 : i*2048+size : (i+1)*2048]
	}
}

// seal seals a batch of plaintexts.
func (c *bareCipher) seal() {
	for i := range c.ops {
		c.nonce++
		c.ops[i].Nonce = c.nonce
		c.ops[i].Data = c.ops[i].Data[:c.size]
	}
	c.cipher.Seal(c.ops[:])
}

// open opens the batch that seal has made.
func (c *bareCipher) open() { c.cipher.Open(c.ops[:]) }
