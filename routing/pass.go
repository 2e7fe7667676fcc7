package routing

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/osrg/gobgp/v4/pkg/apiutil"
)

// What site routers have told us is passed on to gateways, and what gateways have, to site routers of the VPC, together
// with what the configuration says of each. What is passed is what was taken (Router.Take): nobody is told of a route
// that we do not know how to forward yet.

// exportBatch is how many routes GoBGP is told of at a time: its sessions wait meanwhile. Chosen: a millisecond or two.
const exportBatch = 500

// exportKey is a prefix that a speaker announces.
type exportKey struct {
	vpc    string
	prefix netip.Prefix
	kind   RouteKind // of EVPN: but for prefixes a host, or a VTEP
}

// exportAs is how it announces it: to routers with a next hop, to gateways as a route of a VPC, which stays the same
// pointer for as long as it says the same.
type exportAs struct {
	hop   netip.Addr
	spare bool
	evpn  *VPCEVPN
	// Of a fabric.
	kind   RouteKind
	vtep   netip.Addr
	mac    [6]byte
	tunnel Tunnel
}

func (as exportAs) path(p netip.Prefix) (*apiutil.Path, error) {
	switch {
	case as.vtep.IsValid():
		return as.fabricAnnouncement(p)
	case as.evpn != nil:
		return evpnAnnouncement(p, as.evpn)
	}
	return announcement(p, as.hop, as.spare), nil
}

// instead says whether announcing a prefix as so replaces announcing it as old, without a withdrawal.
func (as exportAs) instead(old exportAs) bool {
	return as.evpn == nil && old.evpn == nil || as.evpn != nil && old.evpn != nil && as.evpn.Distinguisher == old.evpn.Distinguisher &&
		(as.kind != HostRoute || as.mac == old.mac)
}

func setOf(prefixes []netip.Prefix) map[netip.Prefix]struct{} {
	out := make(map[netip.Prefix]struct{}, len(prefixes))
	for _, p := range prefixes {
		out[p] = struct{}{}
	}
	return out
}

// setExports takes in what is announced beside what was learned.
func (r *rib) setExports(v *VPC) {
	r.export, r.announce, r.hidden, r.silent, r.spare = setOf(v.Export), setOf(v.EVPN.Announce), v.EVPN.Hidden, v.Silent, v.Spare
	now := v.EVPN
	now.Announce, now.Hidden = nil, nil
	switch {
	case now.Distinguisher == VPNID{}:
		r.evpn = nil
	case r.evpn == nil || !reflect.DeepEqual(*r.evpn, now):
		r.evpn = &now
	}
}

// exportTo says whether, and how, a speaker announces a prefix of the VPC. Without a next hop it cannot.
func (r *rib) exportTo(s *speaker, prefix netip.Prefix) (exportAs, bool) {
	from := nobody
	if d := r.destinations[prefix]; d != nil {
		from = d.origin
	}
	if s.port.EVPN {
		_, always := r.announce[prefix]
		return exportAs{evpn: r.evpn}, r.evpn != nil && (always || from == ofSite && !r.hides(prefix))
	}
	if len(s.fabric) > 0 {
		return s.fabricExport(r, prefix, from)
	}
	hop4, hop6 := nextHops(s.port.Addresses)
	as := exportAs{hop: hop6, spare: r.spare}
	if prefix.Addr().Is4() {
		as.hop = hop4
	}
	_, always := r.export[prefix]
	return as, !r.silent && (always || from == ofGateways)
}

// hides says whether gateways know a prefix of the site by other addresses.
func (r *rib) hides(prefix netip.Prefix) bool {
	return slices.ContainsFunc(r.hidden, func(h netip.Prefix) bool { return h.Bits() <= prefix.Bits() && h.Contains(prefix.Addr()) })
}

// tells says whether a speaker announces prefixes of a VPC.
func (s *speaker) tells(vpc string) bool {
	return s.port.EVPN || s.fabricVPC(vpc) != nil || len(s.fabric) == 0 && s.port.VPC == vpc
}

