package neigh

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// script is a kernel whose answers the test chooses and that counts what it is asked.
type script struct {
	routes map[netip.Addr]routing
	err    error // of route
	full   bool  // the neighbour table is full
	routeN int
	probes []hopKey
}

func (s *script) route(k Key) (routing, error) {
	s.routeN++
	if s.err != nil {
		return routing{}, s.err
	}
	if r, ok := s.routes[k.Dst]; ok {
		return r, nil
	}
	return routing{state: Unreachable, reason: "no route"}, nil
}

func (s *script) routed(k Key) (bool, error) {
	_, ok := s.routes[k.Dst]
	return ok, s.err
}

func (s *script) probe(h hopKey) error {
	s.probes = append(s.probes, h)
	if s.full {
		return errors.New("the table is full")
	}
	return nil
}

func (s *script) onLink(a string) {
	s.routes[ip(a)] = routing{state: Resolved, egress: 2, hop: ip(a), src: ip("10.0.0.1")}
}

// world is a cache with a scripted kernel, a clock and a published table.
type world struct {
	t *testing.T
	*cache
	kernel    *script
	table     *Table
	published int // tables
	done      map[Key]bool
}

func eth(up bool) *Links {
	return NewLinks([]*Link{{Ifindex: 2, Name: "eth0", MAC: [6]byte{2}, MTU: 1500, Up: up, RxQueues: 1,
		Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/16")}}})
}

func newWorld(t *testing.T) *world {
	o, err := Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), MaxEntries: 128}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, kernel: &script{routes: map[netip.Addr]routing{}}, table: new(Table), done: map[Key]bool{}}
	w.cache = newCache(w.kernel, o)
	w.now = time.Unix(1000, 0)
	w.setLinks(eth(true))
	return w
}

func (w *world) publishNow() {
	next := w.publish(w.table, func(k Key) { w.done[k] = true })
	if next != w.table {
		w.published++
	}
	w.table = next
}

func (w *world) get(a string) *Entry { return w.table.Lookup(Key{Dst: ip(a)}) }

func (w *world) asks(addrs ...string) {
	for _, a := range addrs {
		w.ask(Key{Dst: ip(a)})
	}
	w.publishNow()
}

// says lets the kernel tell of a neighbour on eth0; no MAC for 0.
func (w *world) says(a string, nud uint16, mac byte) {
	w.neighbour(neighbourEvent{key: hopKey{2, ip(a)}, nud: nud, mac: [6]byte{2, 5: mac}, hasMAC: mac != 0})
	w.publishNow()
}

func (w *world) after(d time.Duration) {
	w.now = w.now.Add(d)
	w.scan()
	w.work(1000)
	w.publishNow()
}

// is compares what the table says in words.
func (w *world) is(a, want string) {
	w.t.Helper()
	got := "nothing"
	if e := w.get(a); e != nil {
		got = e.State.String()
		if e.State == Resolved {
			got += fmt.Sprintf(" %x", e.DstMAC[5])
		} else {
			got += ": " + e.Reason
		}
	}
	if got != want {
		w.t.Errorf("%s: got %s, want %s", a, got, want)
	}
}

func (w *world) probed(want int) {
	w.t.Helper()
	if n := len(w.kernel.probes); n != want {
		w.t.Errorf("the kernel was asked to resolve %d times, want %d", n, want)
	}
	w.kernel.probes = nil
}

func (w *world) routesAsked(want int) {
	w.t.Helper()
	if w.kernel.routeN != want {
		w.t.Errorf("the kernel was asked for %d routes, want %d", w.kernel.routeN, want)
	}
	w.kernel.routeN = 0
}

func TestAQuestionIsOneRouteAndOneProbe(t *testing.T) {
	w := newWorld(t)
	w.kernel.onLink("10.0.0.2")
	for range 10 {
		w.asks("10.0.0.2")
	}
	w.is("10.0.0.2", "nothing")
	w.routesAsked(1)
	w.probed(1)
	if w.done[Key{Dst: ip("10.0.0.2")}] {
		t.Error("the question ended without an answer")
	}
	w.says("10.0.0.2", unix.NUD_REACHABLE, 7)
	w.is("10.0.0.2", "resolved 7")
	if !w.done[Key{Dst: ip("10.0.0.2")}] {
		t.Error("the question did not end with the answer")
	}
}

