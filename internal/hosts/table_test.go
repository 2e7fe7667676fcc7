package hosts

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// The table agrees with a map through any row of changes, and the tables before stay as they were.
func TestTheTableAgreesWithAMap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	segments := []Segment{{VNI: 1, Ifindex: 2, UDP: 3}, {VNI: 1, Ifindex: 2, UDP: 4}, {VNI: 2, Ifindex: 2, UDP: 3}}
	some := func() Key {
		k := Key{Segment: segments[random.IntN(len(segments))], Addr: netip.AddrFrom4([4]byte{10, 1, byte(random.IntN(2)), byte(random.IntN(256))})}
		if random.IntN(2) == 0 {
			k.Addr = netip.AddrFrom16([16]byte{0xfd, 15: byte(random.IntN(256))})
		}
		return k
	}
	table, want := new(Table), make(map[Key]*Entry)
	for range 300 {
		old, oldLen := table, table.Len()
		changes := make(map[Key]*Entry)
		for range 1 + random.IntN(map[bool]int{true: 3, false: 200}[random.IntN(2) == 0]) {
			k := some()
			if changes[k] = nil; random.IntN(3) > 0 {
				changes[k] = &Entry{Key: k}
			}
		}
		table = table.with(changes)
		for k, e := range changes {
			if delete(want, k); e != nil {
				want[k] = e
			}
		}
		if table.Len() != len(want) {
			t.Fatalf("%d entries, want %d", table.Len(), len(want))
		}
		if old.Len() != oldLen {
			t.Fatal("the table before has changed")
		}
		for range 50 {
			if k := some(); table.Lookup(k) != want[k] {
				t.Fatalf("%v: got %v, want %v", k, table.Lookup(k), want[k])
			}
		}
		for e := range table.All() {
			if want[e.Key] != e {
				t.Fatalf("%v does not belong here", e.Key)
			}
		}
	}
}

// Workers, API and configuration at once: for the race detector, and for the sums afterwards.
func TestEverybodyAtOnce(t *testing.T) {
	start := time.Now()
	clock := func() int64 { return int64(time.Since(start)) + 1 }
	l := New(Options{Clock: clock, Send: func(Question) bool { return true }})
	attachment := Attachment{Segment: red, VPC: "red", Covers: netip.MustParsePrefix("10.1.0.0/16").Contains, Gateway4: ip("10.1.0.1"),
		MAC: [6]byte{2, 1}, Listen: true, MaxHosts: 200, Timeout: time.Second}
	l.SetAttachments([]Attachment{attachment})
	ctx, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			random := rand.New(rand.NewPCG(3, uint64(worker)))
			for ctx.Err() == nil {
				k := key(fmt.Sprintf("10.1.%d.%d", random.IntN(2), random.IntN(256)))
				p := at(fmt.Sprintf("192.168.0.%d", 1+random.IntN(3)), byte(1+random.IntN(3)))
				switch e := l.Table().Lookup(k); {
				case e == nil:
					l.Ask(k)
					l.Saw(&Sighting{Key: k, Place: p, Answer: random.IntN(2) == 0})
				case !e.Silent && e.Place == p:
					e.Saw(clock())
				case !e.Silent && e.Quiet(clock()):
					l.Ask(k)
				default:
					l.Saw(&Sighting{Key: k, Place: p})
				}
			}
		})
	}
	group.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	group.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			l.Hosts("red")
			l.Problems()
			l.Counters()
			a := attachment
			if i%2 == 0 {
				a.VTEPs = []netip.Addr{ip("192.168.0.1"), ip("192.168.0.2")}
			}
			l.SetAttachments([]Attachment{a})
			time.Sleep(time.Millisecond)
		}
	})
	group.Wait()
	l.Work()
	c := l.Counters()
	there, waiting := 0, 0
	for _, r := range l.all {
		if r.state == known {
			there++
		} else {
			waiting++
		}
	}
	held := 0
	for v := range l.vpcs[red.VNI].vteps {
		held += len(v.records)
	}
	if there != c.Hosts || waiting != c.Waiting || held != there || len(l.records) != len(l.all) || c.Hosts > 200 || c.Sightings == 0 {
		t.Errorf("%d known, %d waiting, %d held, %d records of %d: %+v", there, waiting, held, len(l.records), len(l.all), c)
	}
	entries := 0
	for e := range l.Table().All() {
		if !e.Silent {
			entries++
		}
	}
	if entries != there {
		t.Errorf("%d entries for %d hosts", entries, there)
	}
}
