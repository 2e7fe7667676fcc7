package api

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/api/sluice/v1/sluicev1connect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend answers Status, and Reload when it is told to.
type backend struct {
	sluicev1connect.UnimplementedGatewayServiceHandler
	reload chan struct{}
}

var _ Backend = backend{}

func (backend) Status(context.Context, *sluicev1.StatusRequest) (*sluicev1.StatusResponse, error) {
	return &sluicev1.StatusResponse{Gateway: "oslo-1", PublicKey: "key"}, nil
}

func (backend) Peers(_ context.Context, r *sluicev1.PeersRequest) (*sluicev1.PeersResponse, error) {
	return nil, connect.NewError(connect.CodeNotFound, errors.New("there is no peer "+r.GetName()))
}

func (backend) Apply(_ context.Context, r *sluicev1.ApplyRequest) (*sluicev1.ApplyResponse, error) {
	return &sluicev1.ApplyResponse{Changes: make([]string, len(r.GetConfig())>>20)}, nil
}

func (b backend) Reload(ctx context.Context, _ *sluicev1.ReloadRequest) (*sluicev1.ReloadResponse, error) {
	b.reload <- struct{}{}
	<-b.reload
	return &sluicev1.ReloadResponse{}, nil
}

// serve runs a server on a new socket until stop is called.
func serve(t *testing.T, b Backend) (socket string, stop func()) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, b, nil) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return socket, stop
}

func TestAClientIsAnsweredOverTheSocket(t *testing.T) {
	socket, stop := serve(t, backend{})
	client := Dial(socket)
	s, err := client.Status(t.Context(), &sluicev1.StatusRequest{})
	if err != nil || s.GetGateway() != "oslo-1" {
		t.Errorf("Status = %v, %v", s, err)
	}
	_, err = client.Peers(t.Context(), &sluicev1.PeersRequest{Name: "x"})
	var e *connect.Error
	if !errors.As(err, &e) || e.Code() != connect.CodeNotFound || e.Message() != "there is no peer x" {
		t.Errorf("Peers: %v, want the backend's words", err)
	}
	a, err := client.Apply(t.Context(), &sluicev1.ApplyRequest{Config: make([]byte, 16<<20)})
	if err != nil || len(a.GetChanges()) != 16 {
		t.Errorf("Apply of the largest configuration: %v, %v", len(a.GetChanges()), err)
	}
	if _, err = client.Apply(t.Context(), &sluicev1.ApplyRequest{Config: make([]byte, 18<<20)}); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("Apply of too much: %v", err)
	}
	stop()
	if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there after Serve: %v", err)
	}
	if _, err = client.Status(t.Context(), &sluicev1.StatusRequest{}); !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), socket) {
		t.Errorf("Status of a stopped gateway: %v, want ErrNotRunning that names the socket", err)
	}
}

func TestGRPCClientsAreAnswered(t *testing.T) {
	socket, _ := serve(t, backend{})
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols: protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}
	defer transport.CloseIdleConnections()
	client := sluicev1connect.NewGatewayServiceClient(&http.Client{Transport: transport}, "http://gateway", connect.WithGRPC())
	s, err := client.Status(t.Context(), &sluicev1.StatusRequest{})
	if err != nil || s.GetGateway() != "oslo-1" {
		t.Errorf("Status over gRPC = %v, %v", s, err)
	}
}

func TestCallsUnderWayFinishBeforeServeReturns(t *testing.T) {
	b := backend{reload: make(chan struct{})}
	socket, stop := serve(t, b)
	answered := make(chan error, 1)
	go func() {
		_, err := Dial(socket).Reload(t.Context(), &sluicev1.ReloadRequest{})
		answered <- err
	}()
	<-b.reload // the call is under way
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	select {
	case <-stopped:
		t.Error("Serve returned under a call")
	case <-time.After(50 * time.Millisecond):
	}
	b.reload <- struct{}{}
	if err := <-answered; err != nil {
		t.Errorf("the call under way failed: %v", err)
	}
	<-stopped
}

