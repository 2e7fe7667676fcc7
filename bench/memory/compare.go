package memory

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/sluicegw/sluice/bench/method"
)

// Direction of a comparison.
type Direction string

// The directions.
const (
	Seal Direction = "seal"
	Open Direction = "open"
)

// Options of Compare.
type Options struct {
	Size      int // of the IP packet
	Direction Direction
	// Packets of a slice; 0 means 16384.
	Packets int
	Plan    method.Plan
}

// Compare measures two paths by name, with one P.
func Compare(ctx context.Context, a, b string, o Options) (c method.Comparison, err error) {
	if o.Packets == 0 {
		o.Packets = 16384
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var sides [2]method.Side
	for i, name := range []string{a, b} {
		path, err := New(name, o.Size)
		if err != nil {
			return c, fmt.Errorf("compare in memory: %s: %w", name, err)
		}
		defer func() { err = errors.Join(err, path.Close()) }()
		sides[i] = side(path, o)
		// The first slice finds cold caches and pools that have to grow.
		if _, err := sides[i].Measure(ctx); err != nil {
			return c, err
		}
	}
	return method.Compare(ctx, sides[0], sides[1], o.Plan)
}

func side(path Path, o Options) method.Side {
	run := path.Seal
	if o.Direction == Open {
		run = path.Open
	}
	return method.Side{Name: path.Name(), Measure: func(ctx context.Context) (method.Sample, error) {
		took, err := run(ctx, o.Packets)
		if err != nil {
			return method.Sample{}, err
		}
		ns := float64(took) / float64(o.Packets)
		return method.Sample{Values: map[method.Metric]float64{method.PacketNs: ns, method.PPS: float64(time.Second) / ns}}, nil
	}}
}
