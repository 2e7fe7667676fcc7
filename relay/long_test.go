package relay

import (
	"bytes"
	"fmt"
	"maps"
	"testing"
)

// jumbo has links of 9000 bytes, and frames of 2048.
var jumbo = gatewayOptions{mtu: 9000}

func TestJumboFramesCrossBetweenAllKindsOfPlaces(t *testing.T) {
	p := newPair(t, jumbo)
	p.connect(t)
	for _, v := range []vpcName{defaultVPC, red} {
		for from := atVXLAN4; from < places; from++ {
			for to := atVXLAN4; to < places; to++ {
				for _, version := range []int{4, 6} {
					for _, size := range []int{1, 1500, 2048, 4000, 8700} {
						name := fmt.Sprintf("%v IPv%d, %d bytes, from %s to %s", v, version, size, placeName(from), placeName(to))
						inner := udpPacket(v.host(1, from, version), v.host(2, to, version), 64, 0, 20000, 53, bytes.Repeat([]byte("jumbo"), size/5+1)[:size])
						port, frame := fromHost(v, 1, from, inner)
						if !p.a.queues[0][port].InjectLong(frame) {
							t.Fatalf("%s: no frame", name)
						}
						p.settle()
						want := uint32(sitePort)
						if to == atRouted {
							want = v.routedPort()
						}
						got := p.b.got(want)
						if len(got) != 1 {
							t.Fatalf("%s: %d packets; site 1 %v, site 2 %v", name, len(got), nonzero(p.a.relay.Counters()), nonzero(p.b.relay.Counters()))
						}
						if _, b := innerOf(want, got[0]); !bytes.Equal(unpadded(b), forwarded(inner)) {
							t.Errorf("%s: arrives changed", name)
						}
					}
				}
			}
		}
	}
}

func TestAJumboFrameThatDoesNotFitThePathIsTooBig(t *testing.T) {
	p := newPair(t, jumbo)
	p.connect(t)
	inner := udpPacket(red.host(1, atRouted, 4), red.host(2, atRouted, 4), 64, 0, 1, 2, make([]byte, 9000-28))
	_, frame := fromHost(red, 1, atRouted, inner)
	p.a.queues[0][redPort].InjectLong(frame)
	p.settle()
	got := p.a.got(redPort)
	if len(got) != 1 {
		t.Fatalf("%d packets came back: %v", len(got), nonzero(p.a.relay.Counters()))
	}
	_, back := innerOf(redPort, got[0])
	sound(t, back)
	if mtu := int(back[26])<<8 | int(back[27]); mtu != 9000-20-8-32-36 || len(back) != 576 {
		t.Errorf("MTU %d in an error of %d bytes", mtu, len(back))
	}
}

func TestPacketsOfManyDescriptorsThatCannotBeTakenAreCountedOnce(t *testing.T) {
	inner := udpPacket(red.host(1, atRouted, 4), red.host(2, atRouted, 4), 64, 0, 1, 2, make([]byte, 5000))
	_, long := fromHost(red, 1, atRouted, inner)
	_, short := fromHost(red, 1, atRouted, udpPacket(red.host(1, atRouted, 4), red.host(2, atRouted, 4), 64, 0, 1, 2, nil))
	for _, c := range []struct {
		name   string
		o      gatewayOptions
		frames [][]byte
		want   map[string]uint64
	}{
		{"where no port has jumbo frames", gatewayOptions{}, [][]byte{long, short, long}, map[string]uint64{"multi_buffer": 2, "to_peer": 1}},
		{"longer than a long buffer", jumbo, [][]byte{make([]byte, longSize), short}, map[string]uint64{"multi_buffer": 1, "to_peer": 1}},
		{"in good order", jumbo, [][]byte{long, short, long}, map[string]uint64{"to_peer": 3}},
	} {
		p := newPair(t, c.o)
		p.connect(t)
		got := p.a.verdicts(func() {
			for _, b := range c.frames {
				if !p.a.queues[0][redPort].InjectLong(b) {
					t.Fatal("no frame")
				}
			}
			p.a.turn()
		})
		if !maps.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestAJumboFrameMayComeInSeveralBatchesAndGoWithItsPort(t *testing.T) {
	p := newPair(t, jumbo)
	p.connect(t)
	_, frame := fromHost(red, 1, atRouted, udpPacket(red.host(1, atRouted, 4), red.host(2, atRouted, 4), 64, 0, 1, 2, make([]byte, 3000)))
	q := p.a.queues[0][redPort]
	q.InjectDesc(frame[:1700], descContinued)
	p.a.turn()
	q.InjectDesc(frame[1700:], 0)
	p.settle()
	if n := len(p.b.got(redPort)); n != 1 {
		t.Errorf("%d packets arrive", n)
	}
	q.InjectDesc(frame[:1700], descContinued)
	p.a.turn()
	var rest []PortQueue
	for ifindex, other := range p.a.queues[0] {
		if ifindex != redPort {
			rest = append(rest, PortQueue{Ifindex: ifindex, Queue: other})
		}
	}
	check(t, p.a.relay.SetQueues(0, rest)) // conserved counts the buffers
}

func TestARingWithoutRoomForAllFramesOfAPacketTakesNone(t *testing.T) {
	p := newPair(t, gatewayOptions{mtu: 9000, txSize: 4})
	p.connect(t)
	_, frame := fromHost(red, 1, atRouted, udpPacket(red.host(1, atRouted, 4), red.host(2, atRouted, 4), 64, 0, 1, 2, make([]byte, 5000)))
	got := p.a.verdicts(func() {
		for range 2 {
			p.a.queues[0][redPort].InjectLong(frame)
		}
		p.a.turn()
	})
	if want := map[string]uint64{"to_peer": 1, "tx_full": 1}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestJumboFramesWaitForASessionLikeOthers(t *testing.T) {
	p := newPair(t, jumbo)
	for i := range 3 {
		_, frame := fromHost(red, 1, atRouted, udpPacket(red.host(1, atRouted, 4), red.host(2, atRouted, 4), 64, 0, 1, 2, bytes.Repeat([]byte{byte(i)}, 6000)))
		p.a.queues[0][redPort].InjectLong(frame)
	}
	var got [][]byte
	p.until(t, "packets", func() bool { got = append(got, p.b.got(redPort)...); return len(got) == 3 })
	for i, b := range got {
		if b[len(b)-1] != byte(i) {
			t.Errorf("packet %d is in place %d", b[len(b)-1], i)
		}
	}
}
