package relay

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/sluicegw/sluice/internal/packet"
)

// whole puts fragments together, slowly: every byte where its offset says. ok: all of them are there, once.
func whole(pieces [][]byte) (data []byte, ok bool) {
	var seen []bool
	end := -1
	for _, b := range pieces {
		header := int(b[0]&15) * 4
		word := binary.BigEndian.Uint16(b[6:])
		at, payload := int(word&0x1fff)*8, b[header:]
		for len(data) < at+len(payload) {
			data, seen = append(data, 0), append(seen, false)
		}
		for i, x := range payload {
			if seen[at+i] {
				return nil, false
			}
			data[at+i], seen[at+i] = x, true
		}
		if word&0x2000 == 0 {
			end = at + len(payload)
		} else if len(payload)%8 != 0 {
			return nil, false
		}
	}
	for _, x := range seen {
		if !x {
			return nil, false
		}
	}
	return data, end == len(data)
}

// mayCut clears DF and sets an identification.
func mayCut(b []byte) []byte {
	return edit(b, func(b []byte) { b[4], b[5], b[6], b[7] = 0x12, 0x34, 0, 0; fixIPv4(b) })
}

func TestIPv4WithoutDFIsCutForEveryPathInBothDirections(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	p.b.snap.Ports[sitePort-firstPort].MTU = 1500 // no room for an overlay around a full packet
	check(t, p.b.relay.Update(p.b.snap))
	for _, v := range []vpcName{defaultVPC, red} {
		for to := atVXLAN4; to < places; to++ {
			for _, size := range []int{100, 1380, 1400, 1440, 1472} {
				inner := mayCut(udpPacket(v.host(1, atRouted, 4), v.host(2, to, 4), 64, 0x28, 1, 2, bytes.Repeat([]byte("fragment"), size/8+1)[:size]))
				port, frame := fromHost(v, 1, atRouted, inner)
				if !p.a.queues[0][port].Inject(frame) {
					t.Fatal("no frame")
				}
				p.settle()
				at := uint32(sitePort)
				if to == atRouted {
					at = v.routedPort()
				}
				var pieces [][]byte
				for _, b := range p.b.got(at) {
					_, piece := innerOf(at, b)
					piece = unpadded(piece)
					if !bytes.Equal(piece[4:6], inner[4:6]) || !bytes.Equal(piece[12:20], inner[12:20]) || piece[8] != 62 || piece[1] != 0x28 || packet.Sum(0, piece[:20]) != 0xffff {
						t.Errorf("header %x of %x", piece[:20], inner[:20])
					}
					pieces = append(pieces, piece)
				}
				if data, ok := whole(pieces); !ok || !bytes.Equal(data, inner[20:]) {
					t.Errorf("%v to %s, %d bytes: %d pieces, whole: %v; %v %v", v, placeName(to), size, len(pieces), ok, nonzero(p.a.relay.Counters()), nonzero(p.b.relay.Counters()))
				}
				if size > 1440 && len(pieces) < 2 {
					t.Errorf("%v to %s, %d bytes: not cut", v, placeName(to), size)
				}
			}
		}
	}
}

// The batch grows: every packet is two.
func TestABatchOfPacketsThatAreCutIsSentWhole(t *testing.T) {
	p := newPair(t, gatewayOptions{frames: 4096})
	p.connect(t)
	for i := range batchSize {
		inner := mayCut(udpPacket(red.host(1, atRouted, 4), red.host(2, atRouted, 4), 64, 0, uint16(i), 2, make([]byte, 1450)))
		_, frame := fromHost(red, 1, atRouted, inner)
		p.a.queues[0][redPort].Inject(frame)
	}
	p.settle()
	if n := len(p.b.got(redPort)); n != 2*batchSize {
		t.Errorf("%d fragments arrive: %v", n, nonzero(p.b.relay.Counters()))
	}
}

