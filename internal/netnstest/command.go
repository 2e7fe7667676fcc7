package netnstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/sluicegw/sluice/internal/testenv"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// grace is how long a process may take to end by itself when it is asked to.
const grace = 5 * time.Second

// Cmd is an exec.Cmd that runs in a host's namespace. Set its fields before
// Start. It ends with its context (SIGTERM, then SIGKILL), with its scope, and
// when this process is killed. It has a process group of its own, so a Ctrl-C
// at the terminal reaches this process only, which ends things in order.
type Cmd struct {
	*exec.Cmd
	host *Host
	done chan struct{}
	err  error // valid after done
}

// Command prepares a program, found in the PATH or among the administrator's
// commands.
func (h *Host) Command(ctx context.Context, name string, args ...string) *Cmd {
	if path, err := testenv.LookTool(name); err == nil {
		name = path
	}
	c := &Cmd{Cmd: exec.CommandContext(ctx, name, args...), host: h, done: make(chan struct{})}
	c.Cancel = func() error { return c.Process.Signal(unix.SIGTERM) }
	c.WaitDelay = grace
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return c
}

// Start starts the program in the namespace.
func (c *Cmd) Start() error {
	if err := c.host.scope.Err(); err != nil {
		return err
	}
	started := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the thread ends that has started the
		// process, so this thread stays until the process has ended.
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			runtime.UnlockOSThread()
			started <- fmt.Errorf("read network namespace: %w", err)
			return
		}
		defer home.Close()
		err = netns.Set(c.host.ns)
		if err == nil {
			err = c.Cmd.Start()
		}
		back := netns.Set(home)
		if back == nil {
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
		return fmt.Errorf("host %s: start %s: %w", c.host.name, c.Path, err)
	}
	c.host.scope.mu.Lock()
	c.host.scope.commands = append(c.host.scope.commands, c)
	c.host.scope.mu.Unlock()
	return nil
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
		return out.Bytes(), fmt.Errorf("host %s: %s: %w: %s", c.host.name, c.Path, err, bytes.TrimSpace(problems.Bytes()))
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
	c.end()
	var exit *exec.ExitError
	if errors.As(c.err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == unix.SIGTERM {
			return nil
		}
	}
	return c.err
}

func (c *Cmd) end() {
	c.signal(unix.SIGTERM)
	select {
	case <-c.done:
		return
	case <-time.After(grace):
	}
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
