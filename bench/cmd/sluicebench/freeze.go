package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/sluicegw/sluice/bench/method"
)

// thaw is how long a contestant gets to find its feet after it was stopped.
const thaw = 20 * time.Millisecond

// alone makes each of two runs measure while the processes of the other one are stopped: they
// share the CPU under test, and some poll it when they have nothing to do.
func alone(sides [2]method.Side, runs ...method.Run) [2]method.Side {
	for i, side := range sides {
		sides[i].Measure = func(ctx context.Context) (method.Sample, error) {
			if err := errors.Join(deliver(runs[1-i], syscall.SIGSTOP), deliver(runs[i], syscall.SIGCONT)); err != nil {
				return method.Sample{}, err
			}
			time.Sleep(thaw)
			return side.Measure(ctx)
		}
	}
	return sides
}

// wake lets both go on: a process that is stopped does not end when it is asked to. One that
// has ended has been noticed already.
func wake(runs ...method.Run) {
	for _, r := range runs {
		if err := deliver(r, syscall.SIGCONT); err != nil {
			say("  %v", err)
		}
	}
}

func deliver(r method.Run, s syscall.Signal) error {
	for _, pid := range r.PIDs() {
		if err := syscall.Kill(pid, s); err != nil {
			return fmt.Errorf("signal process %d: %w", pid, err)
		}
	}
	return nil
}
