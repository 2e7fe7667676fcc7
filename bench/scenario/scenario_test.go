package scenario

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/traffic"
)

func TestIperfReports(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want float64
		ok   bool
	}{
		"what arrived counts":          {`{"end":{"sum_sent":{"bits_per_second":3e9},"sum_received":{"bits_per_second":2.5e9}}}`, 2.5e9, true},
		"an error is one":              {`{"end":{"sum_received":{"bits_per_second":1}},"error":"unable to connect: Connection refused"}`, 0, false},
		"nothing received is an error": {`{"end":{"sum_received":{"bits_per_second":0}}}`, 0, false},
		"text that is no report":       {`iperf3: command not found`, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseIperf([]byte(c.text))
			if got != c.want || (err == nil) != c.ok {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

func TestEveryPeerHasARouteThatTrafficUses(t *testing.T) {
	for _, s := range []method.Scenario{
		{Peers: 1000}, {Peers: 3, Routes: 10}, {Routes: 100_000}, {},
	} {
		s = s.Normal()
		s.Attachment, s.Direction = VXLAN, method.Encrypt
		l := &Lab{Scenario: s}
		routes := l.RoutesTo(1)
		if len(routes) < min(s.Routes, maxMany) || len(routes) < s.Peers {
			t.Errorf("%v: %d routes", s, len(routes))
		}
		flow := l.flow()
		last := flow.Inner.Dst
		for range max(flow.Destinations.Count, 1) - 1 {
			last = last.Next()
		}
		covered := map[bool]int{}
		for _, p := range routes {
			covered[p.Contains(flow.Inner.Dst) || p.Contains(last)]++
		}
		if covered[true] == 0 || s.Routes > 1 && covered[true] != 2 {
			t.Errorf("%v: from %v to %v is not what is routed", s, flow.Inner.Dst, last)
		}
		for _, p := range l.Prefixes(1) {
			covered[p.Contains(last)]++
		}
		if covered[true] < 2 {
			t.Errorf("%v: %v is not at the second site", s, last)
		}
	}
}

// feed makes a watch see packets per sample.
func feed(t *testing.T, limit time.Duration, disturb func(context.Context) error, rate func(since time.Duration) uint64) (method.Recovery, error) {
	t.Helper()
	begin, sum := time.Now(), uint64(0)
	w := &watch{read: func() (traffic.Counts, error) {
		sum += rate(time.Since(begin))
		return traffic.Counts{Packets: sum}, nil
	}}
	err := w.run(t.Context(), disturb, limit)
	return w.result(), err
}

func TestRecoveryIsWatched(t *testing.T) {
	at := lead + 100*time.Millisecond
	pause := func(long time.Duration) func(time.Duration) uint64 {
		return func(since time.Duration) uint64 {
			if since > at && since < at+long {
				return 0
			}
			return 10
		}
	}
	nothing := func(context.Context) error { return nil }
	r, err := feed(t, 10*time.Second, nothing, pause(200*time.Millisecond))
	// A busy machine makes it longer, never shorter.
	if err != nil || !r.Recovered || r.Outage < 190*time.Millisecond || r.Outage > 5*time.Second {
		t.Errorf("a pause of 200 ms: %v, %v, %v", r.Outage, r.Recovered, err)
	}
	if len(r.Timeline) == 0 || r.Timeline[0].At >= 0 || r.Timeline[len(r.Timeline)-1].At <= 0 {
		t.Errorf("the timeline is not around the event: %v", r.Timeline)
	}
	r, err = feed(t, time.Second, nothing, pause(time.Hour))
	if err != nil || r.Recovered || r.Outage < 800*time.Millisecond {
		t.Errorf("a pause without an end: %v, %v, %v", r.Outage, r.Recovered, err)
	}
	broken := errors.New("broken")
	if _, err = feed(t, time.Second, func(context.Context) error { return broken }, pause(0)); !errors.Is(err, broken) {
		t.Errorf("an event that fails: %v", err)
	}
}
