package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/command"
)

// Times of commands.
const (
	askTrigger     = time.Minute // a trigger or the command of a stateCheck is run again
	commandFirst   = time.Second // what has failed is run again, then after twice as long each time
	commandLast    = 5 * time.Minute
	defaultLimit   = 10 * time.Second // of a Mission that says nothing
	backgroundIsUp = 500 * time.Millisecond
)

// errNoCommands: the agent's configuration has no commands.
var errNoCommands = errors.New("commands are not allowed in this cluster")

// commands runs what Missions want to be run: one job per Mission at a time, apart
// from the controllers' workers, since it may take long. The bell rings with the
// Mission's name when a job or a background command has ended.
type commands struct {
	runner *command.Runner // nil: none is allowed
	bell   bell

	ctx   context.Context // ends all of them
	end   context.CancelFunc
	group sync.WaitGroup

	mu         sync.Mutex
	jobs       map[string]*job // by Mission: the one that runs, or the last one
	background map[string]*background
}

// job is one look at a Mission's commands, and what came of it.
type job struct {
	key      string // what was asked
	running  bool
	out      verdict
	next     time.Time // until then out stands
	failures int       // in a row
}

// verdict is what came of a job.
type verdict struct {
	phase v1alpha1.Phase
	state string
	again time.Duration // to ask again, if it went well
}

func (v verdict) failed() bool { return v.phase == v1alpha1.PhaseFailed }

func fails(step string, r command.Result) verdict {
	text := step + ": " + r.Err.Error()
	if said := lastLine(r.Errors, r.Output); said != "" && r.Err != nil {
		text += ": " + said
	}
	return verdict{phase: v1alpha1.PhaseFailed, state: text}
}

// background is a command that goes on running.
type background struct {
	argv     []string
	since    time.Time
	stop     context.CancelFunc
	failures int // of those before it, in a row
	done     chan struct{}
	ended    command.Result // valid after done
}

func newCommands(r *command.Runner) *commands {
	c := &commands{runner: r, jobs: map[string]*job{}, background: map[string]*background{}}
	c.ctx, c.end = context.WithCancel(context.Background())
	return c
}

// close ends everything that runs, and waits for it.
func (c *commands) close() {
	c.end()
	c.group.Wait()
}

// allowed says why a Mission's commands must not be run.
func (c *commands) allowed(all ...[]string) error {
	var problems []error
	for _, argv := range all {
		if len(argv) == 0 {
			continue
		}
		if c.runner == nil {
			return errNoCommands
		}
		problems = append(problems, c.runner.Allowed(argv))
	}
	return errors.Join(problems...)
}

// look answers from the last job, if that was the same question and is not too long
// ago; otherwise it starts one, and known is false: the bell will ring.
func (c *commands) look(mission, key string, ask func(context.Context) verdict) (out verdict, known bool, again time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	j := c.jobs[mission]
	switch {
	case j != nil && j.running:
		return verdict{}, false, 0
	case j != nil && j.key == key && time.Now().Before(j.next):
		return j.out, true, time.Until(j.next)
	case c.ctx.Err() != nil:
		return verdict{}, false, 0
	}
	next := &job{key: key, running: true}
	if j != nil && j.key == key {
		next.failures = j.failures
	}
	c.jobs[mission] = next
	c.group.Go(func() {
		out := ask(c.ctx)
		c.mu.Lock()
		next.running, next.out = false, out
		next.next = time.Now().Add(out.again)
		if out.failed() {
			next.next = time.Now().Add(backOff(&next.failures))
		} else {
			next.failures = 0
		}
		c.mu.Unlock()
		c.bell.ring(mission)
	})
	return verdict{}, false, 0
}

// backOff counts a failure, and says how long to wait after it.
func backOff(failures *int) time.Duration {
	*failures++
	return jitter(min(commandFirst<<min(*failures-1, 12), commandLast))
}

// forget drops what is known of a Mission.
func (c *commands) forget(mission string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if j := c.jobs[mission]; j != nil && !j.running {
		delete(c.jobs, mission)
	}
}

// bring is the job of a Mission that has a command. done: it has been run already.
func (c *commands) bring(ctx context.Context, mission string, spec v1alpha1.MissionSpec, done bool) verdict {
	want := spec.Command
	run := func(step string, argv []string) command.Result {
		return c.runner.Run(ctx, command.Request{Mission: mission, Step: step, Argv: argv, Timeout: limit(want)})
	}
	out := verdict{phase: v1alpha1.PhaseReady, state: "the command has run", again: lookAgain}
	due := !done
	if len(want.Trigger) > 0 {
		r := run("trigger", want.Trigger)
		if r.Exit < 0 {
			return fails("trigger", r)
		}
		due = (r.Exit == 0) == want.RunWhenTriggerSucceeds
		out.again = askTrigger
		out.state = fmt.Sprintf("nothing to do: the trigger's exit status is %d", r.Exit)
	}
	switch {
	case want.Background:
		up, since := c.isUp(mission, want.Command)
		if !up && (due || len(want.Trigger) == 0) {
			up, since = c.launch(ctx, mission, want.Command)
			if !up {
				return c.lastWords(mission)
			}
		}
		if up {
			out.state = "the command runs since " + since.UTC().Format(time.RFC3339)
		}
	case due:
		r := run("command", want.Command)
		if r.Err != nil {
			return fails("command", r)
		}
		out.state = "the command has run"
		if said := lastLine(r.Output); said != "" {
			out.state += ": " + said
		}
	}
	if check := spec.StateCheck; check != nil && len(check.Command) > 0 {
		return c.check(ctx, mission, check.Command, limit(want), out)
	}
	return out
}

