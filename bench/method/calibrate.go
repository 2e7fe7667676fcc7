package method

import (
	"context"
	"fmt"
	"math"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/sys/unix"
)

// Calibration is the machine's pulse: how long reference loops take now. Clock
// frequency, neighbours on the memory bus and a busy sibling thread all show.
type Calibration struct {
	// SealNs: ChaCha20-Poly1305 over 1420 bytes with x/crypto: arithmetic in cache.
	SealNs float64 `json:"sealNs"`
	// WalkNs: one dependent load from 8 MiB: caches and memory.
	WalkNs float64 `json:"walkNs"`
	// DropNs: one run of an XDP program that drops; 0 when there was no privilege for it.
	DropNs float64 `json:"dropNs,omitempty"`
}

// near says that no part of the pulse is further than the tolerance from other's.
// Memory is given three times as much, because it varies more from one loop to the next.
func (c Calibration) near(other Calibration, tolerance float64) bool {
	return within(c.SealNs, other.SealNs, tolerance) && within(c.DropNs, other.DropNs, 2*tolerance) && within(c.WalkNs, other.WalkNs, 3*tolerance)
}

func within(v, reference, tolerance float64) bool {
	return reference == 0 || math.Abs(v/reference-1) <= tolerance
}

// Calibrator runs the reference loops. It is used by one goroutine at a time.
type Calibrator struct {
	packet []byte
	walk   []uint32
	drop   func() (time.Duration, error)
}

// NewCalibrator makes the loops. drop, when it is not nil, runs an XDP program
// that drops and returns what one run took.
func NewCalibrator(drop func() (time.Duration, error)) *Calibrator {
	const entries = 8 << 20 / 4
	c := &Calibrator{packet: make([]byte, 1420, 1420+chacha20poly1305.Overhead), walk: make([]uint32, entries), drop: drop}
	// One cycle over all entries, with a stride that no prefetcher follows (odd, so it
	// meets every entry of a power of two).
	const stride = 0x9e3779b1
	for i, at := 0, uint32(0); i < entries; i++ {
		next := (at + stride) % entries
		c.walk[at] = next
		at = next
	}
	return c
}

// Measure takes the pulse in about 10 ms: the best of some rounds, because a
// disturbance only ever adds.
func (c *Calibrator) Measure(ctx context.Context) (Calibration, error) {
	aead, err := chacha20poly1305.New(make([]byte, chacha20poly1305.KeySize))
	if err != nil {
		return Calibration{}, err
	}
	result := Calibration{SealNs: math.Inf(1), WalkNs: math.Inf(1)}
	var nonce [chacha20poly1305.NonceSize]byte
	at := uint32(0)
	for range 10 {
		if err := ctx.Err(); err != nil {
			return Calibration{}, err
		}
		const seals, steps = 300, 20_000
		took, err := Thread(func() {
			for range seals {
				aead.Seal(c.packet[:0], nonce[:], c.packet[:1420], nil)
			}
		})
		if err != nil {
			return Calibration{}, err
		}
		result.SealNs = min(result.SealNs, float64(took)/seals)
		took, err = Thread(func() {
			for range steps {
				at = c.walk[at]
			}
		})
		if err != nil {
			return Calibration{}, err
		}
		result.WalkNs = min(result.WalkNs, float64(took)/steps)
	}
	c.walk[0] += at * 0 // keeps the walk alive for the compiler
	if c.drop != nil {
		took, err := c.drop()
		if err != nil {
			return Calibration{}, fmt.Errorf("xdp drop loop: %w", err)
		}
		result.DropNs = float64(took)
	}
	return result, nil
}

// Thread is the CPU time that f took on this thread. f must not block.
func Thread(f func()) (time.Duration, error) {
	unlock := lockThread()
	defer unlock()
	begin, err := clock(unix.CLOCK_THREAD_CPUTIME_ID)
	if err != nil {
		return 0, err
	}
	f()
	end, err := clock(unix.CLOCK_THREAD_CPUTIME_ID)
	return end - begin, err
}

// ProcessTime is the CPU time of all threads of this process so far.
func ProcessTime() (time.Duration, error) { return clock(unix.CLOCK_PROCESS_CPUTIME_ID) }

func clock(id int32) (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(id, &t); err != nil {
		return 0, fmt.Errorf("read cpu clock: %w", err)
	}
	return time.Duration(t.Nano()), nil
}
