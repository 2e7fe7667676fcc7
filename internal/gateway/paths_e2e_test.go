package gateway_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/netnstest"
)

// uplinks are two sites with two WANs between them, each a switch.
type uplinks struct {
	sites [2]*site
	wans  [2]*netnstest.Switch
	links [2][2]*netnstest.Link // by site, by WAN
}

// newUplinks builds them. Both WANs carry IPv4 and IPv6.
func newUplinks(t testing.TB) *uplinks {
	t.Helper()
	scope, sites := newSites(t)
	sites[0].wan.Delete()
	u := &uplinks{sites: sites}
	for w := range u.wans {
		u.wans[w] = scope.NewSwitch(fmt.Sprint("isp", w))
		for i, s := range sites {
			u.links[i][w] = u.wans[w].Plug(netnstest.End{Host: s.gateway, Name: fmt.Sprint("wan", w),
				Addrs: netnstest.Prefixes(fmt.Sprintf("198.51.10%d.%d/24", w, i+1), fmt.Sprintf("fd5%d::%d/64", w+1, i+1))})
		}
	}
	for i, s := range sites {
		s.rewrite(t, "vpcs:", fmt.Sprintf("  tunnelAddresses: [%v]\nvpcs:", s.tunnel4()))
		s.rewrite(t, "    vpcs:\n", fmt.Sprintf("    tunnelAddresses: [%v]\n    vpcs:\n", sites[1-i].tunnel4()))
		s.rewrite(t, "  - name: wan0\n", "  - name: wan0\n  - name: wan1\n")
	}
	return u
}

// blackHole makes a WAN lose everything, and nobody's link goes down.
func (u *uplinks) blackHole(t testing.TB, wan int, on bool) {
	t.Helper()
	args := []string{"link", "set", "port1", "nomaster"}
	if !on {
		args = []string{"link", "set", "port1", "master", "br0"}
	}
	if out, err := u.wans[wan].Command(t.Context(), "ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %q: %v: %s", args, err, out)
	}
}

func (s *site) paths(t testing.TB) map[string]*sluicev1.Path {
	t.Helper()
	r, err := s.client().Peers(t.Context(), &sluicev1.PeersRequest{Name: "peer"})
	if err != nil {
		t.Fatal(err)
	}
	paths := make(map[string]*sluicev1.Path)
	for _, p := range r.GetPeers()[0].GetPaths() {
		paths[p.GetName()] = p
	}
	return paths
}

// waitPaths waits until all paths work and one is in use.
func (s *site) waitPaths(t testing.TB, used string) {
	t.Helper()
	s.eventually(t, "paths are up and "+used+" is used", func() error {
		paths := s.paths(t)
		for name, p := range paths {
			if p.GetLiveness().GetState() != sluicev1.LiveState_LIVE_STATE_UP || p.GetUsed() != (name == used) {
				return errors.New(p.String())
			}
		}
		if len(paths) < 2 {
			return fmt.Errorf("%d paths", len(paths))
		}
		return nil
	})
}

// flood counts packets of a stream: one every so often, by default 10000 per second.
type flood struct {
	from, to *site
	every    time.Duration
	mu       sync.Mutex
	got      map[uint32]bool
}

// loss of a stream: how many packets, and how many of them in a row. Where more programs run than there are processors, packets are lost
// here and there because nobody takes them from a ring; an outage is a row.
type loss struct {
	packets, row int
	every        time.Duration
}

func (l loss) String() string {
	return fmt.Sprintf("%v of traffic, %v in a row", time.Duration(l.packets)*l.every, time.Duration(l.row)*l.every)
}

func (f *flood) listen(t testing.TB) {
	t.Helper()
	var conn *net.UDPConn
	if err := f.to.host.Do(func() (err error) {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{Port: streamPort})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadBuffer(4 << 20); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 256)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			if n == 100 {
				f.mu.Lock()
				f.got[binary.BigEndian.Uint32(buf)] = true
				f.mu.Unlock()
			}
		}
	}()
}

