package fib

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func ip(s string) netip.Addr    { return netip.MustParseAddr(s) }

func remote(prefix string, ids ...uint32) Route {
	r := Route{Prefix: pfx(prefix)}
	for _, id := range ids {
		r.NextHops = append(r.NextHops, NextHop{Kind: Remote, ID: id})
	}
	return r
}

func mustNew(tb testing.TB, routes ...Route) *Table {
	tb.Helper()
	t, err := New(routes)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

func TestLookup(t *testing.T) {
	table := mustNew(t,
		remote("0.0.0.0/0", 1), remote("10.0.0.0/8", 2), remote("10.1.0.0/16", 3), remote("10.1.2.3/32", 4),
		remote("2001:db8::/32", 5), remote("2001:db8:1::/48", 6), remote("2001:db8:1::1/128", 7))
	for _, c := range []struct {
		name string
		addr netip.Addr
		want string
	}{
		{"the default route catches what nothing else covers", ip("192.0.2.1"), "0.0.0.0/0"},
		{"a longer prefix wins", ip("10.1.9.9"), "10.1.0.0/16"},
		{"a host route wins over all", ip("10.1.2.3"), "10.1.2.3/32"},
		{"the neighbour of a host route does not match it", ip("10.1.2.4"), "10.1.0.0/16"},
		{"the last address of a prefix belongs to it", ip("10.255.255.255"), "10.0.0.0/8"},
		{"IPv6 finds the longest prefix too", ip("2001:db8:1::2"), "2001:db8:1::/48"},
		{"an IPv6 host route wins", ip("2001:db8:1::1"), "2001:db8:1::1/128"},
		{"an IPv4 default route does not catch IPv6", ip("2001:db9::1"), ""},
		{"an IPv4-mapped address matches no IPv4 route", ip("::ffff:10.1.2.3"), ""},
		{"a zone is ignored", ip("2001:db8::1%eth0"), "2001:db8::/32"},
		{"no address has no route", netip.Addr{}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			if r := table.Lookup(c.addr); r != nil {
				got = r.Prefix.String()
			}
			if got != c.want {
				t.Errorf("Lookup(%v) = %q, want %q", c.addr, got, c.want)
			}
		})
	}
}

func TestTheZeroTableIsEmpty(t *testing.T) {
	var table Table
	if r := table.Lookup(ip("10.0.0.1")); r != nil {
		t.Errorf("Lookup found %v", r)
	}
	if r := table.Exact(pfx("10.0.0.0/8")); r != nil {
		t.Errorf("Exact found %v", r)
	}
	if table.Len() != 0 || len(slices.Collect(table.All())) != 0 {
		t.Error("it has routes")
	}
	next, err := table.With([]Route{remote("10.0.0.0/8", 1)}, nil)
	if err != nil || next.Len() != 1 || table.Len() != 0 {
		t.Errorf("With: %v, %d routes, the zero table has %d", err, next.Len(), table.Len())
	}
}

