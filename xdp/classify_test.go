package xdp

import (
	"slices"
	"testing"
)

func TestEveryPacketGetsItsVerdict(t *testing.T) {
	s := testState()
	h := newHarness(t, Options{HandshakeRate: -1, StrangersRate: -1}, s)
	h.openSocket(t, loopback, 0)
	seen := make(map[Verdict]bool)
	for _, c := range testCases() {
		t.Run(c.name, func(t *testing.T) {
			got := h.run(t, c.packet, loopback, 0)
			seen[got] = true
			if got != c.want {
				t.Errorf("verdict %s, want %s\n%x", got, c.want, c.packet)
			}
			if twin := reference(s, loopback, true, c.packet); twin != c.want {
				t.Errorf("reference says %s, want %s", twin, c.want)
			}
		})
	}
	for v := range Verdict(NumVerdicts) {
		elsewhere := []Verdict{PassNoPort, PassNoSocket, DropHandshakeRate, DropHandshakeFlood, // the tests below
			DivertDirect, DirectToPeer, DirectToSite, DropBadDirect, DropDirectStranger} // TestDirectPackets
		if !seen[v] && !slices.Contains(elsewhere, v) {
			t.Errorf("no case for %s", v)
		}
	}
}

func TestWithoutASocketWhatWouldBeDivertedPasses(t *testing.T) {
	s := testState()
	h := newHarness(t, Options{HandshakeRate: -1, StrangersRate: -1}, s)
	for _, c := range testCases() {
		want := c.want
		if want >= DivertGeneve && want < DirectToPeer {
			want = PassNoSocket
		}
		if got := h.run(t, c.packet, loopback, 0); got != want {
			t.Errorf("%s: verdict %s, want %s", c.name, got, want)
		}
	}
}

func TestAnInterfaceThatIsNoPortPassesEverything(t *testing.T) {
	h := newHarness(t, Options{}, State{})
	for _, c := range testCases() {
		got, twin := h.run(t, c.packet, loopback, 0), reference(State{}, loopback, true, c.packet)
		if got != twin || got > PassBadEthernet {
			t.Errorf("%s: verdict %s, reference %s", c.name, got, twin)
		}
	}
}

// A packet that was cut off on its way, at any byte: twin and program agree, and nothing that was cut inside the headers
// is diverted.
func TestTruncatedPackets(t *testing.T) {
	s := testState()
	h := newHarness(t, Options{HandshakeRate: -1, StrangersRate: -1}, s)
	h.openSocket(t, loopback, 0)
	runs := 0
	for _, c := range testCases() {
		if len(c.packet) > 500 {
			c.packet = c.packet[:500]
		}
		for n := 14; n < len(c.packet); n++ { // the kernel refuses test runs below 14 bytes
			got, want := h.run(t, c.packet[:n], loopback, 0), reference(s, loopback, true, c.packet[:n])
			if got != want {
				t.Fatalf("%s: cut to %d bytes: verdict %s, reference %s", c.name, n, got, want)
			}
			runs++
		}
	}
	t.Logf("%d packets", runs)
}

// The same, but with the outer lengths corrected, so that it is the inner headers that are cut.
func TestTruncatedInnerPackets(t *testing.T) {
	s := testState()
	h := newHarness(t, Options{HandshakeRate: -1, StrangersRate: -1}, s)
	h.openSocket(t, loopback, 0)
	for _, c := range testCases() {
		if c.want < PassBadUDP || len(c.packet) < atData || c.packet[12] != 8 || c.packet[13] != 0 || c.packet[atIP] != 0x45 {
			continue
		}
		for n := atData; n < min(len(c.packet), 500); n++ {
			packet := edit(c.packet[:n], func(b []byte) {
				b[atIP+2], b[atIP+3] = byte((n-atIP)>>8), byte(n-atIP)
				b[atUDP4+4], b[atUDP4+5] = byte((n-atUDP4)>>8), byte(n-atUDP4)
				ip4Sum(b, atIP)
			})
			got, want := h.run(t, packet, loopback, 0), reference(s, loopback, true, packet)
			if got != want {
				t.Fatalf("%s: cut to %d bytes: verdict %s, reference %s", c.name, n, got, want)
			}
		}
	}
}
