package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	dto "github.com/prometheus/client_model/go"

	"github.com/sluicegw/sluice/internal/netnstest"
)

// scrape reads the metrics of a running gateway from inside its namespace.
func (s *site) scrape(t *testing.T) (text []byte, families map[string]*dto.MetricFamily) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, network, address string) (c net.Conn, err error) {
		err = s.gateway.Do(func() error { c, err = net.Dial(network, address); return err })
		return c, err
	}}}
	response, err := client.Get("http://127.0.0.1:9479/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err = io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("scrape: %s, %v: %s", response.Status, err, text)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	if families, err = parser.TextToMetricFamilies(bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	return text, families
}

// value finds one sample; labels are "name=value".
func value(t *testing.T, families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	t.Helper()
	for _, m := range families[name].GetMetric() {
		have := make(map[string]bool)
		for _, l := range m.GetLabel() {
			have[l.GetName()+"="+l.GetValue()] = true
		}
		matches := true
		for _, l := range labels {
			matches = matches && have[l]
		}
		if matches {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Errorf("no %s with %v", name, labels)
	return 0
}

// TestPrometheusCountsWhatWasSent: a scrape of a real gateway is what Prometheus' own parser and linter like, and says
// exactly how many pings crossed, and never a key.
func TestPrometheusCountsWhatWasSent(t *testing.T) {
	_, sites := newSites(t)
	s := sites[0]
	for _, s := range sites {
		text, err := os.ReadFile(s.config())
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, "metrics:\n  listen: 127.0.0.1:9479\n"...)
		if err := os.WriteFile(s.config(), text, 0o600); err != nil {
			t.Fatal(err)
		}
		s.start(t)
	}
	reach(t, sites, 1)
	_, before := s.scrape(t)
	const n, size = 50, 84 // ping's 56 bytes and the headers of ICMP and IP
	if err := netnstest.Ping(t.Context(), s.host, sites[1].addr4(), netnstest.PingOptions{Count: n, All: true}); err != nil {
		t.Fatal(err)
	}
	var after map[string]*dto.MetricFamily
	var text []byte
	grown := func(name string, labels ...string) float64 {
		return value(t, after, name, labels...) - value(t, before, name, labels...)
	}
	s.eventually(t, "the counters are published", func() error {
		text, after = s.scrape(t)
		if got := grown("sluice_vpc_packets_total", "vpc=default", "to=site"); got < n {
			return fmt.Errorf("%v of %d packets counted", got, n)
		}
		return nil
	})
	for _, c := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"sluice_vpc_packets_total", []string{"vpc=default", "to=peers"}, n},
		{"sluice_vpc_packets_total", []string{"vpc=default", "to=site"}, n},
		{"sluice_vpc_bytes_total", []string{"vpc=default", "to=peers"}, n * size},
		{"sluice_vpc_dropped_packets_total", []string{"vpc=default"}, 0},
		{"sluice_relay_packets_total", []string{"worker=0", "verdict=to_peer"}, n},
		{"sluice_relay_packets_total", []string{"worker=0", "verdict=to_site"}, n},
		{"sluice_xdp_packets_total", []string{"verdict=divert_routed"}, n},
	} {
		if got := grown(c.name, c.labels...); got != c.want {
			t.Errorf("%s %v grew by %v, want %v", c.name, c.labels, got, c.want)
		}
	}
	if up := value(t, after, "sluice_peer_up", "peer=peer"); up != 1 {
		t.Errorf("peer_up = %v", up)
	}
	if h := after["sluice_relay_batch_packets"].GetMetric()[0].GetHistogram(); h.GetSampleSum() < 2*n || h.GetSampleCount() == 0 {
		t.Errorf("batches: %v", h)
	}
	if h := after["sluice_relay_turn_seconds"].GetMetric()[0].GetHistogram(); h.GetSampleSum() <= 0 || len(h.GetBucket()) < 10 {
		t.Errorf("turns: %v", h)
	}
	for _, name := range []string{"process_resident_memory_bytes", "go_goroutines", "sluice_afxdp_rx_ring_full_packets_total", "sluice_umem_frames", "sluice_relay_free_frames"} {
		if after[name] == nil {
			t.Errorf("no %s", name)
		}
	}
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if strings.Contains(string(text), sites[1].key.PublicKey().String()) {
		t.Error("a key is in the metrics")
	}
}
