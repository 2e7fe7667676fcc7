package wireguard

// window is the replay window of a session: which counters were seen, as a ring
// of bits (RFC 6479). The zero value has seen nothing. The caller locks.
//
// wireguard-go's (package replay) is 8128 counters wide, enough for one thread
// of sealing at the other end. Several workers there take nonces in blocks from one
// counter, and one that the scheduler leaves alone for 4 ms with its block comes
// back 16 000 messages late when the others send 4 million in a second.
type window struct {
	last uint64 // the highest counter seen
	seen [windowWords]uint64
}

const (
	windowWords = 512 // a power of two; 4 KiB of each session
	// windowSize is how far behind the highest a counter may be. One word is
	// always being cleared.
	windowSize = (windowWords - 1) * 64
)

// accept says whether counter is new, and remembers it. A counter at or above
// rejectAfterMessages must not get here.
func (w *window) accept(counter uint64) bool {
	word := counter / 64
	if counter > w.last {
		current := w.last / 64
		for i := current + 1; i <= min(word, current+windowWords); i++ {
			w.seen[i%windowWords] = 0
		}
		w.last = counter
	} else if w.last-counter > windowSize {
		return false
	}
	bit := uint64(1) << (counter % 64)
	if w.seen[word%windowWords]&bit != 0 {
		return false
	}
	w.seen[word%windowWords] |= bit
	return true
}
