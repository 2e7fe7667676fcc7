package routing

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"reflect"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// exporter keeps GoBGP's table and its export policies as they should be. Guarded by Router.setting.
type exporter struct {
	routes     map[exportKey]exportAs
	policies   map[string]exported // by name of the neighbour
	generation int
}

// exported is a policy as GoBGP has it.
type exported struct {
	neighbour Neighbour // whose sessions it is for: only Address, Range and Export are looked at
	policy    *api.Policy
	sets      []*api.DefinedSet
}

// nextHops are the addresses that routers reach us at. Without an IPv4 address, IPv4 prefixes have an IPv6 next hop
// (RFC 8950); the other way there is no standard.
func nextHops(addresses []netip.Addr) (hop4, hop6 netip.Addr) {
	for _, a := range addresses {
		switch {
		case a.Is4() && !hop4.IsValid():
			hop4 = a
		case a.Is6() && !a.IsLinkLocalUnicast() && !hop6.IsValid():
			hop6 = a
		}
	}
	if !hop4.IsValid() {
		hop4 = hop6
	}
	return hop4, hop6
}

// announcement tells a router of a prefix. A spare one is worse than any other of the same length of AS path: the origin counts
// before the MED, among routes of any AS, and is seldom changed by policies.
func announcement(p netip.Prefix, hop netip.Addr, spare bool) *apiutil.Path {
	nlri, _ := bgp.NewIPAddrPrefix(p) // its error is an invalid prefix, which none of ours is
	attrs := []bgp.PathAttributeInterface{bgp.NewPathAttributeOrigin(bgp.BGP_ORIGIN_ATTR_TYPE_IGP)}
	if spare {
		attrs = []bgp.PathAttributeInterface{bgp.NewPathAttributeOrigin(bgp.BGP_ORIGIN_ATTR_TYPE_INCOMPLETE), bgp.NewPathAttributeMultiExitDisc(math.MaxUint32)}
	}
	path := &apiutil.Path{Family: bgp.RF_IPv6_UC, Nlri: nlri, Attrs: attrs}
	if p.Addr().Is4() {
		path.Family = bgp.RF_IPv4_UC
	}
	var attr bgp.PathAttributeInterface
	if p.Addr().Is4() && hop.Is4() {
		attr, _ = bgp.NewPathAttributeNextHop(hop)
	} else {
		attr, _ = bgp.NewPathAttributeMpReachNLRI(path.Family, []bgp.PathNLRI{{NLRI: nlri}}, hop)
	}
	path.Attrs = append(path.Attrs, attr)
	return path
}

// setPolicies gives every neighbour its export policy. Those that are new or changed get new names, so that one switch of
// the assignment brings all of them into force; sessions of neighbours whose policy changed are then told the difference.
func (e *exporter) setPolicies(ctx context.Context, s *speaker, neighbours []Neighbour) error {
	next := make(map[string]exported, len(neighbours))
	var changed []string
	for i := range neighbours {
		n := &neighbours[i]
		if n.Export == nil {
			if _, had := e.policies[n.Name]; had {
				changed = append(changed, n.Name)
			}
			continue
		}
		have, ok := e.policies[n.Name]
		if ok && have.neighbour.Address == n.Address && have.neighbour.Range == n.Range && reflect.DeepEqual(have.neighbour.Export, n.Export) {
			next[n.Name] = have
			continue
		}
		e.generation++
		made := translate(fmt.Sprintf("%d", e.generation), n, s.asn)
		for _, set := range made.sets {
			if err := s.server.AddDefinedSet(ctx, &api.AddDefinedSetRequest{DefinedSet: set}); err != nil {
				return fmt.Errorf("export policy %s: %w", n.Export.Name, err)
			}
		}
		if err := s.server.AddPolicy(ctx, &api.AddPolicyRequest{Policy: made.policy}); err != nil {
			return fmt.Errorf("export policy %s: %w", n.Export.Name, err)
		}
		next[n.Name] = made
		changed = append(changed, n.Name)
	}
	if reflect.DeepEqual(next, e.policies) {
		return nil
	}
	assignment := &api.PolicyAssignment{Name: "global", Direction: api.PolicyDirection_POLICY_DIRECTION_EXPORT, DefaultAction: api.RouteAction_ROUTE_ACTION_REJECT}
	for _, made := range next {
		assignment.Policies = append(assignment.Policies, &api.Policy{Name: made.policy.Name})
	}
	if err := s.server.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: assignment}); err != nil {
		return fmt.Errorf("export policies: %w", err)
	}
	for name, old := range e.policies {
		if kept, ok := next[name]; ok && kept.policy == old.policy {
			continue
		}
		if err := s.server.DeletePolicy(ctx, &api.DeletePolicyRequest{Policy: &api.Policy{Name: old.policy.Name}, All: true}); err != nil {
			return fmt.Errorf("remove export policy of neighbour %s: %w", name, err)
		}
		for _, set := range old.sets {
			if err := s.server.DeleteDefinedSet(ctx, &api.DeleteDefinedSetRequest{DefinedSet: set, All: true}); err != nil {
				return fmt.Errorf("remove export policy of neighbour %s: %w", name, err)
			}
		}
	}
	e.policies = next
	for _, name := range changed {
		n := s.neighbours[name]
		if n == nil {
			continue // its session is new
		}
		for _, address := range s.sessionsOf(n) {
			request := &api.ResetPeerRequest{Address: address.String(), Soft: true, Direction: api.ResetPeerRequest_DIRECTION_OUT}
			if err := s.server.ResetPeer(ctx, request); err != nil {
				s.router.log.Debug("tell a router of a policy", "address", address, "error", err)
			}
		}
	}
	return nil
}

