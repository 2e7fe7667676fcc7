package traffic

import (
	"bytes"
	"context"
	"math"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/sluicegw/sluice/internal/netnstest"
)

// These send over veth pairs. The machine may be busy with something else; what is asserted does not depend on it.

func TestEveryPacketArrivesWhole(t *testing.T) {
	p := newPair(t)
	s := p.sink(t, SinkOptions{SumEvery: 1})
	for name, f := range flows() {
		t.Run(name, func(t *testing.T) {
			g := p.generator(t, Options{Flow: f, Count: 15360})
			if err := s.Reset(); err != nil {
				t.Fatal(err)
			}
			var refused uint64
			for range 2 {
				sent := run(t, g, 10*time.Second)
				if sent.Packets != 15360 || sent.Held != 0 {
					t.Fatalf("sent %+v", sent)
				}
				refused += sent.Refused
			}
			c := arrived(t, s, 2*15360-refused)
			if c.Packets != 2*15360-refused || c.Missing > refused || c.Reordered+c.Duplicates+c.Late+c.BadSums+c.Malformed != 0 || c.Summed != c.Packets {
				t.Errorf("%+v, want %d packets less %d and nothing wrong", c, 2*15360, refused)
			}
			// Ten whole schedules of 7:4:1 in each run.
			if inner := uint64(2 * 10 * 128 * (7*77 + 4*594 + 1420)); refused == 0 && c.InnerBytes != inner {
				t.Errorf("%d inner bytes, want %d", c.InnerBytes, inner)
			}
			if h, err := s.Latency(); err != nil || h.Count != c.Packets || h.Min <= 0 || h.Quantile(0.5) > h.Quantile(0.999) || h.Quantile(0.999) > h.Max || h.Quantile(0.5) > time.Millisecond {
				t.Errorf("%d latencies from %v, median %v, up to %v, %v", h.Count, h.Min, h.Quantile(0.5), h.Max, err)
			}
		})
	}
}

