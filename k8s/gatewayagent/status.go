package gatewayagent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/network"
)

// figuresEvery is how often latency and handshakes of connections are written when
// nothing else has changed.
const figuresEvery = 30 * time.Second

// conditionReady says whether an object has its whole effect.
const conditionReady = "Ready"

func ready(conditions *[]metav1.Condition, kind string, generation int64, p *network.Problem) {
	c := metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: "Ready", ObservedGeneration: generation}
	if p != nil {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, p.Reason, p.Message
	}
	meta.SetStatusCondition(conditions, c)
}

// tellObjects writes the status of VPCs, but for their numbers, and Subnets that has changed. One that cannot
// be written keeps no other from being written.
func (r *reconciler) tellObjects(ctx context.Context, o network.Objects, compiled *network.Result) error {
	var problems []error
	for i := range o.VPCs {
		v := o.VPCs[i].DeepCopy()
		result, ok := compiled.VPCs[v.Name]
		if !ok {
			continue // it is being deleted
		}
		s := &v.Status
		ready(&s.Conditions, conditionReady, v.Generation, result.Problem)
		if apiequality.Semantic.DeepEqual(*s, o.VPCs[i].Status) {
			continue
		}
		if err := r.client.Status().Update(ctx, v); err != nil {
			problems = append(problems, fmt.Errorf("status of VPC %s: %w", v.Name, err))
		}
	}
	for i := range o.Subnets {
		n := o.Subnets[i].DeepCopy()
		result, ok := compiled.Subnets[n.Name]
		if !ok {
			continue
		}
		s := &n.Status
		s.ObservedGeneration, s.Virtual, s.Gateway = n.Generation, result.Virtual, result.Gateway
		ready(&s.Conditions, conditionReady, n.Generation, result.Problem)
		if apiequality.Semantic.DeepEqual(*s, o.Subnets[i].Status) {
			continue
		}
		if err := r.client.Status().Update(ctx, n); err != nil {
			problems = append(problems, fmt.Errorf("status of Subnet %s: %w", n.Name, err))
		}
	}
	return errors.Join(problems...)
}

// tellGateway writes the status of the cluster's Gateway, and why another cluster's
// has no effect. failed is why the gateway is not what it should be.
func (r *reconciler) tellGateway(ctx context.Context, o network.Objects, compiled *network.Result, status *sluicev1.StatusResponse, failed error) error {
	var problems []error
	for i := range o.Gateways {
		g := o.Gateways[i].DeepCopy()
		s := &g.Status
		problem, figures := (*network.Problem)(nil), false
		switch {
		case g.DeletionTimestamp != nil:
			continue
		case g.Name == r.config.Gateway && failed != nil:
			problem = &network.Problem{Reason: "NotApplied", Message: failed.Error()}
		case compiled == nil:
			continue
		case g.Name == r.config.Gateway:
			result := compiled.Gateways[g.Name]
			if result.Problem == nil && result.Active != r.config.Endpoint {
				continue // the active one writes
			}
			problem = result.Problem
			s.ActiveMembers = active(s.ActiveMembers, result.Active, status.GetPublicKey(), vtep(&o, g.Name, result.Active))
			figures = r.connections(s, compiled, status)
		case compiled.Gateways[r.config.Gateway].Active != r.config.Endpoint || g.Spec.Cluster == "" || g.Spec.Cluster == r.config.Cluster:
			continue
		default:
			problem = compiled.Gateways[g.Name].Problem
		}
		s.ObservedGeneration = g.Generation
		ready(&s.Conditions, conditionReady, g.Generation, problem)
		if g.Name == r.config.Gateway {
			ready(&s.Conditions, v1alpha1.ConditionAtHome, g.Generation, problem)
		}
		if apiequality.Semantic.DeepEqual(*s, o.Gateways[i].Status) {
			continue
		}
		if err := r.client.Status().Update(ctx, g); err != nil {
			problems = append(problems, err)
		} else if figures {
			r.told = time.Now()
		}
	}
	return errors.Join(problems...)
}

// active is who carries traffic; since when is kept while it is the same.
func active(before []v1alpha1.ActiveMember, endpoint, key, vtep string) []v1alpha1.ActiveMember {
	if endpoint == "" {
		return nil
	}
	if len(before) == 1 && before[0].Endpoint == endpoint && before[0].PublicKey == key && before[0].VTEP == vtep {
		return before
	}
	now := metav1.Now().Rfc3339Copy()
	return []v1alpha1.ActiveMember{{Endpoint: endpoint, PublicKey: key, VTEP: vtep, Since: &now}}
}

// vtep is where nodes send to an endpoint; empty: nobody knows.
func vtep(o *network.Objects, gateway, endpoint string) string {
	if a := o.VTEP(gateway, endpoint); a.IsValid() {
		return a.String()
	}
	return ""
}

// connections writes how it goes with the other gateways. Figures that change all the
// time are no news by themselves; it reports whether they are new.
func (r *reconciler) connections(s *v1alpha1.GatewayStatus, compiled *network.Result, status *sluicev1.StatusResponse) bool {
	var now []v1alpha1.GatewayConnection
	for _, p := range status.GetPeers() {
		if _, ok := compiled.Gateways[p.GetName()]; ok {
			now = append(now, connection(p))
		}
	}
	slices.SortFunc(now, func(a, b v1alpha1.GatewayConnection) int { return strings.Compare(a.Peer, b.Peer) })
	same := func(a, b v1alpha1.GatewayConnection) bool {
		return a.Peer == b.Peer && a.State == b.State && a.Message == b.Message
	}
	if slices.EqualFunc(now, s.Connections, same) && time.Since(r.told) < figuresEvery {
		return false
	}
	s.Connections = now
	return true
}

func connection(p *sluicev1.Peer) v1alpha1.GatewayConnection {
	c := v1alpha1.GatewayConnection{Peer: p.GetName(), State: v1alpha1.Connecting, Message: p.GetProblem()}
	live := p.GetLiveness().GetState()
	switch {
	case live == sluicev1.LiveState_LIVE_STATE_UP, live != sluicev1.LiveState_LIVE_STATE_DOWN && p.GetState() == sluicev1.PeerState_PEER_STATE_UP:
		c.State = v1alpha1.Connected
	case live == sluicev1.LiveState_LIVE_STATE_DOWN, p.GetLastHandshake() != nil:
		c.State = v1alpha1.Down
	}
	if rtt := p.GetLiveness().GetRtt().AsDuration(); rtt > 0 {
		us := rtt.Microseconds()
		c.LatencyMicroseconds = &us
	}
	if t := p.GetLastHandshake(); t != nil {
		at := metav1.NewTime(t.AsTime()).Rfc3339Copy()
		c.LastHandshake = &at
	}
	return c
}
