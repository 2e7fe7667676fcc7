package cluster_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/sluicegw/sluice/controlplane/cluster"
)

// settled is a cluster of two members and a witness that has come to rest, without fail-back: seeds are odd.
func settled(t testing.TB, seed uint64) *world {
	t.Helper()
	w := newWorld(seed|1, 2, 1)
	w.goOn(3 * time.Second)
	if w.active() != 0 {
		t.Fatalf("member %d is active at first, not the one of the highest priority", w.active())
	}
	return w
}

// wantActive waits for a member to be active, and returns how long it took.
func (w *world) wantActive(t testing.TB, member int, within time.Duration) time.Duration {
	t.Helper()
	begun := w.now
	for w.active() != member {
		if w.now-begun > int64(within) {
			t.Fatalf("member %d is active %v later, not %d", w.active(), within, member)
		}
		w.goOn(time.Millisecond)
	}
	if w.double != "" {
		t.Fatal(w.double)
	}
	return time.Duration(w.now - begun)
}

func TestTheOtherTakesOverWithinALeaseAndAQuarterInterval(t *testing.T) {
	for seed := range uint64(20) {
		for name, die := range map[string]func(*node){"killed": func(n *node) { n.up = false }, "frozen": func(n *node) { n.frozen = true }} {
			w := settled(t, seed)
			w.goOn(time.Duration(seed) * 17 * time.Millisecond)
			die(w.nodes[0])
			took := w.wantActive(t, 1, time.Second)
			if took > lease+interval/4+20*time.Millisecond {
				t.Errorf("%s: it took %v", name, took)
			}
		}
	}
}

func TestAMoveIsInOrder(t *testing.T) {
	w := settled(t, 1)
	if err := w.nodes[1].machine.Move(vni, w.clock(w.nodes[1])); !errors.Is(err, cluster.ErrNotActive) {
		t.Errorf("the standby: %v", err)
	}
	if err := w.nodes[0].machine.Move(vni, w.clock(w.nodes[0])); err != nil {
		t.Fatal(err)
	}
	w.tick(0)
	if took := w.wantActive(t, 1, time.Second); took > 30*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	w.goOn(10 * time.Millisecond)
	v, ok := w.nodes[2].fence.View(vni)
	if !ok || v.Holder != w.nodes[1].id || v.Before != w.nodes[0].id {
		t.Errorf("the other site sends to %+v", v)
	}
	if s := w.nodes[0].machine.Status(w.clock(w.nodes[0]))[0]; s.Role != cluster.Left {
		t.Errorf("the one before is %v: it must forward what still comes", s.Role)
	}
	w.goOn(cluster.Grace + time.Second)
	if v, _ := w.nodes[2].fence.View(vni); v.Before != (cluster.ID{}) {
		t.Error("packets of the one before are still taken")
	}
	w.nodes[0].up = false
	w.goOn(time.Second)
	w.nodes[1].ready = false
	w.nodes[1].machine.SetReady(vni, false, w.clock(w.nodes[1]))
	w.goOn(time.Second)
	if w.active() != 1 {
		t.Error("the last one gives up what nobody else can take")
	}
	if err := w.nodes[1].machine.Move(vni, w.clock(w.nodes[1])); !errors.Is(err, cluster.ErrNobodyReady) {
		t.Errorf("a move to nobody: %v", err)
	}
}

func TestOneThatIsNotReadyNeverTakesOverAndHandsOver(t *testing.T) {
	w := settled(t, 1)
	set := func(i int, ready bool) {
		w.nodes[i].ready = ready
		w.nodes[i].machine.SetReady(vni, ready, w.clock(w.nodes[i]))
	}
	set(1, false)
	w.nodes[0].up = false
	w.goOn(5 * time.Second)
	if w.active() != -1 {
		t.Fatalf("member %d took over", w.active())
	}
	set(1, true)
	w.wantActive(t, 1, 2*time.Second)
	w.boot(0)
	w.goOn(2 * time.Second)
	set(1, false)
	w.wantActive(t, 0, 100*time.Millisecond)
}

func TestFailBackWaitsForTheHoldDown(t *testing.T) {
	w := newWorld(2, 2, 1)
	w.goOn(3 * time.Second)
	w.nodes[0].up = false
	w.goOn(time.Second)
	before := w.changes
	for range 10 { // it flaps
		w.boot(0)
		w.goOn(holdDown * 3 / 4)
		w.nodes[0].up = false
		w.goOn(100 * time.Millisecond)
	}
	if w.changes != before || w.active() != 1 {
		t.Errorf("%d changes while it flapped", w.changes-before)
	}
	w.boot(0)
	w.wantActive(t, 0, holdDown+2*time.Second)
	if w.changes != before+1 {
		t.Errorf("%d changes", w.changes-before)
	}
}

