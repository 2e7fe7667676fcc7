package gateway_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
)

// newFed builds two sites whose routers are feeders, and waits until their hosts reach each other. Each site's prefixes are
// the other's peer prefixes, and more is added to those.
func newFed(t testing.TB, more string) (sites [2]*routed, feeders [2]*feeder) {
	t.Helper()
	_, sites = newRoutedSites(t)
	for i, s := range sites {
		s.router.Sysctl("net.ipv4.ip_forward", "1")
		s.router.Route(netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", 2-i)), netip.MustParseAddr(fmt.Sprintf("172.20.%d.1", i+1)))
		s.write(t, sites[1-i])
		s.rewrite(t, `::/32"]`, `::/32"`+more+"]")
		s.rewrite(t, "rules: [{prefixLists: [site]}]", "rules: [{}]")
		s.rewrite(t, "      connectRetry: 1s", "      connectRetry: 1s\n      passive: true\n      maxPrefixes: 200000")
		s.rewrite(t, fmt.Sprintf("asn: 6510%d\n", i+1), fmt.Sprintf("asn: %d\n", feederAS))
		s.start(t)
	}
	for i, s := range sites {
		feeders[i] = startFeeder(t, s.router, netip.MustParseAddr(fmt.Sprintf("172.20.%d.1", i+1)), netip.MustParseAddr(fmt.Sprintf("172.20.%d.2", i+1)))
		feeders[i].announce(t, []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/24", i+1))})
	}
	sites[0].eventually(t, "stream flows", func() error {
		s := startStream(t, sites[1].host, sites[0].host, sites[0].addr4(), twinsStream4, 1)
		time.Sleep(100 * time.Millisecond)
		if sent, lost := s.End(); lost > 0 {
			return fmt.Errorf("%d of %d lost", lost, sent)
		}
		return nil
	})
	return sites, feeders
}

// waitRoutes waits until the gateway forwards by so many routes, and says how long that took.
func (s *site) waitRoutes(t testing.TB, want int) time.Duration {
	t.Helper()
	begin := time.Now()
	for deadline := begin.Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if got := int(s.status(t).GetRouteCount()); got == want {
			return time.Since(begin)
		} else if time.Now().After(deadline) {
			t.Fatalf("gateway %d has %d routes, want %d", s.number, got, want)
		}
	}
}

// waitRoute waits until the gateway has a route of exactly this prefix, or none, and says how long that took.
func (s *site) waitRoute(t testing.TB, p netip.Prefix, there bool) time.Duration {
	t.Helper()
	client, begin := s.client(), time.Now()
	for deadline := begin.Add(15 * time.Second); ; {
		r, err := client.Routes(context.Background(), &sluicev1.RoutesRequest{Vpc: "default", Address: p.Addr().String()})
		if err != nil && connect.CodeOf(err) != connect.CodeNotFound {
			t.Fatal(err)
		}
		if found := err == nil && r.GetRoutes()[0].GetPrefix() == p.String(); found == there {
			return time.Since(begin)
		}
		if time.Now().After(deadline) {
			t.Fatalf("gateway %d: route %s there: %t", s.number, p, !there)
		}
	}
}

// While routes come by the thousand, flap and go, what travels by others loses nothing.
func TestRoutesThatComeAndGoCostOthersNothing(t *testing.T) {
	sites, feeders := newFed(t, "")
	gateway, router := sites[0], feeders[0]
	base := int(gateway.status(t).GetRouteCount())
	many := manyPrefixes(20_000)
	s := startStream(t, sites[1].host, sites[0].host, sites[0].addr4(), twinsStream4, 2)
	for range 2 {
		router.announce(t, many)
		gateway.waitRoutes(t, base+len(many))
		for i := range 10 {
			flap := many[i*1000 : i*1000+1]
			router.withdraw(t, flap)
			gateway.waitRoute(t, flap[0], false)
			router.announce(t, flap)
			gateway.waitRoute(t, flap[0], true)
		}
		router.withdraw(t, many)
		gateway.waitRoutes(t, base)
	}
	if sent, lost := s.End(); lost > 0 {
		t.Errorf("%d of %d packets lost: %s; %s", lost, sent, s.Gaps(), gateway.nonZero(t))
	}
	if n, err := gateway.neighbour(t); err != nil || n.GetEnded() != 0 {
		t.Errorf("the session ended: %v, %v", n, err)
	}
}

// cpuSeconds is what a process has used of all cores.
func cpuSeconds(t testing.TB, pid int) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), ") ") // the name may have spaces
	var user, system float64
	fields := strings.Fields(after)
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		t.Fatalf("stat of %d: %v", pid, err)
	}
	return (user + system) / 100 // USER_HZ
}

// BenchmarkLoadARunningGateway has a router announce 100,000 prefixes while 2000 packets a second cross by another route.
// s/load is from the moment when the last update has left the router until the gateway forwards by all of them, cpu-s/load what the process used meanwhile; ms/flap and
// worst-ms/flap from an update until one prefix of them is gone, or back, as the API sees it (half a millisecond is the
// question's own); lost counts packets.
func BenchmarkLoadARunningGateway(b *testing.B) {
	b.Run("peer=/16", func(b *testing.B) { loadARunningGateway(b, "") })
	b.Run("peer=default", func(b *testing.B) { loadARunningGateway(b, ", 0.0.0.0/0") })
}

func loadARunningGateway(b *testing.B, more string) {
	const routes = 100_000
	many := manyPrefixes(routes)
	for b.Loop() {
		b.StopTimer()
		sites, feeders := newFed(b, more)
		gateway, router := sites[0], feeders[0]
		base := int(gateway.status(b).GetRouteCount())
		before := residentMiB(b, gateway.process.Process.Pid)
		s := startStream(b, sites[1].host, sites[0].host, sites[0].addr4(), twinsStream4, 2)
		b.StartTimer()
		begin, cpu := time.Now(), cpuSeconds(b, gateway.process.Process.Pid)
		router.announce(b, many)
		announced := time.Since(begin)
		took := gateway.waitRoutes(b, base+routes)
		b.StopTimer()
		b.ReportMetric(announced.Seconds(), "s/announce")
		b.ReportMetric(took.Seconds(), "s/load")
		b.ReportMetric(cpuSeconds(b, gateway.process.Process.Pid)-cpu, "cpu-s/load")
		b.ReportMetric(residentMiB(b, gateway.process.Process.Pid)-before, "MiB-resident/100k")
		var flaps []time.Duration
		for i := range 50 {
			flap := many[i*1000 : i*1000+1]
			router.withdraw(b, flap)
			flaps = append(flaps, gateway.waitRoute(b, flap[0], false))
			router.announce(b, flap)
			flaps = append(flaps, gateway.waitRoute(b, flap[0], true))
		}
		for i, took := range flaps {
			if took > 10*time.Millisecond {
				b.Logf("change %d of %d took %v", i+1, len(flaps), took)
			}
		}
		slices.Sort(flaps)
		b.ReportMetric(flaps[len(flaps)/2].Seconds()*1e3, "ms/flap")
		b.ReportMetric(flaps[len(flaps)-1].Seconds()*1e3, "worst-ms/flap")
		_, lost := s.End()
		b.ReportMetric(float64(lost), "lost")
		for _, s := range sites { // how they end is not what is measured
			if err := s.process.Process.Kill(); err != nil {
				b.Fatal(err)
			}
			<-s.process.Done()
		}
		b.StartTimer()
	}
}
