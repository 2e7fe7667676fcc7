package neigh

import (
	"encoding/binary"
	"iter"
	"math/bits"
	"math/rand/v2"
)

// Table maps keys to entries. It never changes: a change makes a new Table that shares all shards that it did not touch,
// so that publishing one entry among 16384 copies 15 KiB and not a megabyte. The zero value is an empty table.
type Table struct {
	seed   uint64
	shards [shardCount]shard
	len    int
}

// newTable returns an empty table with a hash that nobody can foresee: keys of routed attachments are addresses from
// packets, and whoever chooses them could otherwise put them all into one shard.
func newTable() *Table { return &Table{seed: rand.Uint64()} }

// shardCount: 16384 entries, the default limit, make 32 per shard.
const shardCount = 512

// shard is an open-addressed hash table with a power-of-two number of slots of which at least half are nil.
type shard []*Entry

// Lookup returns the entry of k, or nil when nothing is known (yet). It does not allocate.
func (t *Table) Lookup(k Key) *Entry {
	h := t.hash(k)
	s := t.shards[h%shardCount]
	if len(s) == 0 {
		return nil
	}
	mask := uint64(len(s) - 1)
	for i := h / shardCount & mask; ; i = (i + 1) & mask {
		if e := s[i]; e == nil || e.Key == k {
			return e
		}
	}
}

// Len is the number of entries.
func (t *Table) Len() int { return t.len }

// All yields the entries in no particular order.
func (t *Table) All() iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for _, s := range t.shards {
			for _, e := range s {
				if e != nil && !yield(e) {
					return
				}
			}
		}
	}
}

// with returns a table in which every key of changes has its entry, or none where that is nil.
func (t *Table) with(changes map[Key]*Entry) *Table {
	byShard := make(map[uint64][]Key)
	for k := range changes {
		i := t.hash(k) % shardCount
		byShard[i] = append(byShard[i], k)
	}
	next := *t
	for i, keys := range byShard {
		live := make([]*Entry, 0, len(t.shards[i])/2+len(keys))
		for _, e := range t.shards[i] {
			if e == nil {
				continue
			}
			if _, changed := changes[e.Key]; changed {
				next.len--
				continue
			}
			live = append(live, e)
		}
		for _, k := range keys {
			if e := changes[k]; e != nil {
				live = append(live, e)
				next.len++
			}
		}
		next.shards[i] = t.newShard(live)
	}
	return &next
}

func (t *Table) newShard(live []*Entry) shard {
	if len(live) == 0 {
		return nil
	}
	s := make(shard, 1<<bits.Len(uint(len(live)*2-1)))
	mask := uint64(len(s) - 1)
	for _, e := range live {
		i := t.hash(e.Key) / shardCount & mask
		for s[i] != nil {
			i = (i + 1) & mask
		}
		s[i] = e
	}
	return s
}

// hash mixes a key into 64 bits with two multiplications. The constants are odd and chosen by us from the golden ratio and
// the square root of 3.
func (t *Table) hash(k Key) uint64 {
	a := k.Dst.As16()
	hi, lo := bits.Mul64(binary.BigEndian.Uint64(a[:8])^0x9e3779b97f4a7c15^t.seed, binary.BigEndian.Uint64(a[8:])^0xbb67ae8584caa73b)
	hi, lo = bits.Mul64(hi^lo^uint64(k.Ifindex), t.seed|1)
	return hi ^ lo
}
