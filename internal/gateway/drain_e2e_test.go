package gateway_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
)

// Two gateways of a site share its flows. One is drained, stopped, started again; then the other is stopped, which drains
// it by itself, and started. Meanwhile 2000 packets a second go in each direction, and none is lost.
func TestAPlannedDrainLosesNothing(t *testing.T) {
	for _, router := range []struct {
		name  string
		start func(*twoGateways)
	}{
		{"a router that heeds GRACEFUL_SHUTDOWN", (*twoGateways).startFRR},
		{"a router that waits for withdrawal", (*twoGateways).startBIRD},
	} {
		t.Run(router.name, func(t *testing.T) {
			w := newTwoGateways(t, "drain: {onStop: true, withdrawAfter: 1s, silence: 500ms, timeout: 20s}\n")
			router.start(w)
			for _, s := range []*site{w.bergen, w.oslo[0], w.oslo[1]} {
				s.start(t)
			}
			first, second := w.oslo[0], w.oslo[1]
			w.flows(t, first, second)
			running := w.streams(t, 2)

			if _, err := first.client().Drain(t.Context(), &sluicev1.DrainRequest{}); err != nil {
				t.Fatal(err)
			}
			first.eventually(t, "nothing flows", func() error {
				if s := first.status(t); s.GetDrain().GetPhase() != sluicev1.DrainPhase_DRAIN_PHASE_SILENT || s.GetHealth() != sluicev1.Health_HEALTH_DRAINING {
					return fmt.Errorf("%v: %v", s.GetHealth(), s.GetDrain())
				}
				return nil
			})
			if l := w.bergen.liveness(t, "oslo-1"); l.GetState() != sluicev1.LiveState_LIVE_STATE_UP || !l.GetElsewhere() {
				t.Errorf("the other site sees %v", l)
			}
			first.stop(t)
			w.bergen.waitLive(t, "oslo-1", sluicev1.LiveState_LIVE_STATE_DOWN)
			first.start(t)
			first.carries(t)

			second.stop(t)
			first.carries(t)
			second.start(t)
			second.carries(t)
			for _, s := range running {
				if sent, lost := s.End(); lost > 0 || sent < 2000 {
					t.Errorf("%s: %d of %d packets lost: %s", s, lost, sent, s.Gaps())
				} else {
					t.Logf("%s: none of %d packets lost", s, sent)
				}
			}
			if t.Failed() {
				for _, s := range []*site{first, second, w.bergen} {
					t.Log(s.nonZero(t))
				}
			}
		})
	}
}

// A drain ends as it began: without a loss, and by itself with the process.
func TestADrainCanBeTakenBack(t *testing.T) {
	w := newTwoGateways(t, "drain: {withdrawAfter: 200ms, silence: 500ms}\n")
	w.startFRR()
	for _, s := range []*site{w.bergen, w.oslo[0], w.oslo[1]} {
		s.start(t)
	}
	first := w.oslo[0]
	w.flows(t, first, w.oslo[1])
	running := w.streams(t, 1)
	for range 2 {
		if _, err := first.client().Drain(t.Context(), &sluicev1.DrainRequest{}); err != nil {
			t.Fatal(err)
		}
		first.eventually(t, "nothing is announced", func() error {
			if d := first.status(t).GetDrain(); d.GetPhase() < sluicev1.DrainPhase_DRAIN_PHASE_WITHDRAWN {
				return errors.New(d.String())
			}
			n, err := first.neighbour(t)
			if err == nil && n.GetAnnounced() != 0 {
				err = errors.New(n.String())
			}
			return err
		})
		time.Sleep(300 * time.Millisecond)
		if _, err := first.client().Undrain(t.Context(), &sluicev1.UndrainRequest{}); err != nil {
			t.Fatal(err)
		}
		first.carries(t)
		if s := first.status(t); s.GetDrain() != nil || s.GetHealth() != sluicev1.Health_HEALTH_READY {
			t.Errorf("after the drain it is %v: %v", s.GetHealth(), s.GetDrain())
		}
	}
	for _, s := range running {
		if sent, lost := s.End(); lost > 0 {
			t.Errorf("%s: %d of %d packets lost: %s", s, lost, sent, s.Gaps())
		}
	}
}

// What no peer can be reached for is taken back from the router, so that another gateway of the site carries it.
func TestWhatNoPeerAnswersForIsWithdrawn(t *testing.T) {
	w := newTwoGateways(t, "")
	w.startFRR()
	for _, s := range []*site{w.bergen, w.oslo[0], w.oslo[1]} {
		s.start(t)
	}
	first, second := w.oslo[0], w.oslo[1]
	w.flows(t, first, second)
	first.wan.SetUp(false) // only its way to the peer is gone
	first.eventually(t, "withdrawn", func() error {
		n, err := first.neighbour(t)
		if err == nil && (n.GetAnnounced() != 0 || n.GetState() != "established") {
			err = errors.New(n.String())
		}
		return err
	})
	w.flows(t, second)
	// It starts without a peer: it announces nothing that it cannot deliver.
	first.stop(t)
	first.start(t)
	first.wantNeighbour(t, "session without routes", func(n *sluicev1.BGPNeighbour) bool {
		return n.GetState() == "established" && n.GetReceived() == 2
	})
	time.Sleep(time.Second)
	if n, err := first.neighbour(t); err != nil || n.GetAnnounced() != 0 {
		t.Errorf("it announces without a peer: %v, %v", n, err)
	}
	w.flows(t, second)
	first.wan.SetUp(true)
	first.wantNeighbour(t, "announced again", func(n *sluicev1.BGPNeighbour) bool { return n.GetAnnounced() == 2 })
	w.flows(t, first, second)
}
