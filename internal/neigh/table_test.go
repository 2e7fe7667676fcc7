package neigh

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"
)

func randomKey(rnd *rand.Rand) Key {
	k := Key{Ifindex: uint32(rnd.IntN(3))}
	if rnd.IntN(2) == 0 {
		k.Dst = netip.AddrFrom4([4]byte{10, 0, byte(rnd.IntN(4)), byte(rnd.Uint32())})
	} else {
		k.Dst = netip.AddrFrom16([16]byte{0xfd, 15: byte(rnd.Uint32())})
	}
	return k
}

func TestTableAgreesWithAMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	table, twin := newTable(), map[Key]*Entry{}
	for step := range 400 {
		changes := map[Key]*Entry{}
		for range rnd.IntN(40) {
			k := randomKey(rnd)
			changes[k] = nil
			if rnd.IntN(3) > 0 {
				changes[k] = &Entry{Key: k}
			}
		}
		before, beforeTwin := table, maps.Clone(twin)
		table = table.with(changes)
		for k, e := range changes {
			if delete(twin, k); e != nil {
				twin[k] = e
			}
		}
		for _, c := range []struct {
			table *Table
			twin  map[Key]*Entry
		}{{table, twin}, {before, beforeTwin}} {
			if c.table.Len() != len(c.twin) {
				t.Fatalf("step %d: %d entries, want %d", step, c.table.Len(), len(c.twin))
			}
			for range 200 {
				k := randomKey(rnd)
				if got := c.table.Lookup(k); got != c.twin[k] {
					t.Fatalf("step %d: Lookup(%v) = %p, want %p", step, k, got, c.twin[k])
				}
			}
			all := map[Key]*Entry{}
			for e := range c.table.All() {
				all[e.Key] = e
			}
			if !maps.Equal(all, c.twin) {
				t.Fatalf("step %d: All yields %d entries, want %d", step, len(all), len(c.twin))
			}
		}
	}
}

func TestKeysDifferInEveryPart(t *testing.T) {
	keys := []Key{{Dst: ip("10.0.0.1")}, {ip("10.0.0.1"), 1}, {Dst: ip("::ffff:10.0.0.1")}, {Dst: ip("10.0.0.2")}, {}}
	changes := map[Key]*Entry{}
	for i, k := range keys {
		changes[k] = &Entry{Key: k, MTU: i}
	}
	table := new(Table).with(changes)
	for i, k := range keys {
		if e := table.Lookup(k); e == nil || e.MTU != i {
			t.Errorf("%v is %v", k, e)
		}
	}
}

// TestHashSpreadsNeighbours: destinations are next to each other as a rule.
func TestHashSpreadsNeighbours(t *testing.T) {
	for name, key := range map[string]func(i int) Key{
		"IPv4 in a row":        func(i int) Key { return Key{Dst: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})} },
		"IPv4 networks":        func(i int) Key { return Key{Dst: netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1})} },
		"IPv6 hosts in a row":  func(i int) Key { return Key{Dst: netip.AddrFrom16([16]byte{0xfd, 14: byte(i >> 8), 15: byte(i)})} },
		"IPv6 networks":        func(i int) Key { return Key{Dst: netip.AddrFrom16([16]byte{0xfd, 6: byte(i >> 8), 7: byte(i), 15: 1})} },
		"one host, many links": func(i int) Key { return Key{ip("10.0.0.1"), uint32(i)} },
		"EUI-64 of one vendor": func(i int) Key {
			return Key{Dst: netip.AddrFrom16([16]byte{0xfe, 0x80, 8: 2, 11: 0xff, 12: 0xfe, 14: byte(i >> 8), 15: byte(i)})}
		},
		"every 256th IPv4 host": func(i int) Key {
			b := [4]byte{}
			binary.BigEndian.PutUint32(b[:], uint32(i)<<8)
			return Key{Dst: netip.AddrFrom4(b)}
		},
	} {
		table, shards := newTable(), [shardCount]int{}
		const n = 16384
		for i := range n {
			shards[table.hash(key(i))%shardCount]++
		}
		for i, count := range shards {
			if count > 4*n/shardCount {
				t.Errorf("%s: shard %d has %d of %d keys", name, i, count, n)
			}
		}
	}
}