func TestKnownNeighbourNeedsNoProbe(t *testing.T) {
	for _, nud := range []uint16{unix.NUD_REACHABLE, unix.NUD_STALE, unix.NUD_DELAY, unix.NUD_PROBE, unix.NUD_PERMANENT, unix.NUD_NOARP} {
		w := newWorld(t)
		w.kernel.onLink("10.0.0.2")
		w.says("10.0.0.2", nud, 7)
		w.asks("10.0.0.2")
		w.is("10.0.0.2", "resolved 7")
		w.probed(0)
	}
}

func TestManyDestinationsBehindOneGatewayAreOneProbe(t *testing.T) {
	w := newWorld(t)
	for i := range 100 {
		a := fmt.Sprintf("192.0.2.%d", i)
		w.kernel.routes[ip(a)] = routing{state: Resolved, egress: 2, hop: ip("10.0.0.2")}
		w.asks(a)
	}
	w.probed(1)
	before := w.published
	w.says("10.0.0.2", unix.NUD_REACHABLE, 7)
	if w.published != before+1 || w.table.Len() != 100 {
		t.Errorf("%d tables were published for %d entries", w.published-before, w.table.Len())
	}
}

func TestOnlyWhatAPacketWouldNoticeIsPublished(t *testing.T) {
	w := newWorld(t)
	w.kernel.onLink("10.0.0.2")
	w.asks("10.0.0.2")
	w.says("10.0.0.2", unix.NUD_REACHABLE, 7)
	before := w.published
	for _, nud := range []uint16{unix.NUD_STALE, unix.NUD_DELAY, unix.NUD_PROBE, unix.NUD_REACHABLE} {
		w.says("10.0.0.2", nud, 7)
	}
	w.says("10.0.0.3", unix.NUD_REACHABLE, 8) // nobody asked for it
	w.reroute(nil)
	w.work(1000)
	w.publishNow()
	if w.published != before {
		t.Errorf("%d tables were published", w.published-before)
	}
	w.says("10.0.0.2", unix.NUD_REACHABLE, 9)
	if w.published != before+1 {
		t.Error("a new MAC was not published")
	}
	w.is("10.0.0.2", "resolved 9")
}

func TestWhatGoesBackBeforePublicationIsNotPublished(t *testing.T) {
	w := newWorld(t)
	w.kernel.onLink("10.0.0.2")
	w.asks("10.0.0.2")
	w.says("10.0.0.2", unix.NUD_REACHABLE, 7)
	entry, before := w.get("10.0.0.2"), w.published
	for _, m := range []byte{8, 7} {
		w.neighbour(neighbourEvent{key: hopKey{2, ip("10.0.0.2")}, nud: unix.NUD_REACHABLE, mac: [6]byte{2, 5: m}, hasMAC: true})
	}
	w.publishNow()
	if w.published != before {
		t.Error("a table was published")
	}
	// The mark of the entry that workers hold still counts.
	entry.Use()
	w.says("10.0.0.2", unix.NUD_STALE, 7)
	w.kernel.probes = nil
	w.after(10 * time.Second)
	w.probed(1)
}

func TestSilentNeighbourCostsOneProbePerBackoff(t *testing.T) {
	w := newWorld(t)
	w.kernel.onLink("10.0.0.2")
	w.asks("10.0.0.2")
	w.probed(1)
	w.says("10.0.0.2", unix.NUD_FAILED, 0)
	w.is("10.0.0.2", "failed: 10.0.0.2 does not answer on eth0")
	packets := func(seconds float64) { // ten packets each half second
		for range int(seconds * 2) {
			for range 10 {
				w.get("10.0.0.2").Use()
			}
			w.after(500 * time.Millisecond)
		}
	}
	packets(0.5)
	w.probed(0)
	packets(0.5)
	w.probed(1)
	w.is("10.0.0.2", "failed: 10.0.0.2 does not answer on eth0") // while it is asked again
	w.says("10.0.0.2", unix.NUD_FAILED, 0)
	packets(1.5)
	w.probed(0)
	packets(0.5)
	w.probed(1)
	w.says("10.0.0.2", unix.NUD_FAILED, 0)
	w.after(time.Hour / 10) // nobody wants it
	w.probed(0)
	w.routesAsked(1)
}

