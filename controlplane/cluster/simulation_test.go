package cluster_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/sluicegw/sluice/controlplane/cluster"
)

const (
	ms       = int64(time.Millisecond)
	vni      = 7
	interval = 100 * time.Millisecond
	lease    = 300 * time.Millisecond
	holdDown = 2 * time.Second
)

// node is a gateway of the simulation: a member, or a witness, which is a gateway of another site.
type node struct {
	id      cluster.ID
	machine *cluster.Machine // a member's
	voter   *cluster.Voter   // a witness's
	fence   *cluster.Fence   // a witness's
	up      bool
	frozen  bool
	ready   bool
	skew    int64      // of its clock
	rate    int64      // of its clock, per thousand
	wake    int64      // true time
	inbox   []delivery // while it is frozen
	runs    uint64
}

type delivery struct {
	at       int64
	from, to int
	message  *cluster.Message
}

// world is a cluster with its witnesses, and a network that loses, delays, reorders and cuts.
type world struct {
	r        *rand.Rand
	now      int64
	nodes    []*node
	members  int
	failback bool
	flying   []delivery
	cut      map[[2]int]bool
	loss     float64
	delay    int64 // at most
	log      []string

	epoch   uint64 // of the last that was active
	changes int
	double  string // what must never be
}

func newWorld(seed uint64, members, witnesses int) *world {
	w := &world{r: rand.New(rand.NewPCG(seed, 1)), now: 1e9, members: members, failback: seed%2 == 0, cut: map[[2]int]bool{}, delay: ms}
	for i := range members + witnesses {
		w.nodes = append(w.nodes, &node{id: cluster.ID{byte(i + 1)}, ready: true, skew: 1 + w.r.Int64N(1e12), rate: 980 + w.r.Int64N(41)})
	}
	for i := range w.nodes {
		w.boot(i)
	}
	return w
}

func (w *world) clock(n *node) int64 { return n.skew + w.now/1000*n.rate }

func (w *world) boot(i int) {
	n := w.nodes[i]
	n.up, n.frozen, n.inbox, n.wake = true, false, nil, w.now
	n.runs++
	if i >= w.members {
		n.voter, n.fence = cluster.NewVoter(w.clock(n)), cluster.NewFence()
		return
	}
	c := cluster.Config{Self: n.id, Interval: interval, Lease: lease, HoldDown: holdDown, Failback: w.failback,
		VPCs: []cluster.VPC{{VNI: vni, Priority: uint16(100 - i)}}}
	for j, o := range w.nodes {
		switch {
		case j >= w.members:
			c.Witnesses = append(c.Witnesses, o.id)
		case j != i:
			c.Members = append(c.Members, o.id)
		}
	}
	n.machine = cluster.New(c, n.runs, func() uint64 { return uint64(w.now / ms) }, w.clock(n))
	n.machine.SetReady(vni, n.ready, w.clock(n))
}

func (w *world) send(from, to int, m *cluster.Message) {
	if w.cut[[2]int{from, to}] || w.r.Float64() < w.loss {
		return
	}
	w.flying = append(w.flying, delivery{w.now + 1 + w.r.Int64N(w.delay), from, to, m})
}

func (w *world) broadcast(from int, reports []*cluster.Message) {
	for _, m := range reports {
		for to := range w.nodes {
			if to != from {
				w.send(from, to, m)
			}
		}
	}
}

func (w *world) receive(d delivery) {
	n := w.nodes[d.to]
	switch {
	case !n.up:
	case n.frozen:
		if len(n.inbox) < 100 { // as much as a socket holds
			n.inbox = append(n.inbox, d)
		}
	case n.machine != nil:
		if answer := n.machine.Receive(w.nodes[d.from].id, d.message, w.clock(n)); answer != nil {
			w.send(d.to, d.from, answer)
		}
		w.tick(d.to)
	default:
		n.fence.Report(w.nodes[d.from].id, d.message, w.clock(n))
		if answer := n.voter.Report(w.nodes[d.from].id, d.message, w.clock(n)); answer != nil {
			w.send(d.to, d.from, answer)
		}
	}
}

