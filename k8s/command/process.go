package command

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// grace is how long a program may take to end by itself when it is asked to, and its output to be closed.
	grace = 2 * time.Second
	// kept is how much of its output is kept, in bytes: the end of it.
	kept = 2 << 10
	// path is where a program finds others.
	path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// run starts a program as this user, and waits for its end.
func (a account) run(ctx context.Context, q Request) Result {
	var out, problems tail
	cmd := exec.CommandContext(ctx, q.Argv[0], q.Argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + path, "HOME=" + a.home, "USER=" + a.name, "LANG=C.UTF-8", "SLUICE_MISSION=" + q.Mission}
	cmd.Stdout, cmd.Stderr = &out, &problems
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if a.change {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = grace

	done := make(chan error)
	go func() {
		// What is given up here the program never had. The thread ends with this goroutine, as it is not unlocked; it
		// must not end earlier, since that is what Pdeathsig waits for.
		runtime.LockOSThread()
		done <- func() error {
			if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
				return fmt.Errorf("give up gaining privileges: %w", err)
			}
			if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
				return fmt.Errorf("give up capabilities: %w", err)
			}
			if err := cmd.Start(); err != nil {
				return err
			}
			// While it has ended and is not waited for, the number of its group cannot be another's.
			for unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
			}
			_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // usually nobody is left
			return cmd.Wait()
		}()
	}()
	err := <-done
	result := Result{Exit: -1, Err: err, Output: out.text(), Errors: problems.text()}
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // somebody who left the group still holds its output
		result.Exit, result.Err = cmd.ProcessState.ExitCode(), nil
	case errors.As(err, &exit):
		result.Exit = exit.ExitCode()
	}
	return result
}

// tail keeps the end of what is written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p[max(0, len(p)-kept):]...)
	if over := len(t.b) - kept; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

func (t *tail) text() string { return strings.TrimSpace(strings.ToValidUTF8(string(t.b), "")) }
