package routing

import (
	"net/netip"
	"slices"
	"testing"
)

func TestTheBestPathsAreChosenInTheOrderOfTheRFC(t *testing.T) {
	s := &speaker{port: Port{Name: "p0"}}
	from := func(n byte, internal bool) *session {
		return &session{speaker: s, address: netip.AddrFrom4([4]byte{192, 0, 2, n}), id: netip.AddrFrom4([4]byte{10, 0, 0, n}), internal: internal}
	}
	tunnel := &speaker{port: Port{Name: "sluice0", EVPN: true}}
	a, b, c := from(1, false), from(2, false), from(3, true)
	route := func(s *session, change func(*path)) *path {
		p := &path{session: s, attrs: &Attributes{NextHop: s.address, LocalPref: 100, Path: []uint32{65100, 65200}, PathLen: 2}}
		if change != nil {
			change(p)
		}
		return p
	}
	for _, c := range []struct {
		name  string
		paths []*path
		most  int
		want  []*session
	}{
		{"equal ones share the traffic", []*path{route(a, nil), route(b, nil)}, 4, []*session{a, b}},
		{"of equal ones the lowest identifier wins when there may be one", []*path{route(b, nil), route(a, nil)}, 1, []*session{a}},
		{"a refused one is none", []*path{route(a, func(p *path) { p.attrs = nil }), route(b, nil)}, 4, []*session{b}},
		{"local preference is above a shorter path", []*path{route(a, func(p *path) { p.attrs.LocalPref = 200; p.attrs.PathLen = 9 }), route(b, nil)}, 4, []*session{a}},
		{"a shorter path wins", []*path{route(a, func(p *path) { p.attrs.PathLen = 3 }), route(b, nil)}, 4, []*session{b}},
		{"a lower origin wins", []*path{route(a, func(p *path) { p.attrs.Origin = 2 }), route(b, nil)}, 4, []*session{b}},
		{"a lower MED of the same AS wins", []*path{route(a, func(p *path) { p.attrs.MED = 5 }), route(b, nil)}, 4, []*session{b}},
		{"MEDs of different ASes do not compare", []*path{route(a, func(p *path) { p.attrs.MED = 5; p.attrs.Path = []uint32{65300, 65200} }), route(b, nil)}, 4, []*session{a, b}},
		{"eBGP is above iBGP", []*path{route(c, nil), route(b, nil)}, 4, []*session{b}},
		{"what a dead session left is the last resort", []*path{route(a, func(p *path) { p.stale = true; p.attrs.LocalPref = 500 }), route(b, nil)}, 4, []*session{b}},
		{"it is used when there is nothing else", []*path{route(a, func(p *path) { p.stale = true })}, 4, []*session{a}},
		{"what the site has, no gateway takes", []*path{route(from(4, true), func(p *path) { p.session.speaker = tunnel; p.attrs.LocalPref = 900 }), route(b, nil)}, 4, []*session{b}},
		{"none", nil, 4, nil},
	} {
		d := &destination{paths: c.paths}
		var want []NextHop
		for _, s := range c.want {
			want = append(want, NextHop{Port: "p0", Addr: s.address})
		}
		if got := d.choose(c.most); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", c.name, got, want)
		}
		for _, p := range c.paths {
			if p.best != slices.Contains(c.want, p.session) {
				t.Errorf("%s: path of %s: best is %t", c.name, p.session.address, p.best)
			}
		}
	}
}

func TestGracefulShutdownMakesARouteTheLast(t *testing.T) {
	r := newRIB("red")
	s := &session{speaker: &speaker{}, neighbour: &Neighbour{Import: all}, paths: make(map[pathKey]*rib)}
	p := netip.MustParsePrefix("10.1.0.0/16")
	r.put(s, p, pathID{}, &Attributes{NextHop: netip.MustParseAddr("192.0.2.2"), LocalPref: 100, Communities: []Community{GracefulShutdown}})
	if got := r.destinations[p].paths[0].attrs.LocalPref; got != 0 {
		t.Errorf("local preference is %d", got)
	}
}

func TestCommunitiesAreReadAsTheyAreWritten(t *testing.T) {
	for _, good := range []string{"65001:100", "0:0", "65535:65535", "4200000000:1:4294967295"} {
		if c, err := ParseCommunity(good); err != nil || c.String() != good {
			t.Errorf("%s: %v, %v", good, c, err)
		}
	}
	for _, bad := range []string{"", "1", "65536:1", "1:2:3:4", "a:b", "-1:2", "1:4294967296:1"} {
		if _, err := ParseCommunity(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
