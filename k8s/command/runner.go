package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"slices"
	"strconv"
	"time"
)

// Runner runs what its configuration allows.
type Runner struct {
	allow   [][]string
	user    account
	timeout time.Duration
	audit   audit
}

// account is who commands run as.
type account struct {
	name, home string
	uid, gid   uint32
	change     bool // this process is somebody else
}

// Request is a command of a Mission.
type Request struct {
	Mission string
	Step    string // what it is for: trigger, command, ...
	Argv    []string
	// Timeout of the run; at most the configuration's, which is the default too.
	Timeout time.Duration
	// Endless lets it run until the context ends, in place of Timeout.
	Endless bool
}

// Result of a run.
type Result struct {
	// Exit is the exit status, -1 when there is none: see Err.
	Exit int
	// Err says in words what was wrong: not allowed, not started, too slow, or an exit status that is not 0.
	Err error
	// Output and Errors are the ends of what the program has written to its standard output and error.
	Output, Errors string
}

// New checks the configuration, and that this process can become the user.
func New(c Config, log *slog.Logger) (*Runner, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	who, err := find(c.User)
	if err != nil {
		return nil, err
	}
	r := &Runner{user: who, timeout: cmp.Or(c.Timeout.Duration, DefaultTimeout), audit: audit{file: c.Audit, log: log}}
	for _, rule := range c.Allow {
		r.allow = append(r.allow, slices.Clone(rule))
	}
	return r, nil
}

func find(name string) (account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return account{}, fmt.Errorf("user: %w", err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return account{}, fmt.Errorf("user %s: %w", name, err)
	}
	if uid == 0 {
		return account{}, fmt.Errorf("user %s: it is root by another name", name)
	}
	a := account{name: u.Username, home: u.HomeDir, uid: uint32(uid), gid: uint32(gid), change: os.Geteuid() != int(uid)}
	if a.change && os.Geteuid() != 0 {
		return account{}, fmt.Errorf("user %s: the agent is neither root nor %s, and cannot become it", name, name)
	}
	return a, nil
}

// Allowed says why a command must not be run; nil if it may.
func (r *Runner) Allowed(argv []string) error {
	if !slices.ContainsFunc(r.allow, func(rule []string) bool { return allows(rule, argv) }) {
		return fmt.Errorf("%s is not among the commands that are allowed in this cluster", quoted(argv))
	}
	return nil
}

// Run runs a command to its end.
func (r *Runner) Run(ctx context.Context, q Request) Result {
	if err := r.Allowed(q.Argv); err != nil {
		return Result{Exit: -1, Err: errors.Join(err, r.audit.write(ctx, "refused", r.user, q, slog.String("reason", err.Error())))}
	}
	if err := r.audit.write(ctx, "starts", r.user, q); err != nil {
		return Result{Exit: -1, Err: fmt.Errorf("not run, since it cannot be written down: %w", err)}
	}
	limited, cancel := ctx, context.CancelFunc(func() {})
	limit := r.timeout
	if q.Timeout > 0 {
		limit = min(limit, q.Timeout)
	}
	if !q.Endless {
		limited, cancel = context.WithTimeout(ctx, limit)
	}
	defer cancel()
	started := time.Now()
	result := r.user.run(limited, q)
	if limited.Err() != nil {
		result.Exit = -1
		switch {
		case ctx.Err() != nil:
			result.Err = errors.New("ended, as nobody wants it any more")
		default:
			result.Err = fmt.Errorf("still not done after %v", limit)
		}
	}
	attributes := []slog.Attr{slog.Int("exit", result.Exit), slog.Duration("took", time.Since(started))}
	if result.Err != nil {
		attributes = append(attributes, slog.String("error", result.Err.Error()))
	}
	// A run that has happened is not undone by a full disk; the next one will not start.
	_ = r.audit.write(ctx, "ended", r.user, q, attributes...)
	return result
}
