package xdp

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// FuzzClassify feeds packets to the program and to its slow twin, which must agree. The program is one for all inputs.
// repair says what of a mutated packet is made right again, so that mutations get past the first checks.
func FuzzClassify(f *testing.F) {
	s := testState()
	h := newHarness(f, Options{HandshakeRate: -1, StrangersRate: -1}, s)
	h.openSocket(f, loopback, 0)
	for i, c := range testCases() {
		f.Add(c.packet, byte(i))
	}
	f.Fuzz(func(t *testing.T, packet []byte, repair byte) {
		if len(packet) < 14 || len(packet) > 3000 { // what a test run takes: a header, at most a page
			return
		}
		h.compare(t, s, repaired(packet, repair))
	})
}

// TestMutatedPackets is a short fuzz with the same packets each time.
func TestMutatedPackets(t *testing.T) {
	s := testState()
	h := newHarness(t, Options{HandshakeRate: -1, StrangersRate: -1}, s)
	h.openSocket(t, loopback, 0)
	random := rand.New(rand.NewPCG(2, 6081))
	cases := testCases()
	n := 20000
	if testing.Short() {
		n = 2000
	}
	for range n {
		packet := slices.Clone(cases[random.IntN(len(cases))].packet)
		for range 1 + random.IntN(3) {
			at := random.IntN(len(packet))
			switch random.IntN(4) {
			case 0:
				packet[at] = byte(random.Uint32())
			case 1:
				packet[at] ^= 1 << random.IntN(8)
			case 2:
				packet[at] = []byte{0, 1, 4, 6, 8, 17, 44, 58, 0x45, 0x81, 0x86, 0xff}[random.IntN(12)]
			case 3:
				packet = packet[:max(14, at)]
			}
		}
		h.compare(t, s, repaired(packet, byte(random.Uint32())))
	}
}

func (h *harness) compare(t *testing.T, s State, packet []byte) {
	t.Helper()
	got, want := h.run(t, packet, loopback, 0), reference(s, loopback, true, packet)
	if got != want {
		t.Fatalf("verdict %s, reference %s\n%x", got, want, packet)
	}
}

// repaired makes the destination MAC (bit 0) and, in an untagged IPv4 packet, the header checksum (bit 1) right.
func repaired(packet []byte, repair byte) []byte {
	return edit(packet, func(b []byte) {
		if repair&1 != 0 {
			copy(b, portMAC[:])
		}
		if repair&2 != 0 && len(b) > atUDP4 && b[12] == 8 && b[13] == 0 && b[atIP]&0xf >= 5 && len(b) >= atIP+int(b[atIP]&0xf)*4 {
			ip4Sum(b, atIP)
		}
	})
}
