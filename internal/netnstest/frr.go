package netnstest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sluicegw/sluice/internal/testenv"
)

// frrDir is where Debian puts FRR's daemons.
const frrDir = "/usr/lib/frr/"

// FRRTools are the programs that a router with FRR needs.
var FRRTools = []string{frrDir + "zebra", frrDir + "bgpd", frrDir + "bfdd", "vtysh"}

// routerStart is how long a routing daemon may take to answer.
const routerStart = 20 * time.Second

// FRR is a router: FRR's daemons on a host, which share nothing with those of
// other hosts or of the machine.
type FRR struct {
	host    *Host
	dir     string
	daemons map[string]*Cmd
}

// StartFRR makes a host a router that forwards IPv4 and IPv6, with zebra, bgpd
// and bfdd. bgp and bfd are the configurations of the last two.
func (h *Host) StartFRR(bgp, bfd string) *FRR {
	h.Sysctl("net.ipv4.ip_forward", "1")
	h.Sysctl("net.ipv6.conf.all.forwarding", "1")
	f := &FRR{host: h, dir: filepath.Join(h.Dir(), "frr"), daemons: make(map[string]*Cmd)}
	h.helper()
	h.scope.try(func() error {
		if err := os.Mkdir(f.dir, 0o700); err != nil {
			return err
		}
		for _, d := range []struct{ name, config string }{{"zebra", ""}, {"bfdd", bfd}, {"bgpd", bgp}} {
			if err := os.WriteFile(f.file(d.name, "conf"), []byte("log stdout\n"+d.config), 0o600); err != nil {
				return err
			}
			if err := f.Start(d.name); err != nil {
				return err
			}
		}
		return nil
	})
	return f
}

func (f *FRR) file(daemon, what string) string { return filepath.Join(f.dir, daemon+"."+what) }

