package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// label finds the demo's namespaces again.
const label = "demo"

// Options of Run. The zero value runs all of the demo, silently.
type Options struct {
	// JSON is a file for the report; none by default.
	JSON string
	// Keep leaves everything running after the checks, until the context ends.
	Keep bool
	// Clean ends a demo that was kept, removes what a killed one left, and does
	// nothing else.
	Clean bool
	// RequireRouters makes it an error when FRR or BIRD are not there. Otherwise the
	// sites then have one gateway each, and no router.
	RequireRouters bool
	// RequireOVS makes it an error when Open vSwitch cannot run here. Otherwise
	// both sites then use the kernel's VXLAN.
	RequireOVS bool
	// IPv6 uses IPv6 on the outside: between the nodes, and on the WAN.
	IPv6 bool
	// Out gets the progress, the table and the gateways' status.
	Out io.Writer
	// Executable is the sluice program; by default the running one.
	Executable string
	// CopySize is how many bytes each copy moves; default 100 MB.
	CopySize int64
}

// ErrFailed is in Run's error when the demo ran to its end and a check failed.
var ErrFailed = errors.New("not everything works")

// Run builds the two sites, runs the checks and removes the sites. It ends early,
// and still cleans up, with the context and with SIGINT or SIGTERM.
func Run(ctx context.Context, o Options) (err error) {
	if o.Out == nil {
		o.Out = io.Discard
	}
	if err := testenv.Namespaces(); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if o.Clean {
		return clean(o.Out)
	}
	if o.CopySize == 0 {
		o.CopySize = 100e6
	}
	if o.Executable == "" {
		if o.Executable, err = os.Executable(); err != nil {
			return fmt.Errorf("find the sluice program: %w", err)
		}
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	d := newDemo(o)
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.build(); err != nil {
		return err
	}
	if err := d.start(ctx); err != nil {
		return err
	}
	d.check(ctx)
	if err := d.capture.close(); err != nil { // a socket that nobody reads would fill up
		return err
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	d.status(ctx)
	if o.Keep {
		d.tour()
		if err := d.writeJSON(); err != nil {
			return err
		}
		<-ctx.Done()
		d.say("stopping\n")
	}
	d.stopGateways()
	d.table()
	if err := d.writeJSON(); err != nil {
		return err
	}
	if failed := d.failures(); failed > 0 {
		return fmt.Errorf("demo: %w: %d of %d checks failed", ErrFailed, failed, len(d.Checks))
	}
	return nil
}

// demo is one run.
type demo struct {
	Options
	*report
	lab     *lab
	capture *capture

	patience, silence time.Duration
}

func newDemo(o Options) *demo {
	return &demo{Options: o, report: newReport(o.Out), patience: patience, silence: silence}
}

// build makes the sites.
func (d *demo) build() error {
	overlay := config.Geneve
	d.step("looking whether Open vSwitch runs here")
	if err := netnstest.CheckOVS(); err != nil {
		if d.RequireOVS {
			return fmt.Errorf("demo: %w", err)
		}
		overlay = config.VXLAN
		d.note("Open vSwitch cannot run here, so site bergen has kernel VXLAN nodes too (%v)", err)
	}
	routers := true
	if err := netnstest.CheckRouters(); err != nil {
		if d.RequireRouters {
			return fmt.Errorf("demo: %w", err)
		}
		routers = false
		d.note("the sites have no routers, and one gateway each (%v)", err)
	}
	d.step("building two sites and a WAN")
	var err error
	if d.lab, err = newLab(labOptions{bergen: overlay, ipv6: d.IPv6, routers: routers}); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	d.Overlays = map[string]string{}
	for _, s := range d.lab.sites {
		d.Overlays[s.name] = string(s.overlay)
	}
	if d.capture, err = newCapture(d.lab.wan, d.lab.wireRules(), d.lab.wanLinks()...); err != nil {
		return fmt.Errorf("demo: capture the WAN: %w", err)
	}
	return nil
}

// start starts the gateways, all at once.
func (d *demo) start(ctx context.Context) error {
	d.step("starting the gateways")
	for _, g := range d.lab.gateways() {
		if err := g.start(ctx, d.Executable); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	for _, g := range d.lab.gateways() {
		if err := g.waitReady(ctx); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	return nil
}

// status shows what the gateways say about themselves.
func (d *demo) status(ctx context.Context) {
	d.say("\nthe gateways\n")
	for _, s := range d.lab.sites {
		out, err := s.gateway.cli(ctx, "status")
		d.record("status", "sluice status of "+s.gateway.name, "answers", err)
		d.say("\n$ sluice status --socket %s\n%s\n", s.gateway.socket(), strings.TrimSpace(out))
	}
}

// stopGateways is a check as well: a gateway that stops leaves nothing behind.
func (d *demo) stopGateways() {
	for _, g := range d.lab.gateways() {
		if !g.gone {
			d.record("stop", "gateway "+g.name+" stops and detaches", "exit status 0, no XDP program left, socket gone", g.stop())
		}
	}
}

func (d *demo) close() error {
	d.done()
	var errs []error
	if d.capture != nil {
		errs = append(errs, d.capture.close())
	}
	if d.lab != nil {
		d.step("removing everything")
		errs = append(errs, d.lab.close())
		d.done()
	}
	return errors.Join(errs...)
}

func clean(out io.Writer) error {
	n, err := netnstest.EndOwners(label, 30*time.Second)
	if err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	if n == 0 {
		fmt.Fprintln(out, "no demo is running; leftovers of killed ones, if any, are removed")
	} else {
		fmt.Fprintln(out, "the demo has ended")
	}
	return nil
}

func (d *demo) writeJSON() error {
	if d.JSON == "" {
		return nil
	}
	d.OK = d.failures() == 0
	data, err := json.MarshalIndent(d.report, "", "  ")
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := os.WriteFile(d.JSON, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