func TestOptionsGoWhereTheyBelong(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	// Record route (first fragment only), router alert (all).
	inner := mayCut(withOptions(udpPacket(red.host(1, atRouted, 4), red.host(2, atRouted, 4), 64, 0, 1, 2, make([]byte, 1400)), 7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 1))
	_, frame := fromHost(red, 1, atRouted, inner)
	p.a.queues[0][redPort].Inject(frame)
	p.settle()
	got := p.b.got(redPort)
	if len(got) != 2 {
		t.Fatalf("%d fragments", len(got))
	}
	_, first := innerOf(redPort, got[0])
	_, second := innerOf(redPort, got[1])
	if !bytes.Equal(first[20:32], inner[20:32]) {
		t.Errorf("options of the first: %x", first[20:32])
	}
	if second = unpadded(second); second[0] != 0x46 || !bytes.Equal(second[20:24], []byte{148, 4, 0, 0}) {
		t.Errorf("options of the second: %x", second[:24])
	}
	if data, ok := whole([][]byte{second, first}); !ok || !bytes.Equal(data, inner[32:]) {
		t.Error("the pieces are not the whole")
	}
}

func TestTooManyPiecesAreRefusedWithWord(t *testing.T) {
	p := newPair(t, jumbo)
	p.connect(t)
	p.a.snap.Ports[wanPort-firstPort].MTU = 300
	check(t, p.a.relay.Update(p.a.snap))
	inner := mayCut(udpPacket(red.host(1, atRouted, 4), red.host(2, atRouted, 4), 64, 0, 1, 2, make([]byte, 8000)))
	_, frame := fromHost(red, 1, atRouted, inner)
	got := p.a.verdicts(func() { p.a.queues[0][redPort].InjectLong(frame); p.settle() })
	if got["too_big"] != 1 || got["to_peer"] != 0 {
		t.Errorf("got %v", got)
	}
}

// FuzzFragment cuts any packet for any path: put together again it is what it was.
func FuzzFragment(f *testing.F) {
	f.Add([]byte{}, []byte("some data that is longer than a few pieces of eight bytes"), uint16(68), uint16(0))
	f.Add([]byte{7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 1}, bytes.Repeat([]byte{1, 2, 3}, 400), uint16(576), uint16(0x2005))
	p := newPair(f, gatewayOptions{frames: 4096})
	p.connect(f)
	f.Fuzz(func(t *testing.T, options, data []byte, limit, word uint16) {
		if len(options) > 40 || len(data) == 0 || len(data) > 1400 {
			return
		}
		if word &= 0x23ff; word&0x2000 != 0 {
			data = data[:len(data)&^7]
		}
		inner := withOptions(udpPacket(red.host(1, atRouted, 4), red.host(2, atRouted, 4), 64, 0, 1, 2, nil)[:20], bytes.Clone(options)...)
		inner = append(inner, data...)
		inner[2], inner[3] = byte(len(inner)>>8), byte(len(inner))
		binary.BigEndian.PutUint16(inner[6:], word)
		fixIPv4(inner)
		if slowOptions(inner[20:len(inner)-len(data)]) != pending {
			return
		}
		mtu := 60 + 36 + 68 + int(limit)%1400 // of the WAN
		p.a.snap.Ports[wanPort-firstPort].MTU = mtu
		check(t, p.a.relay.Update(p.a.snap))
		_, frame := fromHost(red, 1, atRouted, inner)
		p.a.queues[0][redPort].Inject(frame)
		p.settle()
		p.a.got(redPort) // word of what is too long to be cut
		var pieces [][]byte
		for _, b := range p.b.got(redPort) {
			_, piece := innerOf(redPort, b)
			if piece = unpadded(piece); len(piece) > mtu-60-36 {
				t.Errorf("a piece of %d bytes for a path of %d", len(piece), mtu-60-36)
			}
			binary.BigEndian.PutUint16(piece[6:], binary.BigEndian.Uint16(piece[6:])-word&0x1fff) // as if the whole began at 0
			pieces = append(pieces, piece)
		}
		if len(pieces) == 0 {
			return
		}
		if word&0x2000 != 0 {
			last := pieces[len(pieces)-1]
			if last[6]&0x20 == 0 {
				t.Error("the last piece of a fragment says that nothing follows")
			}
			last[6] &^= 0x20
		}
		rand.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
		if got, ok := whole(pieces); !ok || !bytes.Equal(got, data) {
			t.Errorf("%d pieces of %d bytes for a path of %d make %d bytes", len(pieces), len(inner), mtu-60-36, len(got))
		}
	})
}