// exports are all that the speaker announces. Under Router.mu.
func (s *speaker) exports() map[exportKey]exportAs {
	out := make(map[exportKey]exportAs)
	for vpc, table := range s.router.ribs {
		if !s.tells(vpc) {
			continue
		}
		add := func(p netip.Prefix) {
			if as, ok := table.exportTo(s, p); ok {
				out[exportKey{vpc: vpc, prefix: p}] = as
			}
		}
		s.fabricOwn(table, out)
		for p := range table.export {
			add(p)
		}
		for p := range table.announce {
			add(p)
		}
		for p, d := range table.destinations {
			if d.origin != nobody {
				add(p)
			}
		}
	}
	return out
}

// setRoutes announces what is to be announced, and nothing else.
func (e *exporter) setRoutes(s *speaker) error {
	s.router.mu.Lock()
	want := s.exports()
	s.router.mu.Unlock()
	return e.change(s, want, func(yield func(exportKey) bool) {
		for key := range maps.Keys(e.routes) {
			if _, wanted := want[key]; !wanted && !yield(key) {
				return
			}
		}
		for key := range want {
			if !yield(key) {
				return
			}
		}
	})
}

// Pass tells each side what the other has begun or ceased to have, as of the last Take. What fails is in the error; the
// next Set mends it.
func (r *Router) Pass() error {
	r.setting.Lock()
	defer r.setting.Unlock()
	var keys []exportKey
	r.mu.Lock()
	for vpc, table := range r.ribs {
		for p := range table.passed {
			keys = append(keys, exportKey{vpc: vpc, prefix: p})
		}
		clear(table.passed)
	}
	r.mu.Unlock()
	if len(keys) == 0 {
		return nil
	}
	var errs []error
	for _, s := range r.speakers {
		want := make(map[exportKey]exportAs)
		r.mu.Lock()
		told := slices.DeleteFunc(slices.Clone(keys), func(k exportKey) bool { return !s.tells(k.vpc) })
		for _, key := range told {
			table := r.ribs[key.vpc]
			if table == nil {
				continue
			}
			if as, ok := table.exportTo(s, key.prefix); ok {
				want[key] = as
			}
		}
		r.mu.Unlock()
		if err := s.exporter.change(s, want, slices.Values(told)); err != nil {
			errs = append(errs, fmt.Errorf("bgp on port %s: %w", s.port.Name, err))
		}
	}
	return errors.Join(errs...)
}

// change makes what GoBGP announces of some prefixes what is wanted: those that want lacks are withdrawn.
func (e *exporter) change(s *speaker, want map[exportKey]exportAs, keys iter.Seq[exportKey]) error {
	if e.routes == nil {
		e.routes = make(map[exportKey]exportAs)
	}
	var added, gone []exportKey
	for key := range keys {
		as := want[key]
		have, had := e.routes[key]
		wanted := as.evpn != nil || as.hop.IsValid()
		if had && (!wanted || !as.instead(have)) {
			gone = append(gone, key)
		}
		if wanted && have != as {
			added = append(added, key)
		}
	}
	withdrawn := make([]*apiutil.Path, len(gone))
	for i, key := range gone {
		var err error
		if withdrawn[i], err = e.routes[key].path(key.prefix); err != nil {
			return err
		}
	}
	for batch := range slices.Chunk(added, exportBatch) {
		paths := make([]*apiutil.Path, len(batch))
		for i, key := range batch {
			var err error
			if paths[i], err = want[key].path(key.prefix); err != nil {
				return err
			}
		}
		if _, err := s.server.AddPath(apiutil.AddPathRequest{Paths: paths}); err != nil {
			return fmt.Errorf("announce: %w", err)
		}
		for _, key := range batch {
			e.routes[key] = want[key]
		}
	}
	for batch := range slices.Chunk(withdrawn, exportBatch) {
		if err := s.server.DeletePath(apiutil.DeletePathRequest{Paths: batch}); err != nil {
			return fmt.Errorf("withdraw: %w", err)
		}
	}
	for _, key := range gone {
		if as, wanted := want[key]; !wanted || as.evpn == nil && !as.hop.IsValid() {
			delete(e.routes, key)
		}
	}
	return nil
}