func TestAnswerToABackedOffQuestionCountsAtOnce(t *testing.T) {
	w := newWorld(t)
	w.kernel.onLink("10.0.0.2")
	w.asks("10.0.0.2")
	w.says("10.0.0.2", unix.NUD_FAILED, 0)
	w.says("10.0.0.2", unix.NUD_STALE, 7) // it has asked for us
	w.is("10.0.0.2", "resolved 7")
}

func TestSilentKernelIsAFailureAfterATime(t *testing.T) {
	w := newWorld(t)
	w.kernel.onLink("10.0.0.2")
	w.asks("10.0.0.2")
	w.after(answerTimeout - time.Second)
	w.is("10.0.0.2", "nothing")
	w.after(2 * time.Second)
	w.is("10.0.0.2", "failed: 10.0.0.2 does not answer on eth0")
}

func TestNeighbourDeletedWhileItIsResolvedIsAskedForAgain(t *testing.T) {
	w := newWorld(t)
	w.kernel.onLink("10.0.0.2")
	w.asks("10.0.0.2")
	w.probed(1)
	w.says("10.0.0.2", unix.NUD_INCOMPLETE, 0)
	for range 10 {
		w.neighbour(neighbourEvent{key: hopKey{2, ip("10.0.0.2")}, gone: true})
	}
	w.probed(0)
	w.after(scanInterval)
	w.probed(1)
	w.after(scanInterval)
	w.probed(0)
	w.says("10.0.0.2", unix.NUD_REACHABLE, 7)
	w.is("10.0.0.2", "resolved 7")
}

func TestNeighbourThatADumpLacksWhileItIsResolvedIsAskedForAgain(t *testing.T) {
	w := newWorld(t)
	w.kernel.onLink("10.0.0.2")
	w.asks("10.0.0.2")
	w.probed(1)
	w.replaceNeighbours(nil)
	w.after(scanInterval)
	w.probed(1)
}

func TestFullNeighbourTableIsSaid(t *testing.T) {
	w := newWorld(t)
	w.kernel.onLink("10.0.0.2")
	w.kernel.full = true
	w.asks("10.0.0.2")
	w.is("10.0.0.2", "failed: the table is full")
	w.kernel.full = false
	w.get("10.0.0.2").Use()
	w.after(time.Second)
	w.says("10.0.0.2", unix.NUD_REACHABLE, 7)
	w.is("10.0.0.2", "resolved 7")
}

func TestLostNeighbour(t *testing.T) {
	gone := neighbourEvent{key: hopKey{2, ip("10.0.0.2")}, gone: true}
	start := func(t *testing.T) *world {
		w := newWorld(t)
		w.kernel.onLink("10.0.0.2")
		w.asks("10.0.0.2")
		w.says("10.0.0.2", unix.NUD_REACHABLE, 7)
		w.kernel.probes = nil
		return w
	}
	t.Run("in use, it is asked again at once and no packet is sent to it meanwhile", func(t *testing.T) {
		w := start(t)
		w.neighbour(gone)
		w.publishNow()
		w.is("10.0.0.2", "nothing")
		w.probed(1)
		w.says("10.0.0.2", unix.NUD_REACHABLE, 8)
		w.is("10.0.0.2", "resolved 8")
	})
	t.Run("silent at its old MAC, it is looked for by broadcast, then failed", func(t *testing.T) {
		w := start(t)
		w.says("10.0.0.2", unix.NUD_FAILED, 0)
		w.is("10.0.0.2", "nothing")
		w.probed(1)
		w.says("10.0.0.2", unix.NUD_FAILED, 0)
		w.is("10.0.0.2", "failed: 10.0.0.2 does not answer on eth0")
		w.probed(0)
	})
	t.Run("not in use, it is forgotten", func(t *testing.T) {
		w := start(t)
		w.after(activeFor)
		w.neighbour(gone)
		w.publishNow()
		w.is("10.0.0.2", "nothing")
		w.probed(0)
		if len(w.records) != 0 || len(w.hops) != 0 {
			t.Errorf("%d records, %d hops are left", len(w.records), len(w.hops))
		}
	})
	t.Run("missing in a dump, it is gone", func(t *testing.T) {
		w := start(t)
		w.replaceNeighbours([]neighbourEvent{{key: hopKey{2, ip("10.0.0.3")}, nud: unix.NUD_STALE, hasMAC: true}})
		w.publishNow()
		w.is("10.0.0.2", "nothing")
		w.probed(1)
	})
}