func TestErrorsNameTheBadPrefix(t *testing.T) {
	good := remote("10.0.0.0/8", 1)
	for _, c := range []struct {
		name string
		add  []Route
		del  []netip.Prefix
		want string
	}{
		{"host bits", []Route{good, remote("10.1.2.3/16", 1)}, nil, "route 10.1.2.3/16: host bits are set (the prefix is 10.1.0.0/16)"},
		{"host bits of IPv6", []Route{remote("2001:db8::1/64", 1)}, nil, "route 2001:db8::1/64: host bits are set (the prefix is 2001:db8::/64)"},
		{"twice", []Route{good, good}, nil, "route 10.0.0.0/8: prefix occurs twice"},
		{"no next hop", []Route{remote("10.1.0.0/16")}, nil, "route 10.1.0.0/16: no next hop"},
		{"the same next hop twice", []Route{remote("10.1.0.0/16", 3, 4, 3)}, nil, "route 10.1.0.0/16: next hop remote 3 occurs twice"},
		{"a next hop of no kind", []Route{{Prefix: pfx("10.1.0.0/16"), NextHops: []NextHop{{ID: 1}}}}, nil,
			"route 10.1.0.0/16: next hop kind 0 1 is neither local nor remote"},
		{"IPv4-mapped", []Route{remote("::ffff:10.0.0.0/104", 1)}, nil, "route ::ffff:10.0.0.0/104: IPv4-mapped IPv6 prefix (write it as IPv4)"},
		{"no prefix", []Route{{NextHops: good.NextHops}}, nil, "route invalid Prefix: not a prefix"},
		{"deleting a prefix with host bits", nil, []netip.Prefix{pfx("10.0.0.1/8")},
			"delete route 10.0.0.1/8: host bits are set (the prefix is 10.0.0.0/8)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			table, err := new(Table).With(c.add, c.del)
			if err == nil || err.Error() != c.want {
				t.Errorf("error %v, want %s", err, c.want)
			}
			if table != nil {
				t.Error("there is a table in spite of the error")
			}
		})
	}
}

func TestTheTableOwnsItsRoutes(t *testing.T) {
	in := remote("10.0.0.0/8", 9, 2, 5)
	in.NextHops = append(in.NextHops, NextHop{Kind: Local, ID: 7})
	table := mustNew(t, in)
	in.NextHops[0].ID = 1000
	got := fmt.Sprint(table.Lookup(ip("10.1.1.1")).NextHops)
	if want := "[local 7 remote 2 remote 5 remote 9]"; got != want {
		t.Errorf("next hops %s, want %s", got, want)
	}
}

func TestWithLeavesTheOldTableAlone(t *testing.T) {
	old := mustNew(t, remote("10.0.0.0/8", 1), remote("10.1.0.0/16", 2))
	for _, c := range []struct {
		name string
		add  []Route
		del  []netip.Prefix
		want string
	}{
		{"nothing", nil, nil, "10.0.0.0/8=[remote 1] 10.1.0.0/16=[remote 2]"},
		{"add", []Route{remote("10.2.0.0/16", 3)}, nil, "10.0.0.0/8=[remote 1] 10.1.0.0/16=[remote 2] 10.2.0.0/16=[remote 3]"},
		{"replace", []Route{remote("10.1.0.0/16", 3)}, nil, "10.0.0.0/8=[remote 1] 10.1.0.0/16=[remote 3]"},
		{"delete", nil, []netip.Prefix{pfx("10.1.0.0/16")}, "10.0.0.0/8=[remote 1]"},
		{"delete what is not there", nil, []netip.Prefix{pfx("10.9.0.0/16")}, "10.0.0.0/8=[remote 1] 10.1.0.0/16=[remote 2]"},
		{"what is deleted and added stays", []Route{remote("10.1.0.0/16", 3)}, []netip.Prefix{pfx("10.1.0.0/16")}, "10.0.0.0/8=[remote 1] 10.1.0.0/16=[remote 3]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			next, err := old.With(c.add, c.del)
			if err != nil {
				t.Fatal(err)
			}
			if got := dump(next); got != c.want {
				t.Errorf("new table: %s\nwant       %s", got, c.want)
			}
			if got, want := dump(old), "10.0.0.0/8=[remote 1] 10.1.0.0/16=[remote 2]"; got != want {
				t.Errorf("old table changed: %s", got)
			}
		})
	}
}

