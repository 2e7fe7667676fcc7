package packet

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

func serialize(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestTheWalkOverIPv6ExtensionHeadersEndsAtTheTransportHeader(t *testing.T) {
	header := func(next byte, payload ...byte) []byte {
		b := make([]byte, IPv6Len, IPv6Len+len(payload))
		PutIPv6(b, 0, 0, len(payload), 64, next, [16]byte{1}, [16]byte{2})
		return append(b, payload...)
	}
	for _, c := range []struct {
		name  string
		b     []byte
		bad   Problem
		proto uint8
		len   int
		first bool
	}{
		{"none", header(ProtoTCP, make([]byte, 20)...), Fine, ProtoTCP, 40, true},
		{"hop-by-hop of 8 bytes", header(ProtoHopByHop, append([]byte{ProtoUDP, 0, 1, 4, 0, 0, 0, 0}, make([]byte, 8)...)...), Fine, ProtoUDP, 48, true},
		{"authentication counts in words of four", header(ProtoAH, append([]byte{ProtoUDP, 4}, make([]byte, 30)...)...), Fine, ProtoUDP, 64, true},
		{"a first fragment", header(ProtoFragment, ProtoUDP, 0, 0, 1, 0, 0, 0, 1), Fine, ProtoUDP, 48, true},
		{"a later fragment", header(ProtoFragment, ProtoUDP, 0, 0, 8, 0, 0, 0, 1), Fine, ProtoUDP, 48, false},
		{"cut short", header(ProtoRouting, ProtoUDP, 0, 0, 0), Short, 0, 0, false},
		{"longer than the packet", header(ProtoRouting, ProtoUDP, 9, 0, 0, 0, 0, 0, 0), BadLength, 0, 0, false},
	} {
		ip, bad := parse6(c.b)
		if bad != c.bad || bad == Fine && (ip.Proto != c.proto || ip.HeaderLen != c.len || ip.First != c.first) {
			t.Errorf("%s: %v %+v", c.name, bad, ip)
		}
	}
}

func TestARPIsReadAndAnsweredAsGopacketDoes(t *testing.T) {
	request := &layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: 1,
		SourceHwAddress: []byte{2, 0, 0, 0, 0, 1}, SourceProtAddress: []byte{10, 0, 0, 1}, DstHwAddress: make([]byte, 6), DstProtAddress: []byte{10, 0, 0, 2}}
	a, bad := ParseARP(serialize(t, request))
	if bad != Fine || a.Op != ARPRequest || a.TargetIP != [4]byte{10, 0, 0, 2} {
		t.Fatalf("%v %+v", bad, a)
	}
	got := make([]byte, ARPLen)
	PutARPReply(got, a, [6]byte{2, 0, 0, 0, 0, 2})
	reply := *request
	reply.Operation = 2
	reply.SourceHwAddress, reply.SourceProtAddress = []byte{2, 0, 0, 0, 0, 2}, []byte{10, 0, 0, 2}
	reply.DstHwAddress, reply.DstProtAddress = request.SourceHwAddress, request.SourceProtAddress
	if want := serialize(t, &reply); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func TestGeneveAndVXLANHeadersAreThoseOfGopacket(t *testing.T) {
	option := &layers.GeneveOption{Class: 0x0102, Type: 0x81, Length: 8, Data: []byte{1, 2, 3, 4}}
	want := serialize(t, &layers.Geneve{Protocol: layers.EthernetTypeIPv6, VNI: 0xabcdef, CriticalOption: true, Options: []*layers.GeneveOption{option}})
	g, bad := ParseGeneve(want)
	if bad != Fine || g.VNI != 0xabcdef || g.Type != TypeIPv6 || !g.Critical() || g.Control() || g.Len != 16 {
		t.Fatalf("%v %+v", bad, g)
	}
	got := bytes.Clone(want)
	PutGeneve(got[:GeneveLen], TypeIPv6, 0xabcdef, 8, true)
	if !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	want = serialize(t, &layers.VXLAN{ValidIDFlag: true, VNI: 0xabcdef})
	got = make([]byte, VXLANLen)
	PutVXLAN(got, 0xabcdef)
	if vni, bad := ParseVXLAN(want); bad != Fine || vni != 0xabcdef || !bytes.Equal(got, want) {
		t.Errorf("%v vni %#x, got %x, want %x", bad, vni, got, want)
	}
}

func TestAFlowKeepsItsHashAndFlowsDiffer(t *testing.T) {
	seen := make(map[uint32]int)
	for _, version := range []int{4, 6} {
		for port := range 1000 {
			b := built(t, version, &layers.UDP{SrcPort: layers.UDPPort(port + 1), DstPort: 53}, layers.IPProtocolUDP, []byte{byte(port)})
			ip, _ := parse(b)
			h := FlowHash(b, ip)
			seen[h]++
			DecrementTTL(b)
			b[len(b)-1]++ // the payload is not part of the flow
			if FlowHash(b, ip) != h {
				t.Fatal("the same flow has two hashes")
			}
			if p := EntropyPort(h); p < 49152 {
				t.Fatalf("source port %d", p)
			}
		}
	}
	if len(seen) < 1995 {
		t.Errorf("2000 flows have %d hashes", len(seen))
	}
	// The hash decides where flows go on several gateways: it may not change by accident.
	ip := &IP{Version: 4, Proto: ProtoUDP, First: true, HeaderLen: 20, Len: 24}
	if h := FlowHash(make([]byte, 24), ip); h != stableHash {
		t.Errorf("hash %#x of the flow of zeros, want %#x", h, uint32(stableHash))
	}
}

func TestAGoneNextHopMovesOnlyItsOwnFlows(t *testing.T) {
	best := func(flow uint32, ids []uint32) (id uint32) {
		top := uint32(0)
		for _, i := range ids {
			if w := Rendezvous(flow, i); w >= top {
				id, top = i, w
			}
		}
		return id
	}
	share := make(map[uint32]int)
	for flow := range uint32(3000) {
		before, after := best(flow*0x9e3779b1, []uint32{1, 2, 3}), best(flow*0x9e3779b1, []uint32{1, 3})
		share[before]++
		if before != 2 && before != after {
			t.Fatalf("flow %d moved from %d to %d", flow, before, after)
		}
	}
	for id, n := range share {
		if n < 850 || n > 1150 {
			t.Errorf("next hop %d has %d of 3000 flows", id, n)
		}
	}
}

// stableHash is the hash of the flow of zeros, for ever.
const stableHash = 0xecb9b05f

// seeds are packets of every kind, and all their beginnings are cut from them by the fuzzer.
func seeds(f *testing.F) {
	for _, version := range []int{4, 6} {
		f.Add(built(f, version, &layers.UDP{SrcPort: 1, DstPort: 6081}, layers.IPProtocolUDP, []byte("payload")))
		f.Add(built(f, version, &layers.TCP{SrcPort: 1, DstPort: 2}, layers.IPProtocolTCP, nil))
	}
	target := netip.MustParseAddr("fd00::1").AsSlice()
	f.Add(built(f, 6, &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(135, 0)}, layers.IPProtocolICMPv6, append(make([]byte, 4), target...)))
	f.Add(serialize(f, &layers.Geneve{Protocol: layers.EthernetTypeIPv4, VNI: 7, Options: []*layers.GeneveOption{{Class: 1, Type: 2, Length: 8, Data: make([]byte, 4)}}}))
	f.Add([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 8, 0})
	f.Add([]byte{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2})
}