func TestStaleNeighbourIsVerifiedOnlyInUse(t *testing.T) {
	w := newWorld(t)
	w.kernel.onLink("10.0.0.2")
	w.says("10.0.0.2", unix.NUD_STALE, 7)
	w.asks("10.0.0.2")
	w.after(time.Minute)
	w.probed(0)
	for range 20 { // 10 s of packets
		w.get("10.0.0.2").Use()
		w.after(500 * time.Millisecond)
	}
	w.probed(2) // one per reprobeInterval
	w.is("10.0.0.2", "resolved 7")
	w.says("10.0.0.2", unix.NUD_REACHABLE, 7)
	for range 20 {
		w.get("10.0.0.2").Use()
		w.after(500 * time.Millisecond)
	}
	w.probed(0)
}

func TestMarkMovesToTheEntryThatFollows(t *testing.T) {
	w := newWorld(t)
	w.kernel.onLink("10.0.0.2")
	w.says("10.0.0.2", unix.NUD_REACHABLE, 7)
	w.asks("10.0.0.2")
	w.get("10.0.0.2").Use()
	w.says("10.0.0.2", unix.NUD_STALE, 8)
	w.after(time.Second)
	w.probed(1)
}

func TestVerificationsOfOneScanAreBounded(t *testing.T) {
	w := newWorld(t)
	w.maxEntries = 10_000
	n := reprobeBudget + 100
	for i := range n {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String()
		w.kernel.onLink(a)
		w.says(a, unix.NUD_STALE, 7)
		w.asks(a)
		w.get(a).Use()
	}
	w.after(time.Second)
	w.probed(reprobeBudget)
	for e := range w.table.All() {
		e.Use()
	}
	w.after(time.Second)
	w.probed(100)
}

func TestLinkDownAndUp(t *testing.T) {
	w := newWorld(t)
	w.kernel.onLink("10.0.0.2")
	w.asks("10.0.0.2")
	w.says("10.0.0.2", unix.NUD_REACHABLE, 7)
	if w.setLinks(eth(true)) {
		t.Error("the same links are said to differ")
	}
	if !w.setLinks(eth(false)) {
		t.Error("a link that went down is not said to differ")
	}
	w.publishNow()
	w.is("10.0.0.2", "unreachable: interface eth0 is down")
	w.setLinks(NewLinks(nil))
	w.publishNow()
	w.is("10.0.0.2", "unreachable: no interface with index 2")
	w.setLinks(eth(true))
	w.publishNow()
	w.is("10.0.0.2", "resolved 7")
}

func TestFailedNeighbourIsAskedAgainWhenItsLinkChanges(t *testing.T) {
	w := newWorld(t)
	w.kernel.onLink("10.0.0.2")
	w.asks("10.0.0.2")
	w.says("10.0.0.2", unix.NUD_FAILED, 0)
	w.probed(1)
	w.setLinks(eth(false))
	w.setLinks(eth(true))
	w.reroute(nil)
	w.work(1000)
	w.probed(1)
}

func TestRouteChangeConcernsOnlyItsPrefix(t *testing.T) {
	w := newWorld(t)
	for _, a := range []string{"192.0.2.1", "198.51.100.1", "2001:db8::1"} {
		w.kernel.routes[ip(a)] = routing{state: Resolved, egress: 2, hop: ip("10.0.0.2")}
		w.asks(a)
	}
	w.says("10.0.0.2", unix.NUD_REACHABLE, 7)
	w.says("10.0.0.3", unix.NUD_REACHABLE, 8)
	w.routesAsked(3)
	w.kernel.routes[ip("192.0.2.1")] = routing{state: Resolved, egress: 2, hop: ip("10.0.0.3"), mtu: 1400}
	w.reroute(netip.MustParsePrefix("192.0.0.0/8").Contains)
	w.reroute(netip.MustParsePrefix("192.0.2.0/24").Contains) // twice is once
	w.work(1000)
	w.publishNow()
	w.routesAsked(1)
	w.is("192.0.2.1", "resolved 8")
	w.is("198.51.100.1", "resolved 7")
	if mtu := w.get("192.0.2.1").MTU; mtu != 1400 {
		t.Errorf("MTU %d", mtu)
	}
	delete(w.kernel.routes, ip("192.0.2.1"))
	w.reroute(nil)
	w.work(2)
	w.work(2)
	w.publishNow()
	w.routesAsked(3)
	w.is("192.0.2.1", "unreachable: no route")
}