// run sends for a time and returns what was lost.
func (f *flood) run(t testing.TB, d time.Duration) (lost loss) {
	f.mu.Lock()
	f.got = make(map[uint32]bool)
	f.mu.Unlock()
	var flows [32]*net.UDPConn
	if err := f.from.host.Do(func() (err error) {
		for i := range flows {
			if flows[i], err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(f.to.addr4(), streamPort))); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
		return lost
	}
	if lost.every = f.every; f.every == 0 {
		lost.every = 100 * time.Microsecond
	}
	message, sent := make([]byte, 100), 0
	begin := time.Now()
	for time.Since(begin) < d {
		for due := int(time.Since(begin) / lost.every); sent < due; sent++ {
			binary.BigEndian.PutUint32(message, uint32(sent))
			_, _ = flows[sent%len(flows)].Write(message) // refused: no route, counted as lost
		}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(500 * time.Millisecond)
	for _, flow := range flows {
		flow.Close()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	row := 0
	for seq := range uint32(sent) {
		if row++; f.got[seq] {
			row = 0
			continue
		}
		lost.packets++
		lost.row = max(lost.row, row)
	}
	return lost
}

// both sends both ways at a time, does something halfway, and returns what was lost.
func (u *uplinks) both(t testing.TB, floods [2]*flood, d time.Duration, halfway func()) (lost [2]loss) {
	t.Helper()
	var wait sync.WaitGroup
	for i, f := range floods {
		wait.Go(func() { lost[i] = f.run(t, d) })
	}
	time.Sleep(d / 2)
	halfway()
	wait.Wait()
	return lost
}

// A path fails under 10 000 packets per second each way, and another takes over: what may be lost is 300 ms of traffic; here, on
// any machine, a second's.
func TestAPathFailsAndAnotherTakesOver(t *testing.T) {
	u := newUplinks(t)
	for i, s := range u.sites {
		s.rewrite(t, fmt.Sprintf("    endpoint: 198.51.100.%d:51820\n", 2-i), fmt.Sprintf(`    pathHold: 500ms
    paths:
      - {name: main, endpoint: "198.51.100.%[1]d:51820", port: wan0, priority: 1}
      - {name: spare, endpoint: "198.51.101.%[1]d:51820", port: wan1, priority: 2}
`, 2-i))
		s.start(t)
	}
	u.failing(t, u.sites[:])
}

// Only one side knows of two paths: the other has a single address, and follows it.
func TestAGatewayWithTwoUplinksIsFollowedByItsPeer(t *testing.T) {
	u := newUplinks(t)
	hub, spoke := u.sites[1], u.sites[0]
	hub.run(t, "ip", "addr", "add", "203.0.113.9/32", "dev", "lo")
	for w := range 2 {
		spoke.run(t, "ip", "route", "add", "203.0.113.9/32", "via", fmt.Sprintf("198.51.10%d.2", w), "dev", fmt.Sprint("wan", w), "metric", fmt.Sprint(10+w))
	}
	spoke.rewrite(t, "    endpoint: 198.51.100.2:51820\n", `    pathHold: 500ms
    paths:
      - {name: main, endpoint: "203.0.113.9:51820", port: wan0, priority: 1}
      - {name: spare, endpoint: "203.0.113.9:51820", port: wan1, priority: 2}
`)
	hub.rewrite(t, "    endpoint: 198.51.100.1:51820\n", "")
	hub.start(t)
	spoke.start(t)
	u.failing(t, []*site{spoke})
	if paths := hub.paths(t); len(paths) > 0 {
		t.Errorf("the other side has paths: %v", paths)
	}
}

// failing has the first WAN fail in several ways; choosing are the sites that have paths.
func (u *uplinks) failing(t *testing.T, choosing []*site) {
	up := func(used string) {
		for _, s := range choosing {
			s.waitPaths(t, used)
		}
	}
	up("main")
	floods := [2]*flood{{from: u.sites[0], to: u.sites[1]}, {from: u.sites[1], to: u.sites[0]}}
	for _, f := range floods {
		f.listen(t)
	}
	u.sites[0].eventually(t, "stream is on", func() error { // neighbours are found
		if lost := u.both(t, floods, 200*time.Millisecond, func() {}); max(lost[0].packets, lost[1].packets) > 500 {
			return fmt.Errorf("%v lost", lost)
		}
		return nil
	})
	for _, c := range []struct {
		name      string
		die, live func()
	}{
		{"black hole", func() { u.blackHole(t, 0, true) }, func() { u.blackHole(t, 0, false) }},
		{"our link down", func() { u.links[0][0].SetUp(false) }, func() {
			u.links[0][0].SetUp(true)
			for _, dst := range []string{"198.51.100.0/24", "203.0.113.9/32"} { // gone with the link
				if dst == "203.0.113.9/32" && len(choosing) == 1 {
					u.sites[0].run(t, "ip", "route", "replace", dst, "via", "198.51.100.2", "dev", "wan0", "metric", "10")
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			lost := u.both(t, floods, 2*time.Second, c.die)
			t.Logf("lost there: %v; back: %v", lost[0], lost[1])
			for i, n := range lost {
				if n.row > 10000 {
					t.Errorf("%v from site %d was lost: more than a second's in a row", n, i+1)
				}
			}
			for _, s := range choosing {
				s.eventually(t, "the other path is used", func() error {
					if p := s.paths(t); !p["spare"].GetUsed() || p["main"].GetLiveness().GetState() == sluicev1.LiveState_LIVE_STATE_UP {
						return fmt.Errorf("%v", p)
					}
					return nil
				})
				if l := s.liveness(t, "peer"); l.GetState() != sluicev1.LiveState_LIVE_STATE_UP {
					t.Errorf("the peer is %v", l)
				}
			}
			// The preferred path works again. Nobody loses anything by going back, but for what a busy machine does.
			lost = u.both(t, floods, 4*time.Second, c.live)
			up("main")
			t.Logf("lost by going back: there %v; back: %v", lost[0], lost[1])
			for i, n := range lost {
				if n.row > 2000 {
					t.Errorf("%v from site %d was lost by going back", n, i+1)
				}
			}
		})
	}
}
