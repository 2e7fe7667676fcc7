package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestRules(t *testing.T) {
	for _, tt := range []struct {
		name       string
		rule, argv []string
		want       bool
	}{
		{"the same", []string{"/bin/a", "x"}, []string{"/bin/a", "x"}, true},
		{"another program", []string{"/bin/a"}, []string{"/bin/b"}, false},
		{"no arguments are allowed unless named", []string{"/bin/a"}, []string{"/bin/a", "x"}, false},
		{"one is missing", []string{"/bin/a", "x"}, []string{"/bin/a"}, false},
		{"a star is one argument", []string{"/bin/a", "*", "y"}, []string{"/bin/a", "x y", "y"}, true},
		{"a star is not none", []string{"/bin/a", "*"}, []string{"/bin/a"}, false},
		{"a star is not two", []string{"/bin/a", "*"}, []string{"/bin/a", "x", "y"}, false},
		{"dots are any number", []string{"/bin/a", "x", "..."}, []string{"/bin/a", "x", "y", "z"}, true},
		{"dots are also none", []string{"/bin/a", "x", "..."}, []string{"/bin/a", "x"}, true},
		{"what is before the dots counts", []string{"/bin/a", "x", "..."}, []string{"/bin/a", "y"}, false},
		{"a star in the command is only a star", []string{"/bin/a", "x"}, []string{"/bin/a", "*"}, false},
		{"nothing is not a command", []string{"/bin/a"}, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := allows(tt.rule, tt.argv); got != tt.want {
				t.Errorf("%q allows %q: %v", tt.rule, tt.argv, got)
			}
		})
	}
}

// FuzzAllows: whatever is asked for, the program is the rule's, and so are the arguments up to its dots.
func FuzzAllows(f *testing.F) {
	f.Add("/bin/a,x,...", "/bin/a,x,y")
	f.Add("/bin/a,*", "/bin/a,...")
	f.Fuzz(func(t *testing.T, r, c string) {
		rule, argv := strings.Split(r, ","), strings.Split(c, ",")
		if len(ruleProblems(rule)) > 0 || !allows(rule, argv) {
			return
		}
		for i, word := range rule {
			if word == anyMore {
				return
			}
			if i >= len(argv) || word != argv[i] && (word != anyOne || i == 0) {
				t.Fatalf("%q allows %q", rule, argv)
			}
		}
		if len(argv) != len(rule) {
			t.Fatalf("%q allows %q", rule, argv)
		}
	})
}

