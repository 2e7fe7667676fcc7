package relay

import (
	"bytes"
	"slices"
	"testing"

	"golang.org/x/net/bpf"
)

var allStages = []Stage{StageSiteIn, StageWANIn, StagePlain, StageSealed, StageToSite, StageDropped}

// startCapture starts a capture and ends it with the test.
func (g *gateway) startCapture(t *testing.T, o CaptureOptions) *Capture {
	t.Helper()
	if o.Stages == nil {
		o.Stages = allStages
	}
	c, err := g.relay.Capture(o)
	check(t, err)
	t.Cleanup(c.Close)
	return c
}

// drain reads all packets, with data of their own.
func drain(c *Capture) (all []CapturedPacket) {
	c.Read(func(p CapturedPacket) bool {
		p.Data = bytes.Clone(p.Data)
		all = append(all, p)
		return true
	})
	return all
}

func stagesOf(packets []CapturedPacket) (names []string) {
	for _, p := range packets {
		names = append(names, p.Stage.String())
	}
	return names
}

func TestACaptureShowsAPacketAtEachStage(t *testing.T) {
	for _, version := range []int{4, 6} {
		p := newPair(t, gatewayOptions{})
		p.connect(t)
		a, b := p.a.startCapture(t, CaptureOptions{}), p.b.startCapture(t, CaptureOptions{})
		inner := udpPacket(red.host(1, atVXLAN4, version), red.host(2, atVXLAN4, version), 64, 0, 1000, 2000, []byte("hello"))
		_, frame := fromHost(red, 1, atVXLAN4, inner)
		p.a.queues[0][sitePort].Inject(frame)
		p.a.turn()
		sent := p.a.queues[0][wanPort].Collect()
		if len(sent) != 1 {
			t.Fatalf("%d packets sent", len(sent))
		}
		p.b.queues[0][wanPort].Inject(sent[0])
		p.b.turn()
		delivered := p.b.got(sitePort)
		for _, c := range []struct {
			name   string
			got    []CapturedPacket
			stages []string
			data   [][]byte
			raw    []bool
		}{
			{"sender", drain(a), []string{"site-in", "plain", "sealed"}, [][]byte{frame, inner, sent[0]}, []bool{false, true, false}},
			{"receiver", drain(b), []string{"wan-in", "plain", "to-site"}, [][]byte{sent[0], nil, delivered[0]}, []bool{false, true, false}},
		} {
			if got := stagesOf(c.got); !slices.Equal(got, c.stages) {
				t.Fatalf("IPv%d %s: stages %v, want %v", version, c.name, got, c.stages)
			}
			for i, p := range c.got {
				if c.data[i] != nil && !bytes.Equal(p.Data, c.data[i]) || p.Raw != c.raw[i] || p.Length != len(p.Data) {
					t.Errorf("IPv%d %s, %v: raw %v, %d bytes\n got %x\nwant %x", version, c.name, p.Stage, p.Raw, p.Length, p.Data, c.data[i])
				}
			}
			if plain := c.got[1]; !plain.HasVPC || plain.VNI != red.vni(map[string]int{"sender": 1, "receiver": 2}[c.name]) || plain.Inbound != (c.name == "receiver") {
				t.Errorf("%s: plain %+v", c.name, plain)
			}
		}
	}
}

func TestACaptureShowsDroppedPacketsWithTheirVerdict(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	c := p.a.startCapture(t, CaptureOptions{Stages: []Stage{StageDropped}})
	_, noRoute := fromHost(red, 1, atRouted, udpPacket(red.host(1, atRouted, 4), addr("203.0.113.1"), 64, 0, 1, 2, nil))
	p.a.queues[0][redPort].Inject(noRoute)
	short := []byte{1, 2, 3}
	p.a.queues[0][redPort].Inject(short)
	unknown := overlayFrame(red, 2, atVXLAN4, etherTypeOfPacket(noRoute[14:]), noRoute[14:]) // the VNI of the other site
	copy(unknown, portMACBytes(1, sitePort))
	copy(unknown[30:34], siteAddr(1, 4).AsSlice())
	p.a.queues[0][sitePort].Inject(unknown)
	p.settle()
	got := drain(c)
	if len(got) != 3 {
		t.Fatalf("%d packets: %v", len(got), nonzero(p.a.relay.Counters()))
	}
	for _, g := range got {
		switch g.Verdict {
		case NoRoute:
			if !g.Raw || !bytes.Equal(g.Data[20:], noRoute[34:42]) {
				t.Errorf("no_route: raw %v, %x", g.Raw, g.Data)
			}
		case ShortFrame:
			if g.Raw || !bytes.Equal(g.Data, short) {
				t.Errorf("short_frame: raw %v, %x", g.Raw, g.Data)
			}
		case UnknownVNI, OuterChecksum:
			if g.Raw || !bytes.Equal(g.Data, unknown) {
				t.Errorf("%v: raw %v\n got %x\nwant %x", g.Verdict, g.Raw, g.Data, unknown)
			}
		default:
			t.Errorf("verdict %v", g.Verdict)
		}
	}
}

