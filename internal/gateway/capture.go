package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/net/bpf"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/relay"
)

// How a capture is handed to its client: often enough to look live, and in messages that are worth their overhead.
const (
	captureInterval = 10 * time.Millisecond
	captureMessage  = 256 << 10 // bytes of packets in one message, about
)

// Capture implements api.Backend.
func (g *Gateway) Capture(ctx context.Context, r *sluicev1.CaptureRequest, stream *connect.ServerStream[sluicev1.CaptureResponse]) (err error) {
	options, err := g.captureOptions(r)
	if err != nil {
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	capture, err := g.relay.Capture(options)
	if err != nil {
		return connect.NewError(connect.CodeResourceExhausted, err)
	}
	defer capture.Close()
	c := &captureStream{g: g, capture: capture, stream: stream, packets: r.GetMaxPackets(), bytes: r.GetMaxBytes()}
	who := api.Caller(ctx)
	g.log.Info("capture begins", "caller", who, "stages", fmt.Sprint(options.Stages), "vpc", r.GetVpc(), "filter", r.GetFilter())
	defer func() {
		g.log.Info("capture ends", "caller", who, "packets", c.sent, "lost", capture.Lost())
	}()
	var over <-chan time.Time
	if r.GetDuration() != nil {
		over = time.After(r.GetDuration().AsDuration())
	}
	return c.run(ctx, over)
}

func (g *Gateway) captureOptions(r *sluicev1.CaptureRequest) (o relay.CaptureOptions, err error) {
	o.SnapLen = int(min(r.GetSnapLength(), relay.MaxSnapLen+1)) // more is refused
	for _, s := range r.GetStages() {
		if s <= 0 || int(s) > int(relay.NumStages) {
			return o, fmt.Errorf("stage %d does not exist", s)
		}
		o.Stages = append(o.Stages, relay.Stage(s-1))
	}
	if len(o.Stages) == 0 {
		for s := range relay.NumStages {
			o.Stages = append(o.Stages, s)
		}
	}
	if r.GetVpc() != "" {
		vpc := g.view.Load().vpc(r.GetVpc())
		if vpc == nil {
			return o, fmt.Errorf("there is no VPC %s", r.GetVpc())
		}
		o.VPC = &vpc.VNI
	}
	var ethernet, ip error
	o.Ethernet, ethernet = filterProgram(r.GetEthernetProgram())
	o.Raw, ip = filterProgram(r.GetIpProgram())
	return o, errors.Join(ethernet, ip)
}

// maxFilter is BPF_MAXINSNS of linux/bpf_common.h.
const maxFilter = 4096

func filterProgram(b []byte) ([]bpf.RawInstruction, error) {
	if len(b)%8 != 0 || len(b)/8 > maxFilter {
		return nil, fmt.Errorf("filter program of %d bytes: 8 each instruction, at most %d", len(b), maxFilter)
	}
	var program []bpf.RawInstruction
	for i := range slices.Chunk(b, 8) {
		program = append(program, bpf.RawInstruction{Op: binary.BigEndian.Uint16(i), Jt: i[2], Jf: i[3], K: binary.BigEndian.Uint32(i[4:])})
	}
	return program, nil
}

// captureStream carries one capture to its client.
type captureStream struct {
	g              *Gateway
	capture        *relay.Capture
	stream         *connect.ServerStream[sluicev1.CaptureResponse]
	packets, bytes uint64 // bounds; 0: none
	sent, size     uint64
	lost           uint64
}

// run ends with the client, with the gateway, when the time is over, or with the packet that reaches a bound.
func (c *captureStream) run(ctx context.Context, over <-chan time.Time) error {
	// The first message says that the taps are in place: who waits for it misses nothing of what is sent then.
	if err := c.stream.Send(&sluicev1.CaptureResponse{}); err != nil {
		return err
	}
	tick := time.NewTicker(captureInterval)
	defer tick.Stop()
	for last := false; ; {
		if done, err := c.drain(); done || err != nil || last {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.g.done:
			last = true
		case <-over:
			last = true
		case <-tick.C:
		}
	}
}

// drain sends what there is, in messages of bounded size.
func (c *captureStream) drain() (done bool, err error) {
	v := c.g.view.Load()
	for {
		message, size := &sluicev1.CaptureResponse{Lost: c.capture.Lost()}, 0
		c.capture.Read(func(p relay.CapturedPacket) bool {
			message.Packets = append(message.Packets, v.captured(p))
			size += len(p.Data)
			c.sent++
			c.size += uint64(len(p.Data))
			done = c.packets > 0 && c.sent >= c.packets || c.bytes > 0 && c.size >= c.bytes
			return !done && size < captureMessage
		})
		if len(message.Packets) == 0 && message.Lost == c.lost {
			return done, nil
		}
		c.lost = message.Lost
		if err := c.stream.Send(message); err != nil || done {
			return done, err
		}
	}
}

func (v *view) captured(p relay.CapturedPacket) *sluicev1.CapturedPacket {
	out := &sluicev1.CapturedPacket{
		Time: timestamppb.New(p.Time), Stage: sluicev1.CaptureStage(p.Stage + 1), Bare: p.Raw, Inbound: p.Inbound,
		Length: uint32(p.Length), Data: slices.Clone(p.Data),
	}
	for i := range v.plan.snapshot.Ports {
		if port := &v.plan.snapshot.Ports[i]; port.Ifindex == p.Ifindex {
			out.Port = port.Name
		}
	}
	for i := range v.plan.snapshot.VPCs {
		if vpc := &v.plan.snapshot.VPCs[i]; p.HasVPC && vpc.VNI == p.VNI {
			out.Vpc = vpc.Name
		}
	}
	if p.Stage == relay.StageDropped {
		out.Verdict, out.Explanation = p.Verdict.String(), p.Verdict.Explain()
	}
	return out
}
