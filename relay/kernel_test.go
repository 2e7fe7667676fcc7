package relay

import (
	"bytes"
	"maps"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/relay/relaytest"
)

// tunPort is the port to the kernel of the host.
const tunPort = lastPort + 1

// addKernel gives every worker a queue to the kernel, in memory.
func (g *gateway) addKernel() {
	for i, w := range g.relay.workers {
		var list []PortQueue
		for ifindex, q := range g.queues[i] {
			list = append(list, PortQueue{Ifindex: ifindex, Queue: q})
		}
		g.queues[i][tunPort] = relaytest.NewQueue(g.umems[i], relaytest.Options{Notify: w.waker.wake})
		check(g.t, g.relay.SetQueues(i, append(list, PortQueue{Ifindex: tunPort, Queue: g.queues[i][tunPort]})))
	}
	s := *g.snap
	s.TunPort = tunPort
	g.snap = &s
	check(g.t, g.relay.Update(g.snap))
}

// newKernelPair is a pair with kernels at both gateways, and no default VPC: what they say to each other needs none.
func newKernelPair(t *testing.T, o gatewayOptions) *pair {
	p := newPair(t, o)
	p.connect(t)
	for _, g := range []*gateway{p.a, p.b} {
		g.addKernel()
		g.withoutRoutes()
	}
	return p
}

func tunnelAddr(site, version int) netip.Addr { return tunnelAddrs(site)[version/6] }

// what the kernel of site 1 sends to that of site 2, pinned: inside the tunnel and at the other kernel it is the same.
func TestGoldenKernelToKernel(t *testing.T) {
	for _, outer := range []int{4, 6} {
		p := newKernelPair(t, gatewayOptions{outer: outer})
		name := filepath.Join("testdata", "kernel.in.pcap")
		if *update {
			var packets [][]byte
			for _, version := range []int{4, 6} {
				src, dst := tunnelAddr(1, version), tunnelAddr(2, version)
				packets = append(packets, tcpPacket(src, dst, []byte("BGP OPEN")), udpPacket(src, dst, 1, 0xc0, 3784, 3784, []byte("BFD, TTL 1 and CS6")),
					udpPacket(src, dst, 255, 2, 49152, 3784, []byte("TTL security")), tcpPacket(src, dst, make([]byte, 1420-72)))
			}
			writeCapture(t, name, layers.LinkTypeRaw, packets)
		}
		in := readCapture(t, name)
		for _, b := range in {
			p.a.queues[0][tunPort].Inject(b)
		}
		sent := p.a.verdicts(func() { p.a.turn() })
		if want := map[string]uint64{"kernel_sent": uint64(len(in))}; !maps.Equal(sent, want) {
			t.Errorf("site 1: %v, want %v", sent, want)
		}
		got := p.b.verdicts(p.settle)
		if want := map[string]uint64{"to_kernel": uint64(len(in))}; !maps.Equal(got, want) {
			t.Errorf("site 2: %v, want %v", got, want)
		}
		compare(t, layers.LinkTypeRaw, p.b.got(tunPort), in)
	}
}

