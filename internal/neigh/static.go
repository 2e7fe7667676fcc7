package neigh

import (
	"sync"
	"sync/atomic"
)

// Source is where a relay gets its outer routes and neighbours from.
type Source interface {
	// Table returns the current table. It never returns nil, and a table that was returned stays valid.
	Table() *Table
	// Resolve asks for an answer in a table to come. It never blocks and may drop the question: as long as there is no
	// Resolved entry the caller asks again with each packet or now and then. Asking for a key that has an entry is
	// as cheap as Lookup: it marks the entry as used.
	Resolve(Key)
}

// StaticSource is a Source whose entries somebody sets: for pipelines in memory.
type StaticSource struct {
	// OnResolve is called for every question, in the asking goroutine; nil: questions are ignored. Set it before use.
	OnResolve func(Key)

	mu    sync.Mutex // writers only
	table atomic.Pointer[Table]
}

// Static returns a source that knows these entries. It takes them over.
func Static(entries ...*Entry) *StaticSource {
	s := new(StaticSource)
	s.table.Store(newTable())
	s.Set(entries...)
	return s
}

// Set adds or replaces entries, which the source takes over.
func (s *StaticSource) Set(entries ...*Entry) {
	changes := make(map[Key]*Entry, len(entries))
	for _, e := range entries {
		changes[e.Key] = e
	}
	s.change(changes)
}

// Remove forgets what is known about the keys.
func (s *StaticSource) Remove(keys ...Key) {
	changes := make(map[Key]*Entry, len(keys))
	for _, k := range keys {
		changes[k] = nil
	}
	s.change(changes)
}

func (s *StaticSource) change(changes map[Key]*Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table.Store(s.table.Load().with(changes))
}

// Table implements Source.
func (s *StaticSource) Table() *Table { return s.table.Load() }

// Resolve implements Source.
func (s *StaticSource) Resolve(k Key) {
	if s.OnResolve != nil {
		s.OnResolve(k)
	}
}
