package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/traffic"
)

// Driver makes gateways out of the lab's two gateway hosts.
type Driver interface {
	// Name is short, unique and stable.
	Name() string
	// Supports reports why a scenario cannot be done, wrapping method.ErrUnavailable;
	// the scenario is normal, and its Attachment is set if the asker cares.
	Supports(method.Scenario) error
	// Attachments are the ways in which ends can reach it, the preferred one first.
	Attachments() []string
	// Build configures and starts both gateways, and returns when packets can cross.
	Build(context.Context, *Lab) (Gateways, error)
}

// Gateways are a driver's two gateways at work. They end with the lab.
type Gateways interface {
	// PIDs of the processes at work: of the first gateway, then of the second, if it is
	// active. None where the kernel does the work.
	PIDs() []int
	Version() string
}

// Restarter is Gateways that can lose a process: kill -9 of the first gateway, and
// start it again. It does not wait until packets cross.
type Restarter interface {
	Restart(context.Context) error
}

// Repairer is Gateways that need help after a link was down: routes through it are gone.
type Repairer interface {
	Repair(context.Context) error
}

// Bypass is Gateways with processes that packets pass by: the kernel forwards them, and goes on without the processes.
type Bypass interface {
	// Passed is how many packets the processes have handled so far, and how many the kernel has sent to the other site.
	Passed(context.Context) (processes, kernel uint64, err error)
}

// Session is Gateways with keys that are renewed.
type Session interface {
	// LastHandshake is when the session of the first gateway was made.
	LastHandshake(context.Context) (time.Time, error)
	// Renewal is the age at which a session that is in use is renewed.
	Renewal() time.Duration
}

// WireGuard is a Driver of gateways that speak WireGuard on WireGuardPort, so that we can
// be the other gateway.
type WireGuard interface {
	Driver
	// Sealed is what the first gateway puts into its tunnel, Plain or GeneveIP.
	Sealed(*Lab) traffic.Flow
}

// Contestant is a driver as package method sees it.
type Contestant struct {
	Driver Driver
	// NICs of the machine that its lab is made of, as the variable NICs has them; none: veth pairs.
	NICs []string
}

// New makes a contestant of a driver, on veth pairs.
func New(d Driver) Contestant { return Contestant{Driver: d} }

// Name of the driver.
func (c Contestant) Name() string { return c.Driver.Name() }

// Start builds a lab of its own and the gateways in it.
func (c Contestant) Start(ctx context.Context, s method.Scenario) (method.Run, error) {
	run, err := c.start(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name(), err)
	}
	return run, nil
}

func (c Contestant) start(ctx context.Context, s method.Scenario) (_ *Run, err error) {
	s = s.Normal()
	if s.Attachment == "" {
		s.Attachment = c.Driver.Attachments()[0]
	}
	if !slices.Contains(c.Driver.Attachments(), s.Attachment) {
		return nil, fmt.Errorf("%w: it has no attachment %q", method.ErrUnavailable, s.Attachment)
	}
	if err := c.Driver.Supports(s); err != nil {
		return nil, err
	}
	wg, speaks := c.Driver.(WireGuard)
	if s.Direction == method.Decrypt && !speaks || s.Peers > 1 && (!speaks || s.Direction != method.Encrypt) {
		return nil, fmt.Errorf("%w: decryption, and encryption for many peers, are for what speaks WireGuard", method.ErrUnavailable)
	}
	lab, err := NewLab(s, speaks, c.NICs...)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lab.Close())
		}
	}()
	gateways, err := c.Driver.Build(ctx, lab)
	if err != nil {
		return nil, err
	}
	run := &Run{Lab: lab, Gateways: gateways}
	if speaks {
		run.wireGuard = wg
	}
	if err := run.open(ctx); err != nil {
		return nil, errors.Join(err, run.release())
	}
	return run, nil
}
