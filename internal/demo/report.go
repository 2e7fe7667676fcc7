package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// report is what the demo found, as `--json` writes it.
type report struct {
	OK       bool              `json:"ok"` // every check
	Started  time.Time         `json:"started"`
	Overlays map[string]string `json:"overlays"` // by site
	Notes    []string          `json:"notes,omitempty"`
	Checks   []Check           `json:"checks"`
	Copies   []Copy            `json:"copies"`

	out       io.Writer
	stepping  bool
	stepStart time.Time
}

// Check is one line of the table.
type Check struct {
	Group  string `json:"group"`
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// Copy is one transfer and its speed, which depends on the machine.
type Copy struct {
	Name    string  `json:"name"`
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
	SHA256  string  `json:"sha256"`
}

func (c Copy) rate() string {
	return fmt.Sprintf("%.0f Mbit/s", float64(c.Bytes)*8/c.Seconds/1e6)
}

func newReport(out io.Writer) *report {
	return &report{Started: time.Now(), out: out, Checks: []Check{}, Copies: []Copy{}}
}

func (r *report) say(format string, args ...any) {
	r.done()
	fmt.Fprintf(r.out, format, args...)
}

// step begins something that takes a while.
func (r *report) step(what string) {
	r.done()
	fmt.Fprintf(r.out, "%s ... ", what)
	r.stepping, r.stepStart = true, time.Now()
}

func (r *report) done() {
	if r.stepping {
		fmt.Fprintf(r.out, "%.1f s\n", time.Since(r.stepStart).Seconds())
	}
	r.stepping = false
}

func (r *report) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.Notes = append(r.Notes, text)
	r.say("note: %s\n", text)
}

// record adds the outcome of a check and shows it at once. detail says what was
// seen when all is well.
func (r *report) record(group, name, detail string, err error) {
	c := Check{Group: group, Name: name, OK: err == nil, Detail: detail}
	if err != nil {
		c.Detail = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	r.Checks = append(r.Checks, c)
	r.say("  %-4s  %s: %s\n", verdict(c.OK), name, c.Detail)
}

func verdict(ok bool) string {
	if ok {
		return "ok"
	}
	return "FAIL"
}

func (r *report) failures() (n int) {
	for _, c := range r.Checks {
		if !c.OK {
			n++
		}
	}
	return n
}

// table shows all checks again, by group.
func (r *report) table() {
	name := len("check")
	for _, c := range r.Checks {
		name = max(name, utf8.RuneCountInString(c.Name))
	}
	rule := strings.Repeat("─", 120) + "\n"
	r.say("\n%s", rule)
	r.say("  %-4s  %-*s  %s\n", "", name, "check", "what was seen")
	group := ""
	for _, c := range r.Checks {
		if c.Group != group {
			r.say("%s", rule)
			group = c.Group
		}
		r.say("  %-4s  %-*s  %s\n", verdict(c.OK), name, c.Name, c.Detail)
	}
	r.say("%s", rule)
	r.say("  %d of %d checks passed in %.0f s\n\n", len(r.Checks)-r.failures(), len(r.Checks), time.Since(r.Started).Seconds())
}
