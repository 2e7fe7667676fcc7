package xdp

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
)

// handshake is a message of type 1 to 3, or the shortest of type 4, from src.
func handshake(kind byte, src string) []byte {
	a := netip.MustParseAddr(src)
	local := netip.MustParseAddr("192.0.2.1")
	if a.Is6() {
		local = netip.MustParseAddr("2001:db8::1")
	}
	l := stack(toUs(local.String(), 51820), wireguard(kind, map[byte]int{1: 148, 2: 92, 3: 64, 4: 32}[kind]))
	switch header := l[1].(type) {
	case *layers.IPv4:
		header.SrcIP = a.AsSlice()
	case *layers.IPv6:
		header.SrcIP = a.AsSlice()
	}
	return build(l...)
}

func TestHandshakesAreLimitedBySource(t *testing.T) {
	const burst = 5
	h := newHarness(t, Options{HandshakeRate: 1, HandshakeBurst: burst}, testState())
	h.openSocket(t, loopback, 0)
	for _, c := range []struct{ name, src, other string }{
		{"ipv4", "203.0.113.1", "203.0.113.2"},
		{"ipv6", "2001:db8:1::1", "2001:db8:1:1::1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := time.Now()
			passed := 0
			for i := range 4 * burst {
				switch v := h.run(t, handshake(byte(1+i%3), c.src), loopback, 0); v {
				case DivertHandshake:
					passed++
				case DropHandshakeRate:
				default:
					t.Fatalf("verdict %s", v)
				}
			}
			most := burst + int(time.Since(start)/time.Second) + 1
			if passed < burst || passed > most {
				t.Errorf("%d passed, want %d to %d", passed, burst, most)
			}
			if v := h.run(t, handshake(1, c.other), loopback, 0); v != DivertHandshake {
				t.Errorf("another source: %s", v)
			}
			if v := h.run(t, handshake(4, c.src), loopback, 0); v != DivertTransport {
				t.Errorf("data: %s", v)
			}
		})
	}
}

func TestAllOfAnIPv6NetworkIsOneSource(t *testing.T) {
	h := newHarness(t, Options{HandshakeRate: 1, HandshakeBurst: 1}, testState())
	h.openSocket(t, loopback, 0)
	start := time.Now()
	first := h.run(t, handshake(1, "2001:db8:1::1"), loopback, 0)
	second := h.run(t, handshake(1, "2001:db8:1::ffff:2"), loopback, 0)
	if took := time.Since(start); first != DivertHandshake || second != DropHandshakeRate && took < time.Second {
		t.Errorf("verdicts %s, %s within %s", first, second, took)
	}
}

func TestASourceMayHandshakeAgainAfterAWhile(t *testing.T) {
	const interval = time.Second / 5
	h := newHarness(t, Options{HandshakeRate: 5, HandshakeBurst: 1}, testState())
	h.openSocket(t, loopback, 0)
	packet := handshake(1, "203.0.113.1")
	start := time.Now()
	if v := h.run(t, packet, loopback, 0); v != DivertHandshake {
		t.Fatal(v)
	}
	for h.run(t, packet, loopback, 0) == DropHandshakeRate {
		if time.Since(start) > 10*time.Second {
			t.Fatal("still limited after ten seconds")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if took := time.Since(start); took < interval {
		t.Errorf("allowed again after %s, want %s", took, interval)
	}
}

func TestTheDefaultLimitLetsAThousandPeersBehindOneAddressBegin(t *testing.T) {
	h := newHarness(t, Options{}, testState())
	h.openSocket(t, loopback, 0)
	packet := handshake(1, "203.0.113.1")
	for i := range DefaultHandshakeBurst {
		if v := h.run(t, packet, loopback, 0); v != DivertHandshake {
			t.Fatalf("handshake %d: %s", i, v)
		}
	}
}

// A flood in which no address comes twice is not seen by the limit per source.
func TestManySourcesTogetherAreLimitedButNotPeers(t *testing.T) {
	const burst = 20
	for _, c := range []struct{ name, source, peer string }{
		{"ipv4", "203.0.%d.%d", "198.51.100.77"}, {"ipv6", "2001:db8:%d:%d::1", "2001:db8:ffff::77"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := testState()
			s.Peers = addrs(c.peer)
			h := newHarness(t, Options{StrangersRate: 1, StrangersBurst: burst, HandshakeBurst: 3, HandshakeRate: 1}, s)
			h.openSocket(t, loopback, 0)
			start := time.Now()
			passed := 0
			for i := range 4 * burst {
				switch v := h.run(t, handshake(byte(1+i%3), fmt.Sprintf(c.source, i/200, 1+i%200)), loopback, 0); v {
				case DivertHandshake:
					passed++
				case DropHandshakeFlood:
				default:
					t.Fatalf("verdict %s", v)
				}
			}
			most := burst + int(time.Since(start)/time.Second) + 1
			if passed < burst || passed > most {
				t.Errorf("%d passed, want %d to %d", passed, burst, most)
			}
			if v := h.run(t, handshake(1, c.peer), loopback, 0); v != DivertHandshake {
				t.Errorf("a peer is shut out: %s", v)
			}
			for range 10 {
				h.run(t, handshake(1, c.peer), loopback, 0)
			}
			if v := h.run(t, handshake(1, c.peer), loopback, 0); v != DropHandshakeRate && time.Since(start) < time.Second {
				t.Errorf("a peer that floods: %s", v)
			}
			if v := h.run(t, handshake(4, fmt.Sprintf(c.source, 1, 1)), loopback, 0); v != DivertTransport {
				t.Errorf("data of a stranger: %s", v)
			}
		})
	}
}

func TestWithANegativeRateThereIsNoLimit(t *testing.T) {
	h := newHarness(t, Options{HandshakeRate: -1, HandshakeBurst: 1, StrangersRate: -1, StrangersBurst: 1}, testState())
	h.openSocket(t, loopback, 0)
	for range 50 {
		if v := h.run(t, handshake(1, "203.0.113.1"), loopback, 0); v != DivertHandshake {
			t.Fatal(v)
		}
	}
}
