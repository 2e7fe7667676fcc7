package routing

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"

	"github.com/osrg/gobgp/v4/api"
)

// A gateway that reflects (RFC 4456) has GoBGP keep what the gateways announce, and pass it on as that RFC says: with the
// next hop as it came. It does not ask whether the others may have it: each of them asks that by itself, of whom the
// next hop names. Only that nobody's next hop is another's, no other can know.

// reflector keeps what GoBGP takes from neighbours as it should be. Guarded by Router.setting.
type reflector struct {
	statements []*api.Statement
	policy     string // its name; empty: there is none
	sets       []*api.DefinedSet
	generation int
}

// ownPolicy lets in what we announce ourselves.
const ownPolicy = "own"

// set takes a new list of neighbours into force: when there is a client, what each says of itself is let in, and what
// other reflectors say.
func (r *reflector) set(ctx context.Context, s *speaker, neighbours []Neighbour) error {
	clients := false
	for i := range neighbours {
		clients = clients || neighbours[i].Client
	}
	name := fmt.Sprintf("reflect/%d", r.generation+1)
	var statements []*api.Statement
	var sets []*api.DefinedSet
	for i := range neighbours {
		n := &neighbours[i]
		if !clients || !s.port.EVPN {
			break
		}
		who := &api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_NEIGHBOR, Name: fmt.Sprintf("%s/%d", name, i),
			List: []string{netip.PrefixFrom(n.Address, n.Address.BitLen()).String()}}
		sets = append(sets, who)
		conditions := &api.Conditions{NeighborSet: &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: who.Name}}
		for _, hop := range n.NextHops {
			if !n.Reflector {
				conditions.NextHopInList = append(conditions.NextHopInList, netip.PrefixFrom(hop, hop.BitLen()).String())
			}
		}
		if !n.Reflector && len(n.NextHops) == 0 {
			continue // it has nothing to say
		}
		statements = append(statements, &api.Statement{Name: who.Name, Conditions: conditions, Actions: &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT}})
	}
	if sameReflection(r.statements, statements, r.sets, sets) {
		return nil
	}
	r.generation++
	assignment := &api.PolicyAssignment{Name: "global", Direction: api.PolicyDirection_POLICY_DIRECTION_IMPORT,
		DefaultAction: api.RouteAction_ROUTE_ACTION_REJECT, Policies: []*api.Policy{{Name: ownPolicy}}}
	if len(statements) > 0 {
		for _, set := range sets {
			if err := s.server.AddDefinedSet(ctx, &api.AddDefinedSetRequest{DefinedSet: set}); err != nil {
				return fmt.Errorf("reflect routes: %w", err)
			}
		}
		if err := s.server.AddPolicy(ctx, &api.AddPolicyRequest{Policy: &api.Policy{Name: name, Statements: statements}}); err != nil {
			return fmt.Errorf("reflect routes: %w", err)
		}
		assignment.Policies = append(assignment.Policies, &api.Policy{Name: name})
	} else {
		name = ""
	}
	if err := s.server.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: assignment}); err != nil {
		return fmt.Errorf("reflect routes: %w", err)
	}
	if r.policy != "" {
		if err := s.server.DeletePolicy(ctx, &api.DeletePolicyRequest{Policy: &api.Policy{Name: r.policy}, All: true}); err != nil {
			return fmt.Errorf("reflect routes: %w", err)
		}
		for _, set := range r.sets {
			if err := s.server.DeleteDefinedSet(ctx, &api.DeleteDefinedSetRequest{DefinedSet: set, All: true}); err != nil {
				return fmt.Errorf("reflect routes: %w", err)
			}
		}
	}
	r.statements, r.sets, r.policy = statements, sets, name
	for i := range neighbours { // what those with a session have told already is looked at again
		n := s.neighbours[neighbours[i].Name]
		if n == nil {
			continue
		}
		for _, address := range s.sessionsOf(n) {
			request := &api.ResetPeerRequest{Address: address.String(), Soft: true, Direction: api.ResetPeerRequest_DIRECTION_IN}
			if err := s.server.ResetPeer(ctx, request); err != nil {
				s.router.log.Debug("take a gateway's routes again", "address", address, "error", err)
			}
		}
	}
	return nil
}

// sameReflection says whether two lists let in the same, whatever they are called.
func sameReflection(a, b []*api.Statement, aSets, bSets []*api.DefinedSet) bool {
	if len(a) != len(b) || len(aSets) != len(bSets) {
		return false
	}
	for i := range aSets {
		if !reflect.DeepEqual(aSets[i].List, bSets[i].List) {
			return false
		}
	}
	for i := range a {
		if !reflect.DeepEqual(a[i].Conditions.NextHopInList, b[i].Conditions.NextHopInList) {
			return false
		}
	}
	return true
}
