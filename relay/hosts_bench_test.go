package relay

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/afxdp"
	"github.com/sluicegw/sluice/internal/packet"
)

// What it costs to see where packets come from, and to look up where they go: 512-byte packets of a VXLAN attachment, out
// from and in to hosts that the configuration places, and hosts that were learned. own-ns are compared.
//
//	go test -run=- -bench=Learned -benchtime=2s ./relay

func BenchmarkLearnedOut(b *testing.B) {
	for _, c := range []struct {
		name  string
		learn bool
		hosts int // learned ones that send; 0: one that is static
	}{
		{"learning off", false, 0}, {"static host of an attachment that learns", true, 0}, {"one learned host", true, 1}, {"200 learned hosts", true, 200},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := newPair(b, gatewayOptions{learn: c.learn})
			p.connect(b)
			batches := learnedBatches(c.hosts)
			in, out, w := p.a.queues[0][sitePort], p.a.queues[0][wanPort], p.a.relay.workers[0]
			p.learnAll(b, batches, c.hosts)
			next := 0
			bare := newBareCipher((512 + 36 + 15) &^ 15)
			measure(b, in, func() [][]byte { next++; return batches[next%len(batches)] }, func() {
				w.turn()
				if n := out.Discard(); n != batchSize {
					b.Fatalf("%d packets sent: %v", n, nonzero(p.a.relay.Counters()))
				}
			}, bare.seal)
		})
	}
}

// learnedBatches are full batches in which every one of so many hosts sends.
func learnedBatches(hosts int) (batches [][][]byte) {
	for i := 0; i < max(hosts, 1) || i%batchSize != 0; i++ {
		if i%batchSize == 0 {
			batches = append(batches, nil)
		}
		src, mac := red.host(1, atVXLAN4, 4), hostMAC(1, red, atVXLAN4)
		if hosts > 0 {
			src, mac = learnedHost(1, 1+i%hosts, 4), learnedMAC(i%hosts)
		}
		inner := udpPacket(src, red.host(2, atRouted, 4), 64, 0, uint16(1000+i), 2000, make([]byte, 512-packet.IPv4Len-packet.UDPLen))
		last := len(batches) - 1
		batches[last] = append(batches[last], fromNode(atVXLAN4, mac, layers.EthernetTypeIPv4, inner))
	}
	return batches
}

// learnAll sends until all hosts are known.
func (p *pair) learnAll(b *testing.B, batches [][][]byte, hosts int) {
	p.until(b, "hosts are learned", func() bool {
		for _, frames := range batches {
			for _, f := range frames {
				p.a.queues[0][sitePort].Inject(f)
			}
			p.a.turn()
			p.a.queues[0][wanPort].Discard()
		}
		return p.a.hosts == nil || p.a.hosts.Table().Len() == hosts
	})
}

func BenchmarkLearnedIn(b *testing.B) {
	for _, hosts := range []int{0, 1, 200} {
		b.Run(fmt.Sprintf("%d learned hosts", hosts), func(b *testing.B) {
			p := newPair(b, gatewayOptions{learn: true})
			p.connect(b)
			p.learnAll(b, learnedBatches(hosts), hosts)
			var plain [][]byte
			for i := range 256 {
				dst := red.host(1, atVXLAN4, 4)
				if hosts > 0 {
					dst = learnedHost(1, 1+i%hosts, 4)
				}
				_, f := fromHost(red, 2, atRouted, udpPacket(red.host(2, atRouted, 4), dst, 64, 0, uint16(1000+i), 2000, make([]byte, 512-28)))
				plain = append(plain, f)
			}
			var messages [][]byte
			next := 0
			bare := newBareCipher((512 + 36 + 15) &^ 15)
			bare.seal()
			in, out, w := p.a.queues[0][wanPort], p.a.queues[0][sitePort], p.a.relay.workers[0]
			measure(b, in, func() [][]byte {
				if next%(1<<20) == 1<<20-batchSize {
					runtime.GC() // nobody else does while it is measured
				}
				for len(messages) < batchSize { // sealed outside of the measured time
					p.b.queues[0][redPort].Inject(plain[next%len(plain)])
					if next++; next%batchSize == 0 {
						p.b.turn()
						messages = append(messages, p.b.queues[0][wanPort].Collect()...)
					}
				}
				batch := messages[:batchSize]
				messages = messages[batchSize:]
				return batch
			}, func() {
				w.turn()
				if n := out.Discard(); n != batchSize {
					b.Fatalf("%d packets delivered: %v", n, nonzero(p.a.relay.Counters()))
				}
			}, bare.seal)
		})
	}
}

// BenchmarkSee is the comparison alone, for a host that was seen just now.
func BenchmarkSee(b *testing.B) {
	p := newPair(b, gatewayOptions{learn: true})
	p.connect(b)
	frames := learnedBatches(1)[0]
	p.a.queues[0][sitePort].Inject(frames[0])
	p.settle()
	w := p.a.relay.workers[0]
	var base [1]uint64
	w.umem.Alloc(base[:])
	f := &w.frames[0]
	chunk := w.umem.Frame(base[0])
	n := copy(chunk[256:], frames[0])
	w.take(f, afxdp.Desc{Addr: base[0] + 256, Len: uint32(n)}, 0)
	f.off, f.vpc = 256+64, 1
	f.ip.Parse4(f.data())
	o := w.state.ports[0].overlays[0]
	for b.Loop() {
		w.see(f, o, 256+14, 256+50)
	}
	w.umem.Free(base[0])
}