func TestWhatTheKernelMustNotSendGoesNowhere(t *testing.T) {
	p := newKernelPair(t, gatewayOptions{})
	us, them := tunnelAddr(1, 4), tunnelAddr(2, 4)
	us6, them6 := tunnelAddr(1, 6), tunnelAddr(2, 6)
	for _, c := range []struct {
		name string
		in   []byte
		want []Verdict
	}{
		{"not from our tunnel address", udpPacket(addr("192.0.2.1"), them, 64, 0, 1, 2, nil), []Verdict{TunnelMismatch}},
		{"from the peer's own", udpPacket(them, them, 64, 0, 1, 2, nil), []Verdict{TunnelMismatch}},
		{"IPv6, not from our tunnel address", udpPacket(addr("2001:db8::1"), them6, 64, 0, 1, 2, nil), []Verdict{TunnelMismatch}},
		{"to nobody", udpPacket(us, addr("100.64.9.9"), 64, 0, 1, 2, nil), []Verdict{NoRoute, Originated}},
		{"IPv6 to nobody", udpPacket(us6, addr("fd64::99"), 64, 0, 1, 2, nil), []Verdict{NoRoute, Originated}},
		{"to a group", udpPacket(us, addr("224.0.0.251"), 1, 0, 5353, 5353, nil), []Verdict{Multicast}},
		{"router solicitation", udpPacket(addr("fe80::1"), addr("ff02::2"), 255, 0, 1, 2, nil), []Verdict{Multicast}},
		{"broken", []byte{0x45, 0, 0}, []Verdict{BadInnerIP}},
		{"of no known version", []byte{0x70, 0, 0, 0}, []Verdict{BadInnerIP}},
		{"with a wrong checksum", edit(udpPacket(us, them, 64, 0, 1, 2, nil), func(b []byte) { b[10]++ }), []Verdict{InnerChecksum}},
		{"empty", nil, []Verdict{BadInnerIP}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.a.queues[0][tunPort].Inject(c.in)
			want := make(map[string]uint64)
			for _, v := range c.want {
				want[v.String()] = 1
			}
			if got := p.a.verdicts(func() { p.a.turn() }); !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if got := p.a.got(wanPort); len(got) != 0 {
				t.Errorf("sent %x", got)
			}
			if got := p.a.got(tunPort); len(got) != len(c.want)-1 {
				t.Errorf("the kernel got %x", got)
			} else if len(got) > 0 {
				sound(t, got[0])
			}
		})
	}
}

// What fits no tunnel is answered as a router on the way would, so that the kernel learns the path's MTU.
func TestTheKernelIsToldWhatFits(t *testing.T) {
	p := newKernelPair(t, gatewayOptions{})
	limit := tunnelLimit(4)
	for _, version := range []int{4, 6} {
		us, them := tunnelAddr(1, version), tunnelAddr(2, version)
		long := udpPacket(us, them, 64, 0, 1, 2, make([]byte, limit+1-28-20*(version/6)))
		if version == 4 {
			long = edit(long, func(b []byte) { b[6] = 0x40; fixIPv4(b) })
		}
		p.a.queues[0][tunPort].Inject(long)
		if got, want := p.a.verdicts(func() { p.a.turn() }), (map[string]uint64{"too_big": 1, "originated": 1}); !maps.Equal(got, want) {
			t.Fatalf("IPv%d: got %v, want %v", version, got, want)
		}
		got := p.a.got(tunPort)
		if len(got) != 1 {
			t.Fatalf("IPv%d: %d packets for the kernel", version, len(got))
		}
		sound(t, got[0])
		answer := decode(got[0])
		if flow := answer.NetworkLayer().NetworkFlow(); flow.Src().String() != them.String() || flow.Dst().String() != us.String() {
			t.Errorf("IPv%d: %v", version, flow)
		}
		mtu := int(got[0][26])<<8 | int(got[0][27])
		if version == 6 {
			mtu = int(got[0][46])<<8 | int(got[0][47])
		}
		if mtu != limit {
			t.Errorf("IPv%d: mtu %d, want %d", version, mtu, limit)
		}
	}
	// IPv4 that may be cut is cut, and the other kernel puts it together.
	whole := edit(udpPacket(tunnelAddr(1, 4), tunnelAddr(2, 4), 64, 0, 1, 2, make([]byte, limit)), func(b []byte) { b[6] = 0; fixIPv4(b) })
	p.a.queues[0][tunPort].Inject(whole)
	p.settle()
	got := p.b.got(tunPort)
	if len(got) != 2 || len(got[0]) > limit || !bytes.Equal(append(bytes.Clone(got[0][20:]), got[1][20:]...), whole[20:]) {
		t.Errorf("%d pieces; site 1 %v, site 2 %v", len(got), nonzero(p.a.relay.Counters()), nonzero(p.b.relay.Counters()))
	}
}

