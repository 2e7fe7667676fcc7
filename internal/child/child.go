// Package child starts programs that do not outlive this process, in a network
// namespace if wanted. netnstest runs what belongs to its hosts with it, and
// kubetest the parts of a cluster.
//
//	c := child.Command(ctx, "sleep", "1000")
//	if err := c.Start(); err != nil { ... }
//	defer c.Stop()
//
// It is no supervisor: what ends stays ended, and grandchildren that leave
// their process group (as daemons do) are their parent's business.
//
// A Cmd is prepared and started by one goroutine. Afterwards Done, Wait, Stop
// and Kill may be called by any.
package child

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/sluicegw/sluice/internal/testenv"
)

// grace is how long a process may take to end by itself when it is asked to.
const grace = 5 * time.Second

// Cmd is an exec.Cmd that ends with its context (SIGTERM, then SIGKILL), and when this process is killed. It has
// a process group of its own, so a Ctrl-C at the terminal reaches this process only, which ends things in order.
// Set the fields, and those of exec.Cmd, before Start.
type Cmd struct {
	*exec.Cmd
	// Namespace to run in; netns.None(), which Command sets, is this process's own.
	Namespace netns.NsHandle
	// Place begins error messages: where the program was to run.
	Place string
	// Before is called by Start, which does nothing but return its error if it has one.
	Before func() error
	// Started is called when the program runs.
	Started func(*Cmd)

	done chan struct{}
	err  error // valid after done
}

// Command prepares a program, found in the PATH or among the administrator's
// commands.
func Command(ctx context.Context, name string, args ...string) *Cmd {
	if path, err := testenv.LookTool(name); err == nil {
		name = path
	}
	c := &Cmd{Cmd: exec.CommandContext(ctx, name, args...), Namespace: netns.None(), done: make(chan struct{})}
	c.Cancel = func() error { return c.Process.Signal(unix.SIGTERM) }
	c.WaitDelay = grace
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return c
}

// Start starts the program in its namespace.
func (c *Cmd) Start() error {
	if c.Before != nil {
		if err := c.Before(); err != nil {
			return err
		}
	}
	started := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the thread ends that has started the
		// process, so this thread stays until the process has ended.
		runtime.LockOSThread()
		home, err := c.enter()
		if err == nil {
			err = c.Cmd.Start()
		}
		if home.leave() == nil {
			defer runtime.UnlockOSThread() // otherwise the thread ends with the goroutine
		}
		started <- err
		if err != nil {
			return
		}
		c.err = c.Cmd.Wait()
		close(c.done)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("%sstart %s: %w", c.at(), c.Path, err)
	}
	if c.Started != nil {
		c.Started(c)
	}
	return nil
}

// visit is a thread's stay in another namespace.
type visit struct{ home netns.NsHandle }

// enter moves this thread to the program's namespace.
func (c *Cmd) enter() (visit, error) {
	if !c.Namespace.IsOpen() {
		return visit{home: netns.None()}, nil
	}
	home, err := netns.Get()
	if err != nil {
		return visit{home: netns.None()}, fmt.Errorf("read network namespace: %w", err)
	}
	return visit{home: home}, netns.Set(c.Namespace)
}

func (v visit) leave() error {
	if !v.home.IsOpen() {
		return nil
	}
	return errors.Join(netns.Set(v.home), v.home.Close())
}

func (c *Cmd) at() string {
	if c.Place == "" {
		return ""
	}
	return c.Place + ": "
}

// Done is closed when the program has ended.
func (c *Cmd) Done() <-chan struct{} { return c.done }

// Wait waits for the program's end. It may be called by several goroutines.
func (c *Cmd) Wait() error {
	<-c.done
	return c.err
}

// Run starts the program and waits for it.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the program and returns its standard output; what it wrote to
// standard error is in the error.
func (c *Cmd) Output() ([]byte, error) {
	var out, problems bytes.Buffer
	c.Stdout, c.Stderr = &out, &problems
	if err := c.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%s%s: %w: %s", c.at(), c.Path, err, bytes.TrimSpace(problems.Bytes()))
	}
	return out.Bytes(), nil
}

// CombinedOutput runs the program and returns all that it wrote.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}

// Stop asks a started program to end (SIGTERM), waits some seconds, then ends
// it. The error is the program's own, except that ending by our signal is none.
func (c *Cmd) Stop() error {
	c.signal(unix.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(grace):
		c.Kill()
	}
	var exit *exec.ExitError
	if errors.As(c.err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == unix.SIGTERM {
			return nil
		}
	}
	return c.err
}

// Kill ends a started program at once (SIGKILL), and waits until it has ended.
func (c *Cmd) Kill() {
	c.signal(unix.SIGKILL)
	<-c.done
}

// signal: a process that has been waited for is not signalled (os.Process keeps
// track), so its number cannot be another's.
func (c *Cmd) signal(s syscall.Signal) {
	select {
	case <-c.done:
	default:
		c.Process.Signal(s)
	}
}
