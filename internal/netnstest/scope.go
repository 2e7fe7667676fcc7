package netnstest

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/sluicegw/sluice/internal/testenv"
)

// TB is what a scope needs of a *testing.T or *testing.B.
type TB interface {
	testenv.TB
	Cleanup(func())
	Errorf(format string, args ...any)
}

// Scope owns namespaces, links, processes and files. See the package comment.
type Scope struct {
	id   string
	dir  string
	lock *os.File
	t    TB // nil in a program

	mu       sync.Mutex
	err      error
	closed   bool
	hosts    []*Host
	commands []*Cmd
	deferred []func() error
	loans    []func() error // give back what was borrowed
}

// Options for a scope of a program. The zero value works.
type Options struct {
	// Label says what the scope is for; Find and EndOwners go by it.
	Label string
}

// New returns a scope that ends with the test. The test is skipped, or failed,
// where namespaces cannot be made (see testenv).
func New(t TB) *Scope {
	t.Helper()
	testenv.RequireNamespaces(t)
	s, err := Open(Options{Label: "test"})
	if err != nil {
		t.Fatal(err)
	}
	s.t = t
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("remove test network: %v", err)
		}
	})
	return s
}

// Open returns a scope for a program, which has to call Close. Leftovers of
// killed processes are removed first.
func Open(o Options) (*Scope, error) {
	unlock, err := lockState()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := sweep(); err != nil {
		return nil, err
	}
	var random [3]byte
	rand.Read(random[:]) // never fails (crypto/rand since Go 1.24)
	s := &Scope{id: prefix + hex.EncodeToString(random[:])}
	s.dir = filepath.Join(stateDir, s.id)
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make test network: %w", err)
	}
	if s.lock, err = own(s.dir, o.Label); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	return s, nil
}

// ID begins the name of every namespace of the scope.
func (s *Scope) ID() string { return s.id }

// Dir is a private folder (0700) that is removed with the scope.
func (s *Scope) Dir() string { return s.dir }

// Err returns the first error of a building function. In a test it is always nil.
func (s *Scope) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Defer has f called by Close, before the hosts go away; the last one first.
func (s *Scope) Defer(f func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deferred = append(s.deferred, f)
}

// try runs a building step unless an earlier one failed.
func (s *Scope) try(step func() error) bool {
	if s.t != nil {
		s.t.Helper()
	}
	if s.Err() != nil {
		return false
	}
	err := step()
	if err == nil {
		return true
	}
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	if s.t != nil {
		s.t.Fatal(err)
	}
	return false
}

// Close stops the processes that were started in the scope's hosts, the last
// one first, and removes the hosts and all files. It is safe to call twice.
func (s *Scope) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	hosts, commands, deferred, loans := s.hosts, s.commands, s.deferred, s.loans
	s.mu.Unlock()

	var errs []error
	for i := len(deferred) - 1; i >= 0; i-- {
		errs = append(errs, deferred[i]())
	}
	for i := len(commands) - 1; i >= 0; i-- {
		commands[i].Stop() // how it ended is its starter's to ask
	}
	for _, giveBack := range loans {
		errs = append(errs, giveBack())
	}
	for i := len(hosts) - 1; i >= 0; i-- {
		errs = append(errs, hosts[i].close())
	}
	errs = append(errs, unmountBPF(s.dir), os.RemoveAll(s.dir), s.lock.Close())
	return errors.Join(errs...)
}
