package pathmtu

import (
	"context"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// net is peers whose paths carry so much, on a clock that stands still unless it is told.
type net struct {
	prober    *Prober
	replies   chan relay.EchoReply
	now       int64
	carries   map[uint32]int
	paths     map[uint32]Path
	published []int
	probes    map[uint32]int
}

func newNet() *net {
	n := &net{now: 1, replies: make(chan relay.EchoReply, 4096), carries: make(map[uint32]int), paths: make(map[uint32]Path), probes: make(map[uint32]int)}
	n.prober = New(Options{Clock: func() int64 { return n.now }, Replies: n.replies, ID: 9, Send: n.send,
		Publish: func(mtus []int) { n.published = mtus }})
	return n
}

func (n *net) send(peer uint32, b []byte, _ wireguard.Endpoint) bool {
	var ip packet.IP
	if bad := ip.Parse(b); bad != packet.Fine || ip.Len != len(b) {
		panic(bad)
	}
	n.probes[peer]++
	path := n.paths[peer]
	path.Sent++
	n.paths[peer] = path
	if len(b) <= n.carries[peer] {
		n.replies <- relay.EchoReply{Peer: peer, Seq: binary.BigEndian.Uint16(b[ip.HeaderLen+6:]), Len: len(b), At: n.now}
	}
	return true
}

func (n *net) peer(id uint32, carries int) Peer {
	n.carries[id] = carries
	n.paths[id] = Path{Up: true, Remote: netip.MustParseAddrPort("198.51.100.2:51820"), Max: 1440, Overhead: 60}
	return Peer{ID: id, Name: "peer", Key: id, Local: netip.MustParseAddr("100.64.0.1"), Remote: netip.MustParseAddr("100.64.0.2"), Look: func() Path { return n.paths[id] }}
}

// pass lets time pass; traffic flows to every peer.
func (n *net) pass(d time.Duration, traffic bool) {
	for end := n.now + int64(d); n.now < end; {
		wait := n.prober.Work()
		if len(n.replies) > 0 {
			wait = time.Millisecond // Run would be woken
		}
		n.now += int64(wait)
		if traffic {
			for id, p := range n.paths {
				p.Sent += 100
				n.paths[id] = p
			}
		}
	}
}

func TestManyPeersAreFoundAndNotAllAtOnce(t *testing.T) {
	n := newNet()
	var peers []Peer
	for id := range uint32(100) {
		peers = append(peers, n.peer(id, 1000+int(id)*4))
	}
	n.prober.SetPeers(peers)
	n.prober.Work()
	if len(n.probes) > maxSearches {
		t.Errorf("%d peers are searched at once", len(n.probes))
	}
	for last := uint32(99); n.now < int64(time.Minute) && n.prober.Status(last).State != Complete; {
		n.pass(100*time.Millisecond, false)
	}
	n.pass(5*time.Second, false)
	for id := range uint32(100) {
		if want := 1000 + int(id)*4; n.published[id] != want || n.prober.Status(id) != (Status{Complete, want, 1440}) {
			t.Fatalf("peer %d: %d, %+v, want %d", id, n.published[id], n.prober.Status(id), want)
		}
	}
}

func TestWhatNobodyWantsToKnowIsNotProbed(t *testing.T) {
	n := newNet()
	configured, addressless, down := n.peer(0, 1300), n.peer(1, 1300), n.peer(3, 1300)
	configured.MTU = 1350
	addressless.Local = netip.Addr{}
	n.paths[3] = Path{}
	n.prober.SetPeers([]Peer{configured, addressless, down})
	n.pass(time.Minute, true)
	if len(n.probes) != 0 {
		t.Errorf("probes %v", n.probes)
	}
	for id, want := range map[uint32]Status{0: {Configured, 1350, 1440}, 1: {NoAddress, 1440, 1440}, 2: {}, 3: {}} {
		if got := n.prober.Status(id); got != want {
			t.Errorf("peer %d: %+v, want %+v", id, got, want)
		}
	}
	if want := []int{1350, 0, 0, 0}; !slices.Equal(n.published, want) {
		t.Errorf("published %v", n.published)
	}
	// More than the port has room for is what the port has room for.
	configured.MTU = 9000
	n.prober.SetPeers([]Peer{configured})
	n.pass(time.Second, true)
	if got, want := n.prober.Status(0), (Status{Configured, 1440, 1440}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestAReloadForgetsNothingOfPeersThatStay(t *testing.T) {
	n := newNet()
	peer, other := n.peer(1, 1300), n.peer(0, 1200)
	n.prober.SetPeers([]Peer{peer, other})
	n.pass(5*time.Second, true)
	before := maps.Clone(n.probes)
	n.prober.SetPeers([]Peer{peer})
	n.pass(5*time.Second, true)
	if n.probes[1] != before[1] || n.published[1] != 1300 {
		t.Errorf("%d probes, %d before; %v", n.probes[1], before[1], n.published)
	}
	if n.published[0] != 0 {
		t.Errorf("published %v", n.published)
	}
	another := n.peer(1, 1100)
	another.Key = "another"
	n.prober.SetPeers([]Peer{another})
	n.pass(5*time.Second, true)
	if n.published[1] != 1100 {
		t.Errorf("another peer of the same number: %v", n.published)
	}
}

func TestAPeerThatMovesIsSearchedAnew(t *testing.T) {
	n := newNet()
	n.prober.SetPeers([]Peer{n.peer(0, 1300)})
	n.pass(5*time.Second, true)
	for i, change := range []func(*Path){
		func(p *Path) { p.Remote = netip.MustParseAddrPort("203.0.113.1:51820") },
		func(p *Path) { p.Ifindex = 7 },
		func(p *Path) { p.Max = 1400 },
		func(p *Path) { p.Six, p.Overhead, p.Max = true, 80, 1420 },
	} {
		n.carries[0] = 1310 + i
		path := n.paths[0]
		change(&path)
		n.paths[0] = path
		n.pass(3*time.Second, true)
		if got, want := n.prober.Status(0), (Status{Complete, 1310 + i, path.Max}); got != want {
			t.Errorf("change %d: %+v, want %+v", i, got, want)
		}
	}
}

func TestASessionThatComesBackIsConfirmedAtOnce(t *testing.T) {
	n := newNet()
	n.prober.SetPeers([]Peer{n.peer(0, 1300)})
	n.pass(5*time.Second, true)
	up := n.paths[0]
	n.paths[0] = Path{}
	n.pass(time.Minute, true)
	if got, want := n.prober.Status(0), (Status{Idle, 1300, 1440}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	n.carries[0], n.paths[0] = 1200, up
	n.pass(5*time.Second, true)
	if got, want := n.prober.Status(0), (Status{Complete, 1200, 1440}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// WireGuard is silent when nobody talks, and its sessions end: probes must not keep them up.
func TestAnIdleTunnelIsLeftAlone(t *testing.T) {
	n := newNet()
	n.prober.SetPeers([]Peer{n.peer(0, 1300)})
	n.pass(5*time.Second, true)
	n.pass(time.Minute, false)
	before := n.probes[0]
	n.pass(10*time.Minute, false)
	if n.probes[0] != before {
		t.Errorf("%d probes in ten idle minutes", n.probes[0]-before)
	}
	n.carries[0] = 1200
	n.pass(6*time.Second, true)
	if n.published[0] != 1200 {
		t.Errorf("when somebody talks again: %v", n.published)
	}
}

func TestRunTakesAnswersAsTheyCome(t *testing.T) {
	replies, published := make(chan relay.EchoReply, 64), make(chan int, 64)
	start := time.Now()
	clock := func() int64 { return int64(time.Since(start)) + 1 }
	var mu sync.Mutex
	probes := 0
	p := New(Options{Clock: clock, Replies: replies, Publish: func(m []int) { published <- m[0] },
		Send: func(peer uint32, b []byte, _ wireguard.Endpoint) bool {
			mu.Lock()
			defer mu.Unlock()
			if probes++; len(b) <= 1234 {
				go func() {
					time.Sleep(time.Millisecond)
					replies <- relay.EchoReply{Peer: peer, Seq: binary.BigEndian.Uint16(b[26:]), At: clock()}
				}()
			}
			return true
		}})
	p.SetPeers([]Peer{{Local: netip.MustParseAddr("100.64.0.1"), Remote: netip.MustParseAddr("100.64.0.2"),
		Look: func() Path { return Path{Up: true, Max: 1440, Overhead: 60} }}})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	got := 0
	for late := time.After(20 * time.Second); got == 0; {
		select {
		case got = <-published:
		case <-late:
			t.Fatal("nothing found")
		}
	}
	if got > 1234 || got < 1200 { // a busy machine may lose a few
		t.Errorf("found %d", got)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
