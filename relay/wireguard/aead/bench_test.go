package aead

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

// BenchmarkBest compares Best with Generic in one run: short turns of both in the
// order A B B A, so that whatever else the machine does falls on both, and the
// median over the quads. The batch is 64 packets, in place, one worker.
//
//	go test -run '^$' -bench Best -benchtime 50x ./relay/wireguard/aead
func BenchmarkBest(b *testing.B) {
	for _, direction := range []string{"seal", "open"} {
		for _, size := range []int{64, 128, 512, 1420, 8900} {
			b.Run(fmt.Sprintf("%s/%d", direction, size), func(b *testing.B) { compare(b, direction, size, 64) })
		}
	}
	for _, packets := range []int{1, 2, 3, 4, 8, 16, 24, 32} {
		for _, size := range []int{64, 1420} {
			b.Run(fmt.Sprintf("batch%d/%d", packets, size), func(b *testing.B) { compare(b, "seal", size, packets) })
		}
	}
	// 7 of 64 bytes, 4 of 512 and 1 of 1420 (an IMIX), in turn.
	b.Run("seal/mixed", func(b *testing.B) { compare(b, "seal", 0, 64) })
}

func compare(b *testing.B, direction string, size, packets int) {
	var key Key
	key.Set(new([KeySize]byte))
	ops := make([]Op, packets)
	sealed := make([][]byte, packets)
	frames := make([][]byte, packets)
	mix := []int{64, 512, 64, 64, 1420, 64, 512, 64, 512, 64, 64, 512}
	for i := range ops {
		n := size
		if n == 0 {
			n = mix[i%len(mix)]
		}
		frames[i] = make([]byte, n+Overhead)
		one := []Op{{Key: &key, Nonce: uint64(i), Data: frames[i][:n]}}
		Generic().Seal(one)
		sealed[i] = slices.Clone(one[0].Data)
	}
	turn := func(c Cipher) time.Duration {
		const packetsPerTurn = 2048
		var took time.Duration
		for range packetsPerTurn / packets {
			for i := range ops {
				ops[i] = Op{Key: &key, Nonce: uint64(i), Data: frames[i]}
				if direction == "seal" {
					ops[i].Data = frames[i][:len(frames[i])-Overhead]
				} else {
					copy(frames[i], sealed[i])
				}
			}
			start := time.Now()
			if direction == "seal" {
				c.Seal(ops)
			} else {
				c.Open(ops)
			}
			took += time.Since(start)
		}
		return took / (packetsPerTurn / time.Duration(packets)) * 1000 / time.Duration(packets) // ps per packet
	}
	var generic, best, ratio []float64
	for b.Loop() {
		a1, b1 := turn(Generic()), turn(Best())
		b2, a2 := turn(Best()), turn(Generic())
		generic = append(generic, float64(a1+a2)/2000)
		best = append(best, float64(b1+b2)/2000)
		ratio = append(ratio, math.Sqrt(float64(a1)*float64(a2)/(float64(b1)*float64(b2))))
	}
	median := func(x []float64) float64 { slices.Sort(x); return x[len(x)/2] }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(generic), "generic-ns/packet")
	b.ReportMetric(median(best), "best-ns/packet")
	b.ReportMetric(median(ratio), "times")
}
