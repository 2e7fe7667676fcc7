package cluster_test

import (
	"testing"
	"time"
)

func (w *world) prepares(i int) bool {
	n := w.nodes[i]
	return n.machine.Status(w.clock(n))[0].Prepares
}

func TestTheHeirPreparesAfterHalfALeaseAndBeforeItIsElected(t *testing.T) {
	for seed := range uint64(20) {
		w := settled(t, seed)
		w.goOn(time.Duration(seed) * 17 * time.Millisecond)
		for range 1000 {
			w.goOn(time.Millisecond)
			if w.prepares(0) || w.prepares(1) {
				t.Fatal("somebody prepares though all is well")
			}
		}
		w.nodes[0].up = false
		died := w.now
		for !w.prepares(1) && w.now < died+int64(time.Second) {
			w.goOn(time.Millisecond)
		}
		if took := time.Duration(w.now - died); took > lease/2+20*time.Millisecond || w.active() == 1 {
			t.Errorf("seed %d: it prepares after %v, active: %d", seed, took, w.active())
		}
		w.wantActive(t, 1, time.Second)
		if w.prepares(1) {
			t.Errorf("seed %d: it goes on preparing when it is active", seed)
		}
	}
}

func TestTheHeirStopsPreparingWhenTheActiveOneIsHeardAgain(t *testing.T) {
	w := settled(t, 1)
	w.nodes[0].frozen = true
	for froze := w.now; !w.prepares(1); w.goOn(time.Millisecond) {
		if w.now-froze > int64(lease) {
			t.Fatal("it does not prepare")
		}
	}
	w.thaw(0)
	w.goOn(interval)
	if w.prepares(1) || w.active() != 0 {
		t.Errorf("it goes on: %v, active is %d", w.prepares(1), w.active())
	}
}

func TestOnlyTheFirstHeirPrepares(t *testing.T) {
	w := newWorld(1, 3, 0)
	w.goOn(3 * time.Second)
	w.nodes[0].up = false
	for died := w.now; w.now < died+int64(time.Second); w.goOn(time.Millisecond) {
		if w.prepares(2) {
			t.Fatalf("member 2 prepares after %v, and member 1 is there", time.Duration(w.now-died))
		}
	}
	if w.active() != 1 {
		t.Errorf("member %d is active", w.active())
	}
	w.nodes[2].ready = false
	w.nodes[2].machine.SetReady(vni, false, w.clock(w.nodes[2]))
	w.nodes[1].up = false
	for died := w.now; w.now < died+int64(time.Second); w.goOn(time.Millisecond) {
		if w.prepares(2) {
			t.Fatal("one that is not ready prepares")
		}
	}
}
