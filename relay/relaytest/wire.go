package relaytest

import "math/rand/v2"

// Wire carries what one queue has sent to another, in one direction. What the
// other has no frame for waits for the next Carry.
type Wire struct {
	From, To *Queue
	// Loss is the share of packets that get lost, 0 to 1.
	Loss float64
	// Duplicates is the share of packets that arrive twice, 0 to 1.
	Duplicates float64
	// Reorder shuffles the packets of each Carry.
	Reorder bool
	// Rand decides; nil: nothing is lost or shuffled.
	Rand *rand.Rand
	// Tap sees each packet that arrives; nil: nobody does.
	Tap func([]byte)

	waiting [][]byte
}

// Carry moves everything that was sent so far and returns how much arrived.
func (w *Wire) Carry() int {
	packets := w.From.Collect()
	if w.Rand != nil {
		packets = w.torment(packets)
	}
	packets = append(w.waiting, packets...)
	w.waiting = nil
	for i, b := range packets {
		if !w.To.InjectLong(b) {
			w.waiting = packets[i:]
			return i
		}
		if w.Tap != nil {
			w.Tap(b)
		}
	}
	return len(packets)
}

func (w *Wire) torment(packets [][]byte) [][]byte {
	for _, b := range packets {
		if w.Rand.Float64() < w.Duplicates {
			packets = append(packets, b)
		}
	}
	if w.Reorder {
		w.Rand.Shuffle(len(packets), func(i, j int) { packets[i], packets[j] = packets[j], packets[i] })
	}
	kept := packets[:0]
	for _, b := range packets {
		if w.Rand.Float64() >= w.Loss {
			kept = append(kept, b)
		}
	}
	return kept
}
