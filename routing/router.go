package routing

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"sync"

	"github.com/gaissmai/bart"
)

// Options of New.
type Options struct {
	// OnChange is called when Take has something new. It must not block.
	OnChange func()
	// Logger; nil logs nothing.
	Logger *slog.Logger
}

// Router is all of a gateway's BGP. It has nothing open before the first Set; Close ends it.
type Router struct {
	log      *slog.Logger
	onChange func()

	setting sync.Mutex // one Set or Close at a time; never taken under mu

	mu       sync.Mutex // everything below, and in it; never held while GoBGP is called
	config   Config
	speakers map[string]*speaker // by port
	problems map[string]string   // by port: why it has no speaker
	ribs     map[string]*rib     // by VPC; what gateways announce for none is under no name
	vteps    map[string]*rib     // by VPC: the VTEPs that fabrics have in it
	gateways *gateways
	woken    bool // OnChange was called since the last Take
}

// New makes a Router that does nothing yet.
func New(o Options) *Router {
	r := &Router{log: o.Logger, onChange: o.OnChange, speakers: make(map[string]*speaker), problems: make(map[string]string), ribs: make(map[string]*rib), vteps: make(map[string]*rib)}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.onChange == nil {
		r.onChange = func() {}
	}
	return r
}

// Set puts a configuration into force and touches only what differs from the one before. What could not be done is in
// the error and in Status; the rest works, and the next Set tries again.
func (r *Router) Set(ctx context.Context, c Config) error {
	r.setting.Lock()
	defer r.setting.Unlock()
	c = c.leaving()
	r.mu.Lock()
	r.config = c
	r.setVPCs(&c)
	r.setGateways(c.Gateways)
	r.mu.Unlock()
	wanted := make(map[string]*Port, len(c.Ports))
	for i := range c.Ports {
		if len(c.Ports[i].Neighbours) > 0 {
			wanted[c.Ports[i].Name] = &c.Ports[i]
		}
	}
	for name, s := range r.speakers {
		if p := wanted[name]; p == nil || !s.same(p.asn(c.ASN), c.RouterID, p) {
			r.remove(s, false)
		}
	}
	r.mu.Lock()
	clear(r.problems)
	r.mu.Unlock()
	var errs []error
	for name, p := range wanted {
		if err := r.setPort(ctx, &c, p); err != nil {
			errs = append(errs, err)
			if r.speakers[name] == nil {
				r.mu.Lock()
				r.problems[name] = err.Error()
				r.mu.Unlock()
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for vpc, table := range r.ribs {
		if configured(c.VPCs, vpc) {
			continue
		}
		if table.setExports(&VPC{}); len(table.destinations) == 0 {
			delete(r.ribs, vpc)
		}
	}
	return errors.Join(errs...)
}

func configured(vpcs []VPC, name string) bool {
	for i := range vpcs {
		if vpcs[i].Name == name {
			return true
		}
	}
	return false
}

// setPort starts the speaker of a port if there is none, and tells it what to do.
func (r *Router) setPort(ctx context.Context, c *Config, p *Port) error {
	s := r.speakers[p.Name]
	if s == nil {
		r.mu.Lock()
		table := r.rib(p.VPC)
		r.mu.Unlock()
		var err error
		if s, err = startSpeaker(ctx, r, p.asn(c.ASN), c.RouterID, *p, table); err != nil {
			return err
		}
		r.mu.Lock()
		r.speakers[p.Name] = s
		r.mu.Unlock()
		// Before there are sessions: who restarts must not tell the end of what is not there yet.
		if err := s.exporter.setRoutes(s); err != nil {
			return fmt.Errorf("bgp on port %s: %w", p.Name, err)
		}
	}
	r.mu.Lock()
	s.port.KeepsForwarding, s.port.Restarted = p.KeepsForwarding, p.Restarted
	if !reflect.DeepEqual(s.port.Addresses, p.Addresses) { // whose next hop is ours has changed
		s.port.Addresses = p.Addresses
		r.judge(func(path *path) bool { return path.session.speaker == s })
	}
	s.setFabric(p.Fabric)
	r.mu.Unlock()
	err := s.setNeighbours(ctx, p.Neighbours)
	if failed := s.exporter.setRoutes(s); failed != nil {
		err = errors.Join(err, failed)
	}
	if err != nil {
		return fmt.Errorf("bgp on port %s: %w", p.Name, err)
	}
	return nil
}

func (r *Router) remove(s *speaker, silently bool) {
	s.close(silently)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.speakers, s.port.Name)
}

// rib returns a VPC's table, new if need be.
func (r *Router) rib(vpc string) *rib {
	table := r.ribs[vpc]
	if table == nil {
		table = newRIB(vpc)
		table.gateways = r.gateways
		r.ribs[vpc] = table
	}
	return table
}

// setVPCs takes in what may not be announced. All routes of a VPC are judged again when that changes.
func (r *Router) setVPCs(c *Config) {
	for i := range c.VPCs {
		v := &c.VPCs[i]
		table := r.rib(v.Name)
		reserved, own, static := new(bart.Table[string]), new(bart.Table[string]), setOf(v.Static)
		for _, p := range v.Reserved {
			reserved.Insert(p.Prefix.Masked(), p.Whose)
			if !p.Peer {
				own.Insert(p.Prefix.Masked(), p.Whose)
			}
		}
		table.setExports(v)
		if table.maxPaths != c.MaxPaths {
			table.maxPaths = c.MaxPaths
			for _, d := range table.destinations {
				table.touch(d)
			}
			r.wake()
		}
		if sameReserved(table.reserved, reserved) && sameReserved(table.own, own) && maps.Equal(table.static, static) {
			continue
		}
		table.reserved, table.own, table.static = reserved, own, static
		table.judgeAll(func(*path) bool { return true })
		r.wake()
	}
}

func sameReserved(a, b *bart.Table[string]) bool {
	if a.Size() != b.Size() {
		return false
	}
	for p, whose := range a.All() {
		if other, ok := b.Get(p); !ok || other != whose {
			return false
		}
	}
	return true
}

// judge judges the paths again that selected says so of. Under mu.
func (r *Router) judge(selected func(*path) bool) {
	for table := range r.tables() {
		table.judgeAll(selected)
	}
	r.wake()
}

// wake tells the owner once that there is something to take. Under mu.
func (r *Router) wake() {
	if !r.woken {
		r.woken = true
		r.onChange()
	}
}

// Take returns, by VPC, the prefixes whose next hops are others than at the last Take.
func (r *Router) Take() map[string][]Change {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.woken = false
	changes := make(map[string][]Change)
	for vpc, table := range r.ribs {
		if c := table.take(); len(c) > 0 {
			changes[vpc] = c
		}
	}
	return changes
}

// Taken yields the prefixes of a VPC that have next hops, as of the last Take. Routes wait meanwhile.
func (r *Router) Taken(vpc string) iter.Seq2[netip.Prefix, []NextHop] {
	return func(yield func(netip.Prefix, []NextHop) bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		table := r.ribs[vpc]
		if table == nil {
			return
		}
		for prefix, d := range table.destinations {
			if len(d.hops) > 0 && !yield(prefix, d.hops) {
				return
			}
		}
	}
}

// Close ends all sessions; where forwarding goes on, so that routers go on as well.
func (r *Router) Close() {
	r.setting.Lock()
	defer r.setting.Unlock()
	for _, s := range r.speakers {
		r.remove(s, s.port.KeepsForwarding)
	}
}

// warnings lets GoBGP's warnings and errors through: it says much at Info, and what operators want to know of sessions
// we say ourselves.
type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && w.Handler.Enabled(ctx, l)
}

func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.Handler.WithAttrs(attrs)}
}
func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }
