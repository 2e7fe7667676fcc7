package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// stages tell what happened when after something was done to a gateway: what the gateways log, and what the router does to
// its routes. They are for whoever asks where the time went.
type stages struct {
	p       *pair
	monitor *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// watchStages follows the router's routes until the test ends.
func (p *pair) watchStages(t testing.TB) *stages {
	s := &stages{p: p, monitor: new(lockedBuffer)}
	ctx, cancel := context.WithCancel(context.Background())
	c := p.tor.Command(ctx, "ip", "-ts", "monitor", "route")
	c.Stdout, c.Stderr = s.monitor, s.monitor
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); <-c.Done() })
	return s
}

var (
	logTime     = regexp.MustCompile(`^time=(\S+) level=\S+ msg=(.*)$`)
	monitorTime = regexp.MustCompile(`^\[(\S+)\] (.*)$`)
)

// since logs what happened in the second and a half after a moment.
func (s *stages) since(t testing.TB, then time.Time) {
	type line struct {
		at   time.Time
		text string
	}
	var lines []line
	add := func(at time.Time, text string) {
		if d := at.Sub(then); d >= -20*time.Millisecond && d < 1500*time.Millisecond {
			lines = append(lines, line{at, text})
		}
	}
	for _, g := range append(slices.Clone(s.p.gates), s.p.far) {
		text, err := os.ReadFile(g.log.Name())
		if err != nil {
			t.Log(err)
		}
		for l := range strings.Lines(string(text)) {
			if m := logTime.FindStringSubmatch(strings.TrimSpace(l)); m != nil {
				if at, err := time.Parse(time.RFC3339Nano, m[1]); err == nil {
					add(at, fmt.Sprintf("gw%d: %s", g.number, m[2]))
				}
			}
		}
	}
	for l := range strings.Lines(s.monitor.text()) {
		if m := monitorTime.FindStringSubmatch(strings.TrimSpace(l)); m != nil {
			if at, err := time.ParseInLocation("2006-01-02T15:04:05.999999", m[1], time.Local); err == nil {
				add(at, "router: "+m[2])
			}
		} else if len(lines) > 0 && strings.HasPrefix(strings.TrimSpace(l), "nexthop") && strings.HasPrefix(lines[len(lines)-1].text, "router: ") {
			lines[len(lines)-1].text += " " + strings.Join(strings.Fields(l), " ")
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return a.at.Compare(b.at) })
	var out strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&out, "%7.1f ms  %s\n", float64(l.at.Sub(then).Microseconds())/1000, l.text)
	}
	t.Logf("what happened:\n%s", out.String())
}
