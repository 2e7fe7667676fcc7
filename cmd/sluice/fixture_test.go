package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/config"
)

// fixture is a gateway with one healthy peer and one that does not answer, as it
// is at the time now.
type fixture struct{ now time.Time }

var _ api.Backend = fixture{}

func (f fixture) ago(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(f.now.Add(-d)) }

func (f fixture) peers() []*sluicev1.Peer {
	return []*sluicev1.Peer{{
		Name: "bergen-1", PublicKey: "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=",
		Endpoint: "198.51.100.2:51820", ConfiguredEndpoint: "198.51.100.2:51820",
		State: sluicev1.PeerState_PEER_STATE_UP, LastHandshake: f.ago(72 * time.Second), SessionAge: durationpb.New(72 * time.Second),
		RxBytes: 1536, RxPackets: 12, TxBytes: 104857600, TxPackets: 73000,
		PersistentKeepalive: durationpb.New(25 * time.Second), HasPresharedKey: true,
		TunnelAddresses: []string{"100.64.0.2", "fd64::2"}, Mtu: 1340, MtuLimit: 1440, MtuState: sluicev1.MTUState_MTU_STATE_CONFIRMED,
		Liveness: &sluicev1.Liveness{State: sluicev1.LiveState_LIVE_STATE_UP, Rtt: durationpb.New(12345678), MinRtt: durationpb.New(11000000),
			Jitter: durationpb.New(700000), Lost: 1, Probes: 64},
		Paths: []*sluicev1.Path{
			{Name: "fibre", Endpoint: "198.51.100.2:51820", Port: "wan0", Priority: 1, Used: true, Liveness: &sluicev1.Liveness{State: sluicev1.LiveState_LIVE_STATE_UP,
				Rtt: durationpb.New(12345678), MinRtt: durationpb.New(11000000), Jitter: durationpb.New(700000), Lost: 1, Probes: 64}},
			{Name: "radio", Endpoint: "[2001:db8::2]:51820", Priority: 10, Lossy: true, Liveness: &sluicev1.Liveness{State: sluicev1.LiveState_LIVE_STATE_UP,
				Rtt: durationpb.New(54321000), MinRtt: durationpb.New(50000000), Jitter: durationpb.New(9000000), Lost: 9, Probes: 64}},
			{Name: "hub", Endpoint: "100.64.0.2:51820", Via: "narvik-1", Priority: 20, Liveness: &sluicev1.Liveness{State: sluicev1.LiveState_LIVE_STATE_UP,
				Rtt: durationpb.New(31000000), MinRtt: durationpb.New(30000000), Jitter: durationpb.New(500000), Probes: 64}},
			{Name: "cable", Endpoint: "192.0.2.2:51820", Port: "wan1", Priority: 10, PortDown: true, Liveness: &sluicev1.Liveness{State: sluicev1.LiveState_LIVE_STATE_UNKNOWN}},
		},
		Vpcs: []*sluicev1.PeerVPC{
			{Vpc: "default", AllowedPrefixes: []string{"172.16.2.0/24", "fd16:2::/64"}},
			{Vpc: "red", Vni: 300, AllowedPrefixes: []string{"10.2.0.0/16"}},
		},
	}, {
		Name: "narvik-1", PublicKey: "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=",
		Endpoint: "[2001:db8::7]:51820", ConfiguredEndpoint: "[2001:db8::7]:51820",
		State: sluicev1.PeerState_PEER_STATE_CONNECTING, PersistentKeepalive: durationpb.New(0),
		Mtu: 1440, MtuLimit: 1440, MtuState: sluicev1.MTUState_MTU_STATE_NOT_ANSWERED,
		Relayed: &sluicev1.Relayed{With: []string{"alta-1", "bodo-1"}, SentPackets: 1200, SentBytes: 1536000, ReceivedPackets: 1100, ReceivedBytes: 99000},
	}}
}