func TestConfigurationsThatMeanNothingAreRefused(t *testing.T) {
	for want, c := range map[string]Config{
		"user: missing":             {Allow: [][]string{{"/bin/true"}}},
		"root may not run commands": {User: "root", Allow: [][]string{{"/bin/true"}}},
		"allow: empty":              {User: "nobody"},
		"allow[0]: empty":           {User: "nobody", Allow: [][]string{{}}},
		`allow[0]: "true": name`:    {User: "nobody", Allow: [][]string{{"true"}}},
		`"/bin/../bin/true": name`:  {User: "nobody", Allow: [][]string{{"/bin/../bin/true"}}},
		"only at the end":           {User: "nobody", Allow: [][]string{{"/bin/true", "...", "x"}}},
		"timeout":                   {User: "nobody", Allow: [][]string{{"/bin/true"}}, Timeout: metav1.Duration{Duration: time.Millisecond}},
		"audit":                     {User: "nobody", Allow: [][]string{{"/bin/true"}}, Audit: "log"},
	} {
		if _, err := New(c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
	if _, err := New(Config{User: "nobody-knows-me", Allow: [][]string{{"/bin/true"}}}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a user that does not exist")
	}
}

// unprivileged is somebody that this test can become.
func unprivileged(t *testing.T) string {
	t.Helper()
	if os.Geteuid() == 0 {
		return "nobody"
	}
	u, err := user.Current()
	if err != nil {
		t.Skip(err)
	}
	return u.Username
}

func runner(t *testing.T, c Config) *Runner {
	t.Helper()
	c.User = unprivileged(t)
	r, err := New(c, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var shell = Config{Allow: [][]string{{"/bin/sh", "-c", "*"}}}

func sh(text string) []string { return []string{"/bin/sh", "-c", text} }

func TestACommandRunsAsItsUser(t *testing.T) {
	r := runner(t, shell)
	t.Setenv("SECRET", "of the agent")
	got := r.Run(t.Context(), Request{Mission: "m", Step: "command", Argv: sh(`id -u; id -G; pwd; env | sort; grep NoNewPrivs /proc/self/status; echo late >&2`)})
	if got.Err != nil || got.Exit != 0 || got.Errors != "late" {
		t.Fatalf("%+v", got)
	}
	who, err := user.Lookup(unprivileged(t))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(got.Output, "\n")
	if lines[0] != who.Uid || os.Geteuid() == 0 && lines[1] != who.Gid || lines[2] != "/" || !strings.HasSuffix(got.Output, "NoNewPrivs:\t1") {
		t.Errorf("output:\n%s", got.Output)
	}
	if strings.Contains(got.Output, "SECRET") || !strings.Contains(got.Output, "SLUICE_MISSION=m\n") {
		t.Errorf("environment:\n%s", got.Output)
	}
	// The thread that gave them up is not used again, also when it is the process's first one, which lives on.
	after, err := exec.Command("grep", "NoNewPrivs", "/proc/self/status").Output()
	if err != nil || !strings.Contains(string(after), "NoNewPrivs:\t0") && os.Getenv("SLUICE_REQUIRE_ROOT") != "" {
		t.Errorf("this process has given up its own privileges: %s, %v", after, err)
	}
}

func TestWhatIsNotAllowedIsNotRun(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "made")
	r := runner(t, Config{Allow: [][]string{{"/usr/bin/touch", "-c", file}}})
	got := r.Run(t.Context(), Request{Mission: "m", Step: "command", Argv: []string{"/usr/bin/touch", file}})
	if got.Exit != -1 || got.Err == nil || got.Err.Error() != "/usr/bin/touch "+file+" is not among the commands that are allowed in this cluster" {
		t.Errorf("%+v", got)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("it ran")
	}
}

func TestEnds(t *testing.T) {
	short := shell
	short.Timeout.Duration = time.Second
	r := runner(t, short)
	alive := func(pid string) bool {
		n, err := strconv.Atoi(pid)
		return err != nil || unix.Kill(n, 0) == nil
	}
	for _, tt := range []struct {
		name, text string
		timeout    time.Duration
		exit       int
		err        string
	}{
		{"an exit status", "echo $$; exit 3", 0, 3, "exit status 3"},
		{"a signal", "echo $$; kill -9 $$", 0, -1, "signal: killed"},
		{"too slow for the Mission", "echo $$; exec sleep 60", 200 * time.Millisecond, -1, "still not done after 200ms"},
		{"too slow for the configuration", "echo $$; exec sleep 60", time.Hour, -1, "still not done after 1s"},
		{"deaf to being asked", "trap '' TERM; echo $$; while :; do sleep 1; done", 200 * time.Millisecond, -1, "still not done"},
		{"what is left in its group ends too", "sleep 60 & echo $!", 0, 0, ""},
		{"and holds nobody up", "sleep 60 >/dev/null & echo $!", 0, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			started := time.Now()
			got := r.Run(t.Context(), Request{Mission: "m", Step: "command", Argv: sh(tt.text), Timeout: tt.timeout})
			if got.Exit != tt.exit || (got.Err == nil) != (tt.err == "") || got.Err != nil && !strings.Contains(got.Err.Error(), tt.err) {
				t.Errorf("%+v, want %d %q", got, tt.exit, tt.err)
			}
			if took := time.Since(started); took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
			end := time.Now().Add(5 * time.Second) // whoever adopts an orphan may be slow to bury it
			for alive(got.Output) && !zombie(got.Output) {
				if time.Now().After(end) {
					t.Fatalf("process %q is left", got.Output)
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	if got := r.Run(t.Context(), Request{Argv: []string{"/bin/sh", "-c", strings.Repeat("x", 200_000)}}); got.Exit != -1 || got.Err == nil {
		t.Errorf("what cannot be started: %+v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel)
	if got := r.Run(ctx, Request{Argv: sh("exec sleep 60"), Endless: true}); got.Exit != -1 || got.Err == nil {
		t.Errorf("an endless one that is ended: %+v", got)
	}
}

func zombie(pid string) bool {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && strings.Contains(string(text), ") Z ")
}

func TestOutputIsCut(t *testing.T) {
	r := runner(t, shell)
	got := r.Run(t.Context(), Request{Argv: sh(`i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; printf '\377\376end'`)})
	if got.Err != nil || len(got.Output) > kept || !strings.HasSuffix(got.Output, "line 1999\nend") {
		t.Errorf("%d bytes, ending in %q, %v", len(got.Output), got.Output[max(0, len(got.Output)-30):], got.Err)
	}
}

func TestAudit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit")
	c := shell
	c.Audit = file
	r := runner(t, c)
	r.Run(t.Context(), Request{Mission: "shop", Step: "trigger", Argv: sh("exit 4")})
	r.Run(t.Context(), Request{Mission: "shop", Step: "command", Argv: []string{"/bin/rm", "-r", "/"}})
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(text)) {
		var e struct {
			Msg, Mission, Step, User string
			Argv                     []string
			Exit                     int
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if e.User != unprivileged(t) {
			t.Errorf("user %q", e.User)
		}
		got = append(got, fmt.Sprint(e.Msg, " ", e.Mission, " ", e.Step, " ", e.Argv[0], " ", e.Exit))
	}
	want := []string{"command starts shop trigger /bin/sh 0", "command ended shop trigger /bin/sh 4", "command refused shop command /bin/rm 0"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	t.Run("what cannot be written down is not run", func(t *testing.T) {
		c.Audit = filepath.Join(t.TempDir(), "no", "such", "folder")
		if got := runner(t, c).Run(t.Context(), Request{Argv: sh("exit 0")}); got.Exit != -1 || got.Err == nil || !strings.Contains(got.Err.Error(), "cannot be written down") {
			t.Errorf("%+v", got)
		}
	})
}