func TestListenDealsWithWhatIsInTheWay(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "run", "s") // the directory is made
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode of the socket = %v, %v; want 0660", info.Mode(), err)
	}
	if _, err := Listen(path); !errors.Is(err, ErrRunning) {
		t.Errorf("Listen beside a live gateway: %v, want ErrRunning", err)
	}
	// As after a kill: the file stays, nobody listens.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(path).Status(t.Context(), &sluicev1.StatusRequest{}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Status over a dead socket: %v, want ErrNotRunning", err)
	}
	l, err = Listen(path)
	if err != nil {
		t.Fatalf("Listen over a dead socket: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	file := filepath.Join(dir, "precious")
	if err := os.WriteFile(file, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("Listen over a file: %v", err)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "data" {
		t.Errorf("the file was touched: %q, %v", data, err)
	}
}

func TestAStatusIsAssessedInWords(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(now.Add(-d)) }
	port := func(name string) *sluicev1.Port {
		return &sluicev1.Port{Name: name, XdpMode: "native", LinkUp: true, Queues: 1}
	}
	down := port("wan0")
	down.LinkUp = false
	const up, connecting, idle = sluicev1.PeerState_PEER_STATE_UP, sluicev1.PeerState_PEER_STATE_CONNECTING, sluicev1.PeerState_PEER_STATE_IDLE
	for _, c := range []struct {
		name     string
		status   *sluicev1.StatusResponse
		health   sluicev1.Health
		problems []string
	}{
		{"a gateway where all is well is ready", &sluicev1.StatusResponse{
			Ports: []*sluicev1.Port{port("site0")},
			Peers: []*sluicev1.Peer{{Name: "a", State: up, LastHandshake: ago(time.Minute)}, {Name: "b", State: idle}},
		}, sluicev1.Health_HEALTH_READY, nil},
		{"one port of two down degrades it", &sluicev1.StatusResponse{Ports: []*sluicev1.Port{port("site0"), down}},
			sluicev1.Health_HEALTH_DEGRADED, []string{"port wan0: the link is down; check the cable or the virtual switch"}},
		{"without a working port it is down", &sluicev1.StatusResponse{Ports: []*sluicev1.Port{{Name: "x", Problem: "no such interface"}}},
			sluicev1.Health_HEALTH_DOWN, []string{"port x: no such interface"}},
		{"a peer that fell silent is named with its endpoint", &sluicev1.StatusResponse{
			Ports: []*sluicev1.Port{port("site0")},
			Peers: []*sluicev1.Peer{
				{Name: "a", State: up, LastHandshake: ago(185 * time.Second), Endpoint: "192.0.2.1:1"},
				{Name: "b", State: connecting, Endpoint: "192.0.2.2:1"},
				{Name: "c", State: connecting},
			},
		}, sluicev1.Health_HEALTH_DEGRADED, []string{
			"peer a: no handshake for 3m5s; check its endpoint (192.0.2.1:1) and that it is running",
			"peer b: it has not answered yet; check its endpoint (192.0.2.2:1), its keys and the firewalls between",
			"peer c: traffic waits for it, but it has not called and no endpoint is configured; set endpoint, or wait for it to call",
		}},
		{"paths of a living peer that fail are named, and what is used", &sluicev1.StatusResponse{
			Ports: []*sluicev1.Port{port("site0")},
			Peers: []*sluicev1.Peer{
				{Name: "a", State: up, Liveness: &sluicev1.Liveness{State: sluicev1.LiveState_LIVE_STATE_UP}, Paths: []*sluicev1.Path{
					{Name: "fibre", Endpoint: "192.0.2.1:1", Liveness: &sluicev1.Liveness{State: sluicev1.LiveState_LIVE_STATE_DOWN}},
					{Name: "radio", Endpoint: "192.0.2.2:1", Liveness: &sluicev1.Liveness{State: sluicev1.LiveState_LIVE_STATE_UP}, Used: true, Lossy: true},
					{Name: "cable", Endpoint: "192.0.2.3:1", Port: "wan2", PortDown: true},
					{Name: "never", Endpoint: "192.0.2.4:1", Liveness: &sluicev1.Liveness{State: sluicev1.LiveState_LIVE_STATE_UNKNOWN}},
				}},
				{Name: "b", State: up, Problem: "it is down", Liveness: &sluicev1.Liveness{State: sluicev1.LiveState_LIVE_STATE_DOWN}, Paths: []*sluicev1.Path{
					{Name: "fibre", Endpoint: "192.0.2.1:1", Liveness: &sluicev1.Liveness{State: sluicev1.LiveState_LIVE_STATE_DOWN}}}},
			},
		}, sluicev1.Health_HEALTH_DEGRADED, []string{
			"peer b: it is down",
			"peer a: path fibre to 192.0.2.1:1 has failed; path radio is used",
			"peer a: path radio to 192.0.2.2:1 loses more than a tenth of its probes",
			"peer a: port wan2 of path cable is down; path radio is used",
		}},
		{"a refused configuration is told", &sluicev1.StatusResponse{
			Ports: []*sluicev1.Port{port("site0")}, Config: &sluicev1.ConfigRevision{LastError: "1:1: site: is required"},
		}, sluicev1.Health_HEALTH_DEGRADED, []string{"configuration: the last change was refused, the one before is in force: 1:1: site: is required"}},
		{"a starting gateway stays starting", &sluicev1.StatusResponse{Health: sluicev1.Health_HEALTH_STARTING},
			sluicev1.Health_HEALTH_STARTING, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			Assess(c.status, now)
			if c.status.GetHealth() != c.health {
				t.Errorf("health = %v, want %v", c.status.GetHealth(), c.health)
			}
			if got, want := strings.Join(c.status.GetProblems(), "\n"), strings.Join(c.problems, "\n"); got != want {
				t.Errorf("problems:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestAgesHaveTwoUnitsAtMost(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 59 * time.Second: "59s", time.Minute: "1m", 190 * time.Second: "3m10s",
		2*time.Hour + 5*time.Minute + time.Second: "2h5m", 99 * time.Hour: "4d3h",
	} {
		if got := Age(d); got != want {
			t.Errorf("Age(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestJSONSuitsScripts(t *testing.T) {
	worker := uint32(0)
	for _, c := range []struct {
		name string
		m    proto.Message
		want string
	}{
		{"counters are numbers, whatever their size", &sluicev1.Counter{Value: 1<<64 - 1, Unit: sluicev1.CounterUnit_COUNTER_UNIT_PACKETS, Worker: &worker},
			`{"component":"","name":"","value":18446744073709551615,"unit":"packets","explanation":"","worker":0,"port":"","drop":false}`},
		{"what is absent is null, and an enum of tomorrow a number", &sluicev1.Counter{Unit: 99},
			`{"component":"","name":"","value":0,"unit":"99","explanation":"","worker":null,"port":"","drop":false}`},
		{"a duration is exact", durationpb.New(4048704050 * time.Nanosecond), `"4.04870405s"`},
		{"a whole duration has no fraction", durationpb.New(100 * time.Second), `"100s"`},
		{"a negative duration keeps its sign", durationpb.New(-1500 * time.Millisecond), `"-1.5s"`},
		{"a time is UTC", timestamppb.New(time.Date(2026, 11, 21, 13, 0, 0, 5e8, time.FixedZone("", 3600))), `"2026-11-21T12:00:00.5Z"`},
		{"bytes are base64", &sluicev1.ApplyRequest{Config: []byte("a")}, `{"config":"YQ==","dryRun":false,"name":""}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := JSON(c.m)
			if err != nil || string(got) != c.want {
				t.Errorf("JSON = %s, %v\nwant  %s", got, err, c.want)
			}
		})
	}
}