func (w *world) tick(i int) {
	n := w.nodes[i]
	now := w.clock(n)
	w.broadcast(i, n.machine.Tick(now))
	n.wake = w.now + max(n.machine.Wake(now)-now, ms/4)
}

// goOn lets time pass, a quarter of a millisecond at a time, and watches.
func (w *world) goOn(d time.Duration) {
	for end := w.now + int64(d); w.now < end; w.now += ms / 4 {
		var rest []delivery
		due := w.flying
		w.flying = nil
		for _, f := range due {
			if f.at <= w.now {
				w.receive(f)
			} else {
				rest = append(rest, f)
			}
		}
		w.flying = append(rest, w.flying...)
		for i, n := range w.nodes {
			switch {
			case !n.up || n.frozen:
			case n.machine == nil:
				n.fence.Expire(w.clock(n))
			case n.wake <= w.now:
				w.tick(i)
			}
		}
		w.watch()
	}
}

// watch asserts that never two are active. One that is frozen does nothing, and one that thaws looks at its lease first.
func (w *world) watch() {
	first := -1
	for i, n := range w.nodes[:w.members] {
		if !n.up || n.frozen {
			continue
		}
		s := n.machine.Status(w.clock(n))[0]
		if !s.Active {
			continue
		}
		if first >= 0 && w.double == "" {
			w.double = fmt.Sprintf("at %d ms members %d and %d are both active", w.now/ms, first, i)
		}
		first = i
		if s.Epoch < w.epoch && w.double == "" {
			w.double = fmt.Sprintf("at %d ms member %d is active with epoch %d, after %d", w.now/ms, i, s.Epoch, w.epoch)
		}
		if s.Epoch != w.epoch {
			w.epoch = s.Epoch
			w.changes++
		}
	}
}

// active is the member that is active, -1 if none is.
func (w *world) active() int {
	return slices.IndexFunc(w.nodes[:w.members], func(n *node) bool {
		return n.up && !n.frozen && n.machine.Status(w.clock(n))[0].Active
	})
}

func (w *world) thaw(i int) {
	n := w.nodes[i]
	if !n.frozen {
		return
	}
	n.frozen = false
	if n.machine != nil {
		w.tick(i) // the timer is due, and what came in is read after it or before: see the coin
	}
	for _, d := range n.inbox {
		w.receive(d)
	}
	n.inbox = nil
}

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%d ms: ", w.now/ms)+fmt.Sprintf(format, args...))
}

// disturb does something bad, or mends something.
func (w *world) disturb(kind, a, b byte) {
	i := int(a) % len(w.nodes)
	j := int(b) % len(w.nodes)
	n := w.nodes[i]
	switch kind % 12 {
	case 0, 1:
		w.note("kill %d", i)
		n.up = false
	case 2:
		w.note("freeze %d", i)
		n.frozen = n.up
	case 3:
		w.note("thaw %d", i)
		w.thaw(i)
	case 4:
		w.note("restart %d", i)
		w.boot(i)
	case 5:
		w.note("cut %d -> %d", i, j)
		w.cut[[2]int{i, j}] = true
	case 6:
		w.note("cut %d - %d", i, j)
		w.cut[[2]int{i, j}], w.cut[[2]int{j, i}] = true, true
	case 7:
		w.note("loss, delay")
		w.loss, w.delay = float64(a)/400, ms*(1+int64(b))
	case 8:
		w.note("all is connected")
		clear(w.cut)
		w.loss, w.delay = 0, ms
	case 9:
		if n.machine != nil {
			n.ready = b%2 == 0
			w.note("member %d is ready: %v", i, n.ready)
			n.machine.SetReady(vni, n.ready, w.clock(n))
		}
	case 10:
		if n.machine != nil {
			w.note("move away from %d: %v", i, n.machine.Move(vni, w.clock(n)))
		}
	case 11:
		if b%8 == 0 {
			w.note("power cut")
			for i := range w.nodes {
				w.boot(i)
			}
		} else if n.machine != nil {
			w.note("drain %d: %v", i, b%2 == 1)
			n.machine.Drain(b%2 == 1)
		}
	}
}

