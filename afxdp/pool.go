package afxdp

import (
	"fmt"
	"math/bits"
)

// place says where a frame is. The receiving and the sending side of each socket
// are places of their own (see side), so that Close knows which frames to take back.
type place uint16

const (
	inPool place = iota
	atCaller
	firstSide
	// maxSockets of one UMEM is what the numbers of places allow.
	maxSockets = (1<<16 - int(firstSide)) / 2
)

// rxSide and txSide are the places of the i-th socket.
func rxSide(i int) place { return firstSide + place(2*i) }
func txSide(i int) place { return firstSide + place(2*i) + 1 }

// pool has the free frames, last in first out: the frame that was used last is
// the one that is still in the CPU's cache.
type pool struct {
	free    []uint64 // base addresses
	place   []place  // by frame number
	shift   uint8    // frame number = address >> shift
	strict  bool
	misuses uint64
}

func newPool(frames, frameSize int, strict bool) pool {
	p := pool{
		free:   make([]uint64, frames),
		place:  make([]place, frames),
		shift:  uint8(bits.TrailingZeros(uint(frameSize))),
		strict: strict,
	}
	for i := range p.free { // the first frame on top
		p.free[i] = uint64(frames-1-i) << p.shift
	}
	return p
}

// Alloc takes free frames from the pool; it returns how many there were. The
// addresses are those of whole frames. owned: by the caller.
func (u *UMEM) Alloc(dst []uint64) int { return u.pool.take(dst, atCaller, 0) }

// Free gives a frame of the caller's back to the pool; addr may be anywhere in it.
func (u *UMEM) Free(addr uint64) {
	if !u.pool.move(addr, atCaller, inPool) {
		u.pool.misuse(addr, atCaller, inPool)
		return
	}
	u.pool.push(addr)
}

// FreeCount is the number of frames in the pool.
func (u *UMEM) FreeCount() int { return len(u.pool.free) }

// Misuses is how often a frame was given away by someone who did not have it.
// Not zero means a bug in the caller; the frames themselves are all right.
func (u *UMEM) Misuses() uint64 { return u.pool.misuses }

// take moves up to len(dst) frames from the pool to another place, and leaves some.
func (p *pool) take(dst []uint64, to place, leave int) int {
	n := min(len(dst), len(p.free)-leave)
	if n <= 0 {
		return 0
	}
	top := len(p.free) - n
	for i, addr := range p.free[top:] {
		dst[i] = addr
		p.place[addr>>(p.shift&63)] = to
	}
	p.free = p.free[:top]
	return n
}

// push puts a frame whose place is already inPool on the stack.
func (p *pool) push(addr uint64) {
	p.free = append(p.free, addr&^(1<<(p.shift&63)-1)) // within the capacity: newPool made it for all frames
}

// move changes the place of the frame that holds addr, if it is where it must be. If not, whoever says so is
// wrong, and believing it would have one frame at two places: nothing is changed, and the caller reports it by
// misuse, which is a call of its own so that move is small enough to be inlined.
func (p *pool) move(addr uint64, from, to place) bool {
	i := addr >> (p.shift & 63)
	if i >= uint64(len(p.place)) || p.place[i] != from {
		return false
	}
	p.place[i] = to
	return true
}

func (p *pool) misuse(addr uint64, from, to place) {
	p.misuses++
	if !p.strict {
		return
	}
	at := "outside of the umem"
	if i := addr >> p.shift; i < uint64(len(p.place)) {
		at = p.place[i].String()
	}
	panic(fmt.Sprintf("afxdp: frame %#x moves from %v to %v, but is %v", addr, from, to, at))
}

// Census is the number of frames at each place.
type Census struct {
	Pool   int
	Caller int
	Rx     int // fill rings, kernel and RX rings
	Tx     int // TX rings, kernel and completion rings
}

// Total is the number of all frames.
func (c Census) Total() int { return c.Pool + c.Caller + c.Rx + c.Tx }

// Census counts the frames, one by one: for tests and status, not for the packet path.
func (u *UMEM) Census() (c Census) {
	for _, at := range u.pool.place {
		switch {
		case at == inPool:
			c.Pool++
		case at == atCaller:
			c.Caller++
		case (at-firstSide)%2 == 0:
			c.Rx++
		default:
			c.Tx++
		}
	}
	return c
}

// takeBack moves all frames of two places, the sides of a socket that the kernel has let go, to the pool.
func (p *pool) takeBack(rx, tx place) (n int) {
	for i, at := range p.place {
		if at == rx || at == tx {
			p.place[i] = inPool
			p.push(uint64(i) << p.shift)
			n++
		}
	}
	return n
}

func (at place) String() string {
	switch {
	case at == inPool:
		return "in the pool"
	case at == atCaller:
		return "at the caller"
	case (at-firstSide)%2 == 0:
		return fmt.Sprintf("on the receiving side of socket %d", (at-firstSide)/2)
	default:
		return fmt.Sprintf("on the sending side of socket %d", (at-firstSide)/2)
	}
}

// is says whether the frame that holds addr is at a place.
func (p *pool) is(addr uint64, at place) bool {
	i := addr >> p.shift
	return i < uint64(len(p.place)) && p.place[i] == at
}
