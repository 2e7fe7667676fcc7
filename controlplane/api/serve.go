package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/sluicegw/sluice/controlplane/api/sluice/v1/sluicev1connect"
)

const (
	// maxMessage bounds a request: a configuration of the largest size and a bit.
	maxMessage = 17 << 20
	// stopGrace is how long calls under way may take once Serve is to return.
	stopGrace = 2 * time.Second
	// headerTimeout frees connections that never ask anything.
	headerTimeout = 5 * time.Second
)

// Serve answers on l until ctx is done, lets calls under way finish, and closes
// l. It returns nil when it was ctx that ended it. A nil logger logs nothing.
func Serve(ctx context.Context, l net.Listener, b Backend, logger *slog.Logger) error {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	mux.Handle(sluicev1connect.NewGatewayServiceHandler(b, connect.WithReadMaxBytes(maxMessage)))
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true) // gRPC clients
	server := &http.Server{
		Handler:           mux,
		Protocols:         protocols,
		ReadHeaderTimeout: headerTimeout,
		ConnContext:       withCaller,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return errors.Join(err, server.Close())
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	err := server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}