// check is the job of a stateCheck's command: its output is the state, its exit
// status says whether the Mission is ready.
func (c *commands) check(ctx context.Context, mission string, argv []string, limit time.Duration, out verdict) verdict {
	r := c.runner.Run(ctx, command.Request{Mission: mission, Step: "stateCheck", Argv: argv, Timeout: limit})
	if r.Exit < 0 {
		return fails("stateCheck.command", r)
	}
	out.state, out.again = r.Output, min(out.again, askTrigger)
	if r.Exit > 0 {
		out.phase = v1alpha1.PhaseProgressing
		if out.state == "" {
			out.state = fmt.Sprintf("the exit status of stateCheck.command is %d", r.Exit)
		}
	}
	return out
}

// undo is the job of a Mission that has to go.
func (c *commands) undo(ctx context.Context, mission string, note v1alpha1.MissionRun) verdict {
	c.quit(mission)
	if len(note.ReverseCommand) > 0 {
		if err := c.allowed(note.ReverseCommand); err != nil {
			return verdict{phase: v1alpha1.PhaseFailed, state: "reverseCommand: " + err.Error()}
		}
		r := c.runner.Run(ctx, command.Request{Mission: mission, Step: "reverseCommand", Argv: note.ReverseCommand, Timeout: note.Timeout.Duration})
		if r.Err != nil {
			return fails("reverseCommand", r)
		}
	}
	return verdict{phase: v1alpha1.PhaseReady, again: lookAgain}
}

// launch starts a background command, in place of the one that runs or has ended,
// and reports whether it stays.
func (c *commands) launch(ctx context.Context, mission string, argv []string) (up bool, since time.Time) {
	before := c.quit(mission)
	own, stop := context.WithCancel(c.ctx)
	b := &background{argv: slices.Clone(argv), since: time.Now(), stop: stop, done: make(chan struct{})}
	if before != nil && slices.Equal(before.argv, argv) {
		b.failures = before.failures
	}
	c.mu.Lock()
	c.background[mission] = b
	c.mu.Unlock()
	c.group.Go(func() {
		b.ended = c.runner.Run(own, command.Request{Mission: mission, Step: "background", Argv: argv, Endless: true})
		close(b.done)
		c.hasEnded(mission, b)
	})
	select {
	case <-b.done:
		return false, b.since
	case <-ctx.Done():
	case <-time.After(backgroundIsUp):
	}
	return true, b.since
}

// hasEnded makes the next look come soon, unless somebody wanted the end.
func (c *commands) hasEnded(mission string, b *background) {
	c.mu.Lock()
	wanted := c.background[mission] != b
	if j := c.jobs[mission]; !wanted && j != nil && !j.running {
		if time.Since(b.since) > commandLast {
			b.failures = 0
		}
		j.out = b.words()
		j.next = time.Now().Add(backOff(&b.failures))
	}
	c.mu.Unlock()
	if !wanted {
		c.bell.ring(mission)
	}
}

func (b *background) words() verdict {
	r := b.ended
	if r.Err == nil {
		r.Err = errors.New("it has ended with exit status 0")
	}
	return fails("the background command", r)
}

// lastWords of a background command that has ended.
func (c *commands) lastWords(mission string) verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.background[mission].words()
}

func (c *commands) isUp(mission string, argv []string) (up bool, since time.Time) {
	c.mu.Lock()
	b := c.background[mission]
	c.mu.Unlock()
	if b == nil || !slices.Equal(b.argv, argv) {
		return false, time.Time{}
	}
	select {
	case <-b.done:
		return false, time.Time{}
	default:
		return true, b.since
	}
}

// quit ends a background command, and returns it; nil if there was none.
func (c *commands) quit(mission string) *background {
	c.mu.Lock()
	b := c.background[mission]
	delete(c.background, mission)
	c.mu.Unlock()
	if b != nil {
		b.stop()
		<-b.done
	}
	return b
}

// limit of one run.
func limit(want *v1alpha1.MissionCommand) time.Duration {
	if want == nil || want.Timeout == nil || want.Timeout.Duration <= 0 {
		return defaultLimit
	}
	return want.Timeout.Duration
}

// lastLine returns the last line of the first text that has one.
func lastLine(texts ...string) string {
	for _, text := range texts {
		if text = strings.TrimSpace(text); text != "" {
			return text[strings.LastIndexByte(text, '\n')+1:]
		}
	}
	return ""
}
