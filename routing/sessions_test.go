package routing

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/osrg/gobgp/v4/api"
)

// one returns the only neighbour of an end.
func (e *end) one(t testing.TB) NeighbourStatus {
	t.Helper()
	s := e.Status(t.Context(), true)
	if len(s.Neighbours) != 1 || len(s.Problems) > 0 {
		t.Fatalf("status is %+v", s)
	}
	return s.Neighbours[0]
}

func (e *end) wantState(t testing.TB, want State) {
	t.Helper()
	eventually(t, "state "+want.String(), func() error {
		if got := e.one(t); got.State != want {
			return fmt.Errorf("is %v: %s", got.State, got.LastError)
		}
		return nil
	})
}

// verdictOf returns what became of a prefix that the neighbour announced.
func (e *end) verdictOf(prefix string) string {
	for _, r := range e.Routes() {
		if r.Prefix.String() == prefix {
			return r.Verdict.String()
		}
	}
	return "unknown"
}

func TestASessionWithTheRightPasswordAndTTLComesUp(t *testing.T) {
	t.Parallel()
	gateway, router := newPair(t)
	for _, e := range []*end{gateway, router} {
		e.neighbour().Password, e.neighbour().TTLSecurity = NewSecret("correct horse"), true
	}
	router.vpc().Export = prefixes("10.1.0.0/16")
	gateway.set(t)
	router.set(t)
	gateway.wants(t, "10.1.0.0/16")
}

func TestASessionWithAnotherPasswordStaysDown(t *testing.T) {
	t.Parallel()
	gateway, router := newPair(t)
	gateway.neighbour().Password, router.neighbour().Password = NewSecret("correct horse"), NewSecret("battery staple")
	gateway.set(t)
	router.set(t)
	time.Sleep(2 * time.Second)
	if s := gateway.one(t); s.State == Established {
		t.Fatalf("%+v", s)
	}
	// With the right one it comes up: only this neighbour is touched.
	router.config.Ports[0].Neighbours = slices.Clone(router.config.Ports[0].Neighbours)
	router.neighbour().Password = NewSecret("correct horse")
	router.set(t)
	gateway.wantState(t, Established)
}

func TestSecretsAreNotPrinted(t *testing.T) {
	n := Neighbour{Name: "tor", Password: NewSecret("correct horse")}
	text, err := n.Password.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprintf("%v %+v %#v %s", n, n, n, n.Password), string(text)} {
		if strings.Contains(s, "horse") {
			t.Errorf("printed: %s", s)
		}
	}
}

func TestWithoutAPolicyNothingPasses(t *testing.T) {
	t.Parallel()
	gateway, router := newPair(t)
	gateway.neighbour().Import, gateway.neighbour().Export = nil, nil
	router.vpc().Export, gateway.vpc().Export = prefixes("10.1.0.0/16"), prefixes("10.2.0.0/16")
	gateway.set(t)
	router.set(t)
	eventually(t, "refused", func() error {
		if v := gateway.verdictOf("10.1.0.0/16"); v != "refused: there is no policy" {
			return errors.New(v)
		}
		return nil
	})
	gateway.wants(t)
	if got := router.Routes(); len(got) != 0 {
		t.Errorf("the router was told %v", got)
	}
	// A policy lets it in, and another takes it out again, in the same session.
	since := gateway.one(t).Since
	for _, step := range []struct {
		policy *Policy
		want   []string
	}{{all, []string{"10.1.0.0/16"}}, {&Policy{Name: "none", Rules: []Rule{{Refuse: true}}}, nil}} {
		gateway.config.Ports = slices.Clone(gateway.config.Ports)
		gateway.config.Ports[0].Neighbours = slices.Clone(gateway.config.Ports[0].Neighbours)
		gateway.neighbour().Import, gateway.neighbour().Export = step.policy, step.policy
		gateway.set(t)
		gateway.wants(t, step.want...)
		want := []string{}
		if step.want != nil {
			want = []string{"10.2.0.0/16"}
		}
		router.wants(t, want...)
	}
	if now := gateway.one(t).Since; !now.Equal(since) {
		t.Errorf("the session began anew at %s, it was there since %s", now, since)
	}
}

