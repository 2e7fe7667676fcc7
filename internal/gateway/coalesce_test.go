package gateway

import (
	"testing"
	"time"
)

func TestAFlapIsTakenAtOnceAndALoadInSteps(t *testing.T) {
	var p pace
	now := time.Now()
	step := func(took time.Duration) {
		began := now
		now = now.Add(took)
		p.stepped(began, now)
	}
	if p.wait(now) {
		t.Fatal("the first change waits")
	}
	step(300 * time.Microsecond)
	if p.wait(now) {
		t.Error("after a short step the next change waits")
	}
	step(80 * time.Millisecond)
	if !p.wait(now) || p.later == nil {
		t.Fatal("after a long step the next change does not wait")
	}
	if now = now.Add(80 * time.Millisecond); !p.wait(now) {
		t.Error("a change does not wait for the timer that is set")
	}
	step(300 * time.Microsecond)
	if p.wait(now) {
		t.Error("after the load is over a change waits")
	}
	step(time.Minute)
	if now = now.Add(maxRest); p.wait(now) {
		t.Error("a change waits for longer than the most")
	}
}
