package wireguard

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sluicegw/sluice/relay/wireguard/aead"
)

// The benchmarks report, per packet, Seal or Open as a whole and the bare cipher
// over the same frames, measured in turns in one run. Each is the median of all
// batches, so that the difference, which is our own overhead, depends little on
// what else the machine does:
//
//	go test -run '^$' -bench 'Seal/|Open/' -benchtime 20000x -count 3 ./relay/wireguard

var benchSizes = []int{64, 512, 1420}

// turns runs both for b.N batches.
func turns(b *testing.B, prepare func(), ours, bare func()) {
	var took [2][]time.Duration
	for i := range took {
		took[i] = make([]time.Duration, 0, b.N)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		for i, f := range []func(){ours, bare} {
			prepare()
			at := time.Now()
			f()
			took[i] = append(took[i], time.Since(at))
		}
	}
	b.StopTimer()
	var median [2]float64
	for i := range took {
		slices.Sort(took[i])
		median[i] = float64(took[i][b.N/2]) / BatchSize
	}
	b.ReportMetric(0, "ns/op") // of no interest
	b.ReportMetric(median[0], "ns/packet")
	b.ReportMetric(median[1], "ns-cipher/packet")
	b.ReportMetric(median[0]-median[1], "ns-own/packet")
}

func benchFrames(size int) [][]byte {
	const frame = 2048
	memory := make([]byte, frame*BatchSize)
	frames := make([][]byte, BatchSize)
	for i := range frames {
		frames[i] = memory[i*frame+256-HeaderSize:][: HeaderSize+size : frame-256]
	}
	return frames
}

func BenchmarkSeal(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w, x, _, toY, _ := pair(b)
			w.connect(x, toY)
			frames := benchFrames(size)
			pkts := make([]Packet, BatchSize)
			ops := make([]aead.Op, BatchSize)
			key := &toY.current.Load().send
			now := x.d.Clock()
			padded := (size + 15) &^ 15
			turns(b, func() {
				for i := range pkts {
					pkts[i].Buf, pkts[i].Peer, pkts[i].MaxLen = frames[i], toY, 0
					ops[i].Key, ops[i].Data = key, frames[i][HeaderSize:HeaderSize+padded]
				}
			}, func() { x.batch.Seal(pkts, now) }, func() { aead.Generic().Seal(ops) })
			if pkts[0].Result != OK {
				b.Fatal(pkts[0].Result)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w, x, y, toY, toX := pair(b)
			w.connect(x, toY)
			frames := benchFrames(size)
			pkts := make([]Packet, BatchSize)
			ops := make([]aead.Op, BatchSize)
			s := toX.current.Load()
			now := x.d.Clock()
			// Sealed once, with counters of a batch in a row; every round
			// opens a copy, and the window starts anew.
			sealed := make([][]byte, BatchSize)
			for i := range sealed {
				sealed[i] = handSealed(s, uint64(i), make([]byte, (size+15)&^15))
				ops[i].Nonce = uint64(i)
			}
			turns(b, func() {
				s.replay = window{}
				for i := range pkts {
					buf := frames[i][:len(sealed[i])]
					copy(buf, sealed[i])
					pkts[i].Buf = buf
					ops[i].Key, ops[i].Data = &s.receive, buf[HeaderSize:]
				}
			}, func() { y.batch.Open(pkts, now) }, func() { aead.Generic().Open(ops) })
			if pkts[0].Result != OK || !ops[0].OK {
				b.Fatal(pkts[0].Result, ops[0].OK)
			}
		})
	}
}

// A handshake from the initiation to the confirmation, both sides' work.
func BenchmarkHandshake(b *testing.B) {
	w, x, y, toY, toX := pair(b)
	w.connect(x, toY)
	for b.Loop() {
		w.ns.Add(int64(20 * time.Millisecond))
		toY.sentLast, toX.sentLast, w.log = 0, 0, nil
		toY.ask()
		w.settle()
	}
	if got := y.d.Counters().Initiations; got != uint64(b.N)+1 {
		b.Fatalf("%d handshakes of %d", got-1, b.N)
	}
}

// Packets of eight peers in turn: the cost of grouping.
func BenchmarkSealToEightPeers(b *testing.B) {
	w := newWorld(b)
	x := w.add("192.0.2.1:1")
	peers := make([]*Peer, 8)
	for i := range peers {
		y := w.add(fmt.Sprintf("192.0.2.2:%d", i+1))
		peers[i] = x.peer(y, PeerConfig{})
		y.peer(x, PeerConfig{})
		w.connect(x, peers[i])
	}
	frames := benchFrames(64)
	pkts := make([]Packet, BatchSize)
	ops := make([]aead.Op, BatchSize)
	key := &peers[0].current.Load().send
	now := x.d.Clock()
	turns(b, func() {
		for i := range pkts {
			pkts[i].Buf, pkts[i].Peer = frames[i], peers[i%len(peers)]
			ops[i].Key, ops[i].Data = key, frames[i][HeaderSize:]
		}
	}, func() { x.batch.Seal(pkts, now) }, func() { aead.Generic().Seal(ops) })
}
