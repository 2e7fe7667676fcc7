// Package api is the local control interface of a gateway: a Connect service
// (also plain gRPC and JSON over HTTP) on a unix socket, and its client.
//
// Serve answers for a Backend, which internal/gateway implements; Dial gives the
// sluice command a client. The package holds no state of the gateway and decides
// nothing about it; it can say in words what is wrong with a status (Assess).
// Whoever may open the socket may do everything, so the socket's mode and group
// are the access control.
//
// Messages are owned by whoever receives them: a Backend builds new ones for
// every call and keeps none. Every function may be called from any goroutine.
//
//	l, err := api.Listen("/run/sluice/sluice.sock")
//	if err != nil { ... }
//	go api.Serve(ctx, l, backend, logger)
//
//	client := api.Dial("/run/sluice/sluice.sock")
//	status, err := client.Status(ctx, &sluicev1.StatusRequest{})
package api

import (
	"context"

	"connectrpc.com/connect"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
)

//go:generate go run ./internal/protogen -root . sluice/v1/sluice.proto

// Backend is a running gateway as the API sees it. Calls come from many
// goroutines at once, and must not block on the data plane.
//
// An error becomes the client's error: make it a sentence for an operator. Use
// connect.NewError with CodeNotFound for a peer, VPC or route that does not
// exist and CodeInvalidArgument for a bad request; any other error is CodeUnknown.
// A configuration that is refused is not an error: it is a response with problems.
type Backend interface {
	Status(context.Context, *sluicev1.StatusRequest) (*sluicev1.StatusResponse, error)
	Peers(context.Context, *sluicev1.PeersRequest) (*sluicev1.PeersResponse, error)
	VPCs(context.Context, *sluicev1.VPCsRequest) (*sluicev1.VPCsResponse, error)
	Routes(context.Context, *sluicev1.RoutesRequest) (*sluicev1.RoutesResponse, error)
	Hosts(context.Context, *sluicev1.HostsRequest) (*sluicev1.HostsResponse, error)
	BGP(context.Context, *sluicev1.BGPRequest) (*sluicev1.BGPResponse, error)
	Cluster(context.Context, *sluicev1.ClusterRequest) (*sluicev1.ClusterResponse, error)
	ACL(context.Context, *sluicev1.ACLRequest) (*sluicev1.ACLResponse, error)
	Counters(context.Context, *sluicev1.CountersRequest) (*sluicev1.CountersResponse, error)
	Capture(context.Context, *sluicev1.CaptureRequest, *connect.ServerStream[sluicev1.CaptureResponse]) error
	Trace(context.Context, *sluicev1.TraceRequest) (*sluicev1.TraceResponse, error)
	MoveVPC(context.Context, *sluicev1.MoveVPCRequest) (*sluicev1.MoveVPCResponse, error)
	Apply(context.Context, *sluicev1.ApplyRequest) (*sluicev1.ApplyResponse, error)
	Reload(context.Context, *sluicev1.ReloadRequest) (*sluicev1.ReloadResponse, error)
	Drain(context.Context, *sluicev1.DrainRequest) (*sluicev1.DrainResponse, error)
	Undrain(context.Context, *sluicev1.UndrainRequest) (*sluicev1.UndrainResponse, error)
}