func TestWhatBelongsToOthersIsRefusedAndCounted(t *testing.T) {
	t.Parallel()
	gateway, router := newPair(t)
	gateway.vpc().Reserved = []Reserved{
		{netip.MustParsePrefix("10.2.0.0/16"), "prefix 10.2.0.0/16 of peer bergen-1", true},
		{netip.MustParsePrefix("100.64.0.1/32"), "tunnel address", false},
	}
	gateway.vpc().Static = prefixes("10.9.0.0/16")
	router.vpc().Export = prefixes("10.2.3.0/24", "10.0.0.0/8", "10.2.0.0/16", "100.64.0.0/24", "0.0.0.0/0", "10.9.0.0/16", "10.1.0.0/16", "224.1.0.0/16", "fe80::/64")
	gateway.set(t)
	router.set(t)
	gateway.wants(t, "10.1.0.0/16")
	eventually(t, "all are there", func() error {
		if n := gateway.one(t).Received; n != 9 {
			return fmt.Errorf("%d received", n)
		}
		return nil
	})
	for prefix, want := range map[string]string{
		"10.2.3.0/24":   "refused: it overlaps the prefix 10.2.0.0/16 of peer bergen-1",
		"10.0.0.0/8":    "refused: it overlaps the prefix 10.2.0.0/16 of peer bergen-1",
		"100.64.0.0/24": "refused: it overlaps the tunnel address",
		"10.9.0.0/16":   "refused: the configuration has the same prefix",
		"224.1.0.0/16":  "refused: it cannot be routed",
		"fe80::/64":     "refused: it cannot be routed",
		"10.1.0.0/16":   "accepted: policy all rule 1",
	} {
		if got := gateway.verdictOf(prefix); got != want {
			t.Errorf("%s: %s, want %s", prefix, got, want)
		}
	}
	if s := gateway.one(t); s.Refused["overlap"] != 5 || s.Refused["configured"] != 1 || s.Refused["not_unicast"] != 2 || s.Accepted != 1 {
		t.Errorf("counted %+v", s)
	}
	// The peer gives the prefix up: what the site announces inside of it is let in.
	gateway.config.VPCs = []VPC{{Name: "red"}}
	gateway.set(t)
	gateway.wants(t, "0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16", "10.2.3.0/24", "10.9.0.0/16", "100.64.0.0/24")
}