func manyEntries(n int) (*Table, []Key) {
	changes, keys := map[Key]*Entry{}, make([]Key, n)
	for i := range keys {
		keys[i] = Key{Dst: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}
		changes[keys[i]] = &Entry{Key: keys[i], State: Resolved}
	}
	return newTable().with(changes), keys
}

func TestReadersDoNotAllocate(t *testing.T) {
	table, keys := manyEntries(100)
	s := Static()
	s.change(map[Key]*Entry{keys[0]: table.Lookup(keys[0])})
	k := &Kernel{questions: newQuestions()}
	k.table.Store(table)
	k.links.Store(new(Links))
	missing := Key{Dst: ip("192.0.2.1")}
	k.Resolve(missing)
	for name, f := range map[string]func(){
		"lookup, hit":                 func() { table.Lookup(keys[5]).Use() },
		"lookup, miss":                func() { table.Lookup(missing) },
		"resolve, known":              func() { k.Resolve(keys[5]) },
		"resolve, asked for already":  func() { k.Resolve(missing) },
		"table and links of a kernel": func() { k.Table(); k.Links() },
		"static source":               func() { s.Table().Lookup(keys[0]); s.Resolve(keys[1]) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %.1f allocations", name, n)
		}
	}
}

func TestUseIsSeenOnce(t *testing.T) {
	e := new(Entry)
	if e.takeUse() {
		t.Error("a new entry is used")
	}
	e.Use()
	e.Use()
	if !e.takeUse() || e.takeUse() {
		t.Error("a use is not seen exactly once")
	}
}

func TestStaticSource(t *testing.T) {
	a, b := Key{Dst: ip("10.0.0.1")}, Key{ip("10.0.0.2"), 3}
	s := Static(&Entry{Key: a, State: Resolved})
	var asked []Key
	s.OnResolve = func(k Key) { asked = append(asked, k) }
	var _ Source = s
	before := s.Table()
	s.Resolve(b)
	s.Set(&Entry{Key: b, State: Failed}, &Entry{Key: a, State: Resolved, MTU: 9})
	if e := s.Table().Lookup(a); e == nil || e.MTU != 9 {
		t.Errorf("a is %v", e)
	}
	if e := s.Table().Lookup(b); e == nil || e.State != Failed {
		t.Errorf("b is %v", e)
	}
	if before.Lookup(b) != nil || before.Lookup(a).MTU != 0 {
		t.Error("a table changed")
	}
	s.Remove(a)
	if s.Table().Lookup(a) != nil || s.Table().Len() != 1 {
		t.Error("a is still there")
	}
	if fmt.Sprint(asked) != "[10.0.0.2 through ifindex 3]" {
		t.Errorf("asked for %v", asked)
	}
}

func TestQuestionsAreBoundedAndAskedOnce(t *testing.T) {
	q := newQuestions()
	key := func(i int) Key { return Key{Dst: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})} }
	for i := range maxQuestions + 100 {
		q.add(key(i))
		q.add(key(i))
	}
	var got []Key
	for rounds := 0; ; rounds++ {
		select {
		case <-q.wake:
			got = q.take(got, 1000)
			continue
		default:
		}
		if rounds == 0 && len(got) != maxQuestions {
			t.Fatalf("%d questions, want %d", len(got), maxQuestions)
		}
		break
	}
	for i, k := range got {
		if k != key(i) {
			t.Fatalf("question %d is %v, want %v: they come in order", i, k, key(i))
		}
	}
	q.add(key(5)) // open
	q.add(key(maxQuestions + 1))
	select {
	case <-q.wake:
		t.Error("an open question, or one too many, wakes")
	default:
	}
	q.done(key(5))
	q.add(key(maxQuestions + 1))
	if got := q.take(nil, 10); len(got) != 1 || got[0] != key(maxQuestions+1) {
		t.Errorf("after an answer there is room for %v", got)
	}
}

var sink *Entry

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{16, 1024, 16384} {
		table, keys := manyEntries(n)
		b.Run(fmt.Sprintf("%d entries", n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i = (i + 1) & (n - 1)
				sink = table.Lookup(keys[i])
				sink.Use()
			}
		})
	}
}

func BenchmarkPublishOneEntry(b *testing.B) {
	for _, n := range []int{16, 16384} {
		table, keys := manyEntries(n)
		b.Run(fmt.Sprintf("%d entries", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				table = table.with(map[Key]*Entry{keys[0]: {Key: keys[0]}})
			}
		})
	}
}
