package gateway_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/netnstest"
)

const streamPort = 9000

// probeStream counts who received which packet of a stream.
type probeStream struct {
	mu  sync.Mutex
	got map[uint32]bool
}

// listen receives at a host, until the test ends.
func (s *probeStream) listen(t testing.TB, h *netnstest.Host) {
	t.Helper()
	var conn *net.UDPConn
	if err := h.Do(func() (err error) {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{Port: streamPort})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 64)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			if n == 4 {
				s.mu.Lock()
				s.got[binary.BigEndian.Uint32(buf)] = true
				s.mu.Unlock()
			}
		}
	}()
}

// send sends a packet every millisecond for a time, over 32 flows by turns, and returns which were lost. Halfway it does something.
func (s *probeStream) send(t testing.TB, from *netnstest.Host, to netip.Addr, d time.Duration, halfway func()) (sent, lost int) {
	t.Helper()
	var flows [32]*net.UDPConn
	if err := from.Do(func() (err error) {
		for i := range flows {
			if flows[i], err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, streamPort))); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.got = make(map[uint32]bool)
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(d / 2)
		halfway()
	}()
	begin := time.Now()
	for time.Since(begin) < d {
		for due := int(time.Since(begin) / time.Millisecond); sent < due; sent++ {
			_, _ = flows[sent%len(flows)].Write(binary.BigEndian.AppendUint32(nil, uint32(sent))) // refused: no route, counted as lost
		}
		time.Sleep(time.Millisecond)
	}
	<-done
	time.Sleep(300 * time.Millisecond)
	for _, f := range flows {
		f.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return sent, sent - len(s.got)
}

func (s *site) liveness(t testing.TB, peer string) *sluicev1.Liveness {
	t.Helper()
	r, err := s.client().Peers(t.Context(), &sluicev1.PeersRequest{Name: peer})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetPeers()[0].GetLiveness()
}

func (s *site) waitLive(t testing.TB, peer string, want sluicev1.LiveState) {
	t.Helper()
	s.eventually(t, fmt.Sprintf("peer %s is %v", peer, want), func() error {
		if l := s.liveness(t, peer); l.GetState() != want {
			return errors.New(l.String())
		}
		return nil
	})
}

// Two gateways have the same prefix. One is frozen, cut off, killed: the other takes its flows over, within 300 ms and
// generously within a second here, and gives them back when it lives.
func TestAGatewayDiesAndAnotherTakesOver(t *testing.T) {
	scope, sites := newSites(t)
	first, second := sites[0], sites[1]
	third := &site{number: 3, host: scope.NewHost("host3"), gateway: scope.NewHost("gw3"), dir: t.TempDir()}
	_, third.inside = scope.Connect(
		netnstest.End{Host: third.host, Name: "eth0", Addrs: netnstest.Prefixes("172.16.2.10/24")},
		netnstest.End{Host: third.gateway, Name: "host0", Addrs: netnstest.Prefixes("172.16.2.1/24")},
	)
	_, third.wan = scope.Connect(
		netnstest.End{Host: first.gateway, Name: "wan1", Addrs: netnstest.Prefixes("198.51.101.1/24")},
		netnstest.End{Host: third.gateway, Name: "wan0", Addrs: netnstest.Prefixes("198.51.101.2/24")},
	)
	third.host.Route(netip.MustParsePrefix("172.16.1.0/24"), netip.MustParseAddr("172.16.2.1"))
	third.makeKey(t)
	third.write(t, first, "")
	third.rewrite(t, "[172.16.3.0/24, \"fd16:3::/64\"]", "[172.16.2.0/24]")
	third.rewrite(t, "endpoint: 198.51.100.1", "endpoint: 198.51.101.1")
	first.withTUN(t, second)
	second.withTUN(t, first)
	third.withTUN(t, first)
	first.rewrite(t, "  - name: wan0\n", "  - name: wan0\n  - name: wan1\n")
	first.rewrite(t, "api:", fmt.Sprintf(`  - name: third
    publicKey: %s
    endpoint: 198.51.101.2:51820
    tunnelAddresses: [%v]
    vpcs:
      - name: default
        prefixes: [172.16.2.0/24]
api:`, third.key.PublicKey(), third.tunnel4()))
	for _, s := range []*site{first, second, third} {
		s.start(t)
	}
	both := func() {
		for _, name := range []string{"peer", "third"} {
			first.waitLive(t, name, sluicev1.LiveState_LIVE_STATE_UP)
		}
	}
	both()
	var s probeStream
	s.listen(t, second.host)
	s.listen(t, third.host)
	target := second.addr4()
	first.eventually(t, "stream is on", func() error { // neighbours are found
		if sent, lost := s.send(t, first.host, target, 200*time.Millisecond, func() {}); lost > 0 {
			return fmt.Errorf("%d of %d lost", lost, sent)
		}
		return nil
	})
	signal := func(sig syscall.Signal) func() {
		return func() { _ = second.process.Process.Signal(sig) }
	}
	for _, c := range []struct {
		name      string
		die, live func()
	}{
		{"frozen", signal(syscall.SIGSTOP), signal(syscall.SIGCONT)},
		{"cut off", func() { second.wan.SetUp(false) }, func() { second.wan.SetUp(true) }},
		{"killed", signal(syscall.SIGKILL), func() { <-second.process.Done(); second.start(t) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			sent, lost := s.send(t, first.host, target, 3*time.Second, c.die)
			t.Logf("%d of %d packets were lost, %v of the stream", lost, sent, time.Duration(lost)*time.Millisecond)
			if lost > 1000 {
				t.Errorf("%d of %d packets lost: more than a second's", lost, sent)
			}
			if l := first.liveness(t, "peer"); l.GetState() != sluicev1.LiveState_LIVE_STATE_DOWN {
				t.Errorf("the peer is %v", l)
			}
			if l := first.liveness(t, "third"); l.GetState() != sluicev1.LiveState_LIVE_STATE_UP || l.GetRtt().AsDuration() <= 0 || l.GetMinRtt().AsDuration() > l.GetRtt().AsDuration() {
				t.Errorf("the other is %v", l)
			}
			c.live()
			both()
		})
	}
}