func portMACBytes(site int, ifindex uint32) []byte { m := portMAC(site, ifindex); return m[:] }

func TestACaptureIsBoundedAndCountsWhatItLoses(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	c := p.a.startCapture(t, CaptureOptions{Stages: []Stage{StagePlain}, SnapLen: MaxSnapLen})
	ring := len(c.taps[0].metas)
	for range ring + 100 {
		p.a.queues[0][hostPort].Inject(routedPacket(defaultVPC, 1, 2, 4, nil))
		p.a.turn()
		p.a.queues[0][wanPort].Discard()
	}
	if got := len(drain(c)); got != ring || c.Lost() != 100 {
		t.Errorf("%d packets kept, %d lost; want %d and 100", got, c.Lost(), ring)
	}
}

func TestACaptureKeepsWhatItIsAskedFor(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	vni := red.vni(1)
	// ip[9] == 17 for frames and for bare packets
	program := func(offset uint32) []bpf.RawInstruction {
		raw, err := bpf.Assemble([]bpf.Instruction{bpf.LoadAbsolute{Off: offset, Size: 1}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: 17, SkipFalse: 1}, bpf.RetConstant{Val: 1}, bpf.RetConstant{}})
		check(t, err)
		return raw
	}
	udp := CaptureOptions{Ethernet: program(23), Raw: program(9)}
	ofVPC := p.a.startCapture(t, CaptureOptions{VPC: &vni})
	filtered := p.a.startCapture(t, CaptureOptions{Stages: []Stage{StageSiteIn, StagePlain}, Ethernet: udp.Ethernet, Raw: udp.Raw, SnapLen: 20})
	for _, v := range []vpcName{defaultVPC, red} {
		p.a.queues[0][v.routedPort()].Inject(routedPacket(v, 1, 2, 4, []byte("x")))
		_, tcp := fromHost(v, 1, atRouted, tcpPacket(v.host(1, atRouted, 4), v.host(2, atRouted, 4), nil))
		p.a.queues[0][v.routedPort()].Inject(tcp)
	}
	p.settle()
	if got, want := stagesOf(drain(ofVPC)), []string{"plain", "plain", "sealed", "sealed"}; !slices.Equal(got, want) {
		t.Errorf("of red: %v, want %v", got, want)
	}
	got := drain(filtered)
	if want := []string{"site-in", "plain", "site-in", "plain"}; !slices.Equal(stagesOf(got), want) {
		t.Errorf("UDP: %v, want %v", stagesOf(got), want)
	}
	for _, g := range got {
		if len(g.Data) != 20 || g.Length <= 20 {
			t.Errorf("%d of %d bytes with a snap length of 20", len(g.Data), g.Length)
		}
	}
	for range MaxCaptures - 2 {
		p.a.startCapture(t, CaptureOptions{})
	}
	if _, err := p.a.relay.Capture(CaptureOptions{Stages: allStages}); err == nil {
		t.Error("one capture too many was started")
	}
	if _, err := p.b.relay.Capture(CaptureOptions{Stages: allStages, SnapLen: MaxSnapLen + 1}); err == nil {
		t.Error("a snap length that is too long was taken")
	}
}

// TestACaptureDoesNotDisturbTheWorker: nothing is allocated per packet, all packets go on, and afterwards nothing is left.
func TestACaptureDoesNotDisturbTheWorker(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	raw, err := bpf.Assemble([]bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtLen}, bpf.RetA{}})
	check(t, err)
	c, err := p.a.relay.Capture(CaptureOptions{Stages: allStages, Ethernet: raw, Raw: raw})
	check(t, err)
	frame := routedPacket(defaultVPC, 1, 2, 4, make([]byte, 100))
	in, out, w := p.a.queues[0][hostPort], p.a.queues[0][wanPort], p.a.relay.workers[0]
	seen := 0
	run := func() {
		for range batchSize {
			in.Inject(frame)
		}
		w.turn()
		if n := out.Discard(); n != batchSize {
			t.Fatalf("%d packets sent", n)
		}
		seen += c.Read(func(CapturedPacket) bool { return true })
	}
	run()
	if n := testing.AllocsPerRun(50, run); n > 0 {
		t.Errorf("%v allocations per batch", n)
	}
	if want := 52 * batchSize * 3; seen != want || c.Lost() != 0 {
		t.Errorf("%d packets captured, %d lost, want %d and 0", seen, c.Lost(), want)
	}
	c.Close()
	if w.taps != nil {
		t.Error("the worker still has a tap")
	}
}
