package relay

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/relay/wireguard"
)

var seed = flag.Uint64("seed", 1, "of the packets that the slow model is asked about")

// randomPacket draws valid packets: every kind of sender, receiver, protocol and size, with the odd ones (a TTL of 1, a
// source of somebody else, a destination of nobody) often enough to matter.
type randomPacket struct {
	*rand.Rand
	vpc     vpcName
	version int
}

func newRandomPacket(r *rand.Rand) *randomPacket {
	return &randomPacket{r, vpcName(r.IntN(3)), 4 + 2*r.IntN(2)}
}

func (r *randomPacket) one(of int) bool { return r.IntN(of) == 0 }

func (r *randomPacket) pick(four, six string) netip.Addr {
	if r.version == 4 {
		return netip.MustParseAddr(four)
	}
	return netip.MustParseAddr(six)
}

// host is an address at a place of a site; not always the one that answers there.
func (r *randomPacket) host(site int) netip.Addr {
	a := r.vpc.host(site, 1+r.IntN(places-1), r.version)
	if r.one(4) {
		a = a.Next()
	}
	return a
}

// routable keeps to the one address of the routed host: a neighbour that is not there is parked for.
func (r *randomPacket) routable(a netip.Addr) netip.Addr {
	if r.vpc.placeOf(a) == atRouted {
		return r.vpc.host(1, atRouted, r.version)
	}
	return a
}

func (r *randomPacket) destination(far int) netip.Addr {
	switch r.IntN(20) {
	case 0:
		return r.pick("10.99.1.1", "fd99:99::1")
	case 1:
		return r.pick("224.0.0.251", "ff02::fb")
	case 7:
		return r.pick("239.1.2.3", "ff08::2:3")
	case 2:
		return r.pick("255.255.255.255", "fe80::1")
	case 3, 4:
		return r.vpc.gateways(1)[r.version/6]
	case 5, 6:
		return r.routable(r.host(3 - far))
	}
	return r.routable(r.host(far))
}

func (r *randomPacket) source(near int) netip.Addr {
	if r.one(30) {
		return r.pick("127.0.0.1", "ff02::1")
	}
	return r.routable(r.host(near))
}

func (r *randomPacket) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func (r *randomPacket) size() int {
	if r.one(3) {
		return 1300 + r.IntN(maxTestInner-1300-60)
	}
	return r.IntN(200)
}

// inner makes an IP packet.
func (r *randomPacket) inner(src, dst netip.Addr) []byte {
	ttl, tos := byte(64), byte(0)
	if r.one(8) {
		ttl = byte(r.IntN(3))
	}
	if r.one(3) {
		tos = byte(r.Uint32())
	}
	var b []byte
	kind := r.IntN(8)
	if dst.IsMulticast() && (kind == 1 || kind == 4) {
		kind = 5 // there is no TCP to a group
	}
	switch payload := r.bytes(r.size()); kind {
	case 0:
		b = echoPacket(src, dst, uint16(r.Uint32()), uint16(r.Uint32()), payload)
	case 1:
		b = tcpPacket(src, dst, payload)
	case 2: // an ICMP error, which must not be answered with one
		payload = r.quote(src, dst, payload)
		if r.version == 4 {
			ip, _, _ := ipLayer(src, dst, layers.IPProtocolICMPv4, ttl, tos)
			b = serialize(ip, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 1)}, gopacket.Payload(payload))
		} else {
			ip, network, _ := ipLayer(src, dst, layers.IPProtocolICMPv6, ttl, tos)
			icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(1, 3)}
			must0(icmp.SetNetworkLayerForChecksum(network))
			b = serialize(ip, icmp, gopacket.Payload(append(make([]byte, 4), payload...)))
		}
	case 3: // GRE, say
		ip, _, _ := ipLayer(src, dst, layers.IPProtocolGRE, ttl, tos)
		b = serialize(ip, gopacket.Payload(append([]byte{0, 0, 8, 0}, payload...)))
	case 4: // a connection is opened, or accepted
		b = synPacket(src, dst, r.one(2), false, uint16(r.IntN(9000)))
	default:
		b = udpPacket(src, dst, ttl, tos, 20000+uint16(r.IntN(20000)), 1+uint16(r.IntN(4000)), payload)
	}
	*timeToLive(b) = ttl
	setTrafficClass(b, tos)
	if r.version == 4 && r.one(5) { // one that may be cut, and maybe was cut before
		b[6], b[7] = 0, 0
		if r.one(2) {
			b[6], b[7] = byte(r.IntN(2))<<5, byte(r.IntN(3))
		}
		fixIPv4(b)
	}
	return b
}

// quote is what an ICMP error to dst says it is about: a packet of dst's, maybe only its front.
func (r *randomPacket) quote(src, dst netip.Addr, payload []byte) []byte {
	switch r.IntN(4) {
	case 0:
		return payload
	case 1:
		payload = tcpPacket(dst, src, payload)
	default:
		payload = udpPacket(dst, src, 3, 0, 1, 2, payload)
	}
	return payload[:min(len(payload), 28+40*r.IntN(30))]
}

func outcomeOf(p *pair, t *testing.T, f func()) outcome {
	got := outcome{sent: make(map[uint32][][]byte)}
	got.verdicts = p.a.verdicts(f)
	for port := uint32(firstPort); port <= lastPort; port++ {
		for _, frame := range p.a.got(port) {
			if port != wanPort || p.a.snap.Peers[0].Direct.IsValid() {
				got.sent[port] = append(got.sent[port], normal(frame))
				continue
			}
			s, result := p.opened(frame)
			if result != wireguard.OK {
				t.Fatalf("the peer cannot open what was sent: %v", result)
			}
			got.sealed = append(got.sealed, s)
		}
	}
	return got
}