// translate puts an export policy into GoBGP's words: a statement for each rule, or for each address family of a rule
// with prefixes, as GoBGP's sets of prefixes are of one family.
func translate(name string, n *Neighbour, asn uint32) exported {
	out := exported{neighbour: *n, policy: &api.Policy{Name: name}}
	add := func(kind api.DefinedType, suffix string, set *api.DefinedSet) *api.MatchSet {
		set.DefinedType, set.Name = kind, name+"/"+suffix
		out.sets = append(out.sets, set)
		return &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: set.Name}
	}
	remote := n.Range
	if n.Address.IsValid() {
		remote = netip.PrefixFrom(n.Address.WithZone(""), n.Address.BitLen())
	}
	who := add(api.DefinedType_DEFINED_TYPE_NEIGHBOR, "neighbour", &api.DefinedSet{List: []string{remote.String()}})
	for i := range n.Export.Rules {
		r := &n.Export.Rules[i]
		var standard, large []string
		for _, c := range r.Communities {
			if c.Large {
				large = append(large, c.String())
			} else {
				standard = append(standard, c.String())
			}
		}
		conditions := api.Conditions{NeighborSet: who}
		if standard != nil {
			conditions.CommunitySet = add(api.DefinedType_DEFINED_TYPE_COMMUNITY, fmt.Sprintf("%d/communities", i), &api.DefinedSet{List: standard})
			conditions.CommunitySet.Type = api.MatchSet_TYPE_ALL
		}
		if large != nil {
			conditions.LargeCommunitySet = add(api.DefinedType_DEFINED_TYPE_LARGE_COMMUNITY, fmt.Sprintf("%d/large", i), &api.DefinedSet{List: large})
			conditions.LargeCommunitySet.Type = api.MatchSet_TYPE_ALL
		}
		if len(r.Prefixes) == 0 {
			out.policy.Statements = append(out.policy.Statements, r.statement(fmt.Sprintf("%s/%d", name, i), &conditions, asn))
			continue
		}
		for _, f := range families {
			var list []*api.Prefix
			for _, m := range r.Prefixes {
				if m.Prefix.Addr().Is6() == f.v6 {
					list = append(list, &api.Prefix{IpPrefix: m.Prefix.String(), MaskLengthMin: uint32(max(m.Min, m.Prefix.Bits())), MaskLengthMax: uint32(m.Max)})
				}
			}
			if list == nil {
				continue
			}
			own := &api.Conditions{NeighborSet: who, CommunitySet: conditions.CommunitySet, LargeCommunitySet: conditions.LargeCommunitySet}
			own.PrefixSet = add(api.DefinedType_DEFINED_TYPE_PREFIX, fmt.Sprintf("%d/%s", i, f.id), &api.DefinedSet{Prefixes: list})
			out.policy.Statements = append(out.policy.Statements, r.statement(fmt.Sprintf("%s/%d/%s", name, i, f.id), own, asn))
		}
	}
	return out
}

// statement is one rule's.
func (r *Rule) statement(name string, conditions *api.Conditions, asn uint32) *api.Statement {
	actions := &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT}
	if r.Refuse {
		actions.RouteAction = api.RouteAction_ROUTE_ACTION_REJECT
		return &api.Statement{Name: name, Conditions: conditions, Actions: actions}
	}
	if r.LocalPref != nil {
		actions.LocalPref = &api.LocalPrefAction{Value: *r.LocalPref}
	}
	if r.MED != nil {
		actions.Med = &api.MedAction{Type: api.MedAction_TYPE_REPLACE, Value: int64(*r.MED)}
	}
	if r.Prepend > 0 {
		actions.AsPrepend = &api.AsPrependAction{Asn: asn, Repeat: uint32(r.Prepend)}
	}
	var standard, large []string
	for _, c := range r.AddCommunities {
		if c.Large {
			large = append(large, c.String())
		} else {
			standard = append(standard, c.String())
		}
	}
	if standard != nil {
		actions.Community = &api.CommunityAction{Type: api.CommunityAction_TYPE_ADD, Communities: standard}
	}
	if large != nil {
		actions.LargeCommunity = &api.CommunityAction{Type: api.CommunityAction_TYPE_ADD, Communities: large}
	}
	return &api.Statement{Name: name, Conditions: conditions, Actions: actions}
}