// TestWithSharesWhatItDoesNotTouch: a change of one route in 100k must not cost as much as building the table.
func TestWithSharesWhatItDoesNotTouch(t *testing.T) {
	table := mustNew(t, randomRoutes(rand.New(rand.NewPCG(1, 1)), 20_000)...)
	change := []Route{remote("10.0.0.0/8", 1)}
	allocs := testing.AllocsPerRun(20, func() {
		if _, err := table.With(change, nil); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 1000 { // a whole copy takes more than one per route
		t.Errorf("one changed route of %d took %.0f allocations", table.Len(), allocs)
	}
}

func dump(t *Table) string {
	var out []string
	for r := range t.All() {
		out = append(out, fmt.Sprintf("%v=%v", r.Prefix, r.NextHops))
	}
	return strings.Join(out, " ")
}

// slow is the twin: a list that is searched from end to end.
type slow map[netip.Prefix]uint32

func (s slow) lookup(a netip.Addr) (best netip.Prefix, id uint32) {
	for p, i := range s {
		if p.Contains(a.WithZone("")) && (!best.IsValid() || p.Bits() > best.Bits()) {
			best, id = p, i
		}
	}
	return best, id
}

func (s slow) compare(tb testing.TB, t *Table, addrs []netip.Addr) {
	tb.Helper()
	if t.Len() != len(s) {
		tb.Fatalf("%d routes, want %d", t.Len(), len(s))
	}
	for r := range t.All() {
		if id, ok := s[r.Prefix]; !ok || r.NextHops[0].ID != id || t.Exact(r.Prefix) != r {
			tb.Fatalf("All yields %v, the twin has %d (%v)", r, id, ok)
		}
	}
	for _, a := range addrs {
		want, id := s.lookup(a)
		switch r := t.Lookup(a); {
		case r == nil && want.IsValid():
			tb.Fatalf("Lookup(%v) found nothing, want %v", a, want)
		case r != nil && (r.Prefix != want || r.NextHops[0].ID != id):
			tb.Fatalf("Lookup(%v) = %v, want %v remote %d", a, r, want, id)
		}
	}
}

func TestRandomChangesAgreeWithTheSlowTwin(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 2))
	table, twin := new(Table), slow{}
	for step := range 300 {
		var del []netip.Prefix
		for p := range twin {
			if rnd.IntN(4) == 0 && len(del) < 10 {
				del = append(del, p)
			}
		}
		add := randomRoutes(rnd, rnd.IntN(12))
		before, beforeTwin := table, dump(table)
		next, err := table.With(add, del)
		if err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		for _, p := range del {
			delete(twin, p)
		}
		for _, r := range add {
			twin[r.Prefix] = r.NextHops[0].ID
		}
		table = next
		twin.compare(t, table, interesting(rnd, twin))
		if dump(before) != beforeTwin {
			t.Fatalf("step %d changed the table before it", step)
		}
	}
}

