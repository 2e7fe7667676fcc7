package gateway

import (
	"context"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/config"
)

// Hosts implements api.Backend.
func (g *Gateway) Hosts(_ context.Context, r *sluicev1.HostsRequest) (*sluicev1.HostsResponse, error) {
	v := g.view.Load()
	if r.GetVpc() != "" && v.vpc(r.GetVpc()) == nil {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no VPC %s", r.GetVpc()))
	}
	response := &sluicev1.HostsResponse{}
	for i := range v.cfg.VPCs {
		vpc := &v.cfg.VPCs[i]
		if r.GetVpc() != "" && r.GetVpc() != vpc.Name {
			continue
		}
		response.Hosts = append(response.Hosts, staticHosts(vpc)...)
		response.Hosts = append(response.Hosts, g.foundHosts(v, vpc)...)
	}
	return response, nil
}

// staticHosts are those that the configuration places.
func staticHosts(vpc *config.VPC) (out []*sluicev1.Host) {
	for _, a := range vpc.Attachments {
		for _, h := range a.Hosts {
			for _, p := range h.Prefixes {
				address := p.String()
				if p.IsSingleIP() {
					address = p.Addr().String()
				}
				out = append(out, &sluicev1.Host{
					Vpc: vpc.Name, Address: address, Attachment: string(a.Type) + " " + a.Port, Vtep: h.VTEP.String(), Mac: h.MAC.String(),
					State: sluicev1.HostState_HOST_STATE_KNOWN, Source: sluicev1.HostSource_HOST_SOURCE_STATIC,
				})
			}
		}
	}
	return out
}

var (
	hostStates = map[string]sluicev1.HostState{
		"known": sluicev1.HostState_HOST_STATE_KNOWN, "asking": sluicev1.HostState_HOST_STATE_ASKING, "silent": sluicev1.HostState_HOST_STATE_SILENT,
	}
	hostSources = map[string]sluicev1.HostSource{
		"learned": sluicev1.HostSource_HOST_SOURCE_LEARNED, "resolved": sluicev1.HostSource_HOST_SOURCE_RESOLVED,
		"evpn": sluicev1.HostSource_HOST_SOURCE_EVPN,
	}
)

// foundHosts are those that were learned or asked for.
func (g *Gateway) foundHosts(v *view, vpc *config.VPC) (out []*sluicev1.Host) {
	for _, h := range g.learner.Hosts(vpc.Name) {
		host := &sluicev1.Host{
			Vpc: vpc.Name, Address: h.Addr.String(), State: hostStates[h.State], Source: hostSources[h.How],
			Moves: h.Moves, Conflicts: h.Conflicts, Held: h.Held,
		}
		for _, d := range v.plan.deliveries {
			if d.learned && d.vni == h.VNI && d.ifindex == h.Ifindex && d.udp == h.UDP {
				host.Attachment = d.attachment
			}
		}
		if h.How != "" {
			host.Vtep, host.Mac = h.VTEP.String(), config.MAC(h.MAC).String()
			host.Since, host.Seen = durationpb.New(h.Since), durationpb.New(h.Seen)
		}
		out = append(out, host)
	}
	return out
}

func (g *Gateway) hostCounters() ([]*sluicev1.Counter, error) {
	c := g.learner.Counters()
	events := func(name string, value uint64, why string) *sluicev1.Counter {
		return &sluicev1.Counter{Name: name, Value: value, Unit: sluicev1.CounterUnit_COUNTER_UNIT_EVENTS, Explanation: why}
	}
	gauge := func(name string, value int, why string) *sluicev1.Counter {
		return &sluicev1.Counter{Name: name, Value: uint64(value), Unit: sluicev1.CounterUnit_COUNTER_UNIT_GAUGE, Explanation: why}
	}
	return []*sluicev1.Counter{
		gauge("known", c.Hosts, "hosts of overlays whose place was found out"),
		gauge("waiting", c.Waiting, "addresses that are asked for, or that nobody answered for lately"),
		gauge("vteps", c.VTEPs, "nodes of overlays that are asked for hosts"),
		events("sightings", c.Sightings, "hosts that workers saw in a new place"),
		events("outside", c.Outside, "of these, not learned: not an address of the attachment's prefixes, or an impossible MAC address"),
		events("foreign", c.Foreign, "of these, not learned: from a node that is not one of the attachment's vteps"),
		events("unasked", c.Unasked, "of these, not learned: no answer to a question, and the attachment has learn: asked"),
		events("full", c.Full, "of these, not learned: the VPC has maxHosts already"),
		events("refused", c.Refused, "claims of a host's address that came right after one which the host had refuted"),
		events("held", c.Held, "claims of the address of a host that moves too often"),
		events("overruled", c.Overruled, "claims of the address of a host that the fabric (EVPN) says is elsewhere"),
		events("lost", c.Lost, "sightings and questions of workers that there was no room for"),
		events("learned", c.Learned, "hosts that became known by what they sent"),
		events("resolved", c.Resolved, "hosts that became known by an answer"),
		events("moves", c.Moves, "hosts that changed their place"),
		events("conflicts", c.Conflicts, "claims of the address of a host that still answered in its old place"),
		events("evicted", c.Evicted, "hosts forgotten so that a node with few has room beside one with many"),
		events("aged", c.Aged, "hosts forgotten: not seen for hostTimeout, and they did not answer"),
		events("unanswered", c.Unanswered, "hosts that somebody wanted to reach and nobody answered for"),
		events("questions", c.Questions, "questions sent, each to one node"),
		events("limited", c.Limited, "questions that had to wait because the VPC asked too many"),
		events("busy", c.Busy, "addresses not asked for because the VPC was asking for too many"),
	}, nil
}
