package wireguard

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"golang.zx2c4.com/wireguard/replay"
)

// slowWindow remembers everything.
type slowWindow struct {
	last uint64
	seen map[uint64]bool
}

func (w *slowWindow) accept(counter uint64) bool {
	if w.seen[counter] || counter < w.last && w.last-counter > windowSize {
		return false
	}
	w.seen[counter], w.last = true, max(w.last, counter)
	return true
}

func TestTheWindowSaysWhatOneThatRemembersEverythingSays(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, spread := range []uint64{1, 64, 5000, windowSize, 3 * windowSize} {
		var w window
		slow := slowWindow{seen: make(map[uint64]bool)}
		at := uint64(0)
		for range 200_000 {
			at += r.Uint64N(3)
			if r.IntN(20_000) == 0 {
				at += r.Uint64N(4 * windowSize)
			}
			counter := at - min(at, r.Uint64N(spread))
			if got, want := w.accept(counter), slow.accept(counter); got != want {
				t.Fatalf("spread %d: counter %d behind %d: %v, want %v", spread, counter, slow.last, got, want)
			}
		}
	}
}

func TestTheWindowAgreesWithWireGuardGosWhereThatReaches(t *testing.T) {
	const reach = 127 * 64 // of package replay
	r := rand.New(rand.NewPCG(5, 6))
	var ours window
	var theirs replay.Filter
	for at := range uint64(100_000) {
		counter := at - min(at, r.Uint64N(reach-64))
		if a, b := ours.accept(counter), theirs.ValidateCounter(counter, rejectAfterMessages); a != b {
			t.Fatalf("counter %d of %d: ours %v, theirs %v", counter, at, a, b)
		}
	}
}

// FuzzWindow gives the window steps: each is a distance forward or backward.
func FuzzWindow(f *testing.F) {
	f.Add([]byte{0, 1, 0, 1, 0xff, 0xff})
	f.Add([]byte{0x7f, 0xff, 0x80, 0, 0x7f, 0xff})
	f.Fuzz(func(t *testing.T, steps []byte) {
		var w window
		slow := slowWindow{seen: make(map[uint64]bool)}
		at := uint64(1 << 20)
		for ; len(steps) >= 2; steps = steps[2:] {
			at += uint64(int64(int16(binary.BigEndian.Uint16(steps))))
			if got, want := w.accept(at), slow.accept(at); got != want {
				t.Fatalf("counter %d, highest %d: %v, want %v", at, slow.last, got, want)
			}
		}
	})
}
