package gateway

import (
	"context"
	"fmt"
	"net/netip"

	"connectrpc.com/connect"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/xdp"
)

// Trace implements api.Backend: what comes from the site passes a copy of the XDP program first, as it would in life.
func (g *Gateway) Trace(_ context.Context, r *sluicev1.TraceRequest) (*sluicev1.TraceResponse, error) {
	v := g.view.Load()
	in, err := v.traceInput(r)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	out := &sluicev1.TraceResponse{}
	if in.Ifindex != 0 {
		verdict, err := xdp.DryRun(v.plan.program(), in.Frame, int(in.Ifindex))
		if err != nil {
			return nil, err
		}
		out.Verdicts = append(out.Verdicts, verdict.String())
		out.Steps = append(out.Steps, &sluicev1.TraceStep{Stage: "xdp", Text: verdict.String() + ": " + verdict.Explain()})
		if verdict < xdp.DivertGeneve || verdict.Direct() || verdict.Drop() {
			text := "the kernel gets the packet, untouched; no worker sees it"
			switch {
			case verdict.Direct():
				text = "the XDP program sends the packet on by itself; no worker sees it"
			case verdict.Drop():
				text = "the packet ends here"
			}
			out.Steps = append(out.Steps, &sluicev1.TraceStep{Stage: "verdict", Text: text})
			return out, nil
		}
	}
	trace, err := g.relay.Trace(in)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	for _, s := range trace.Steps {
		out.Steps = append(out.Steps, &sluicev1.TraceStep{Stage: s.Stage, Text: s.Text})
	}
	for _, verdict := range trace.Verdicts {
		out.Verdicts = append(out.Verdicts, verdict.String())
	}
	for _, f := range trace.Sent {
		out.Sent = append(out.Sent, &sluicev1.TracedFrame{Port: v.portName(f.Ifindex), Data: f.Data})
	}
	return out, nil
}

func (v *view) portName(ifindex uint32) string {
	for i := range v.plan.snapshot.Ports {
		if v.plan.snapshot.Ports[i].Ifindex == ifindex {
			return v.plan.snapshot.Ports[i].Name
		}
	}
	return ""
}

func (v *view) snapshotPort(name string) (*relay.Port, error) {
	for i := range v.plan.snapshot.Ports {
		if v.plan.snapshot.Ports[i].Name == name {
			return &v.plan.snapshot.Ports[i], nil
		}
	}
	return nil, fmt.Errorf("there is no port %s", name)
}

// traceInput makes the packet that a request describes.
func (v *view) traceInput(r *sluicev1.TraceRequest) (relay.TraceInput, error) {
	var in relay.TraceInput
	if len(r.GetPacket()) > 0 && r.GetPort() != "" { // a frame
		port, err := v.snapshotPort(r.GetPort())
		if err != nil {
			return in, err
		}
		return relay.TraceInput{Ifindex: port.Ifindex, Frame: r.GetPacket()}, nil
	}
	name := r.GetVpc()
	if name == "" {
		name = "default"
	}
	vpc := v.vpc(name)
	if vpc == nil {
		return in, fmt.Errorf("there is no VPC %s: name one", name)
	}
	inner := r.GetPacket()
	if len(inner) == 0 {
		var err error
		if inner, err = innerPacket(r); err != nil {
			return in, err
		}
	}
	source, err := sourceOf(inner)
	if err != nil {
		return in, err
	}
	if r.GetPeer() != "" {
		for i := range v.peers {
			if v.peers[i].cfg.Name == r.GetPeer() {
				return relay.TraceInput{Inner: inner, VNI: vpc.VNI, Peer: v.peers[i].id}, nil
			}
		}
		return in, fmt.Errorf("there is no peer %s", r.GetPeer())
	}
	return v.fromSite(r, vpc, source, inner)
}

// fromSite puts an inner packet into the format of the attachment that its source is behind: the one that the route to
// the source leads to, unless the request names a port.
func (v *view) fromSite(r *sluicev1.TraceRequest, vpc *relay.VPC, source netip.Addr, inner []byte) (relay.TraceInput, error) {
	at, vtep := -1, netip.Addr{}
	if route := vpc.Routes.Lookup(source); route != nil && route.NextHops[0].Kind == fib.Local {
		d := &v.plan.snapshot.Deliveries[route.NextHops[0].ID]
		at, vtep = d.Attachment, d.VTEP
	}
	if r.GetPort() != "" {
		port, err := v.snapshotPort(r.GetPort())
		if err != nil {
			return relay.TraceInput{}, err
		}
		if at < 0 || vpc.Attachments[at].Ifindex != port.Ifindex {
			at = -1
			for i := range vpc.Attachments {
				if vpc.Attachments[i].Ifindex == port.Ifindex {
					at = i
				}
			}
		}
	}
	if at < 0 {
		return relay.TraceInput{}, fmt.Errorf("nothing says where %v comes in: no local route of VPC %s holds it (name a port that the VPC is attached to, or a peer)", source, vpc.Name)
	}
	a := vpc.Attachments[at]
	port, err := v.snapshotPort(v.portName(a.Ifindex))
	if err != nil {
		return relay.TraceInput{}, err
	}
	if r.GetVtep() != "" {
		if vtep, err = netip.ParseAddr(r.GetVtep()); err != nil {
			return relay.TraceInput{}, fmt.Errorf("vtep: %w", err)
		}
	}
	frame, err := siteFrame(a, port, vpc, vtep, inner)
	return relay.TraceInput{Ifindex: port.Ifindex, Frame: frame}, err
}