func (f fixture) revision() *sluicev1.ConfigRevision {
	return &sluicev1.ConfigRevision{Revision: 3, Applied: f.ago(26 * time.Hour), Sha256: "00ff", Path: "/etc/sluice/sluice.yaml"}
}

func (f fixture) Status(context.Context, *sluicev1.StatusRequest) (*sluicev1.StatusResponse, error) {
	s := &sluicev1.StatusResponse{
		Site: "oslo", Gateway: "oslo-1", Version: "v0.1.0", Started: f.ago(50 * time.Hour), Uptime: durationpb.New(50 * time.Hour),
		Ports: []*sluicev1.Port{
			{Name: "site0", Ifindex: 2, XdpMode: "native", Queues: 2, Mtu: 1500, LinkUp: true, Mac: "02:00:00:00:01:01",
				Addresses: []string{"192.168.1.1/24", "fd19::1/64"}, Driver: "veth", RxPackets: 9, RxBytes: 900, TxPackets: 10, TxBytes: 1000},
			{Name: "wan0", Ifindex: 3, XdpMode: "generic", ZeroCopy: true, Queues: 2, Mtu: 9000, LinkUp: false, RxDropped: 7},
		},
		Peers: f.peers(), Config: f.revision(), Workers: 2, PublicKey: "gN65BkIKy1eCE9pP1wdc8ROUtkHLF2PfAqYdyYBz6EA=",
		ListenPort: 51820, VpcCount: 2, RouteCount: 1,
		Tun: &sluicev1.TunPort{Name: "sluice0", Ifindex: 9, Mtu: 1420, Addresses: []string{"100.64.0.1", "fd64::1"}, Peers: []string{"100.64.0.2", "fd64::2"},
			ToKernelPackets: 12, ToKernelBytes: 3400, FromKernelPackets: 10, FromKernelBytes: 1 << 20, Lost: 1},
		Limits: []*sluicev1.Limit{
			{Name: "vpc red", Direction: "fromSite", Rate: 100_000_000, Refused: []*sluicev1.ClassCount{{}, {Packets: 1, Bytes: 100}, {Packets: 4711, Bytes: 5e6}, {}}},
			{Name: "port wan0", Direction: "fromSite", Rate: 2_500_000_000, PacketRate: 1500, Refused: []*sluicev1.ClassCount{{}, {}, {}, {}}},
		},
	}
	api.Assess(s, f.now)
	return s, nil
}

func (f fixture) Peers(_ context.Context, r *sluicev1.PeersRequest) (*sluicev1.PeersResponse, error) {
	var found []*sluicev1.Peer
	for _, p := range f.peers() {
		if r.GetName() == "" || r.GetName() == p.GetName() {
			found = append(found, p)
		}
	}
	if len(found) == 0 {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("there is no peer "+r.GetName()))
	}
	return &sluicev1.PeersResponse{Peers: found}, nil
}

func (fixture) VPCs(context.Context, *sluicev1.VPCsRequest) (*sluicev1.VPCsResponse, error) {
	return &sluicev1.VPCsResponse{Vpcs: []*sluicev1.VPC{
		{Name: "default", Attachments: []*sluicev1.Attachment{{Type: "routed", Port: "host0", Entries: 2}}, LocalRoutes: 2, RemoteRoutes: 2, Peers: []string{"bergen-1"}},
		{Name: "red", Vni: 100, GatewayAddresses: []string{"10.1.0.1"}, GatewayMac: "02:51:ce:00:00:64",
			ToPeersPackets: 1000, ToPeersBytes: 1 << 20, ToSitePackets: 2, ToSiteBytes: 168, Dropped: 3,
			Attachments: []*sluicev1.Attachment{{Type: "vxlan", Port: "site0", UdpPort: 4789, Entries: 1}, {Type: "geneve", Port: "site0", UdpPort: 6081, Entries: 1}}, LocalRoutes: 2},
	}}, nil
}

