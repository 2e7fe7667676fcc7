package main

import (
	"context"
	"fmt"

	"github.com/sluicegw/sluice/bench/memory"
	"github.com/sluicegw/sluice/bench/report"
)

// memory compares without a kernel. Against wireguard-go: the relay with the same cipher
// code and with the best of ours, the session code alone; wireguard-go with one P and
// as it is shipped.
func (b *bench) memory(ctx context.Context) error {
	pairs := [][2]string{{memory.Relay, memory.WireGuardGo}, {memory.RelayBest, memory.WireGuardGo}}
	if !b.results.Quick {
		pairs = append(pairs, [2]string{memory.Relay, memory.WireGuardGoAll}, [2]string{memory.Session, memory.WireGuardGo}, [2]string{memory.Reference, memory.Relay})
	}
	b.left = len(pairs) * 2 * len(b.memorySizes)
	for _, pair := range pairs {
		for _, direction := range []memory.Direction{memory.Seal, memory.Open} {
			for _, size := range b.memorySizes {
				what := fmt.Sprintf("memory, %s %d B, %s / %s", direction, size, pair[0], pair[1])
				err := b.memoryPair(ctx, pair, memory.Options{Size: size, Direction: direction, Plan: b.plan(what, b.memoryQuads)})
				if err := b.finish(ctx, pair[0], what, err); err != nil {
					return err
				}
				b.left--
			}
		}
	}
	return nil
}

func (b *bench) memoryPair(ctx context.Context, pair [2]string, o memory.Options) error {
	if b.over() {
		return errTime
	}
	c, err := memory.Compare(ctx, pair[0], pair[1], o)
	if err != nil {
		return err
	}
	b.results.Memory = append(b.results.Memory, report.Memory{Direction: string(o.Direction), Size: o.Size, Comparison: c})
	return nil
}
