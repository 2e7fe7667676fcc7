package command

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DefaultTimeout is Config.Timeout when it is not set.
const DefaultTimeout = time.Minute

// Config allows commands: without one, none is run.
type Config struct {
	// User runs them, with its own group and no other. It must not be root.
	User string `json:"user"`
	// Allow lists what may be run. A rule is a program, with its full path, and its arguments: "*" stands for any one
	// argument, "..." at the end for any number of them, everything else for itself.
	Allow [][]string `json:"allow"`
	// Timeout is the longest that a Mission may let a command run; default 1m. Background commands have none.
	Timeout metav1.Duration `json:"timeout"`
	// Audit is a file to which a line of JSON is added before and after every run, and for everything that is refused;
	// default: the agent's log. What cannot be written there is not run.
	Audit string `json:"audit"`
}

// Words of a rule that do not stand for themselves.
const (
	anyOne  = "*"
	anyMore = "..."
)

// Validate reports all problems at once.
func (c Config) Validate() error {
	var problems []error
	switch c.User {
	case "":
		problems = append(problems, errors.New("user: missing (name an unprivileged user)"))
	case "root", "0":
		problems = append(problems, errors.New("user: root may not run commands (name an unprivileged user)"))
	}
	if len(c.Allow) == 0 {
		problems = append(problems, errors.New("allow: empty (leave commands out to allow none)"))
	}
	for i, rule := range c.Allow {
		for _, text := range ruleProblems(rule) {
			problems = append(problems, fmt.Errorf("allow[%d]: %s", i, text))
		}
	}
	if d := c.Timeout.Duration; d != 0 && (d < time.Second || d > 24*time.Hour) {
		problems = append(problems, fmt.Errorf("timeout %v: use 1s to 24h", d))
	}
	if c.Audit != "" && !filepath.IsAbs(c.Audit) {
		problems = append(problems, fmt.Errorf("audit %q: use a full path", c.Audit))
	}
	return errors.Join(problems...)
}

func ruleProblems(rule []string) (problems []string) {
	if len(rule) == 0 {
		return []string{"empty"}
	}
	if !filepath.IsAbs(rule[0]) || filepath.Clean(rule[0]) != rule[0] {
		problems = append(problems, fmt.Sprintf("%q: name the program by its full path", rule[0]))
	}
	if i := slices.Index(rule, anyMore); i >= 0 && i != len(rule)-1 {
		problems = append(problems, fmt.Sprintf("%q stands only at the end", anyMore))
	}
	return problems
}

// allows reports whether a rule is about this program with these arguments.
func allows(rule, argv []string) bool {
	for i, word := range rule {
		switch {
		case word == anyMore && i == len(rule)-1 && i > 0:
			return true
		case i >= len(argv):
			return false
		case word == anyOne && i > 0:
		case word != argv[i]:
			return false
		}
	}
	return len(rule) == len(argv)
}

// quoted shows a command so that it can be told where arguments end.
func quoted(argv []string) string {
	var b strings.Builder
	for i, word := range argv {
		if i > 0 {
			b.WriteByte(' ')
		}
		if word == "" || strings.ContainsFunc(word, func(r rune) bool { return r <= ' ' || r == '"' || r == '\'' || r == '\\' || r == 0x7f }) {
			word = fmt.Sprintf("%q", word)
		}
		b.WriteString(word)
	}
	return b.String()
}
