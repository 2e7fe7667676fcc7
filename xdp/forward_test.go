package xdp

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

func newDirectHarness(t testing.TB, o Options) (*harness, State) {
	t.Helper()
	s := directState()
	o.HandshakeRate, o.StrangersRate = -1, -1
	h := newHarness(t, o, s)
	h.openSocket(t, loopback, 0)
	return h, s
}

func TestDirectPackets(t *testing.T) {
	for _, o := range []Options{{}, {MultiBuffer: true}} {
		h, s := newDirectHarness(t, o)
		for _, c := range directCases() {
			t.Run(c.name, func(t *testing.T) {
				got, out := h.process(t, c.packet, loopback, 0)
				if got != c.want {
					t.Errorf("verdict %s, want %s\n%x", got, c.want, c.packet)
				}
				twin, want := referenceForward(s, loopback, c.packet, reference(s, loopback, true, c.packet))
				if twin != c.want {
					t.Errorf("reference says %s, want %s", twin, c.want)
				}
				if !bytes.Equal(out, want) {
					t.Errorf("in        %x\nout       %x\nreference %x", c.packet, out, want)
				}
			})
		}
	}
}

func (h *harness) compareForwarded(t *testing.T, s State, packet []byte) {
	t.Helper()
	got, out := h.process(t, packet, loopback, 0)
	verdict, want := referenceForward(s, loopback, packet, reference(s, loopback, true, packet))
	if got != verdict || !bytes.Equal(out, want) {
		t.Fatalf("verdict %s, reference %s\nin        %x\nout       %x\nreference %x", got, verdict, packet, out, want)
	}
}

// FuzzForward feeds packets to the program and to its slow twin, which must agree on the verdict and on every byte.
func FuzzForward(f *testing.F) {
	h, s := newDirectHarness(f, Options{})
	for i, c := range directCases() {
		f.Add(c.packet, byte(i))
	}
	f.Fuzz(func(t *testing.T, packet []byte, repair byte) {
		if len(packet) < 14 || len(packet) > 3000 {
			return
		}
		h.compareForwarded(t, s, repaired(packet, repair))
	})
}

// TestMutatedDirectPackets is a short fuzz with the same packets each time.
func TestMutatedDirectPackets(t *testing.T) {
	h, s := newDirectHarness(t, Options{})
	random := rand.New(rand.NewPCG(4, 51821))
	cases := directCases()
	n := 30000
	if testing.Short() {
		n = 3000
	}
	forwarded := 0
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
		packet = repaired(packet, byte(random.Uint32()))
		h.compareForwarded(t, s, packet)
		if v, _ := referenceForward(s, loopback, packet, reference(s, loopback, true, packet)); v == DirectToPeer || v == DirectToSite {
			forwarded++
		}
	}
	if forwarded < n/10 {
		t.Errorf("only %d of %d packets were forwarded", forwarded, n)
	}
}