func (fixture) Routes(_ context.Context, r *sluicev1.RoutesRequest) (*sluicev1.RoutesResponse, error) {
	all := []*sluicev1.Route{
		{Vpc: "default", Prefix: "172.16.2.0/24", Kind: sluicev1.RouteKind_ROUTE_KIND_REMOTE, NextHops: []*sluicev1.NextHop{
			{Peer: "bergen-1", Address: "198.51.100.2:51820", Usable: true}, {Peer: "narvik-1"}}, ToPackets: 12, ToBytes: 1008, FromPackets: 11, FromBytes: 924},
		{Vpc: "red", Prefix: "10.1.1.11/32", Kind: sluicev1.RouteKind_ROUTE_KIND_LOCAL, NextHops: []*sluicev1.NextHop{
			{Attachment: "vxlan site0", Address: "192.168.1.11", Mac: "02:00:00:00:01:11", Vni: 100, Usable: true}}},
	}
	var found []*sluicev1.Route
	for _, route := range all {
		if r.GetVpc() == "" || r.GetVpc() == route.GetVpc() {
			found = append(found, route)
		}
	}
	return &sluicev1.RoutesResponse{Routes: found}, nil
}

func (fixture) Hosts(_ context.Context, r *sluicev1.HostsRequest) (*sluicev1.HostsResponse, error) {
	ago := func(d time.Duration) *durationpb.Duration { return durationpb.New(d) }
	return &sluicev1.HostsResponse{Hosts: []*sluicev1.Host{
		{Vpc: "red", Address: "10.1.1.11", Attachment: "vxlan site0", Vtep: "192.168.1.11", Mac: "02:00:00:00:01:11",
			State: sluicev1.HostState_HOST_STATE_KNOWN, Source: sluicev1.HostSource_HOST_SOURCE_STATIC},
		{Vpc: "red", Address: "10.1.1.12", Attachment: "vxlan site0", Vtep: "192.168.1.12", Mac: "02:00:00:00:01:12",
			State: sluicev1.HostState_HOST_STATE_KNOWN, Source: sluicev1.HostSource_HOST_SOURCE_LEARNED, Since: ago(90 * time.Second), Seen: ago(0), Moves: 5, Held: true},
		{Vpc: "red", Address: "10.1.1.13", Attachment: "vxlan site0", State: sluicev1.HostState_HOST_STATE_SILENT},
	}}, nil
}

func (fixture) BGP(context.Context, *sluicev1.BGPRequest) (*sluicev1.BGPResponse, error) {
	return &sluicev1.BGPResponse{
		Asn: 65001, RouterId: "10.255.0.1",
		Neighbours: []*sluicev1.BGPNeighbour{
			{Name: "tor-1", Vpc: "default", Port: "site0", Address: "192.0.2.2", Asn: 65101, RouterId: "10.1.0.1", State: "established",
				Since: durationpb.New(26 * time.Hour), Received: 12, Accepted: 10, Best: 9, Refused: map[string]uint64{"overlap": 1, "no_rule": 1}, Announced: 4,
				HoldTime: durationpb.New(90 * time.Second), Bfd: "up", UpdatesIn: 7, UpdatesOut: 3, Ended: 1, LastError: "nothing heard for the hold time"},
			{Name: "tor-2", Vpc: "default", Port: "site0", Address: "192.0.2.3", Asn: 65101, State: "active", Since: durationpb.New(5 * time.Second)},
		},
		Received: []*sluicev1.BGPRoute{
			{Vpc: "default", Prefix: "10.1.0.0/24", Neighbour: "tor-1", Address: "192.0.2.2", NextHop: "192.0.2.2", AsPath: []uint32{65101, 65200},
				LocalPref: 200, Communities: []string{"65101:1"}, Best: true, Verdict: "accepted: policy from-site rule 1"},
			{Vpc: "default", Prefix: "10.2.0.0/24", Neighbour: "tor-1", Address: "192.0.2.2", NextHop: "192.0.2.2", AsPath: []uint32{65101},
				LocalPref: 100, Med: 5, Verdict: "refused: it overlaps the prefix 10.2.0.0/16 of peer bergen-1"},
		},
		Announced: []*sluicev1.BGPRoute{
			{Vpc: "default", Prefix: "10.2.0.0/16", Neighbour: "tor-1", Address: "192.0.2.2", NextHop: "192.0.2.1", AsPath: []uint32{65001},
				LocalPref: 100, Best: true, Verdict: "accepted: policy to-site rule 1"},
		},
	}, nil
}