// A kernel that forwards changes addresses and time to live in the page, which comes back to the generator so. After
// 64 rounds nothing would be forwarded any more.
func TestForwardedPagesAreAsGoodAsNewOnes(t *testing.T) {
	for name, inner := range map[string]Layer{"ipv4": inner4, "ipv6": inner6} {
		t.Run(name, func(t *testing.T) {
			n := netnstest.New(t)
			a, router, b := n.NewHost("a"), n.NewHost("router"), n.NewHost("b")
			aLink, left := n.Connect(netnstest.End{Host: a, Name: "eth0"},
				netnstest.End{Host: router, Name: "left", Addrs: netnstest.Prefixes("10.1.0.254/24", "fd10:1::fe/64")})
			_, right := n.Connect(netnstest.End{Host: b, Name: "eth0", Addrs: netnstest.Prefixes("10.2.0.1/24", "fd10:2::1/64")},
				netnstest.End{Host: router, Name: "right", Addrs: netnstest.Prefixes("10.2.0.254/24", "fd10:2::fe/64")})
			router.Sysctl("net.ipv4.ip_forward", "1")
			router.Sysctl("net.ipv6.conf.all.forwarding", "1")
			pass, err := NewPass(router, left.Name)
			if err != nil {
				t.Fatal(err)
			}
			defer closing(t, pass)
			sink, err := NewSink(SinkOptions{Host: b, Link: "eth0", SumEvery: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer closing(t, sink)
			inner.DstMAC = [6]byte(left.MAC)
			g, err := NewGenerator(Options{Host: a, Link: aLink.Name, Rate: 20_000, Flow: Flow{Inner: inner, Flows: 8}})
			if err != nil {
				t.Fatal(err)
			}
			defer closing(t, g)
			run(t, g, 100*time.Millisecond) // neighbours get known
			if err := sink.Reset(); err != nil {
				t.Fatal(err)
			}
			g.SetCount(10_000)
			sent := run(t, g, 10*time.Second)
			c := arrived(t, sink, sent.Packets)
			if sent.Packets != 10_000 || c.Packets != sent.Packets || c.BadSums+c.Malformed+c.Missing != 0 {
				t.Errorf("sent %+v by %s, arrived %+v", sent, right.Name, c)
			}
		})
	}
}

// Batches as long as the link's ring do not always fit into it.
func TestWhatTheLinkRefusedIsKnown(t *testing.T) {
	p := newPair(t)
	s := p.sink(t, SinkOptions{})
	g := p.generator(t, Options{Flow: Flow{Inner: inner4, Flows: 4}, Batch: 256})
	sent := run(t, g, 200*time.Millisecond)
	if c := arrived(t, s, sent.Packets-sent.Refused); sent.Packets == 0 || c.Packets+sent.Refused != sent.Packets {
		t.Errorf("sent %+v, arrived %+v", sent, c)
	}
}

// Never too many packets; and not too few, at least once: on a busy machine the generator may not have run at the end of
// its time, and the last rate may be more than its share of a CPU allows.
func TestRateIsKept(t *testing.T) {
	p := newPair(t)
	s := p.sink(t, SinkOptions{})
	for _, rate := range []float64{100, 20_000, 166_667, 1_000_000} {
		const d, depth = 300 * time.Millisecond, 1 << 16 // so deep that what was held up before is made up for
		g := p.generator(t, Options{Flow: Flow{Inner: inner4}, Rate: rate, Burst: depth, CPU: -1})
		want := rate * d.Seconds()
		for try := 1; ; try++ {
			if err := s.Reset(); err != nil {
				t.Fatal(err)
			}
			sent := run(t, g, d)
			t.Logf("%v packets per second: %d of %.0f, %.1f per second", rate, sent.Packets, want, sent.Rate())
			if sent.Packets > uint64(want)+1 || arrived(t, s, sent.Packets-sent.Refused).Packets != sent.Packets-sent.Refused {
				t.Fatalf("sent %+v, arrived %+v, want %v", sent, read(t, s), want)
			}
			if float64(sent.Packets) > 0.95*want-2 || rate > 200_000 {
				break
			}
			if try == 20 {
				t.Fatalf("only %d of %v packets", sent.Packets, want)
			}
		}
	}
}

// A shallow bucket forgets what was held up, so that no burst follows a pause.
func TestBurstIsNoLongerThanTheBucketIsDeep(t *testing.T) {
	p := newPair(t)
	s := p.sink(t, SinkOptions{})
	g := p.generator(t, Options{Flow: Flow{Inner: inner4}, Rate: 1000, Burst: 4})
	if _, err := g.arm(time.Hour); err != nil {
		t.Fatal(err)
	}
	page := make([]byte, g.longest)
	sentOf := func(runs int) (n int) {
		before, err := g.Sent()
		if err != nil {
			t.Fatal(err)
		}
		for range runs {
			if _, _, err := g.program.Test(page); err != nil {
				t.Fatal(err)
			}
		}
		after, err := g.Sent()
		if err != nil {
			t.Fatal(err)
		}
		return int(after.Packets - before.Packets)
	}
	sentOf(1)
	time.Sleep(50 * time.Millisecond) // 50 packets' time
	begin := time.Now()
	n := sentOf(40)
	if most := 5 + int(time.Since(begin)/time.Millisecond) + 1; n < 4 || n > most {
		t.Errorf("%d packets at once after a pause, want 5 (on a slow machine %d)", n, most)
	}
	if c := read(t, s); c.Packets != 0 {
		t.Errorf("a test run has sent %d packets", c.Packets)
	}
}

func TestRunEndsWhenItIsTold(t *testing.T) {
	p := newPair(t)
	s := p.sink(t, SinkOptions{})
	g := p.generator(t, Options{Flow: Flow{Inner: inner4}})

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(time.Millisecond) {
			if sent, err := g.Sent(); err != nil || sent.Packets > 0 {
				break
			}
		}
		cancel()
	}()
	begin := time.Now()
	sent, err := g.Run(ctx, time.Minute)
	if took := time.Since(begin); err != nil || sent.Packets == 0 || took > 15*time.Second {
		t.Errorf("ended after %v, with %+v, %v", took, sent, err)
	}
	if c := arrived(t, s, sent.Packets-sent.Refused); c.Packets+sent.Refused != sent.Packets {
		t.Errorf("sent %+v, arrived %+v", sent, c)
	}

	begin = time.Now()
	sent = run(t, g, 50*time.Millisecond)
	if took := time.Since(begin); sent.Duration > 50*time.Millisecond || took > 5*time.Second {
		t.Errorf("ran for %v, sent for %v", took, sent.Duration)
	}
	g.SetRate(10_000)
	g.SetCount(100)
	if sent = run(t, g, time.Minute); sent.Packets != 100 {
		t.Errorf("sent %+v, want 100", sent)
	}
	g.SetRate(0)
	g.SetCount(1)
	if sent = run(t, g, time.Minute); sent.Packets != 1 || sent.Rate() != 0 {
		t.Errorf("sent %+v, want 1", sent)
	}
	if _, err := g.Run(t.Context(), 0); err == nil {
		t.Error("no error for a run of no time")
	}
	g.SetRate(-1)
	if _, err := g.Run(t.Context(), time.Second); err == nil {
		t.Error("no error for a rate below zero")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for want, o := range map[string]Options{
		"no link":     {Flow: Flow{Inner: inner4}},
		"rate -1":     {Link: "x", Rate: -1, Flow: Flow{Inner: inner4}},
		"batch 300":   {Link: "x", Batch: 300, Flow: Flow{Inner: inner4}},
		"burst -1":    {Link: "x", Burst: -1, Flow: Flow{Inner: inner4}},
		"rate 0.01":   {Link: "x", Rate: 0.01, Flow: Flow{Inner: inner4}},
		"rate NaN":    {Link: "x", Rate: math.NaN(), Flow: Flow{Inner: inner4}},
		"for Frames":  {Link: "x", ByTime: true, Flow: Flow{Inner: inner4}},
		"link nobody": {Link: "nobody", Flow: Flow{Inner: inner4}},
	} {
		if _, err := NewGenerator(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := NewPass(nil, "nobody"); err == nil {
		t.Error("passes on no link")
	}
}

func TestFramesThatDoNotFitAreRefused(t *testing.T) {
	p := newPair(t)
	_, err := NewGenerator(Options{Host: p.a, Link: "eth0", Flow: Flow{Inner: inner4, Size: 1501}})
	if err == nil || !strings.Contains(err.Error(), "mtu of 1500") {
		t.Error(err)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	p := newPair(t)
	programs := func() string {
		out, err := p.b.Command(t.Context(), "ip", "link", "show", "eth0").Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	s, err := NewSink(SinkOptions{Host: p.b, Link: "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(programs(), "xdp") {
		t.Error("no program is attached")
	}
	if _, err := NewSink(SinkOptions{Host: p.b, Link: "eth0"}); err == nil {
		t.Error("two sinks on one link")
	}
	closing(t, s)
	if strings.Contains(programs(), "xdp") {
		t.Error("the program is still attached")
	}
}

func TestPacketsThatNobodyTakesAreAnError(t *testing.T) {
	p := newPair(t)
	g := p.generator(t, Options{Flow: Flow{Inner: inner4}, Count: 2000})
	if sent, err := g.Run(t.Context(), time.Minute); err == nil || !strings.Contains(err.Error(), "XDP program") {
		t.Errorf("sent %+v, %v", sent, err)
	}
	pass, err := NewPass(p.b, p.bLink.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, pass)
	run(t, g, time.Minute)
}

func TestCapturesAreReplayed(t *testing.T) {
	f := Flow{Inner: inner4, Flows: 3}.withDefaults()
	var file bytes.Buffer
	w := pcapgo.NewWriterNanos(&file)
	if err := w.WriteFileHeader(1<<16, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	var total uint64
	for i := range 30 {
		b := f.frame(stamp{flow: uint16(i % 3), seq: uint32(i / 3), time: stampIndex | uint64(i)}, 64+i)
		total += uint64(len(b))
		info := gopacket.CaptureInfo{Timestamp: time.Unix(1000, int64(i)*int64(2*time.Millisecond)), CaptureLength: len(b), Length: len(b)}
		if err := w.WritePacket(info, b); err != nil {
			t.Fatal(err)
		}
	}
	read30, err := ReadPcap(bytes.NewReader(file.Bytes()))
	if err != nil || len(read30) != 30 || read30[29].At != 58*time.Millisecond {
		t.Fatalf("%d frames, %v", len(read30), err)
	}
	if _, err := ReadPcap(bytes.NewReader(file.Bytes()[:100])); err == nil {
		t.Error("no error for half a file")
	}
	p := newPair(t)
	frames, err := NewFrames(read30)
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, frames)
	s := p.sink(t, SinkOptions{SumEvery: 1, Sent: frames})

	once := p.generator(t, Options{Frames: frames, ByTime: true})
	for range 2 { // each run is from the start
		if err := s.Reset(); err != nil {
			t.Fatal(err)
		}
		sent := run(t, once, time.Minute)
		c := arrived(t, s, 30)
		if sent.Packets != 30 || sent.Bytes != total || c.Packets != 30 || c.Bytes != total || c.BadSums+c.Missing+c.Duplicates != 0 {
			t.Errorf("sent %+v, arrived %+v", sent, c)
		}
		if sent.Duration < 57*time.Millisecond || c.Silence < 2*time.Millisecond-100*time.Microsecond {
			t.Errorf("took %v, longest pause %v", sent.Duration, c.Silence)
		}
		if h, err := s.Latency(); err != nil || h.Count != 30 || h.Min <= 0 || h.Max > 10*time.Second {
			t.Errorf("%d latencies from %v to %v, %v", h.Count, h.Min, h.Max, err)
		}
	}

	if err := s.Reset(); err != nil {
		t.Fatal(err)
	}
	loop := p.generator(t, Options{Frames: frames, Loop: true, Count: 100})
	if sent, c := run(t, loop, time.Minute), arrived(t, s, 100); sent.Packets != 100 || c.Packets != 100 || c.Duplicates != 70 {
		t.Errorf("sent %+v, arrived %+v, want 70 duplicates", sent, c)
	}
	flood := p.generator(t, Options{Frames: frames})
	if sent := run(t, flood, time.Minute); sent.Packets != 30 {
		t.Errorf("sent %+v, want 30", sent)
	}
	if sent := run(t, flood, time.Minute); sent.Packets != 0 {
		t.Errorf("sent %+v, want nothing: the frames are used up", sent)
	}
}

func TestFramesAreChecked(t *testing.T) {
	for _, frames := range [][]Frame{nil, {{Data: make([]byte, 13)}}, {{Data: make([]byte, 4000)}}} {
		if _, err := NewFrames(frames); err == nil {
			t.Errorf("no error for %d frames", len(frames))
		}
	}
}

func TestPacketsFromElsewhereStillReachTheKernel(t *testing.T) {
	n := netnstest.New(t)
	a, b := n.NewHost("a"), n.NewHost("b")
	n.Connect(netnstest.End{Host: a, Name: "eth0", Addrs: netnstest.Prefixes("10.0.0.1/24")},
		netnstest.End{Host: b, Name: "eth0", Addrs: netnstest.Prefixes("10.0.0.2/24")})
	s, err := NewSink(SinkOptions{Host: b, Link: "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, s)
	var server net.PacketConn
	if err := b.Do(func() error {
		server, err = net.ListenPacket("udp", "10.0.0.2:7")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if err := a.Do(func() error {
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.0.0.2:7")))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("hello, this is no stamp of ours"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := server.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, _, err := server.ReadFrom(make([]byte, 100)); err != nil || n != 31 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if c := read(t, s); c.Packets != 0 || c.Passed == 0 {
		t.Errorf("%+v", c)
	}
}
