package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sluicegw/sluice/controlplane/config"
)

// Limits of the metrics server. One scrape at a time is what Prometheus does; a few more do no harm.
const (
	metricsTimeout = 10 * time.Second // of a whole request
	maxScrapes     = 4                // at a time
)

// listenMetrics returns nil when the configuration asks for no endpoint.
func listenMetrics(cfg config.Metrics) (net.Listener, error) {
	if cfg.Listen.IsZero() {
		return nil, nil
	}
	l, err := net.Listen("tcp", cfg.Listen.String())
	if err != nil {
		return nil, fmt.Errorf("metrics.listen: %w", err)
	}
	return l, nil
}

// metricsRegistry has everything that a scrape returns. Nothing is kept between scrapes, so that what is gone (a peer,
// a port) is gone from the answer, too.
func (g *Gateway) metricsRegistry() (*prometheus.Registry, error) {
	r := prometheus.NewRegistry()
	return r, errors.Join(
		r.Register(metrics{g}),
		r.Register(collectors.NewGoCollector()),
		r.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
	)
}

// serveMetrics answers scrapes until ctx ends.
func (g *Gateway) serveMetrics(ctx context.Context, l net.Listener) error {
	if l == nil {
		return nil
	}
	registry, err := g.metricsRegistry()
	if err != nil {
		return errors.Join(err, l.Close())
	}
	errorLog := slog.NewLogLogger(g.log.Handler(), slog.LevelWarn)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: errorLog, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes, Timeout: metricsTimeout,
	}))
	server := &http.Server{Handler: mux, ReadTimeout: metricsTimeout, WriteTimeout: metricsTimeout, IdleTimeout: time.Minute, ErrorLog: errorLog}
	g.log.Info("metrics", "listen", l.Addr().String())
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