func (fixture) Cluster(context.Context, *sluicev1.ClusterRequest) (*sluicev1.ClusterResponse, error) {
	return &sluicev1.ClusterResponse{
		Enabled: true, Lease: durationpb.New(300 * time.Millisecond), Failback: "manual", Witnesses: []string{"bergen-1"},
		Vpcs: []*sluicev1.ClusterVPC{
			{Vpc: "red", Vni: 100, Role: "active", State: "READY", Priority: 200, Epoch: 1795000000000, Active: "oslo-1", Since: durationpb.New(2 * time.Hour)},
			{Vpc: "blue", Vni: 200, Role: "standby", State: "NOTREADY", Reasons: []string{"the link of port site1 is down"}, Priority: 100, Epoch: 1795000000001, Losses: 1},
		},
		Members: []*sluicev1.ClusterMember{{Name: "oslo-2", Live: true, Heard: durationpb.New(40 * time.Millisecond), Vpcs: []*sluicev1.MemberVPC{
			{Vpc: "red", State: "READY", Priority: 100}, {Vpc: "blue", State: "READY", Active: true, Priority: 200},
		}}, {Name: "oslo-3", Heard: durationpb.New(90 * time.Second), Vpcs: []*sluicev1.MemberVPC{
			{Vpc: "red", State: "DOWN", Priority: 50}, {Vpc: "blue", State: "DOWN", Priority: 50},
		}}},
		Remote: []*sluicev1.RemoteVPC{{Cluster: "bergen", Vpc: "red", Active: "bergen-2", Epoch: 1795000000007, Before: "bergen-1"}, {Cluster: "bergen", Vpc: "blue"}},
	}, nil
}

func (f fixture) Counters(_ context.Context, r *sluicev1.CountersRequest) (*sluicev1.CountersResponse, error) {
	worker := uint32(0)
	all := []*sluicev1.Counter{
		{Component: "relay", Name: "forwarded", Value: 1000, Unit: sluicev1.CounterUnit_COUNTER_UNIT_PACKETS, Explanation: "sent on", Worker: &worker},
		{Component: "relay", Name: "no-route", Value: 3, Unit: sluicev1.CounterUnit_COUNTER_UNIT_PACKETS, Explanation: "no prefix of the VPC holds the destination", Worker: &worker, Drop: true},
		{Component: "xdp", Name: "divert", Value: 0, Unit: sluicev1.CounterUnit_COUNTER_UNIT_PACKETS, Explanation: "handed to the relay", Port: "site0"},
		{Component: "xdp", Name: "pass", Value: 1 << 60, Unit: sluicev1.CounterUnit_COUNTER_UNIT_PACKETS, Explanation: "left to the kernel", Port: "site0"},
	}
	var found []*sluicev1.Counter
	for _, c := range all {
		if r.GetComponent() == "" || r.GetComponent() == c.GetComponent() {
			found = append(found, c)
		}
	}
	return &sluicev1.CountersResponse{Time: timestamppb.New(f.now), Counters: found}, nil
}

