package xdp

import (
	"bytes"
	stdcontext "context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/afxdp"
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/neigh"
	formats "github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/relay/relaytest"
	wg "github.com/sluicegw/sluice/relay/wireguard"
)

// twinRelay is a relay over a port in memory with the forwarding state of directState, as far as it is about VPC 300 on the
// untagged port.
type twinRelay struct {
	t     *testing.T
	relay *relay.Relay
	queue *relaytest.Queue
}

func newTwinRelay(t *testing.T, s State) *twinRelay {
	t.Helper()
	key, err := wg.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	device, err := wg.New(wg.Options{PrivateKey: key, Send: func(wg.Datagram) {}})
	if err != nil {
		t.Fatal(err)
	}
	umem, err := afxdp.NewHeapUMEM(afxdp.UMEMOptions{Frames: 1024})
	if err != nil {
		t.Fatal(err)
	}
	source := neigh.Static()
	r, err := relay.New(relay.Options{Device: device, Neighbours: source, UMEMs: []*afxdp.UMEM{umem}})
	if err != nil {
		t.Fatal(err)
	}
	w := &twinRelay{t: t, relay: r, queue: relaytest.NewQueue(umem, relaytest.Options{Notify: r.Wake})}
	if err := r.SetQueues(0, []relay.PortQueue{{Ifindex: loopback, Queue: w.queue}}); err != nil {
		t.Fatal(err)
	}
	if err := r.Update(twinSnapshot(t, s, source)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := stdcontext.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// twinSnapshot says to the relay what the state's hops say to the program.
func twinSnapshot(t *testing.T, s State, source *neigh.StaticSource) *relay.Snapshot {
	t.Helper()
	const vxlan, geneve, routed = 0, 1, 2
	vpc := relay.VPC{Name: "red", VNI: directVNI, GatewayMAC: [6]byte{2, 0, 0, 0, 2, 1}, Attachments: []relay.Attachment{
		{Kind: relay.VXLAN, Ifindex: loopback}, {Kind: relay.Geneve, Ifindex: loopback}, {Kind: relay.Routed, Ifindex: loopback}}}
	out := &relay.Snapshot{DirectPort: DefaultDirectPort, Local: s.Local,
		Ports: []relay.Port{{Ifindex: loopback, Name: "port", MAC: portMAC, MTU: 9000}}}
	var routes []fib.Route
	next := func(h *Hop) (fib.NextHop, int) {
		overhead := 0
		if h.Kind != ToRouted {
			if overhead = 20 + 8 + 8; h.Dst.Is6() {
				overhead += 20
			}
		}
		switch h.Kind {
		case ToPeer:
			id := uint32(len(out.Peers))
			for i := range out.Peers {
				if out.Peers[i].Direct.Addr() == h.Dst {
					id = uint32(i)
				}
			}
			if int(id) == len(out.Peers) {
				out.Peers = append(out.Peers, relay.Peer{Name: h.Dst.String(), Direct: netip.AddrPortFrom(h.Dst, h.UDPPort), VPCs: []relay.PeerVPC{{VNI: h.VNI, RemoteVNI: h.RemoteVNI}}})
			}
			return fib.NextHop{Kind: fib.Remote, ID: id}, overhead
		case ToRouted:
			out.Deliveries = append(out.Deliveries, relay.Delivery{VNI: h.VNI, Attachment: routed})
		default:
			overhead += 14
			d := relay.Delivery{VNI: h.VNI, Attachment: vxlan, VTEP: h.Dst, MAC: h.InnerDst}
			if h.Kind == ToGeneve {
				d.Attachment = geneve
			}
			out.Deliveries = append(out.Deliveries, d)
		}
		return fib.NextHop{Kind: fib.Local, ID: uint32(len(out.Deliveries) - 1)}, overhead
	}
	for _, p := range slices.Concat(s.Remote, s.Site) {
		i := slices.IndexFunc(s.Hops, func(h Hop) bool { return p.Hop != 0 && h.ID == p.Hop && twinned(&h) })
		if p.VNI != directVNI || i < 0 {
			continue
		}
		h := &s.Hops[i]
		hop, overhead := next(h)
		routes = append(routes, fib.Route{Prefix: p.Prefix, NextHops: []fib.NextHop{hop}})
		e := &neigh.Entry{Key: neigh.Key{Dst: h.Dst, Ifindex: loopback}, State: neigh.Resolved, Egress: loopback, Src: h.Src, SrcMAC: h.SrcMAC, DstMAC: h.DstMAC, MTU: h.MTU + overhead}
		switch h.Kind {
		case ToPeer:
			e.Key.Ifindex = 0
		case ToRouted:
			e.Key.Dst = hostIn(p.Prefix)
		}
		source.Set(e)
	}
	var err error
	if vpc.Routes, err = fib.New(routes); err != nil {
		t.Fatal(err)
	}
	out.VPCs = []relay.VPC{vpc}
	return out
}

// twinned says whether a hop is one of those that differ in nothing but the place.
func twinned(h *Hop) bool {
	return h.Resolved() && h.Ifindex == loopback && h.MTU == 1400 && h.MaxMSS == 0 && !h.NoClamp
}

// hostIn is the host that these tests have in a prefix.
func hostIn(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		a := p.Addr().As4()
		a[3] = 5
		return netip.AddrFrom4(a)
	}
	a := p.Addr().As16()
	a[15] = 5
	return netip.AddrFrom16(a)
}

// process gives the relay a packet and returns what it sends.
func (w *twinRelay) process(packet []byte) [][]byte {
	w.t.Helper()
	var sent [][]byte
	// Between two batches, on the worker's thread: nothing runs beside it.
	w.relay.Do(0, func() {
		if !w.queue.Inject(packet) {
			w.t.Error("the relay has no frame")
		}
	})
	// The worker may not run yet, and until it does Do is done at once.
	for deadline := time.Now().Add(10 * time.Second); len(sent) == 0 && time.Now().Before(deadline); {
		w.relay.Do(0, func() { sent = append(sent, w.queue.Collect()...) })
		runtime.Gosched()
	}
	return sent
}

// sameFlow gives b, a packet of the relay's, the flow's mark of a, the program's: both choose the source port and the flow
// label by a hash of their own. A checksum over them is made to fit.
func sameFlow(a, b []byte) []byte {
	b = bytes.Clone(b)
	if len(a) != len(b) || len(b) < 14+20+8 {
		return b
	}
	ip := 14
	udp := ip + 20
	if binary.BigEndian.Uint16(b[12:]) == formats.TypeIPv6 {
		udp = ip + 40
		copy(b[ip+1:ip+4], []byte{b[ip+1]&0xf0 | a[ip+1]&0x0f, a[ip+2], a[ip+3]})
	}
	copy(b[udp:udp+2], a[udp:udp+2])
	if udp == ip+40 && (b[udp+6] != 0 || b[udp+7] != 0) {
		formats.PutTransportChecksum(b[ip:], 40, formats.ProtoUDP)
	}
	return b
}

// Whatever the program forwards by itself the relay sends in the same way, byte for byte.
func TestTheProgramAndTheRelaySendTheSame(t *testing.T) {
	h, s := newDirectHarness(t, Options{})
	twin := newTwinRelay(t, s)
	random := rand.New(rand.NewPCG(4, 35))
	hosts := map[bool][2][]string{}
	for _, six := range []bool{false, true} {
		var lists [2][]string
		for i, places := range [2][]int{{11, 12, 13, 14, 15}, {1, 2}} {
			for _, place := range places {
				if six {
					lists[i] = append(lists[i], fmt.Sprintf("fd%d:%d::5", 40-10*i, place))
				} else {
					lists[i] = append(lists[i], fmt.Sprintf("10.%d.%d.5", 40-10*i, place))
				}
			}
		}
		hosts[six] = lists
	}
	pick := func(list []string) string { return list[random.IntN(len(list))] }
	counts := make(map[Verdict]int)
	for i := range 6000 {
		six, out := random.IntN(2) == 0, random.IntN(2) == 0
		site, remote := pick(hosts[six][0]), pick(hosts[six][1])
		src, dst := site, remote
		if !out {
			src, dst = remote, site
		}
		var l []layer
		switch random.IntN(4) {
		case 0:
			l = udpFlow(src, dst, random.IntN(1350))
		case 1:
			l = tcpFlow(src, dst, false)
		case 2:
			l = tcpFlow(src, dst, true, announce(uint16(100+random.IntN(2000))))
		case 3:
			if six {
				l = flow(src, dst, layers.IPProtocolICMPv6, &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}, gopacket.Payload(make([]byte, 4+random.IntN(100))))
			} else {
				l = flow(src, dst, layers.IPProtocolICMPv4, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: uint16(i)}, gopacket.Payload(make([]byte, random.IntN(100))))
			}
		}
		tos := uint8(random.Uint32())
		switch ip := l[0].(type) {
		case *layers.IPv4:
			ip.TOS, ip.TTL, ip.Id = tos, uint8(1+random.IntN(255)), uint16(random.Uint32())
		case *layers.IPv6:
			ip.TrafficClass, ip.HopLimit, ip.FlowLabel = tos, uint8(1+random.IntN(255)), random.Uint32()&0xfffff
		}
		var packet []byte
		switch {
		case out && random.IntN(2) == 0:
			packet = inVXLAN(l)
		case out:
			packet = inGeneve(l)
		case remote == hosts[six][1][0]:
			packet = fromPeer("192.0.2.77", l)
		default:
			packet = fromPeer("2001:db8::88", l)
		}
		verdict, got := h.process(t, packet, loopback, 0)
		counts[verdict]++
		if verdict != DirectToPeer && verdict != DirectToSite {
			continue
		}
		sent := twin.process(packet)
		if len(sent) != 1 {
			t.Fatalf("packet %d: the program says %v, the relay sends %d packets: %x", i, verdict, len(sent), packet)
		}
		want := sent[0]
		if routed := hosts[six][0][4]; out || site != routed { // that has no outer headers
			want = sameFlow(got, want)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("packet %d, %v\nin      %x\nprogram %x\nrelay   %x", i, verdict, packet, got, want)
		}
	}
	if counts[DirectToPeer] < 1000 || counts[DirectToSite] < 1000 {
		t.Errorf("forwarded: %v", counts)
	}
}