// Start starts a daemon (again), and waits until it answers.
func (f *FRR) Start(daemon string) error {
	args := []string{
		// Debian's build refuses a user that is not in this group.
		"-u", "root", "-g", "frrvty", "-f", f.file(daemon, "conf"), "-i", f.file(daemon, "pid"), "-z", filepath.Join(f.dir, "zserv"),
		"--vty_socket", f.dir, "-P", "0",
	}
	if daemon == "bfdd" {
		args = append(args, "--bfdctl", f.file(daemon, "sock"))
	}
	c := f.host.Command(context.Background(), frrDir+daemon, args...)
	log, err := os.OpenFile(f.file(daemon, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		return fmt.Errorf("frr: %w", err)
	}
	f.daemons[daemon] = c
	return waitFor(c, "frr: "+daemon, log.Name(), func() error {
		_, err := f.vtysh(context.Background(), "-d", daemon, "-c", "show version")
		return err
	})
}

// Kill ends a daemon at once, as a crash does: nobody is told.
func (f *FRR) Kill(daemon string) error {
	c := f.daemons[daemon]
	if err := c.Process.Kill(); err != nil {
		return err
	}
	<-c.Done()
	return nil
}

// Freeze stops a daemon where it stands, as one that hangs: its connections stay, and it does nothing. Thaw lets it go on.
func (f *FRR) Freeze(daemon string) error { return f.daemons[daemon].Process.Signal(syscall.SIGSTOP) }

// Thaw ends Freeze.
func (f *FRR) Thaw(daemon string) error { return f.daemons[daemon].Process.Signal(syscall.SIGCONT) }

// Do runs commands, each as one types it at the router, and returns what it says.
func (f *FRR) Do(ctx context.Context, commands ...string) (string, error) {
	var args []string
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	return f.vtysh(ctx, args...)
}

func (f *FRR) vtysh(ctx context.Context, args ...string) (string, error) {
	out, err := f.host.Command(ctx, "vtysh", append([]string{"--vty_socket", f.dir}, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("host %s: vtysh: %w: %s", f.host.name, err, out)
	}
	return string(out), nil
}

// Log returns what a daemon has logged.
func (f *FRR) Log(daemon string) string {
	text, err := os.ReadFile(f.file(daemon, "log"))
	return errorText(string(text), err)
}

func errorText(text string, err error) string {
	if err != nil {
		return err.Error()
	}
	return text
}

// BIRDTools are the programs that a router with BIRD needs.
var BIRDTools = []string{"bird", "birdc"}

// BIRD is a router: BIRD on a host.
type BIRD struct {
	host   *Host
	dir    string
	daemon *Cmd
}

// StartBIRD makes a host a router that forwards IPv4 and IPv6, with BIRD 2 under a
// configuration.
func (h *Host) StartBIRD(config string) *BIRD {
	h.Sysctl("net.ipv4.ip_forward", "1")
	h.Sysctl("net.ipv6.conf.all.forwarding", "1")
	b := &BIRD{host: h, dir: filepath.Join(h.Dir(), "bird")}
	h.helper()
	h.scope.try(func() error {
		if err := os.Mkdir(b.dir, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(b.dir, "conf"), []byte("log stderr all;\n"+config), 0o600); err != nil {
			return err
		}
		return b.Start()
	})
	return b
}

// Start starts BIRD (again), which recovers from a restart (-R) if there was one,
// and waits until it answers.
func (b *BIRD) Start() error {
	b.daemon = b.host.Command(context.Background(), "bird", "-f", "-R", "-c", filepath.Join(b.dir, "conf"), "-s", filepath.Join(b.dir, "ctl"), "-P", filepath.Join(b.dir, "pid"))
	log, err := os.OpenFile(filepath.Join(b.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	b.daemon.Stdout, b.daemon.Stderr = log, log
	if err := b.daemon.Start(); err != nil {
		return fmt.Errorf("bird: %w", err)
	}
	return waitFor(b.daemon, "bird", log.Name(), func() error {
		_, err := b.Do(context.Background(), "show status")
		return err
	})
}

// Kill ends BIRD at once, as a crash does: nobody is told, and what it has put
// into the kernel stays.
func (b *BIRD) Kill() error {
	if err := b.daemon.Process.Kill(); err != nil {
		return err
	}
	<-b.daemon.Done()
	return nil
}

// Do runs a command of birdc, and returns what it says.
func (b *BIRD) Do(ctx context.Context, command string) (string, error) {
	out, err := b.host.Command(ctx, "birdc", "-s", filepath.Join(b.dir, "ctl"), command).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("host %s: birdc: %w: %s", b.host.name, err, out)
	}
	return string(out), nil
}

// Log returns what BIRD has logged.
func (b *BIRD) Log() string {
	text, err := os.ReadFile(filepath.Join(b.dir, "log"))
	return errorText(string(text), err)
}

// waitFor waits until a daemon answers.
func waitFor(c *Cmd, what, log string, answers func() error) error {
	for deadline := time.Now().Add(routerStart); ; {
		err := answers()
		if err == nil {
			return nil
		}
		select {
		case <-c.Done():
			err = errors.Join(errors.New("ended"), c.Wait())
		case <-time.After(20 * time.Millisecond):
			if time.Now().Before(deadline) {
				continue
			}
		}
		said, _ := os.ReadFile(log)
		return fmt.Errorf("%s does not run: %w: %s", what, err, said)
	}
}

// CheckRouters says which program is missing for FRR and BIRD.
func CheckRouters() error {
	for _, tool := range append(append([]string(nil), FRRTools...), BIRDTools...) {
		if _, err := testenv.LookTool(tool); err != nil {
			return fmt.Errorf("FRR and BIRD: %w", err)
		}
	}
	return nil
}

// RequireRouters ends a test where FRR or BIRD are not installed.
func RequireRouters(t testenv.TB) {
	t.Helper()
	for _, tool := range append(append([]string(nil), FRRTools...), BIRDTools...) {
		testenv.RequireTool(t, tool)
	}
}
