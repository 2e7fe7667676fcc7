package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sluicegw/sluice/internal/netnstest"
)

// Neighbour says for good where an address is.
func Neighbour(h *netnstest.Host, link string, ip netip.Addr, mac net.HardwareAddr) error {
	l, err := h.Netlink().LinkByName(link)
	if err != nil {
		return fmt.Errorf("neighbour %s: link %s: %w", ip, link, err)
	}
	err = h.Netlink().NeighSet(&netlink.Neigh{
		LinkIndex: l.Attrs().Index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT, IP: net.IP(ip.AsSlice()), HardwareAddr: mac,
	})
	if err != nil {
		return fmt.Errorf("neighbour %s on %s: %w", ip, link, err)
	}
	return nil
}

// Batch runs many ip(8) commands of a host at once; 100 000 routes take a second.
func Batch(ctx context.Context, h *netnstest.Host, commands []byte) error {
	c := h.Command(ctx, "ip", "-batch", "-")
	c.Stdin = bytes.NewReader(commands)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("host %s: ip -batch: %w: %s", h.Name(), err, out)
	}
	return nil
}

// Ethtool switches a feature of a link.
func Ethtool(ctx context.Context, l *netnstest.Link, feature string, on bool) error {
	value := "off"
	if on {
		value = "on"
	}
	if out, err := l.Host.Command(ctx, "ethtool", "-K", l.Name, feature, value).CombinedOutput(); err != nil {
		return fmt.Errorf("host %s: %s of %s: %w: %s", l.Host.Name(), feature, l.Name, err, out)
	}
	return nil
}

// Daemon is a process of a gateway, on the CPUs of the device under test.
type Daemon struct {
	cmd  *netnstest.Cmd
	host *netnstest.Host
	cpus string
	env  []string
	args []string
	log  string
}

// Start starts a program on one host, pinned, its output in a file of the host.
func (l *Lab) Start(ctx context.Context, h *netnstest.Host, env []string, name string, args ...string) (*Daemon, error) {
	d := &Daemon{
		host: h, cpus: l.cpus(), env: env, args: append([]string{name}, args...),
		log: filepath.Join(h.Dir(), filepath.Base(name)+".log"),
	}
	return d, d.start(ctx)
}

// cpus are those of the device under test, for taskset.
func (l *Lab) cpus() string {
	first := l.Scenario.DUTCPU
	if l.Scenario.Workers == 1 {
		return strconv.Itoa(first)
	}
	return fmt.Sprintf("%d-%d", first, first+l.Scenario.Workers-1)
}

func (d *Daemon) start(ctx context.Context) error {
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	// taskset becomes the program, so the program sees no other CPUs from its first
	// instruction on. It ends with the scope, not with ctx.
	d.cmd = d.host.Command(context.WithoutCancel(ctx), "taskset", append([]string{"-c", d.cpus}, d.args...)...)
	d.cmd.Env = append(os.Environ(), d.env...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	return d.cmd.Start()
}

// PID of the process.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Restart kills the process (SIGKILL) and starts it again at once.
func (d *Daemon) Restart(ctx context.Context) error {
	if err := d.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill %s: %w", d.args[0], err)
	}
	<-d.cmd.Done()
	return d.start(ctx)
}

// Stop asks the process to end, and waits until it has.
func (d *Daemon) Stop() error { return d.cmd.Stop() }

// Wait asks again and again until ready says nil, the process ends, or ctx is done.
func (d *Daemon) Wait(ctx context.Context, ready func() error) error {
	err := Eventually(ctx, func() error {
		select {
		case <-d.cmd.Done():
			return errEnded
		default:
			return ready()
		}
	})
	if err != nil {
		text, readErr := os.ReadFile(d.log)
		return fmt.Errorf("%s on %s: %w: %s", filepath.Base(d.args[0]), d.host.Name(), errors.Join(err, readErr), tail(text))
	}
	return nil
}

var errEnded = errors.New("it ended")

// startTimeout is generous: a busy machine is no reason to fail.
const startTimeout = 30 * time.Second

// Eventually tries until f says nil, for as long as a busy machine may take.
func Eventually(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := f()
		if err == nil || errors.Is(err, errEnded) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tail is the end of a log.
func tail(text []byte) []byte {
	return text[max(0, len(text)-1500):]
}