// heal mends everything and wants one member to be active, and everybody to believe it.
func (w *world) heal() error {
	clear(w.cut)
	w.loss, w.delay = 0, ms
	for i, n := range w.nodes {
		w.thaw(i)
		if !n.up {
			w.boot(i)
		}
		if n.machine != nil {
			n.ready = true
			n.machine.SetReady(vni, true, w.clock(n))
			n.machine.Drain(false)
		}
	}
	w.goOn(3 * time.Second)
	if w.failback {
		w.goOn(2 * holdDown)
	}
	// What comes next must not depend on when we look: nothing changes any more.
	before, active := w.changes, w.active()
	w.goOn(time.Second)
	switch {
	case active < 0:
		return fmt.Errorf("nobody is active though all is well")
	case w.changes != before || w.active() != active:
		return fmt.Errorf("it does not come to rest: member %d was active, now %d is", active, w.active())
	case w.failback && active != 0:
		return fmt.Errorf("member %d is active, and not the one of the highest priority", active)
	}
	for i, n := range w.nodes[w.members:] {
		if v, ok := n.fence.View(vni); !ok || !v.Held || v.Holder != w.nodes[active].id || v.Before != (cluster.ID{}) {
			return fmt.Errorf("gateway %d of another site believes %+v, but %d is active", i, v, active)
		}
	}
	return nil
}

// shapes are clusters worth simulating.
var shapes = []struct{ members, witnesses int }{{2, 1}, {3, 0}, {2, 3}, {3, 2}, {2, 2}}

func disturbed(t testing.TB, shape, seed int, steps func(w *world)) {
	s := shapes[shape%len(shapes)]
	w := newWorld(uint64(seed), s.members, s.witnesses)
	steps(w)
	err := w.heal()
	if w.double != "" {
		err = fmt.Errorf("%s", w.double)
	}
	if err != nil {
		t.Fatalf("%d members, %d witnesses, seed %d: %v\n%v", s.members, s.witnesses, seed, err, w.log)
	}
}

func TestNeverTwoAreActiveWhateverHappens(t *testing.T) {
	runs := 30
	if os.Getenv("SLUICE_SOAK") != "" {
		runs = 3000
	}
	for seed := range runs {
		disturbed(t, seed, seed, func(w *world) {
			w.goOn(2 * time.Second)
			for range 25 {
				w.disturb(byte(w.r.Uint32()), byte(w.r.Uint32()), byte(w.r.Uint32()))
				w.goOn(time.Duration(w.r.Int64N(700)) * time.Millisecond)
			}
		})
	}
}

// FuzzCluster lets the fuzzer choose what goes wrong and when.
func FuzzCluster(f *testing.F) {
	f.Add(uint8(0), uint8(0), []byte{0, 0, 0, 20, 4, 0, 0, 20})
	f.Add(uint8(1), uint8(1), []byte{2, 0, 0, 30, 3, 0, 0, 0, 11, 0, 0, 9})
	f.Add(uint8(2), uint8(2), []byte{6, 0, 1, 40, 6, 0, 2, 40, 8, 0, 0, 5})
	f.Fuzz(func(t *testing.T, shape, seed uint8, script []byte) {
		disturbed(t, int(shape), int(seed), func(w *world) {
			w.goOn(1500 * time.Millisecond)
			for range 12 {
				if len(script) < 4 {
					break
				}
				w.disturb(script[0], script[1], script[2])
				w.goOn(time.Duration(script[3]) * 5 * time.Millisecond)
				script = script[4:]
			}
		})
	})
}
