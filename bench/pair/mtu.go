package pair

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

const (
	// leastMTU that any path has: IPv6's minimum; over IPv4 what every host must take is less, but
	// no tunnel that anybody uses.
	leastMTU = 576
	// mtuTries for each size: an echo may get lost.
	mtuTries = 3
	mtuWait  = 400 * time.Millisecond
)

// mtu is the longest IP packet that crosses in both directions, found by bisection with packets that must not be
// fragmented: what routers say of it is not believed, as some say nothing.
func (c *client) mtu(ctx context.Context) (int, error) {
	low, high := 0, MaxSize+1
	ok, err := c.fits(ctx, leastMTU)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, fmt.Errorf("not even a packet of %d bytes crosses unfragmented, and comes back", leastMTU)
	}
	low = leastMTU
	for _, usual := range []int{1280, 1420, 1500} { // most paths are about this long: fewer steps
		if ok, err = c.fits(ctx, usual); err != nil {
			return 0, err
		} else if !ok {
			high = usual
			break
		}
		low = usual
	}
	for high-low > 1 {
		middle := (low + high) / 2
		if ok, err = c.fits(ctx, middle); err != nil {
			return 0, err
		}
		if ok {
			low = middle
		} else {
			high = middle
		}
	}
	return low, nil
}

// fits says whether an echo of a size comes back.
func (c *client) fits(ctx context.Context, size int) (bool, error) {
	e := &echoes{trial: c.trials.Add(1), seen: map[uint64]bool{}, trips: histogram{}}
	c.echoes.Store(e)
	defer c.echoes.Store(nil)
	b := make([]byte, size-overhead(c.v6))
	for try := range uint64(mtuTries) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		header{What: echo, Trial: e.trial, Seq: try, Sent: time.Now().UnixNano()}.put(b, c.tag)
		_, err := c.outlets[0].socket.conn.Write(b)
		switch {
		case errors.Is(err, syscall.EMSGSIZE):
			return false, nil
		case err != nil && !temporary(err):
			return false, fmt.Errorf("probe mtu: %w", err)
		}
		for end := time.Now().Add(mtuWait); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if e.received() > 0 {
				return true, nil
			}
		}
	}
	return false, nil
}