func (o outcome) String() string {
	text := fmt.Sprintf("%v", o.verdicts)
	for _, s := range o.sealed {
		text += fmt.Sprintf("\n  to the peer, outer TOS %#x: %x", s.tos, s.plain)
	}
	for port, frames := range o.sent {
		for _, b := range frames {
			text += fmt.Sprintf("\n  port %d: %x", port, b)
		}
	}
	return text
}

func (o outcome) equal(other outcome) bool {
	frames := func(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }
	messages := func(a, b sealedPacket) bool { return a.tos == b.tos && bytes.Equal(a.plain, b.plain) }
	return maps.Equal(o.verdicts, other.verdicts) && maps.EqualFunc(o.sent, other.sent, frames) && slices.EqualFunc(o.sealed, other.sealed, messages)
}

// exchange puts a random packet to site 1 and to the model, and returns what the relay makes of it and what it was. The
// peer knows the addresses of VPCs with translations by others.
func (p *pair) exchange(t *testing.T, r *randomPacket, want *model) (got outcome, what string) {
	translated := len(p.a.snap.VPCs[r.vpc].Translate) > 0
	if r.one(2) {
		place := 1 + r.IntN(places-1)
		src, dst := r.source(1), r.destination(2)
		if translated && r.one(20) {
			src = want.outside(r.vpc, src)
		}
		if translated && r.one(10) {
			dst = want.outside(r.vpc, dst)
		}
		inner := r.inner(src, dst)
		port, frame := fromHost(r.vpc, 1, place, inner)
		if place == atGeneve4 || place == atGeneve6 {
			frame = want.geneveFrame(r.vpc, place, inner, r.options())
		}
		if port == sitePort {
			setTrafficClass(frame[14:], byte(r.Uint32()))
		}
		want.fromPort(port, frame)
		return outcomeOf(p, t, func() {
			if !p.a.queues[0][port].Inject(frame) {
				t.Fatal("no frame")
			}
			p.a.turn()
		}), fmt.Sprintf("at port %d: %v", port, gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default))
	}
	src, dst := r.source(2), r.destination(1)
	if r.one(15) {
		src = r.source(1) // that the peer may not have
	}
	if translated && !r.one(10) {
		dst = want.outside(r.vpc, dst)
	}
	plain := r.inner(src, dst)
	geneve := r.geneveFromPeer(plain)
	if direct := p.a.snap.Peers[0].Direct; direct.IsValid() {
		own := wanAddr(1, 4)
		if direct.Addr().Is6() {
			own = wanAddr(1, 6)
		}
		b := overUDP(direct.Addr(), own, byte(r.Uint32()), directPort, false, gopacket.Payload(geneve))
		frame := framed(ethernet(portMAC(2, wanPort), portMAC(1, wanPort), etherTypeOfPacket(b)), b)
		want.fromDirect(frame)
		return outcomeOf(p, t, func() {
			if !p.a.queues[0][wanPort].Inject(frame) {
				t.Fatal("no frame")
			}
			p.a.turn()
		}), fmt.Sprintf("from the peer, in the clear: %v", decode(plain))
	}
	if r.vpc != defaultVPC {
		plain = udpPacket(tunnelAddrs(2)[0], tunnelAddrs(1)[0], 64, byte(r.Uint32()), 50000, 6081, geneve)
	}
	want.fromPeer(plain, 0)
	return outcomeOf(p, t, func() {
		p.sealTo(t, plain)
		p.a.turn()
	}), fmt.Sprintf("from the peer: %v", decode(plain))
}

// geneveFromPeer wraps a packet as the peer may, with or without Ethernet.
func (r *randomPacket) geneveFromPeer(b []byte) []byte {
	etherType := etherTypeOfPacket(b)
	if r.one(4) {
		b = framed(ethernet([6]byte{2}, [6]byte{4}, etherType), b)
		etherType = layers.EthernetTypeTransparentEthernetBridging
	}
	return geneveBytes(r.vpc.vni(1), etherType, r.options(), b)
}

// tallyOf is how often each verdict was met.
type tallyOf map[string]int

func (seen tallyOf) add(o outcome) {
	for v := range o.verdicts {
		seen[v]++
	}
}

func (seen tallyOf) atLeast(t *testing.T, n int, verdicts ...Verdict) {
	t.Helper()
	for _, v := range verdicts {
		if seen[v.String()] < n {
			t.Errorf("verdict %v was met %d times only: %v", v, seen[v.String()], seen)
		}
	}
}

func TestRandomPacketsFareAsTheSlowModelSays(t *testing.T) {
	p := newPair(t, gatewayOptions{tune: func(o *Options) { o.ErrorRate = 1 << 30 }})
	p.connect(t)
	seen, pieces := make(tallyOf), 0
	for i := range uint64(20_000) {
		r := newRandomPacket(rand.New(rand.NewPCG(*seed, i)))
		want := newModel(p.a.snap, nil)
		got, what := p.exchange(t, r, want)
		if !got.equal(want.outcome) {
			t.Fatalf("packet %d %s\n got %v\nwant %v", i, what, got, want.outcome)
		}
		seen.add(got)
		pieces += want.pieces
	}
	if pieces < 20 {
		t.Errorf("%d fragments", pieces)
	}
	seen.atLeast(t, 20, ToPeer, ToSite, Answered, Originated, Martian, Multicast, CongestionLost, SourceNotAllowed, NotForTransit, GatewayOnly, TTLExpired, NoRoute, TooBig, CriticalOption)
}
