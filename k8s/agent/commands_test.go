package agent_test

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/command"
)

// workbench is a folder that commands may write to, whoever runs them.
func workbench(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice-commands-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// allowing makes a runner of commands that run as nobody, or as us if we cannot become that.
func allowing(t *testing.T, rules ...[]string) *command.Runner {
	t.Helper()
	who := "nobody"
	if os.Geteuid() != 0 {
		u, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		who = u.Username
	}
	r, err := command.New(command.Config{User: who, Allow: rules, Timeout: metav1.Duration{Duration: 5 * time.Second}}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCommands(t *testing.T) {
	servers := pool.take(t, 3)
	a := root(t, servers[0])
	dir := workbench(t)
	file := func(name string) string { return filepath.Join(dir, name) }
	e := a.child(servers[1], "works", nil, func(s *site) {
		s.commands = allowing(t, []string{"/bin/sh", "-c", "*"}, []string{"/usr/bin/test", "-e", "*"})
	})
	a.child(servers[2], "forbids", nil)
	soon(t, 20*time.Second, "both report", all(a.cluster("works", v1alpha1.Healthy, nil), a.cluster("forbids", v1alpha1.Healthy, nil)))
	const limit = 15 * time.Second

	sh := func(text string) []string { return []string{"/bin/sh", "-c", "cd " + dir + " && " + text} }
	submit := func(name string, c v1alpha1.MissionCommand) {
		t.Helper()
		a.submit(name, v1alpha1.MissionSpec{Command: &c, Placement: toNames("works")})
	}
	says := func(name string, phase v1alpha1.Phase, text string) func() error {
		return a.says(name, "works", phase, text)
	}
	lines := func(name string, want ...string) func() error {
		return func() error {
			text, err := os.ReadFile(file(name))
			if err != nil && !os.IsNotExist(err) {
				return err
			}
			if got := strings.Fields(string(text)); strings.Join(got, " ") != strings.Join(want, " ") {
				return fmt.Errorf("%s has %q, want %q", name, got, want)
			}
			return nil
		}
	}
	gone := func(name string) func() error { return e.none(&v1alpha1.Mission{}, name) }

	t.Run("without permission nothing is run", func(t *testing.T) {
		a.submit("everywhere", v1alpha1.MissionSpec{Command: &v1alpha1.MissionCommand{Command: sh("echo here >>everywhere")}})
		soon(t, limit, "one runs it, the other says why not", all(says("everywhere", v1alpha1.PhaseReady, "the command has run"), lines("everywhere", "here"),
			a.says("everywhere", "forbids", v1alpha1.PhaseFailed, "commands are not allowed in this cluster")))
		submit("unlisted", v1alpha1.MissionCommand{Command: []string{"/usr/bin/touch", file("unlisted")}, Trigger: []string{"/usr/bin/test", "-e", file("x")}})
		soon(t, limit, "said", says("unlisted", v1alpha1.PhaseFailed, "/usr/bin/touch "+file("unlisted")+" is not among the commands that are allowed in this cluster"))
		submit("half", v1alpha1.MissionCommand{Command: sh("echo here >>half"), ReverseCommand: []string{"/bin/rm", file("half")}})
		soon(t, limit, "what cannot be undone is not done", says("half", v1alpha1.PhaseFailed, "/bin/rm "))
		if err := all(lines("unlisted"), lines("half"))(); err != nil {
			t.Error(err)
		}
		for _, name := range []string{"everywhere", "unlisted", "half"} {
			a.withdraw(name)
			soon(t, limit, "gone", gone(name))
		}
	})

	t.Run("the trigger decides, and the reverse command undoes", func(t *testing.T) {
		trigger := []string{"/usr/bin/test", "-e", file("trigger")}
		submit("trigger", v1alpha1.MissionCommand{Trigger: trigger, Command: sh("echo made >>trigger; echo well done"), ReverseCommand: sh("rm trigger")})
		soon(t, limit, "run, as the trigger failed", all(lines("trigger", "made"), says("trigger", v1alpha1.PhaseReady, "the command has run: well done")))
		submit("other", v1alpha1.MissionCommand{Trigger: trigger, Command: sh("echo made >>other")})
		soon(t, limit, "not run, as it succeeds", says("other", v1alpha1.PhaseReady, "nothing to do: the trigger's exit status is 0"))
		submit("other", v1alpha1.MissionCommand{Trigger: trigger, Command: sh("echo made >>other"), RunWhenTriggerSucceeds: true})
		soon(t, limit, "the other way round", lines("other", "made"))
		e.pause()
		e.start()
		stays(t, 2*time.Second, "another agent does not run it again", lines("trigger", "made"))
		a.withdraw("trigger")
		soon(t, limit, "undone", all(gone("trigger"), lines("trigger")))
		a.withdraw("other")
		soon(t, limit, "gone", gone("other"))
	})

	t.Run("once is once, until the command is another", func(t *testing.T) {
		submit("once", v1alpha1.MissionCommand{Command: sh("echo one >>once"), ReverseCommand: sh("echo undo-one >>once")})
		soon(t, limit, "run", all(lines("once", "one"), says("once", v1alpha1.PhaseReady, "the command has run")))
		a.submit("once", v1alpha1.MissionSpec{
			Command:   &v1alpha1.MissionCommand{Command: sh("echo one >>once"), ReverseCommand: sh("echo undo-one >>once")},
			Placement: toNames("works", "elsewhere"),
		})
		soon(t, limit, "the new generation", says("once", v1alpha1.PhaseReady, "the command has run"))
		e.pause()
		e.start()
		stays(t, 2*time.Second, "not run again", lines("once", "one"))
		submit("once", v1alpha1.MissionCommand{Command: sh("echo two >>once"), ReverseCommand: sh("echo undo-two >>once")})
		soon(t, limit, "the old one is undone first", lines("once", "one", "undo-one", "two"))
		a.submit("once", v1alpha1.MissionSpec{Manifests: configYAML("once", "1"), Placement: toNames("works")})
		soon(t, limit, "objects in place of a command", all(e.value("once", "1"), lines("once", "one", "undo-one", "two", "undo-two")))
		submit("once", v1alpha1.MissionCommand{Command: sh("echo three >>once"), ReverseCommand: sh("echo undo-three >>once")})
		soon(t, limit, "and a command in place of objects", all(e.none(&corev1.ConfigMap{}, "once"), lines("once", "one", "undo-one", "two", "undo-two", "three")))
		a.submit("once", v1alpha1.MissionSpec{
			Command:   &v1alpha1.MissionCommand{Command: sh("echo three >>once"), ReverseCommand: sh("echo undo-three >>once")},
			Placement: toNames("elsewhere"),
		})
		soon(t, limit, "undone where it is not meant any more", all(says("once", v1alpha1.PhaseNotMatched, "not match"), lines("once", "one", "undo-one", "two", "undo-two", "three", "undo-three")))
		a.withdraw("once")
		soon(t, limit, "gone", gone("once"))
		if err := lines("once", "one", "undo-one", "two", "undo-two", "three", "undo-three")(); err != nil {
			t.Error(err)
		}
	})

	t.Run("what fails is said in its words, and run again", func(t *testing.T) {
		submit("fails", v1alpha1.MissionCommand{Command: sh("echo try >>fails; echo no disk >&2; test -e fails-go || exit 7")})
		soon(t, limit, "said", says("fails", v1alpha1.PhaseFailed, "command: exit status 7: no disk"))
		if err := os.WriteFile(file("fails-go"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		soon(t, limit, "later it works", says("fails", v1alpha1.PhaseReady, "the command has run"))
		a.withdraw("fails")
		submit("slow", v1alpha1.MissionCommand{Command: sh("exec sleep 60"), Timeout: &metav1.Duration{Duration: 300 * time.Millisecond}})
		soon(t, limit, "too slow", says("slow", v1alpha1.PhaseFailed, "command: still not done after 300ms"))
		a.withdraw("slow")
		submit("stuck", v1alpha1.MissionCommand{Command: sh("true"), ReverseCommand: sh("test -e stuck-go || { echo still in use; exit 1; }")})
		soon(t, limit, "run", says("stuck", v1alpha1.PhaseReady, "the command has run"))
		a.withdraw("stuck")
		soon(t, limit, "what cannot be undone yet is not forgotten", func() error {
			m, err := e.mission("stuck")
			if err == nil && (m.Status.Local.Phase != v1alpha1.PhaseDeleting || m.Status.Local.State != "reverseCommand: exit status 1: still in use") {
				err = fmt.Errorf("%s %q", m.Status.Local.Phase, m.Status.Local.State)
			}
			return err
		})
		if err := os.WriteFile(file("stuck-go"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		soon(t, limit, "gone", all(gone("stuck"), gone("slow"), gone("fails")))
	})

	t.Run("a command in the background runs as long as its Mission", func(t *testing.T) {
		run := func(word string) v1alpha1.MissionCommand {
			// The name of a file is in its command line, by which it can be counted from outside.
			return v1alpha1.MissionCommand{Command: []string{"/bin/sh", "-c", "while :; do sleep 0.2; done # " + file(word)}, Background: true}
		}
		runs := func(word string, want int) func() error {
			return func() error {
				if got := processes(file(word)); got != want {
					return fmt.Errorf("%d of %s run, want %d", got, word, want)
				}
				return nil
			}
		}
		submit("serve", run("first"))
		soon(t, limit, "runs", all(runs("first", 1), says("serve", v1alpha1.PhaseReady, "the command runs since ")))
		e.pause()
		soon(t, limit, "it ends with the agent", runs("first", 0))
		e.start()
		soon(t, limit, "another agent starts it", runs("first", 1))
		submit("serve", run("second"))
		soon(t, limit, "another one", all(runs("first", 0), runs("second", 1)))
		kill(t, file("second"))
		soon(t, limit, "one that has ended is started again", all(runs("second", 1), says("serve", v1alpha1.PhaseReady, "the command runs since ")))
		a.withdraw("serve")
		soon(t, limit, "gone", all(gone("serve"), runs("second", 0)))
		submit("broken", v1alpha1.MissionCommand{Command: sh("echo no such port >&2; exit 2"), Background: true})
		soon(t, limit, "said", says("broken", v1alpha1.PhaseFailed, "the background command: exit status 2: no such port"))
		a.withdraw("broken")
		soon(t, limit, "gone", gone("broken"))
	})

	t.Run("a state check asks a program", func(t *testing.T) {
		check := func(text string) v1alpha1.MissionSpec {
			return v1alpha1.MissionSpec{Manifests: configYAML("asked", "1"), Placement: toNames("works"), StateCheck: &v1alpha1.StateCheck{Command: sh(text)}}
		}
		a.submit("asked", check("echo 3 of 3 lamps"))
		soon(t, limit, "said", all(e.value("asked", "1"), says("asked", v1alpha1.PhaseReady, "3 of 3 lamps")))
		a.submit("asked", check("echo 2 of 3 lamps; exit 1"))
		soon(t, limit, "not ready", says("asked", v1alpha1.PhaseProgressing, "2 of 3 lamps"))
		a.submit("asked", v1alpha1.MissionSpec{
			Command: &v1alpha1.MissionCommand{Command: sh("true")}, Placement: toNames("works"), StateCheck: &v1alpha1.StateCheck{Command: sh("echo lit")},
		})
		soon(t, limit, "of a command", all(e.none(&corev1.ConfigMap{}, "asked"), says("asked", v1alpha1.PhaseReady, "lit")))
		a.withdraw("asked")
		soon(t, limit, "gone", gone("asked"))
	})
}

// processes counts those whose arguments end in a text; kill kills them.
func processes(text string) int { return len(pidsOf(text)) }

func kill(t *testing.T, text string) {
	t.Helper()
	for _, pid := range pidsOf(text) {
		p, err := os.FindProcess(pid)
		if err == nil {
			err = p.Kill()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func pidsOf(text string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline") // fails for a bad pattern only
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err == nil && strings.HasSuffix(strings.TrimRight(string(line), "\x00"), text) {
			var pid int
			if _, err := fmt.Sscanf(file, "/proc/%d/cmdline", &pid); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
