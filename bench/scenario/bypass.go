package scenario

import (
	"context"
	"fmt"

	"github.com/sluicegw/sluice/internal/netnstest"
)

// TakeRedirected makes the far ends of the gateways' ports take what an XDP program of a gateway redirects to them. A
// veth does if it polls, which it does with receive offload; real interfaces need nothing. Links stay wire-faithful, as no
// sender makes super-packets.
func (l *Lab) TakeRedirected(ctx context.Context) error {
	if len(l.nics) > 0 {
		return nil
	}
	far := []*netnstest.Link{l.Ends[0].EndLink, l.Ends[1].EndLink}
	if l.WANHost != nil {
		far = append(far, l.Taps[:]...)
	}
	for _, link := range far {
		if err := Ethtool(ctx, link, "gro", true); err != nil {
			return err
		}
	}
	return nil
}

// strays is how many packets processes may see although packets pass them by: a virtual port leaves those to them whose
// finished checksum looks unfinished, one in 65536, and a few come of what the kernel does by itself.
func strays(received uint64) uint64 { return 16 + received/1000 }

// bypassed begins to watch whether packets pass the processes by, where they are said to. What it returns tells, of
// those received since.
func (r *Run) bypassed(ctx context.Context) (func(received uint64) error, error) {
	g, ok := r.Gateways.(Bypass)
	if !ok {
		return func(uint64) error { return nil }, nil
	}
	processes, kernel, err := g.Passed(ctx)
	if err != nil {
		return nil, err
	}
	return func(received uint64) error {
		p, k, err := g.Passed(ctx)
		if err != nil {
			return err
		}
		return passedBy(received, p-processes, k-kernel)
	}, nil
}

// passedBy says whether what was received is what the kernel has sent.
func passedBy(received, processes, kernel uint64) error {
	if processes > strays(received) || kernel+processes < received {
		return fmt.Errorf("%d packets arrived, of which the kernel has forwarded %d: the processes have handled %d", received, kernel, processes)
	}
	return nil
}