// FuzzParse runs every parser over the same bytes: whatever they say is Fine
// must lie within the bytes, and nothing may be written or crash.
func FuzzParse(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		if e, bad := ParseEthernet(b); bad == Fine && (e.Len > len(b) || e.Len != EthernetLen+4*e.Tags) {
			t.Errorf("ethernet %+v of %d bytes", e, len(b))
		}
		if ip, bad := parse(b); bad == Fine {
			if ip.HeaderLen > ip.Len || ip.Len > len(b) || ip.Src(b).Is4() != (ip.Version == 4) || !ip.Fragment && !ip.First {
				t.Errorf("ip %+v of %d bytes", ip, len(b))
			}
			FlowHash(b, ip)
			Unfinished(b, ip)
			if _, bad := ParseSolicit(b, ip); ip.Version == 6 && bad == Fine && ip.TTL != 255 {
				t.Error("a solicitation from afar")
			}
			payload := b[ip.HeaderLen:ip.Len]
			if u, bad := ParseUDP(payload); bad == Fine && u.Len > len(payload) {
				t.Errorf("udp %+v of %d bytes", u, len(payload))
			}
			if tcp, bad := ParseTCP(payload); bad == Fine && tcp.HeaderLen > len(payload) {
				t.Errorf("tcp %+v of %d bytes", tcp, len(payload))
			}
			if m, bad := ParseICMP(payload); bad == Fine {
				_ = m.Error(ip.Version) // no message type makes it panic
			}
		}
		if g, bad := ParseGeneve(b); bad == Fine && (g.Len > len(b) || g.Len > GeneveLen+MaxGeneveOptions) {
			t.Errorf("geneve %+v of %d bytes", g, len(b))
		}
		if vni, bad := ParseVXLAN(b); bad == Fine && (len(b) < VXLANLen || vni > 1<<24-1) {
			t.Errorf("vxlan vni %d of %d bytes", vni, len(b))
		}
		if _, bad := ParseARP(b); bad == Fine && len(b) < ARPLen {
			t.Errorf("arp of %d bytes", len(b))
		}
		if !bytes.Equal(b, before) {
			t.Error("a parser wrote")
		}
	})
}

// FuzzFinish holds a finished packet against gopacket's decoder.
func FuzzFinish(f *testing.F) {
	f.Add([]byte("payload"), true, uint16(1), uint16(2))
	f.Add([]byte{}, false, uint16(0), uint16(0xffff))
	f.Fuzz(func(t *testing.T, payload []byte, four bool, src, dst uint16) {
		if len(payload) > 1400 {
			return
		}
		version := 6
		if four {
			version = 4
		}
		want := built(t, version, &layers.UDP{SrcPort: layers.UDPPort(src), DstPort: layers.UDPPort(dst)}, layers.IPProtocolUDP, payload)
		ip, bad := parse(want)
		if bad != Fine {
			t.Fatal(bad)
		}
		got := bytes.Clone(want)
		PutTransportChecksum(got, ip.HeaderLen, ProtoUDP)
		if want[ip.HeaderLen+6]|want[ip.HeaderLen+7] != 0 && !bytes.Equal(got, want) { // gopacket writes zero as zero
			t.Errorf("got %x, want %x", got, want)
		}
	})
}

func parse(b []byte) (*IP, Problem)  { ip := new(IP); return ip, ip.Parse(b) }
func parse4(b []byte) (*IP, Problem) { ip := new(IP); return ip, ip.Parse4(b) }
func parse6(b []byte) (*IP, Problem) { ip := new(IP); return ip, ip.Parse6(b) }
