package packet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// slowSum is RFC 1071 to the letter: the twin of Sum.
func slowSum(initial uint16, b []byte) uint16 {
	sum := uint32(initial)
	for i := 0; i < len(b); i += 2 {
		word := uint32(b[i]) << 8
		if i+1 < len(b) {
			word |= uint32(b[i+1])
		}
		sum += word
		for sum>>16 != 0 {
			sum = sum>>16 + sum&0xffff
		}
	}
	return uint16(sum)
}

func FuzzSum(f *testing.F) {
	f.Add(uint16(0), []byte{})
	f.Add(uint16(0xffff), bytes.Repeat([]byte{0xff}, 63))
	f.Add(uint16(1), bytes.Repeat([]byte{0xab, 0xcd}, 50))
	f.Add(uint16(0xfffe), bytes.Repeat([]byte{0xff}, 1499))
	f.Fuzz(func(t *testing.T, initial uint16, b []byte) {
		if got, want := Sum(initial, b), slowSum(initial, b); got != want {
			t.Errorf("sum %#x, the slow twin says %#x", got, want)
		}
		if len(b) >= 20 {
			if got, want := sum20(b), slowSum(0, b[:20]); got != want {
				t.Errorf("sum20 %#x, the slow twin says %#x", got, want)
			}
		}
	})
}

func TestAnIncrementalUpdateAgreesWithAFreshSum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	b := make([]byte, 20)
	for range 10000 {
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		b[10], b[11] = 0, 0
		check := ^Sum(0, b)
		old, fresh := binary.BigEndian.Uint16(b[4:]), uint16(r.Uint32())
		binary.BigEndian.PutUint16(b[4:], fresh)
		binary.BigEndian.PutUint16(b[10:], Update(check, old, fresh))
		if Sum(0, b) != 0xffff {
			t.Fatalf("update of %#x from %#x to %#x does not verify", check, old, fresh)
		}
	}
}

func TestTTLAndTOSChangesKeepTheHeaderValid(t *testing.T) {
	for ttl := 1; ttl < 256; ttl++ {
		b := make([]byte, IPv4Len)
		PutIPv4(b, 0x28, 20, uint8(ttl), ProtoUDP, [4]byte{10, byte(ttl), 3, 4}, [4]byte{10, 5, 6, 7})
		DecrementTTL(b)
		SetTOS(b, uint8(ttl))
		ip, bad := parse4(b)
		if bad != Fine || int(ip.TTL) != ttl-1 || int(ip.TOS) != ttl {
			t.Fatalf("ttl %d: %v %+v", ttl, bad, ip)
		}
		b6 := make([]byte, IPv6Len)
		PutIPv6(b6, 0, 0xabcde, 0, uint8(ttl), ProtoNone, [16]byte{1}, [16]byte{2})
		DecrementTTL(b6)
		SetTOS(b6, uint8(ttl))
		if ip, bad := parse6(b6); bad != Fine || int(ip.TTL) != ttl-1 || int(ip.TOS) != ttl || binary.BigEndian.Uint32(b6)&0xfffff != 0xabcde {
			t.Fatalf("hop limit %d: %v %+v", ttl, bad, ip)
		}
	}
}

// Changes to a header leave the sum that a fresh computation gives, also where one's complement has two zeros.
func TestChangesOfAHeaderGiveTheSumOfAFreshOne(t *testing.T) {
	for id := range 1 << 16 {
		b := make([]byte, IPv4Len)
		PutIPv4(b, 0, 20, 64, ProtoUDP, [4]byte{10, byte(id >> 8), byte(id), 4}, [4]byte{10, 5, 6, 7})
		for what, change := range map[string]func(){"TTL": func() { DecrementTTL(b) }, "TOS": func() { SetTOS(b, uint8(id)) }} {
			change()
			fresh := bytes.Clone(b)
			fresh[10], fresh[11] = 0, 0
			if got, want := binary.BigEndian.Uint16(b[10:]), ^Sum(0, fresh); got != want {
				t.Fatalf("%s of %x: %#04x, want %#04x", what, fresh, got, want)
			}
		}
	}
}

// built is a packet by gopacket, with whatever transport.
func built(t testing.TB, version int, transport gopacket.SerializableLayer, proto layers.IPProtocol, payload []byte) []byte {
	t.Helper()
	var ip gopacket.SerializableLayer
	var network gopacket.NetworkLayer
	if version == 4 {
		l := &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: []byte{10, 0, 0, 1}, DstIP: []byte{10, 0, 0, 2}}
		ip, network = l, l
	} else {
		l := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: netip.MustParseAddr("fd00::1").AsSlice(), DstIP: netip.MustParseAddr("fd00::2").AsSlice()}
		ip, network = l, l
	}
	if c, ok := transport.(interface {
		SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
	}); ok {
		if err := c.SetNetworkLayerForChecksum(network); err != nil {
			t.Fatal(err)
		}
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, transport, gopacket.Payload(payload)); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestAnUnfinishedChecksumIsFoundAndFinished(t *testing.T) {
	for _, version := range []int{4, 6} {
		for name, b := range map[string][]byte{
			"udp": built(t, version, &layers.UDP{SrcPort: 1, DstPort: 2}, layers.IPProtocolUDP, []byte("seven77")),
			"tcp": built(t, version, &layers.TCP{SrcPort: 1, DstPort: 2, Window: 3}, layers.IPProtocolTCP, []byte("data")),
		} {
			ip, bad := parse(b)
			if bad != Fine {
				t.Fatal(bad)
			}
			if Unfinished(b, ip) {
				t.Errorf("%s over IPv%d: a finished checksum is taken for an unfinished one", name, version)
			}
			partial := bytes.Clone(b)
			binary.BigEndian.PutUint16(partial[ip.HeaderLen+checksumAt(ip.Proto):], PseudoSum(b, ip.Proto, ip.Len-ip.HeaderLen))
			if !Finish(partial, ip) || !bytes.Equal(partial, b) {
				t.Errorf("%s over IPv%d:\n got %x\nwant %x", name, version, partial, b)
			}
		}
	}
}

// The sum over so many bytes, at offsets as they come.
func BenchmarkSum(b *testing.B) {
	data := bytes.Repeat([]byte{0xab, 0xcd, 0xef}, 500)
	for _, n := range []int{40, 100, 150, 250, 550, 1400} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			sum := uint16(0)
			for i := 0; b.Loop(); i++ {
				sum = Sum(sum, data[i&31:i&31+n])
			}
		})
	}
}
