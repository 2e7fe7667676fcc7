package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/cluster"
)

// What members are, in the API's words. One that is not heard of is DOWN.
const (
	stateReady    = "READY"
	stateNotReady = "NOTREADY"
	stateDown     = "DOWN"
)

// Cluster implements api.Backend.
func (g *Gateway) Cluster(context.Context, *sluicev1.ClusterRequest) (*sluicev1.ClusterResponse, error) {
	return g.clusterStatus(), nil
}

func (g *Gateway) clusterStatus() *sluicev1.ClusterResponse {
	h, cfg := &g.ha, g.view.Load().cfg
	now := bootTime()
	h.mu.Lock()
	defer h.mu.Unlock()
	out := &sluicev1.ClusterResponse{Refused: h.refused}
	names := map[cluster.ID]string{h.config.Self: cfg.Gateway}
	for _, p := range h.peers {
		names[p.key] = p.name
	}
	if h.machine != nil && cfg.Cluster.Enabled() {
		out.Enabled, out.Lease, out.Failback, out.Witnesses = true, durationpb.New(h.config.Lease), string(cfg.Cluster.Failback), cfg.Cluster.Witnesses
		members := h.machine.Members(now)
		for _, m := range members {
			out.Members = append(out.Members, h.memberStatus(names[m.ID], m))
		}
		for i, s := range h.machine.Status(now) {
			v := &sluicev1.ClusterVPC{Vpc: h.vpcs[i], Vni: s.VNI, Role: s.Role.String(), State: stateNotReady, Reasons: h.reasons[h.vpcs[i]],
				Priority: uint32(h.config.VPCs[i].Priority), Epoch: s.Epoch, Losses: s.Losses}
			if s.Ready {
				v.State = stateReady
			} else if len(v.Reasons) == 0 {
				v.Reasons = []string{"it has not been ready for long enough"}
			}
			if s.Shared {
				v.Role, v.Active = "sharing", cfg.Gateway
				out.Vpcs = append(out.Vpcs, v)
				continue
			}
			if s.Active {
				v.Active, v.Since = cfg.Gateway, durationpb.New(s.Since)
			}
			for _, m := range members {
				if m.Live && m.VPCs[s.VNI].Flags&cluster.Active != 0 && v.Active == "" {
					v.Active = names[m.ID]
				}
			}
			if c := cfg.Cluster.VPC(v.GetVpc()); c != nil {
				for _, a := range c.Addresses {
					v.Addresses = append(v.Addresses, fmt.Sprintf("%s on %s", a.Address, a.Port))
				}
			}
			out.Vpcs = append(out.Vpcs, v)
		}
	}
	out.Remote = h.remoteStatus(names)
	return out
}

func (h *ha) memberStatus(name string, m cluster.MemberStatus) *sluicev1.ClusterMember {
	out := &sluicev1.ClusterMember{Name: name, Live: m.Live}
	if m.Heard >= 0 {
		out.Heard = durationpb.New(m.Heard)
	}
	for i, vpc := range h.vpcs {
		e := m.VPCs[h.config.VPCs[i].VNI]
		v := &sluicev1.MemberVPC{Vpc: vpc, State: stateDown, Priority: uint32(e.Priority)}
		if m.Live {
			v.State, v.Active = stateNotReady, e.Flags&cluster.Active != 0
			if e.Flags&cluster.Ready != 0 {
				v.State = stateReady
			}
		}
		out.Vpcs = append(out.Vpcs, v)
	}
	return out
}

// remoteStatus is what is believed of other sites.
func (h *ha) remoteStatus(names map[cluster.ID]string) (list []*sluicev1.RemoteVPC) {
	type key struct{ cluster, vpc string }
	seen := make(map[key]bool)
	for _, p := range h.peers {
		if p.cluster == "" {
			continue
		}
		for vpc, vni := range p.vnis {
			view, fenced := h.fences[p.cluster].View(vni)
			if !fenced || view.Shared != nil || seen[key{p.cluster, vpc}] {
				continue
			}
			seen[key{p.cluster, vpc}] = true
			r := &sluicev1.RemoteVPC{Cluster: p.cluster, Vpc: vpc, Epoch: view.Epoch, Before: names[view.Before]}
			if view.Held {
				r.Active = names[view.Holder]
			}
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b *sluicev1.RemoteVPC) int {
		return strings.Compare(a.GetCluster()+" "+a.GetVpc(), b.GetCluster()+" "+b.GetVpc())
	})
	return list
}

// clusterProblems says in words what is wrong.
func clusterProblems(c *sluicev1.ClusterResponse) (problems []string) {
	for _, m := range c.GetMembers() {
		switch {
		case m.GetLive():
		case m.GetHeard() == nil:
			problems = append(problems, fmt.Sprintf("cluster: member %s is DOWN: it has never been heard; check that it runs and lists us in cluster.members", m.GetName()))
		default:
			problems = append(problems, fmt.Sprintf("cluster: member %s is DOWN: it was heard last %s ago", m.GetName(), m.GetHeard().AsDuration().Round(100*time.Millisecond)))
		}
	}
	for _, v := range c.GetVpcs() {
		if v.GetState() != stateReady {
			problems = append(problems, fmt.Sprintf("cluster: NOTREADY for VPC %s: %s", v.GetVpc(), strings.Join(v.GetReasons(), "; ")))
		}
		if v.GetActive() == "" {
			problems = append(problems, fmt.Sprintf("cluster: no gateway that we hear of is active for VPC %s; a majority of members and witnesses must be reached by one that is READY", v.GetVpc()))
		}
	}
	for _, r := range c.GetRemote() {
		if r.GetActive() == "" {
			problems = append(problems, fmt.Sprintf("cluster: no gateway of %s is active for VPC %s: nothing is sent there", r.GetCluster(), r.GetVpc()))
		}
	}
	return problems
}

// MoveVPC implements api.Backend.
func (g *Gateway) MoveVPC(ctx context.Context, r *sluicev1.MoveVPCRequest) (*sluicev1.MoveVPCResponse, error) {
	cfg := g.view.Load().cfg
	if cfg.Cluster.VPC(r.GetVpc()) == nil {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("VPC %q is not one that the cluster hands over (cluster.vpcs)", r.GetVpc()))
	}
	switch err := g.moveVPC(ctx, r.GetVpc()); {
	case errors.Is(err, cluster.ErrNotActive):
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%w: ask the one that is (sluice cluster)", err))
	case err != nil:
		return nil, connect.NewError(connect.CodeFailedPrecondition, err)
	}
	g.log.Info("cluster: told to hand over", "vpc", r.GetVpc())
	return &sluicev1.MoveVPCResponse{}, nil
}