func TestRoutesInUseAreAskedForAnewNowAndThen(t *testing.T) {
	w := newWorld(t)
	w.kernel.onLink("10.0.0.2")
	w.asks("10.0.0.2")
	w.says("10.0.0.2", unix.NUD_PERMANENT, 7)
	w.routesAsked(1)
	w.after(refreshAfter)
	w.routesAsked(0)
	w.get("10.0.0.2").Use()
	w.after(time.Second)
	w.routesAsked(1)
}

func TestUnreachableCostsOneRoutePerBackoff(t *testing.T) {
	w := newWorld(t)
	w.asks("192.0.2.1")
	w.is("192.0.2.1", "unreachable: no route")
	w.routesAsked(1)
	for range 14 { // seven seconds: asked after 1, 2 and 4 more
		w.get("192.0.2.1").Use()
		w.after(500 * time.Millisecond)
	}
	w.routesAsked(3)
}

func TestTroubleWithTheKernelIsAFailure(t *testing.T) {
	w := newWorld(t)
	w.kernel.err = errors.New("ask for route: interrupted")
	w.asks("10.0.0.2")
	w.is("10.0.0.2", "failed: ask for route: interrupted")
	w.kernel.err = nil
	w.kernel.onLink("10.0.0.2")
	w.says("10.0.0.2", unix.NUD_REACHABLE, 7)
	w.get("10.0.0.2").Use()
	w.after(time.Second)
	w.is("10.0.0.2", "resolved 7")
}

func TestUnusedEntriesAgeOutAndUsedOnesStay(t *testing.T) {
	w := newWorld(t)
	for _, a := range []string{"10.0.0.2", "10.0.0.3"} {
		w.kernel.onLink(a)
		w.says(a, unix.NUD_PERMANENT, 7)
		w.asks(a)
	}
	for range 11 {
		w.get("10.0.0.2").Use()
		w.after(time.Minute)
	}
	w.is("10.0.0.2", "resolved 7")
	w.is("10.0.0.3", "nothing")
	w.asks("10.0.0.3")
	w.is("10.0.0.3", "resolved 7")
}

func TestFullCacheForgetsTheLeastRecentlyUsed(t *testing.T) {
	w := newWorld(t)
	addr := func(i int) string { return fmt.Sprintf("10.0.1.%d", i) }
	for i := range w.maxEntries {
		w.kernel.onLink(addr(i))
		w.says(addr(i), unix.NUD_PERMANENT, 7)
		w.asks(addr(i))
		w.now = w.now.Add(time.Second)
	}
	w.get(addr(0)).Use() // the oldest is in use
	w.asks("192.0.2.1")
	if n := w.table.Len(); n > w.maxEntries {
		t.Errorf("%d entries, at most %d are wanted", n, w.maxEntries)
	}
	w.is(addr(0), "resolved 7")
	w.is(addr(1), "nothing")
	w.is(addr(w.maxEntries-1), "resolved 7")
	w.is("192.0.2.1", "unreachable: no route")
}

func TestEvictionEndsAQuestion(t *testing.T) {
	w := newWorld(t)
	w.maxEntries = 1
	w.kernel.onLink("10.0.0.2")
	w.asks("10.0.0.2")
	w.asks("192.0.2.1")
	if !w.done[Key{Dst: ip("10.0.0.2")}] {
		t.Error("a forgotten question is still open and can never be asked again")
	}
	if len(w.waiting) != 0 || len(w.hops) != 0 {
		t.Errorf("%d neighbours are waited for, %d known", len(w.waiting), len(w.hops))
	}
}

func TestEthernetWithoutARPSendsAsTheKernelDoes(t *testing.T) {
	w := newWorld(t)
	w.setLinks(NewLinks([]*Link{{Ifindex: 2, Name: "eth0", MAC: [6]byte{2, 5: 0x11}, MTU: 1500, Up: true, NoARP: true}}))
	w.kernel.onLink("10.0.0.2")
	w.asks("10.0.0.2")
	w.is("10.0.0.2", "resolved 11")
	w.probed(0)
	w.says("10.0.0.2", unix.NUD_PERMANENT, 7)
	w.is("10.0.0.2", "resolved 7")
}
