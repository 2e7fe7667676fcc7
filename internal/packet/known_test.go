package packet

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
)

// sample makes an IP packet with random bytes and a right transport checksum.
func sample(r *rand.Rand, version int, proto uint8, payload int) []byte {
	header := IPv4Len
	if version == 6 {
		header = IPv6Len
	}
	b := make([]byte, header+payload)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	if version == 4 {
		PutIPv4(b, byte(r.Uint32()), len(b), 64, proto, [4]byte(b[12:16]), [4]byte(b[16:20]))
	} else {
		PutIPv6(b, byte(r.Uint32()), r.Uint32()&0xfffff, payload, 64, proto, [16]byte(b[8:24]), [16]byte(b[24:40]))
	}
	if proto == ProtoUDP {
		PutUDP(b[header:], uint16(r.Uint32()), uint16(r.Uint32()), payload)
	}
	PutTransportChecksum(b, header, proto)
	return b
}

func TestTheSumOfAPacketIsKnownFromItsChecksum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, version := range []int{4, 6} {
		for name, proto := range map[string]uint8{"TCP": ProtoTCP, "UDP": ProtoUDP, "ICMPv6": ProtoICMPv6} {
			if version == 4 && proto == ProtoICMPv6 {
				continue
			}
			t.Run(fmt.Sprintf("%s over IPv%d", name, version), func(t *testing.T) {
				for range 2000 {
					b := sample(r, version, proto, 20+r.IntN(1400))
					var ip IP
					if bad := ip.Parse(b); bad != Fine {
						t.Fatal(bad)
					}
					got, ok := KnownSum(b, &ip)
					if want := Sum(0, b); !ok || got%0xffff != want%0xffff {
						t.Fatalf("%#04x, %v; the bytes sum up to %#04x", got, ok, want)
					}
					// Damage shows: what is made of a wrong checksum is wrong.
					b[ip.HeaderLen+8+r.IntN(ip.Len-ip.HeaderLen-8)] ^= 1 << r.IntN(8)
					if got, _ := KnownSum(b, &ip); got%0xffff == Sum(0, b)%0xffff {
						t.Fatal("a damaged packet has the sum of its bytes")
					}
				}
			})
		}
	}
}

func TestTheSumOfAPacketIsNotKnownWithoutAChecksumOverAllOfIt(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, c := range []struct {
		name   string
		proto  uint8
		change func(b []byte)
	}{
		{"UDP without a checksum", ProtoUDP, func(b []byte) { b[26], b[27] = 0, 0 }},
		{"UDP shorter than the packet", ProtoUDP, func(b []byte) { binary.BigEndian.PutUint16(b[24:], 90) }},
		{"UDP longer than the packet", ProtoUDP, func(b []byte) { binary.BigEndian.PutUint16(b[24:], 200) }},
		{"a first fragment", ProtoTCP, func(b []byte) { b[6] |= 0x20 }},
		{"a later fragment", ProtoTCP, func(b []byte) { b[7] = 1 }},
		{"another protocol", ProtoTCP, func(b []byte) { b[9] = 132 }},
		{"ICMPv6 in IPv4", ProtoTCP, func(b []byte) { b[9] = ProtoICMPv6 }},
	} {
		b := sample(r, 4, c.proto, 100)
		c.change(b)
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], ^Sum(0, b[:20]))
		var ip IP
		if bad := ip.Parse(b); bad != Fine {
			t.Fatalf("%s: %v", c.name, bad)
		}
		if sum, ok := KnownSum(b, &ip); ok {
			t.Errorf("%s: %#04x", c.name, sum)
		}
	}
}