func TestMorePrefixesThanAllowedEndTheSession(t *testing.T) {
	t.Parallel()
	gateway, router := newPair(t)
	gateway.neighbour().MaxPrefixes = 3
	router.vpc().Export = prefixes("10.1.1.0/24", "10.1.2.0/24", "10.1.3.0/24")
	gateway.set(t)
	router.set(t)
	gateway.wants(t, "10.1.1.0/24", "10.1.2.0/24", "10.1.3.0/24")
	router.config.VPCs = []VPC{{Name: "red", Export: prefixes("10.1.1.0/24", "10.1.2.0/24", "10.1.3.0/24", "10.1.4.0/24", "10.1.5.0/24")}}
	router.set(t)
	gateway.wants(t)
	eventually(t, "told", func() error {
		if s := gateway.one(t); !strings.Contains(s.Problem, "maxPrefixes") {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

func TestRoutersOfARangeMayCallWithAnAllowedNumber(t *testing.T) {
	t.Parallel()
	gateway, router := newPair(t)
	*gateway.neighbour() = Neighbour{Name: "any", Range: netip.MustParsePrefix("127.0.0.0/28"), ASNs: []ASNRange{{65100, 65199}}, Import: all}
	router.vpc().Export = prefixes("10.1.0.0/16")
	gateway.set(t)
	router.set(t)
	eventually(t, "refused", func() error {
		for _, n := range gateway.Status(t.Context(), true).Neighbours {
			if n.LastError != "" && n.ASN == 65002 {
				return nil
			}
		}
		return errors.New("the session was not refused")
	})
	gateway.wants(t)

	router.config.ASN = 65102
	router.set(t)
	gateway.wants(t, "10.1.0.0/16")
	router.Close()
	gateway.wants(t)
}

func TestLocalPreferenceTravelsInsideOneAS(t *testing.T) {
	t.Parallel()
	gateway, router := newPair(t)
	router.config.ASN, router.neighbour().ASN = 65001, 65001
	gateway.neighbour().ASN = 65001
	pref := uint32(250)
	router.neighbour().Export = &Policy{Name: "high", Rules: []Rule{{LocalPref: &pref}}}
	router.vpc().Export = prefixes("10.1.0.0/16")
	gateway.set(t)
	router.set(t)
	gateway.wants(t, "10.1.0.0/16")
	if r := gateway.Routes()[0]; r.Attributes.LocalPref != 250 || !gateway.one(t).Internal {
		t.Errorf("%+v", r)
	}
}

func TestIPv4IsAnnouncedWithAnIPv6NextHop(t *testing.T) {
	t.Parallel()
	gateway, router := newPair(t)
	router.config.Ports[0].Addresses = []netip.Addr{netip.MustParseAddr("fe80::2"), netip.MustParseAddr("2001:db8::2")}
	router.vpc().Export = prefixes("10.1.0.0/16", "fd10::/48")
	gateway.set(t)
	router.set(t)
	gateway.wants(t, "10.1.0.0/16", "fd10::/48")
	for p, hops := range gateway.hops {
		if !slices.Equal(hops, []NextHop{{Port: "p0", Addr: netip.MustParseAddr("2001:db8::2")}}) {
			t.Errorf("%s: %v", p, hops)
		}
	}
}

// What a router is told is what Announced says of it, which uses our own policy engine, and the router gets it by GoBGP's:
// the two must agree on every rule.
func TestBothPolicyEnginesAgree(t *testing.T) {
	t.Parallel()
	gateway, router := newPair(t)
	med, low := uint32(7), Community{Parts: [3]uint32{65001, 5}}
	large := Community{Large: true, Parts: [3]uint32{65001, 1, 2}}
	within := func(p string, least, most int) PrefixRange { return PrefixRange{netip.MustParsePrefix(p), least, most} }
	gateway.neighbour().Export = &Policy{Name: "mixed", Rules: []Rule{
		{Prefixes: []PrefixRange{within("10.2.9.0/24", 24, 24), within("fd10:2:9::/48", 48, 128)}, Refuse: true},
		{Prefixes: []PrefixRange{within("10.2.0.0/16", 24, 25)}, MED: &med, AddCommunities: []Community{low, large}},
		{Prefixes: []PrefixRange{within("fd10:2::/32", 32, 48), within("10.3.0.0/16", 16, 16)}, Prepend: 2},
		{Communities: []Community{low}, MED: &med},
	}}
	gateway.vpc().Export = prefixes("10.2.0.0/16", "10.2.1.0/24", "10.2.1.128/25", "10.2.1.0/26", "10.2.9.0/24", "10.2.9.0/25", "10.3.0.0/16", "10.3.0.0/17",
		"fd10:2::/32", "fd10:2:1::/48", "fd10:2:9::/48", "fd10:2:9:1::/64", "fd10:2:1:1::/64", "fd10:3::/32")
	gateway.set(t)
	router.set(t)
	gateway.wantState(t, Established)
	eventually(t, "both say the same", func() error {
		want, got := make(map[netip.Prefix]string), make(map[netip.Prefix]string)
		refused := 0
		for _, r := range gateway.Announced() {
			if !r.Best {
				refused++
				continue
			}
			want[r.Prefix] = fmt.Sprint(r.Attributes.Path, r.Attributes.MED, r.Attributes.Communities, r.Attributes.NextHop)
		}
		for _, r := range router.Routes() {
			got[r.Prefix] = fmt.Sprint(r.Attributes.Path, r.Attributes.MED, r.Attributes.Communities, r.Attributes.NextHop)
		}
		if len(want) == 0 || refused == 0 || fmt.Sprint(want) != fmt.Sprint(got) {
			return fmt.Errorf("announced %v, received %v", want, got)
		}
		return nil
	})
}

// Timers and limits change, and the session goes on; a limit that is passed ends it, and one that is raised lets it come back.
func TestSettingsThatNeedNoNewSessionGetNone(t *testing.T) {
	t.Parallel()
	gateway, router := newPair(t)
	router.vpc().Export = prefixes("10.1.1.0/24", "10.1.2.0/24")
	gateway.set(t)
	router.set(t)
	gateway.wants(t, "10.1.1.0/24", "10.1.2.0/24")
	since := gateway.one(t).Since
	change := func(f func(*Neighbour)) {
		t.Helper()
		gateway.config.Ports = slices.Clone(gateway.config.Ports)
		gateway.config.Ports[0].Neighbours = slices.Clone(gateway.config.Ports[0].Neighbours)
		f(gateway.neighbour())
		gateway.set(t)
	}
	change(func(n *Neighbour) { n.Hold, n.ConnectRetry, n.MaxPrefixes = 33*time.Second, 2*time.Second, 2 })
	var timers *api.TimersConfig
	err := gateway.speakers["p0"].server.ListPeer(t.Context(), &api.ListPeerRequest{}, func(p *api.Peer) { timers = p.GetTimers().GetConfig() })
	if err != nil || timers.GetHoldTime() != 33 || timers.GetConnectRetry() != 2 {
		t.Errorf("GoBGP has %v, %v", timers, err)
	}
	time.Sleep(200 * time.Millisecond)
	if n := gateway.one(t); n.State != Established || !n.Since.Equal(since) || n.Ended != 0 || n.Best != 2 {
		t.Fatalf("the session was touched: %+v", n)
	}
	change(func(n *Neighbour) { n.MaxPrefixes = 1 })
	gateway.wants(t)
	eventually(t, "told", func() error {
		if s := gateway.one(t); !strings.Contains(s.Problem, "maxPrefixes") {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	change(func(n *Neighbour) { n.MaxPrefixes = 2 })
	gateway.wants(t, "10.1.1.0/24", "10.1.2.0/24")
}

func TestOnlyTheChangedNeighbourIsTouched(t *testing.T) {
	t.Parallel()
	gateway, router := newPair(t)
	router.vpc().Export = prefixes("10.1.0.0/16")
	gateway.set(t)
	router.set(t)
	gateway.wants(t, "10.1.0.0/16")
	before := gateway.one(t)
	gateway.config.Ports = slices.Clone(gateway.config.Ports)
	gateway.config.Ports[0].Neighbours = append(slices.Clone(gateway.config.Ports[0].Neighbours),
		Neighbour{Name: "another", Address: loopback(9), ASN: 65009, Port: gateway.config.Ports[0].ListenPort})
	gateway.set(t)
	gateway.config.VPCs = []VPC{{Name: "red", Export: prefixes("10.7.0.0/16")}}
	gateway.set(t)
	router.wants(t, "10.7.0.0/16")
	for _, n := range gateway.Status(t.Context(), true).Neighbours {
		if n.Name == before.Name && (!n.Since.Equal(before.Since) || n.Ended != 0) {
			t.Errorf("the session was touched: %+v", n)
		}
	}
	gateway.wants(t, "10.1.0.0/16")
}
