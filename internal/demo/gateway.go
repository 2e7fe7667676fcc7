package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/netnstest"
)

// readyTimeout is generous: a busy machine is no reason to fail.
const readyTimeout = 30 * time.Second

// gateway is a `sluice run` in a host of its own.
type gateway struct {
	name       string
	host       *netnstest.Host
	ports      []string // its links that get an XDP program
	executable string
	command    *netnstest.Cmd
	gone       bool // stopped or killed in a check
	started    time.Time
}

func (g *gateway) configFile() string { return filepath.Join(g.host.Dir(), "sluice.yaml") }
func (g *gateway) logFile() string    { return filepath.Join(g.host.Dir(), "sluice.log") }
func (g *gateway) socket() string     { return filepath.Join(g.host.Dir(), "sluice.sock") }

// start starts the program. It ends with the scope, not with ctx: everything
// else is to be stopped in order.
func (g *gateway) start(ctx context.Context, executable string) error {
	log, err := os.Create(g.logFile())
	if err != nil {
		return fmt.Errorf("gateway %s: %w", g.name, err)
	}
	defer log.Close()
	g.executable = executable
	g.command = g.host.Command(context.WithoutCancel(ctx), executable, "run", "-c", g.configFile())
	g.command.Stdout, g.command.Stderr = log, log
	g.started = time.Now()
	if err := g.command.Start(); err != nil {
		return fmt.Errorf("gateway %s: %w", g.name, err)
	}
	return nil
}

// waitReady asks the API until the gateway says that everything works.
func (g *gateway) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		status, err := api.Dial(g.socket()).Status(ctx, &sluicev1.StatusRequest{})
		if err == nil && status.GetHealth() == sluicev1.Health_HEALTH_READY {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("its status is %s: %s", status.GetHealth(), strings.Join(status.GetProblems(), "; "))
		}
		select {
		case <-g.command.Done():
			err = errors.New("it ended: " + exit(g.command.Wait()))
		case <-ctx.Done():
			err = fmt.Errorf("not ready after %v: %w: %w", time.Since(g.started).Round(time.Second), ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
			continue
		}
		return fmt.Errorf("gateway %s: %w\n%s", g.name, err, g.lastLog())
	}
}

func exit(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// lastLog is what the gateway has last written.
func (g *gateway) lastLog() string {
	text, err := os.ReadFile(g.logFile())
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return "its log ends with:\n" + string(bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
}

// counters reads all counters, summed over workers and ports, by component and
// name as in "xdp/divert_vxlan".
func (g *gateway) counters(ctx context.Context) (map[string]uint64, error) {
	answer, err := api.Dial(g.socket()).Counters(ctx, &sluicev1.CountersRequest{})
	if err != nil {
		return nil, fmt.Errorf("gateway %s: counters: %w", g.name, err)
	}
	sums := make(map[string]uint64)
	for _, c := range answer.GetCounters() {
		sums[c.GetComponent()+"/"+c.GetName()] += c.GetValue()
	}
	return sums, nil
}

// cli runs a command of the program against the gateway.
func (g *gateway) cli(ctx context.Context, args ...string) (string, error) {
	out, err := g.host.Command(ctx, g.executable, append(args, "--socket", g.socket())...).CombinedOutput()
	return string(out), err
}

// stop asks the program to end, and looks whether it has left anything behind.
func (g *gateway) stop() error {
	select {
	case <-g.command.Done():
		return fmt.Errorf("it had ended by itself: %s\n%s", exit(g.command.Wait()), g.lastLog())
	default:
	}
	began := time.Now()
	if err := g.command.Stop(); err != nil {
		return fmt.Errorf("after %v: %w\n%s", time.Since(began).Round(time.Millisecond), err, g.lastLog())
	}
	var errs []error
	if !g.command.ProcessState.Success() {
		errs = append(errs, fmt.Errorf("SIGTERM was not handled: %s", g.command.ProcessState))
	}
	if _, err := os.Lstat(g.socket()); !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, fmt.Errorf("socket %s is left", g.socket()))
	}
	for _, port := range g.ports {
		link, err := g.host.Netlink().LinkByName(port)
		if err != nil {
			errs = append(errs, fmt.Errorf("port %s: %w", port, err))
		} else if xdp := link.Attrs().Xdp; xdp != nil && xdp.Attached {
			errs = append(errs, fmt.Errorf("port %s still has an XDP program", port))
		}
	}
	return errors.Join(errs...)
}
