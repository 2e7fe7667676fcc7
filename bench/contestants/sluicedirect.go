package contestants

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/scenario"
	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
)

// SluiceDirect is the gateway of this repository without encryption: its XDP program forwards by itself, and the
// relay sees nothing of it. It is there for others that do not encrypt.
type SluiceDirect struct{}

// Name of the contestant.
func (SluiceDirect) Name() string { return "sluice-direct" }

// Attachments of the contestant.
func (SluiceDirect) Attachments() []string { return []string{scenario.Routed, scenario.VXLAN} }

// Supports what the program forwards by itself.
func (SluiceDirect) Supports(s method.Scenario) error {
	switch {
	case s.Direction != method.Through:
		return fmt.Errorf("%w: its packets are measured from end to end", method.ErrUnavailable)
	case s.Routes > 1:
		return fmt.Errorf("%w: the program forwards to a host behind a routed port after the relay has, and that is not what is measured", method.ErrUnavailable)
	case s.Native:
		return fmt.Errorf("%w: unfinished checksums are the relay's", method.ErrUnavailable)
	}
	return kernelOnly(s)
}

// directPort is where packets without encryption are taken, as long as nothing else is configured.
const directPort = 51821

// Build starts both gateways, and waits until pings pass the relays by.
func (SluiceDirect) Build(ctx context.Context, lab *scenario.Lab) (scenario.Gateways, error) {
	if err := lab.TakeRedirected(ctx); err != nil {
		return nil, err
	}
	var pins [2]string
	for i, site := range lab.Ends {
		pins[i] = filepath.Join(site.Gateway.MountBPF(), "sluice")
	}
	if err := lab.Scope.Err(); err != nil {
		return nil, err
	}
	running, err := buildSluice(ctx, lab, func(s *sluiceSettings) {
		s.PinDir = pins[s.Number-1]
		s.Peers = slices.Clone(s.Peers)
		for i := range s.Peers {
			s.Peers[i].Endpoint = netip.AddrPortFrom(s.Peers[i].Endpoint.Addr(), directPort)
		}
	})
	if running != nil { // those that were started, even if not all were
		lab.Scope.Defer(func() error { return running.cleanUp(lab) })
	}
	if err != nil {
		return nil, err
	}
	g := &directGateways{running}
	return g, g.settle(ctx, lab)
}

// directGateways are two `sluice run` that packets pass by.
type directGateways struct{ running *sluiceGateways }

func (g *directGateways) PIDs() []int                       { return g.running.PIDs() }
func (g *directGateways) Version() string                   { return g.running.Version() }
func (g *directGateways) Restart(ctx context.Context) error { return g.running.Restart(ctx) }

// settle sends pings until the programs know all neighbours: the relays see no ping any more.
func (g *directGateways) settle(ctx context.Context, lab *scenario.Lab) error {
	return scenario.Eventually(ctx, func() error {
		before, _, err := g.Passed(ctx)
		if err != nil {
			return err
		}
		if err := lab.Probe(ctx); err != nil {
			return err
		}
		after, _, err := g.Passed(ctx)
		if err == nil && after != before {
			err = fmt.Errorf("the relays have handled %d packets of a ping", after-before)
		}
		return err
	})
}

// Passed asks both gateways for what their workers have handled, and the first one for what its program has sent to the
// other.
func (g *directGateways) Passed(ctx context.Context) (processes, kernel uint64, err error) {
	for i, socket := range g.running.sockets {
		answer, err := api.Dial(socket).Counters(ctx, &sluicev1.CountersRequest{})
		if err != nil {
			return 0, 0, err
		}
		for _, c := range answer.GetCounters() {
			switch {
			case c.GetComponent() == "relay" && c.GetUnit() == sluicev1.CounterUnit_COUNTER_UNIT_PACKETS:
				processes += c.GetValue()
			case c.GetComponent() == "xdp" && c.GetName() == "direct_to_peer" && i == 0:
				kernel += c.GetValue()
			}
		}
	}
	return processes, kernel, nil
}

// cleanUp ends the processes, and has what they leave attached removed as an operator does.
func (g *sluiceGateways) cleanUp(lab *scenario.Lab) error {
	var errs []error
	for i, d := range g.daemons {
		errs = append(errs, d.Stop())
		host := lab.Ends[i].Gateway
		out, err := host.Command(context.Background(), g.binary, "cleanup", "-c", filepath.Join(host.Dir(), sluiceFile)).CombinedOutput()
		if err != nil {
			errs = append(errs, fmt.Errorf("clean up %s: %w: %s", host.Name(), err, out))
		}
	}
	return errors.Join(errs...)
}