// The relay sees to pings of peers, the kernel to everything else: also the answers to its own pings, errors, fragments.
func TestWhatPeersSendToTheTunnelAddressIsTheKernels(t *testing.T) {
	p := newKernelPair(t, gatewayOptions{})
	us, them := tunnelAddr(1, 4), tunnelAddr(2, 4)
	reply := edit(echoPacket(them, us, 5, 6, []byte("pong")), func(b []byte) { b[20] = 0; b[22] += 8 })
	pieces := slowFragments(edit(udpPacket(them, us, 64, 0, 1, 2, make([]byte, 1000)), func(b []byte) { b[6] = 0; fixIPv4(b) }), 600)
	for _, c := range []struct {
		name   string
		in     []byte
		want   map[string]uint64
		kernel bool
	}{
		{"TCP", tcpPacket(them, us, []byte("GET /metrics")), map[string]uint64{"to_kernel": 1}, true},
		{"UDP", udpPacket(them, us, 64, 0, 1, 2, nil), map[string]uint64{"to_kernel": 1}, true},
		{"an answer to the kernel's ping", reply, map[string]uint64{"to_kernel": 1}, true},
		{"a first fragment", pieces[0], map[string]uint64{"to_kernel": 1}, true},
		{"a later fragment", pieces[1], map[string]uint64{"to_kernel": 1}, true},
		{"a ping", echoPacket(them, us, 5, 6, []byte("ping")), map[string]uint64{"answered": 1, "originated": 1}, false},
		{"from an address that is not the peer's", tcpPacket(addr("100.64.0.9"), us, nil), map[string]uint64{"tunnel_mismatch": 1}, false},
		{"from our own address", tcpPacket(us, us, nil), map[string]uint64{"tunnel_mismatch": 1}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.sealTo(t, c.in)
			if got := p.a.verdicts(func() { p.a.turn() }); !maps.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			got := p.a.got(tunPort)
			if c.kernel && (len(got) != 1 || !bytes.Equal(got[0], c.in)) || !c.kernel && len(got) != 0 {
				t.Errorf("the kernel got %x", got)
			}
			p.a.queues[0][wanPort].Discard()
		})
	}
}

// A packet of the kernel's waits for the session, and is not lost when the forwarding state changes meanwhile.
func TestTheKernelsPacketsWaitForASession(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	for _, g := range []*gateway{p.a, p.b} {
		g.addKernel()
		g.withoutRoutes()
	}
	in := tcpPacket(tunnelAddr(1, 4), tunnelAddr(2, 4), []byte("SYN, say"))
	p.a.queues[0][tunPort].Inject(in)
	p.a.turn()
	p.a.withoutRoutes()
	var got [][]byte
	p.until(t, "the packet arrives", func() bool {
		got = append(got, p.b.got(tunPort)...)
		return len(got) > 0
	})
	if !bytes.Equal(got[0], in) {
		t.Errorf("got %x", got[0])
	}
}

func TestWithoutTheQueueTheRelayAnswersForTheKernel(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	s := *p.a.snap
	s.TunPort = tunPort // the device is not open yet
	check(t, p.a.relay.Update(&s))
	p.sealTo(t, tcpPacket(tunnelAddr(2, 4), tunnelAddr(1, 4), nil))
	if got, want := p.a.verdicts(func() { p.a.turn() }), (map[string]uint64{"gateway_only": 1}); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestTwoWorkersShareTheKernel(t *testing.T) {
	p := newKernelPair(t, gatewayOptions{workers: 2})
	for i := range 2 {
		in := udpPacket(tunnelAddr(1, 4), tunnelAddr(2, 4), 64, 0, uint16(i), 2, nil)
		p.a.queues[i][tunPort].Inject(in)
		p.settle()
		if got := p.b.queues[i][tunPort].Collect(); len(got) != 1 || !bytes.Equal(got[0], in) {
			t.Errorf("worker %d: %x", i, got)
		}
	}
}
