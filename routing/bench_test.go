package routing

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

// 100,000 prefixes from a router to what is to be brought into force, over a real session.
func BenchmarkLoad100kRoutes(b *testing.B) {
	for b.Loop() {
		gateway, router := newPair(b)
		router.vpc().Export = make([]netip.Prefix, 0, 100_000)
		for i := range 100_000 {
			router.vpc().Export = append(router.vpc().Export, netip.PrefixFrom(netip.AddrFrom4([4]byte{20 + byte(i>>16), byte(i >> 8), byte(i), 0}), 24))
		}
		router.set(b)
		gateway.set(b)
		gateway.wantState(b, Established)
		begin := time.Now()
		eventually(b, "all are there", func() error {
			if gateway.take(); len(gateway.hops) != 100_000 {
				return fmt.Errorf("%d", len(gateway.hops))
			}
			return nil
		})
		b.ReportMetric(time.Since(begin).Seconds(), "s/load")
		b.ReportMetric(float64(ribBytes(gateway))/(1<<20), "MiB/100k")
		gateway.Close()
		router.Close()
	}
}

// ribBytes is what the process gives back when an end is closed: its part of the heap, with GoBGP's.
func ribBytes(e *end) uint64 {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	e.Close()
	e.ribs, e.hops = nil, nil
	return before - min(before, heap())
}

// One prefix of 100,000 flaps: from the update to what is to be brought into force.
func BenchmarkFlapOneOf100k(b *testing.B) {
	r := newRIB("red")
	s := &session{speaker: &speaker{port: Port{Name: "p0"}}, neighbour: &Neighbour{Import: all}}
	attrs := &Attributes{NextHop: netip.MustParseAddr("192.0.2.2"), LocalPref: defaultLocalPref, Path: []uint32{65002}, PathLen: 1}
	for i := range 100_000 {
		r.put(s, netip.PrefixFrom(netip.AddrFrom4([4]byte{20 + byte(i>>16), byte(i >> 8), byte(i), 0}), 24), pathID{}, attrs)
	}
	r.take()
	p := netip.MustParsePrefix("20.1.2.0/24")
	for b.Loop() {
		r.drop(s, p, pathID{})
		down := r.take()
		r.put(s, p, pathID{}, attrs)
		if up := r.take(); len(down) != 1 || len(up) != 1 {
			b.Fatalf("%v, %v", down, up)
		}
	}
}
