package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"syscall"

	"connectrpc.com/connect"

	"github.com/sluicegw/sluice/controlplane/api/sluice/v1/sluicev1connect"
)

// ErrNotRunning is what a client's calls report when no gateway serves the socket.
var ErrNotRunning = errors.New("no gateway is running")

// Dial returns a client of the gateway on a unix socket. It connects on the
// first call; errors of calls name the socket when no gateway serves it.
func Dial(socket string) sluicev1connect.GatewayServiceClient {
	var d net.Dialer
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", socket)
		},
		// A client asks once, or once a second: nothing is worth keeping open, and
		// a restarted gateway is found without an error.
		DisableKeepAlives: true,
	}
	return sluicev1connect.NewGatewayServiceClient(
		&http.Client{Transport: transport},
		"http://gateway", // of no meaning on a unix socket, but HTTP wants a host
		connect.WithInterceptors(explainDial(socket)),
	)
}

// explainDial puts into words why the socket cannot be reached.
func explainDial(socket string) connect.UnaryInterceptorFunc {
	return func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
			response, err := next(ctx, request)
			switch {
			case err == nil:
				return response, nil
			case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
				return nil, fmt.Errorf("%w: nothing answers on %s (start it with `sluice run`, or name its socket with --socket)", ErrNotRunning, socket)
			case errors.Is(err, fs.ErrPermission):
				return nil, fmt.Errorf("open %s: permission denied (run as root, or as a member of the socket's group)", socket)
			}
			return response, err
		}
	}
}
