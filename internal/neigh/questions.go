package neigh

import "sync"

// maxQuestions bounds the questions that are under way. The kernel takes three seconds to give up on a neighbour, so this
// is how many silent destinations may be asked for in that time; more are dropped and asked for again by later packets.
const maxQuestions = 4096

// questions is the way from any goroutine to that of Run: bounded, and every key is in it once until it is answered.
type questions struct {
	wake chan struct{} // capacity 1: something is in fresh

	mu    sync.Mutex // held for one map operation
	open  map[Key]struct{}
	fresh []Key
}

func newQuestions() *questions {
	return &questions{wake: make(chan struct{}, 1), open: make(map[Key]struct{})}
}

func (q *questions) add(k Key) {
	q.mu.Lock()
	_, known := q.open[k]
	if known || len(q.open) >= maxQuestions {
		q.mu.Unlock()
		return
	}
	q.open[k] = struct{}{}
	q.fresh = append(q.fresh, k)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take moves at most n fresh questions to dst. When some are left it leaves a wake-up for them.
func (q *questions) take(dst []Key, n int) []Key {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, len(q.fresh))
	dst = append(dst, q.fresh[:n]...)
	q.fresh = q.fresh[:copy(q.fresh, q.fresh[n:])]
	if len(q.fresh) > 0 {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return dst
}

// done says that k was answered, or was given up: it may be asked again.
func (q *questions) done(k Key) {
	q.mu.Lock()
	delete(q.open, k)
	q.mu.Unlock()
}