func TestAMemberThatIsCutOffStopsBeforeAnotherBegins(t *testing.T) {
	w := settled(t, 1)
	for _, other := range []int{1, 2} {
		w.cut[[2]int{0, other}], w.cut[[2]int{other, 0}] = true, true
	}
	w.wantActive(t, 1, time.Second)
	// Only the two members are cut off from each other: the witness knows who is active, and nothing changes.
	w = settled(t, 1)
	w.cut[[2]int{0, 1}], w.cut[[2]int{1, 0}] = true, true
	before := w.changes
	w.goOn(10 * time.Second)
	if w.active() != 0 || w.changes != before {
		t.Errorf("member %d is active after %d changes", w.active(), w.changes-before)
	}
}

func TestPowerCutOfASite(t *testing.T) {
	for seed := range uint64(20) {
		w := settled(t, seed)
		for i := range w.nodes {
			w.nodes[i].up = false
		}
		w.goOn(time.Second)
		for _, i := range w.r.Perm(3) {
			w.boot(i)
			w.goOn(time.Duration(w.r.Int64N(200)) * time.Millisecond)
		}
		w.wantActive(t, 0, 3*time.Second)
	}
}

// A member that was frozen thinks itself active for a moment: whoever has heard of its successor does not believe it.
func TestAFrozenMemberIsFenced(t *testing.T) {
	f := cluster.NewFence()
	a, b := cluster.ID{1}, cluster.ID{2}
	report := func(id cluster.ID, seq, epoch uint64, flags cluster.Flag, at int64) {
		f.Report(id, &cluster.Message{Kind: cluster.Report, Lease: lease, Start: 1, Seq: seq, Entries: []cluster.Entry{{VNI: vni, Flags: flags, Epoch: epoch}}}, at)
		f.Expire(at)
	}
	want := func(what string, holder, before cluster.ID) {
		t.Helper()
		if v, ok := f.View(vni); !ok || v.Holder != holder || v.Before != before {
			t.Errorf("%s: %+v", what, v)
		}
	}
	if _, ok := f.View(vni); ok {
		t.Error("nobody has spoken of it, and it is fenced")
	}
	report(a, 1, 5, cluster.Active|cluster.Asks, 1*ms)
	report(b, 1, 6, cluster.Active|cluster.Asks, 500*ms)
	want("b took over", b, cluster.ID{})
	report(a, 2, 5, cluster.Active|cluster.Asks, 600*ms)
	want("a thaws", b, cluster.ID{})
	report(a, 3, 6, cluster.Active|cluster.Asks, 700*ms)
	want("a claims the same epoch", b, cluster.ID{})
	report(a, 4, 5, 0, 800*ms)
	want("a stands by", b, cluster.ID{})
	report(b, 2, 6, cluster.Leaving, 900*ms)
	report(a, 5, 7, cluster.Active|cluster.Asks, 910*ms)
	want("b hands over", a, b)
	report(b, 1, 6, cluster.Active|cluster.Asks, 920*ms)
	want("an old report of b", a, b)
	report(b, 3, 6, 0, 920*ms+int64(cluster.Grace))
	want("long after", a, cluster.ID{})
	report(b, 4, 8, cluster.Active|cluster.Asks, 5000*ms)
	want("b claims, and a's word comes late", b, cluster.ID{})
	report(a, 6, 7, cluster.Leaving, 5010*ms)
	want("a's word is there", b, a)
	report(b, 5, 8, 0, 9000*ms)
	report(b, 6, 8, 0, 9000*ms+int64(cluster.Grace))
	if v, _ := f.View(vni); v.Held {
		t.Errorf("nobody is active, and %+v is believed", v)
	}
}

func FuzzMessage(f *testing.F) {
	m := cluster.Message{Kind: cluster.Report, Lease: lease, Start: 3, Seq: 9, Entries: []cluster.Entry{{VNI: 100, Flags: cluster.Asks, Priority: 7, Epoch: 1 << 40}}}
	f.Add(m.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := cluster.Parse(b)
		if err != nil {
			return
		}
		again, err := cluster.Parse(m.Append(nil))
		if err != nil || !bytes.Equal(again.Append(nil), m.Append(nil)) {
			t.Fatalf("%+v becomes %+v, %v", m, again, err)
		}
		if v := cluster.NewVoter(1); v.Report(cluster.ID{1}, m, 1<<62) != nil && m.Kind != cluster.Report {
			t.Fatal("a vote is voted on")
		}
		cluster.NewFence().Report(cluster.ID{1}, m, 1)
	})
}