// interesting addresses: the edges of prefixes and their outer neighbours, and a few at random.
func interesting(rnd *rand.Rand, s slow) []netip.Addr {
	var out []netip.Addr
	for p := range s {
		last := lastAddr(p)
		out = append(out, p.Addr(), p.Addr().Prev(), last, last.Next())
	}
	for range 20 {
		out = append(out, randomAddr(rnd))
	}
	return out
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// randomAddr is dense in its first bits so that prefixes nest and repeat.
func randomAddr(rnd *rand.Rand) netip.Addr {
	if rnd.IntN(2) == 0 {
		return netip.AddrFrom4([4]byte{10, byte(rnd.IntN(4)), byte(rnd.Uint32()), byte(rnd.Uint32())})
	}
	a := [16]byte{0x20, 0x01, 0x0d, 0xb8, byte(rnd.IntN(4))}
	for i := 5; i < 16; i++ {
		a[i] = byte(rnd.Uint32())
	}
	return netip.AddrFrom16(a)
}

func randomRoutes(rnd *rand.Rand, n int) []Route {
	seen := map[netip.Prefix]bool{}
	var out []Route
	for len(out) < n {
		a := randomAddr(rnd)
		p, err := a.Prefix(rnd.IntN(a.BitLen() + 1))
		if err != nil {
			panic(err)
		}
		if !seen[p] {
			seen[p] = true
			out = append(out, Route{Prefix: p, NextHops: []NextHop{{Kind: Remote, ID: rnd.Uint32()}}})
		}
	}
	return out
}

func FuzzAgreesWithTheSlowTwin(f *testing.F) {
	f.Add([]byte{0, 8, 10, 0, 0, 0, 0, 16, 10, 1, 0, 0, 1, 8, 10, 0, 0, 0})
	f.Add([]byte{2, 32, 0x20, 1, 0xd, 0xb8, 2, 128, 0x20, 1, 0xd, 0xb8, 3, 32, 0x20, 1, 0xd, 0xb8})
	f.Fuzz(func(t *testing.T, data []byte) {
		// Six bytes are one change: bit 0 delete, bit 1 IPv6, a length, four bytes of address.
		table, twin := new(Table), slow{}
		var addrs []netip.Addr
		for ; len(data) >= 6; data = data[6:] {
			a := netip.AddrFrom4([4]byte(data[2:6]))
			if data[0]&2 != 0 {
				a = netip.AddrFrom16([16]byte{0: data[2], 1: data[3], 7: data[4], 15: data[5]})
			}
			p, err := a.Prefix(int(data[1]) % (a.BitLen() + 1))
			if err != nil {
				t.Fatal(err)
			}
			addrs = append(addrs, a, lastAddr(p), lastAddr(p).Next())
			if data[0]&1 != 0 {
				table, err = table.With(nil, []netip.Prefix{p})
				delete(twin, p)
			} else {
				id := uint32(len(data))
				table, err = table.With([]Route{{Prefix: p, NextHops: []NextHop{{Kind: Local, ID: id}}}}, nil)
				twin[p] = id
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		twin.compare(t, table, addrs)
	})
}

func TestLookupDoesNotAllocate(t *testing.T) {
	table := mustNew(t, randomRoutes(rand.New(rand.NewPCG(3, 3)), 1000)...)
	hit, miss := ip("10.1.2.3"), ip("192.0.2.1")
	if n := testing.AllocsPerRun(100, func() { table.Lookup(hit); table.Lookup(miss) }); n != 0 {
		t.Errorf("%.0f allocations", n)
	}
}

// provider makes routes as a provider's network has them: mostly /24 and /48, some shorter.
func provider(rnd *rand.Rand, n int) []Route {
	seen := map[netip.Prefix]bool{}
	var out []Route
	for len(out) < n {
		v := rnd.Uint32()
		a, bits := netip.AddrFrom4([4]byte{byte(1 + v>>24%220), byte(v >> 16), byte(v >> 8)}), 16+rnd.IntN(9)
		if rnd.IntN(3) == 0 {
			a, bits = netip.AddrFrom16([16]byte{0x20, byte(v >> 28), byte(v >> 20), byte(v >> 12), byte(v >> 4), byte(v)}), 32+rnd.IntN(17)
		}
		p, err := a.Prefix(bits)
		if err != nil {
			panic(err)
		}
		if !seen[p] {
			seen[p] = true
			out = append(out, Route{Prefix: p, NextHops: []NextHop{{Kind: Remote, ID: v}}})
		}
	}
	return out
}

var sink *Route

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{10, 100, 1_000, 10_000, 100_000} {
		routes := provider(rand.New(rand.NewPCG(4, 4)), n)
		table := mustNew(b, routes...)
		b.Run(fmt.Sprintf("%d routes, all of them in turn", n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if i++; i == len(routes) {
					i = 0
				}
				sink = table.Lookup(routes[i].Prefix.Addr())
			}
		})
		// What a gateway sees: many packets to few prefixes.
		b.Run(fmt.Sprintf("%d routes, 8 of them in turn", n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i = (i + 1) & 7
				sink = table.Lookup(routes[i].Prefix.Addr())
			}
		})
	}
}

func BenchmarkWith(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		routes := provider(rand.New(rand.NewPCG(5, 5)), n)
		table := mustNew(b, routes...)
		for _, changes := range []int{1, n / 100, n / 10} {
			b.Run(fmt.Sprintf("%d of %d routes", changes, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := table.With(routes[:changes], nil); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
