package traffic

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// A library that shares nothing with us reads the frames.
func TestFramesReadAsWhatWasAskedFor(t *testing.T) {
	for name, f := range flows() {
		t.Run(name, func(t *testing.T) {
			f := f.withDefaults()
			for _, flow := range []int{0, 1, 999} {
				b := f.frame(stamp{flow: uint16(flow), seq: 5, time: 6}, 576)
				c := f.choose(flow)
				p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
				if p.ErrorLayer() != nil {
					t.Fatal(p.ErrorLayer().Error())
				}
				udps := 0
				for _, l := range p.Layers() {
					switch l := l.(type) {
					case *layers.VXLAN:
						if int(l.VNI) != 100+c.vni || !l.ValidIDFlag {
							t.Errorf("vni %d, want %d", l.VNI, 100+c.vni)
						}
					case *layers.Geneve:
						if int(l.VNI) != 100+c.vni {
							t.Errorf("vni %d, want %d", l.VNI, 100+c.vni)
						}
					case *layers.UDP:
						udps++
					}
				}
				want := 1
				if f.Format != Plain {
					want = 2
				}
				if udps != want {
					t.Fatalf("%d udp headers, want %d: %v", udps, want, p)
				}
				// gopacket has no sums of packets in packets, so of these only the inner one.
				inner := gopacket.NewPacket(b[f.offsets().ip:], layers.LayerTypeIPv4, gopacket.Default)
				if f.Inner.Src.Is6() {
					inner = gopacket.NewPacket(b[f.offsets().ip:], layers.LayerTypeIPv6, gopacket.Default)
				}
				src, dst := inner.NetworkLayer().NetworkFlow().Endpoints()
				wantSrc, wantDst := f.Sources.nth(f.Inner.Src, c.src), f.Destinations.nth(f.Inner.Dst, c.dst)
				if src.String() != wantSrc.String() || dst.String() != wantDst.String() {
					t.Errorf("from %v to %v, want %v and %v", src, dst, wantSrc, wantDst)
				}
				if err := inner.TransportLayer().(*layers.UDP).SetNetworkLayerForChecksum(inner.NetworkLayer()); err != nil {
					t.Fatal(err)
				}
				if err, mismatches := inner.VerifyChecksums(); err != nil || len(mismatches) > 0 {
					t.Errorf("wrong sums: %v, %v", mismatches, err)
				}
				if length := len(inner.NetworkLayer().LayerContents()) + len(inner.NetworkLayer().LayerPayload()); length != 576 || inner.Metadata().Truncated {
					t.Errorf("inner packet of %d bytes, want 576", length)
				}
			}
		})
	}
}

// Those of a second generator differ from those of the first one too.
func TestFlowsDiffer(t *testing.T) {
	all := flows()
	all["more destinations"] = Flow{Inner: inner4, Flows: 100, Destinations: Spread{Count: 1000}}
	for name, f := range all {
		seen := make(map[string]bool)
		for _, first := range []int{0, f.Flows, 2 * f.Flows} {
			f.First = first
			f := f.withDefaults()
			o := f.offsets()
			for i := first; i < first+f.Flows; i++ {
				b := f.frame(stamp{flow: uint16(i)}, 77)
				key := string(b[o.ip:o.udp+2]) + "|"
				if o.tunnel > 0 {
					key += string(b[o.tunnel : o.tunnel+tunnelLen])
				}
				if seen[key] {
					t.Fatalf("%s: flow %d looks like an earlier one", name, i)
				}
				seen[key] = true
			}
		}
	}
}

func TestAddressesCountUpAtTheirPrefix(t *testing.T) {
	for _, c := range []struct {
		first string
		bits  int
		n     int
		want  string
	}{
		{"10.0.0.1", 24, 258, "10.1.2.1"},
		{"10.0.0.1", 32, 300, "10.0.1.45"},
		{"fd00::1", 64, 0x12345, "fd00:0:1:2345::1"},
		{"fd00::1", 128, 15, "fd00::10"},
		{"fd00::1", 48, 2, "fd00:0:2::1"},
	} {
		if got := (Spread{Bits: c.bits}).nth(netip.MustParseAddr(c.first), c.n); got != netip.MustParseAddr(c.want) {
			t.Errorf("%s at bit %d, number %d is %v, want %s", c.first, c.bits, c.n, got, c.want)
		}
	}
}

func TestMoreDestinationsThanFlowsAreSpreadOver(t *testing.T) {
	f := Flow{Inner: inner4, Flows: 1000, Destinations: Spread{Count: 100_000, Bits: 30}}.withDefaults()
	last := -1
	for i := range f.Flows {
		c := f.choose(i)
		if c.dst != last+1 && c.dst != last+100 {
			t.Fatalf("flow %d goes to destination %d, the one before to %d", i, c.dst, last)
		}
		last = c.dst
	}
	if last != 99_900 {
		t.Errorf("last destination %d", last)
	}
}

func TestEachProblemOfAFlowIsReported(t *testing.T) {
	good := Flow{Format: VXLAN, Inner: inner4, Outer: outer6}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, f := range map[string]Flow{
		"format 9 is unknown":                {Format: 9},
		"outer addresses":                    {Format: VXLAN, Inner: inner4},
		"inner addresses":                    {Inner: Layer{Src: inner4.Src, Dst: inner6.Dst}},
		"70000 flows":                        {Inner: inner4, Flows: 70000},
		"30000 flows from number 40000":      {Inner: inner4, Flows: 30000, First: 40000},
		"more than 24 bits":                  {Inner: inner4, VNI: 1 << 24},
		"size 43":                            {Inner: inner4, Size: 43},
		"size 4000":                          {Inner: inner4, Size: 4000},
		"9 sizes, more than 8":               {Inner: inner4, Sizes: make([]Share, 9)},
		"weights add up to 2000":             {Inner: inner4, Sizes: []Share{{64, 1000}, {65, 1000}}},
		"300 destinations cannot be counted": {Inner: inner4, Destinations: Spread{Count: 300, Bits: 8}},
	} {
		if err := f.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestSchedulesKeepTheShares(t *testing.T) {
	f := Flow{Sizes: IMIX()}.withDefaults()
	var n [3]int
	for _, i := range f.schedule() {
		n[i]++
	}
	if n != [3]int{896, 512, 128} {
		t.Errorf("%v of 1536, want 7:4:1", n)
	}
}