// Capture shows one packet that went through and one that was dropped.
func (f fixture) Capture(_ context.Context, r *sluicev1.CaptureRequest, stream *connect.ServerStream[sluicev1.CaptureResponse]) error {
	if r.GetVpc() == "nosuch" {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("there is no VPC nosuch"))
	}
	inner := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0x66, 0xcf, 10, 1, 0, 1, 10, 1, 0, 2, 8, 0, 0xf7, 0xff, 0, 0, 0, 0}
	frame := append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}, inner...)
	all := []*sluicev1.CapturedPacket{
		{Stage: sluicev1.CaptureStage_CAPTURE_STAGE_SITE_IN, Inbound: true, Port: "site0", Length: 42, Data: frame},
		{Stage: sluicev1.CaptureStage_CAPTURE_STAGE_PLAIN, Bare: true, Vpc: "red", Length: 28, Data: inner},
		{Stage: sluicev1.CaptureStage_CAPTURE_STAGE_DROPPED, Bare: true, Vpc: "red", Length: 28, Data: inner, Verdict: "no_route", Explanation: "the VPC has no route to the destination"},
	}
	answer := &sluicev1.CaptureResponse{Lost: 7}
	for _, p := range all {
		p.Time = timestamppb.New(f.now)
		if len(r.GetStages()) == 0 || slices.Contains(r.GetStages(), p.GetStage()) {
			answer.Packets = append(answer.Packets, p)
		}
	}
	return errors.Join(stream.Send(&sluicev1.CaptureResponse{}), stream.Send(answer))
}

// Trace tells a short story.
func (fixture) Trace(_ context.Context, r *sluicev1.TraceRequest) (*sluicev1.TraceResponse, error) {
	if r.GetVpc() != "red" {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("there is no VPC "+r.GetVpc()))
	}
	return &sluicev1.TraceResponse{Verdicts: []string{"divert_vxlan", "to_peer"}, Steps: []*sluicev1.TraceStep{
		{Stage: "xdp", Text: "divert_vxlan: VXLAN, inner destination is remote"},
		{Stage: "lookup", Text: r.GetDestination() + " takes the route 10.2.0.0/16 to peer bergen-1"},
		{Stage: "verdict", Text: "to_peer: sealed and sent to a peer"},
	}}, nil
}

// Apply checks as a gateway does, and says that something changed.
func (f fixture) Apply(_ context.Context, r *sluicev1.ApplyRequest) (*sluicev1.ApplyResponse, error) {
	_, err := config.Parse(r.GetConfig(), r.GetName())
	var found *config.Error
	if !errors.As(err, &found) {
		return &sluicev1.ApplyResponse{Changes: []string{"peer bergen-1: endpoint changed"}, Config: f.revision()}, err
	}
	answer := &sluicev1.ApplyResponse{Config: f.revision()}
	for _, p := range found.Problems {
		answer.Problems = append(answer.Problems, &sluicev1.Problem{Line: uint32(p.Line), Column: uint32(p.Column), Path: p.Path, Message: p.Message})
	}
	return answer, nil
}

func (fixture) MoveVPC(context.Context, *sluicev1.MoveVPCRequest) (*sluicev1.MoveVPCResponse, error) {
	return &sluicev1.MoveVPCResponse{}, nil
}

func (f fixture) Reload(context.Context, *sluicev1.ReloadRequest) (*sluicev1.ReloadResponse, error) {
	return &sluicev1.ReloadResponse{Config: f.revision()}, nil
}

func (f fixture) Drain(context.Context, *sluicev1.DrainRequest) (*sluicev1.DrainResponse, error) {
	return &sluicev1.DrainResponse{}, nil
}

func (fixture) Undrain(context.Context, *sluicev1.UndrainRequest) (*sluicev1.UndrainResponse, error) {
	return &sluicev1.UndrainResponse{}, nil
}

func (fixture) ACL(_ context.Context, r *sluicev1.ACLRequest) (*sluicev1.ACLResponse, error) {
	if r.GetVpc() != "" && r.GetVpc() != "red" {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("there is no VPC "+r.GetVpc()))
	}
	return &sluicev1.ACLResponse{Acls: []*sluicev1.ACL{{Vpc: "red", Vni: 100, DefaultAction: "deny", DefaultPackets: 17, DefaultBytes: 1700, Rules: []*sluicev1.ACLRule{
		{Name: "web", Action: "allow", Match: "fromSite tcp to 10.2.0.0/16 port 443", Packets: 73000, Bytes: 104857600},
		{Action: "reject", Match: "udp"},
	}}}}, nil
}
