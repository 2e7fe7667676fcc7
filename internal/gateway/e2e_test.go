package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/api/sluice/v1/sluicev1connect"
	"github.com/sluicegw/sluice/internal/gateway"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// runAs makes this test binary a gateway: each runs as a process of its own, in its own namespace, as in real life.
const runAs = "SLUICE_TEST_GATEWAY"

func TestMain(m *testing.M) {
	if path := os.Getenv(runAs); path != "" {
		if err := runGateway(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func runGateway(path string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	g, err := gateway.New(gateway.Options{ConfigPath: path, Version: "test", Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	go func() {
		for range hangup {
			if _, err := g.Reload(ctx, &sluicev1.ReloadRequest{}); err != nil {
				fmt.Fprintln(os.Stderr, "reload:", err)
			}
		}
	}()
	return g.Run(ctx)
}

// site is a gateway with one routed host behind it.
type site struct {
	number  int
	host    *netnstest.Host
	gateway *netnstest.Host
	inside  *netnstest.Link // the gateway's port towards the host
	wan     *netnstest.Link
	key     wireguard.PrivateKey
	dir     string
	process *netnstest.Cmd
	log     *os.File
}

func (s *site) addr4() netip.Addr { return netip.MustParseAddr(fmt.Sprintf("172.16.%d.10", s.number)) }
func (s *site) addr6() netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd16:%d::10", s.number)) }
func (s *site) outer() string     { return fmt.Sprintf("198.51.100.%d", s.number) }
func (s *site) config() string    { return filepath.Join(s.dir, "sluice.yaml") }
func (s *site) socket() string    { return filepath.Join(s.dir, "sock") }
func (s *site) client() sluicev1connect.GatewayServiceClient {
	return api.Dial(s.socket())
}

// newSites builds host1 - gateway1 ~ gateway2 - host2, with keys and configurations but without a running gateway.
func newSites(t testing.TB) (*netnstest.Scope, [2]*site) {
	t.Helper()
	testenv.RequireRoot(t)
	scope := netnstest.New(t)
	var sites [2]*site
	for i := range sites {
		n := i + 1
		s := &site{number: n, host: scope.NewHost(fmt.Sprint("host", n)), gateway: scope.NewHost(fmt.Sprint("gw", n)), dir: t.TempDir()}
		_, s.inside = scope.Connect(
			netnstest.End{Host: s.host, Name: "eth0", Addrs: netnstest.Prefixes(fmt.Sprintf("172.16.%d.10/24", n), fmt.Sprintf("fd16:%d::10/64", n))},
			netnstest.End{Host: s.gateway, Name: "host0", Addrs: netnstest.Prefixes(fmt.Sprintf("172.16.%d.1/24", n), fmt.Sprintf("fd16:%d::1/64", n))},
		)
		other := 3 - n
		s.host.Route(netip.MustParsePrefix(fmt.Sprintf("172.16.%d.0/24", other)), netip.MustParseAddr(fmt.Sprintf("172.16.%d.1", n)))
		s.host.Route(netip.MustParsePrefix(fmt.Sprintf("fd16:%d::/64", other)), netip.MustParseAddr(fmt.Sprintf("fd16:%d::1", n)))
		s.makeKey(t)
		sites[i] = s
	}
	sites[0].wan, sites[1].wan = scope.Connect(
		netnstest.End{Host: sites[0].gateway, Name: "wan0", Addrs: netnstest.Prefixes("198.51.100.1/24", "fd51::1/64")},
		netnstest.End{Host: sites[1].gateway, Name: "wan0", Addrs: netnstest.Prefixes("198.51.100.2/24", "fd51::2/64")},
	)
	for i, s := range sites {
		s.write(t, sites[1-i], "")
	}
	return scope, sites
}

// makeKey makes the gateway's key and its file.
func (s *site) makeKey(t testing.TB) {
	t.Helper()
	var err error
	if s.key, err = wireguard.NewPrivateKey(); err != nil {
		t.Fatal(err)
	}
	if err := s.key.WriteFile(filepath.Join(s.dir, "wg.key")); err != nil {
		t.Fatal(err)
	}
}

// write writes the configuration; more is added to the prefixes of the peer.
func (s *site) write(t testing.TB, peer *site, more string) {
	t.Helper()
	text := fmt.Sprintf(`site: site%[1]d
gateway: gw%[1]d
ports:
  - name: host0
  - name: wan0
wireguard:
  keyFile: %[2]s/wg.key
vpcs:
  - name: default
    vni: 0
    attachments:
      - type: routed
        port: host0
        prefixes: [172.16.%[1]d.0/24, "fd16:%[1]d::/64"]
peers:
  - name: peer
    publicKey: %[3]s
    endpoint: %[4]s:51820
    vpcs:
      - name: default
        prefixes: [172.16.%[5]d.0/24, "fd16:%[5]d::/64"%[6]s]
api:
  socket: %[7]s
`, s.number, s.dir, peer.key.PublicKey(), peer.outer(), peer.number, more, s.socket())
	if err := os.WriteFile(s.config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// start runs the gateway, under wrapper if there is one, and waits until it answers.
func (s *site) start(t testing.TB, wrapper ...string) {
	t.Helper()
	s.launch(t, wrapper...)
	s.eventually(t, "gateway is up", func() error {
		status, err := s.client().Status(t.Context(), &sluicev1.StatusRequest{})
		if err == nil && status.GetHealth() == sluicev1.Health_HEALTH_STARTING {
			err = errors.New("still starting")
		}
		return err
	})
}

func (s *site) launch(t testing.TB, wrapper ...string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if s.log == nil {
		if s.log, err = os.Create(filepath.Join(s.dir, "log")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			s.log.Close()
			if text, err := os.ReadFile(s.log.Name()); t.Failed() && err == nil {
				t.Logf("gateway %d:\n%s", s.number, text)
			}
		})
	}
	args := append(append([]string(nil), wrapper...), self)
	s.process = s.gateway.Command(context.Background(), args[0], args[1:]...)
	s.process.Env = append(os.Environ(), runAs+"="+s.config())
	s.process.Stdout, s.process.Stderr = s.log, s.log
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
}

func (s *site) eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) { // a process has taken 15 s to start where 40 others wanted the processor
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("gateway %d: %s: %v", s.number, what, err)
}

func (s *site) status(t testing.TB) *sluicev1.StatusResponse {
	t.Helper()
	status, err := s.client().Status(t.Context(), &sluicev1.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// reach sends pings both ways, both families; all must come back, also the first. That may take a second or two on
// interfaces that were just made: the kernel solicits no IPv6 neighbour before it has a link-local address.
func reach(t testing.TB, sites [2]*site, count int) {
	t.Helper()
	for i, s := range sites {
		for _, to := range []netip.Addr{sites[1-i].addr4(), sites[1-i].addr6()} {
			if err := netnstest.Ping(t.Context(), s.host, to, netnstest.PingOptions{Count: count, All: true, Timeout: 4 * time.Second}); err != nil {
				t.Error(err)
			}
		}
	}
	if t.Failed() {
		for _, s := range sites {
			t.Log(s.nonZero(t))
		}
		t.FailNow()
	}
}

// nonZero is every counter that moved, for the log of a failed test.
func (s *site) nonZero(t testing.TB) string {
	counters, err := s.client().Counters(t.Context(), &sluicev1.CountersRequest{})
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "counters of gateway %d:", s.number)
	for _, c := range counters.GetCounters() {
		if c.GetValue() != 0 {
			fmt.Fprintf(&b, " %s/%s=%d", c.GetComponent(), c.GetName(), c.GetValue())
		}
	}
	return b.String()
}

func (s *site) stop(t testing.TB) {
	t.Helper()
	if err := s.process.Stop(); err != nil {
		t.Fatalf("gateway %d: stop: %v", s.number, err)
	}
}

func TestTwoSitesTalk(t *testing.T) {
	_, sites := newSites(t)
	for _, s := range sites {
		s.start(t)
	}
	reach(t, sites, 20)
	for _, s := range sites {
		if status := s.status(t); status.GetHealth() != sluicev1.Health_HEALTH_READY {
			t.Errorf("gateway %d is %v: %q", s.number, status.GetHealth(), status.GetProblems())
		}
	}
}

func TestStopDetachesEverything(t *testing.T) {
	_, sites := newSites(t)
	sites[0].start(t)
	if !attached(t, sites[0].wan) {
		t.Fatal("no XDP program on wan0 while the gateway runs")
	}
	sites[0].stop(t)
	for _, link := range []*netnstest.Link{sites[0].wan, sites[0].inside} {
		if attached(t, link) {
			t.Errorf("the XDP program is still on %s", link.Name)
		}
	}
	if _, err := os.Stat(sites[0].socket()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the API socket is still there: %v", err)
	}
}

func attached(t testing.TB, link *netnstest.Link) bool {
	t.Helper()
	l, err := link.Host.Netlink().LinkByName(link.Name)
	if err != nil {
		t.Fatal(err)
	}
	return l.Attrs().Xdp != nil && l.Attrs().Xdp.Attached
}

func TestKilledGatewayLeavesTheKernelAloneAndComesBack(t *testing.T) {
	_, sites := newSites(t)
	for _, s := range sites {
		s.start(t)
	}
	reach(t, sites, 3)
	if err := sites[0].process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-sites[0].process.Done()
	sites[0].eventually(t, "program is gone", func() error {
		if attached(t, sites[0].wan) {
			return errors.New("still attached")
		}
		return nil
	})
	sites[0].start(t)
	// The other gateway still has a session that nobody can open: the first packet of the new process replaces it.
	if err := netnstest.Ping(t.Context(), sites[0].host, sites[1].addr4(), netnstest.PingOptions{Count: 5}); err != nil {
		t.Fatal(err)
	}
	reach(t, sites, 3)
}

func TestReloadKeepsSessionsAndLosesNothing(t *testing.T) {
	_, sites := newSites(t)
	for _, s := range sites {
		s.start(t)
	}
	reach(t, sites, 3)
	before := sites[0].status(t)
	pings := make(chan error, 1)
	go func() {
		pings <- netnstest.Ping(t.Context(), sites[0].host, sites[1].addr4(), netnstest.PingOptions{Count: 5000, All: true})
	}()
	for i := range 20 {
		sites[0].write(t, sites[1], fmt.Sprintf(", 10.%d.0.0/16", i))
		if err := sites[0].process.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		want := before.GetConfig().GetRevision() + uint64(i) + 1
		sites[0].eventually(t, "configuration is in force", func() error {
			if c := sites[0].status(t).GetConfig(); c.GetRevision() != want {
				return fmt.Errorf("revision %d (%s), not %d", c.GetRevision(), c.GetLastError(), want)
			}
			return nil
		})
	}
	if err := <-pings; err != nil {
		t.Error(err)
	}
	after := sites[0].status(t)
	b, a := before.GetPeers()[0].GetLastHandshake().AsTime(), after.GetPeers()[0].GetLastHandshake().AsTime()
	if a.Sub(b).Abs() > 100*time.Microsecond { // both are told relative to the wall clock of their moment
		t.Errorf("the session was made anew: handshake %v, then %v", b, a)
	}
	routes, err := sites[0].client().Routes(t.Context(), &sluicev1.RoutesRequest{Vpc: "default", Address: "10.19.1.1"})
	if err != nil || len(routes.GetRoutes()) != 1 || routes.GetRoutes()[0].GetNextHops()[0].GetPeer() != "peer" {
		t.Errorf("the new prefix is not routed: %v, %v", routes, err)
	}
}

func TestApplyRefusesWhatCannotBeAndChangesNothing(t *testing.T) {
	_, sites := newSites(t)
	sites[0].start(t)
	good, err := os.ReadFile(sites[0].config())
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"unknown key":       strings.Replace(string(good), "vni: 0", "vnii: 0", 1),
		"missing key file":  strings.Replace(string(good), "wg.key", "no.key", 1),
		"own key as a peer": strings.Replace(string(good), sites[1].key.PublicKey().String(), sites[0].key.PublicKey().String(), 1),
		"needs a restart":   "workers: 2\n" + string(good),
		"too many VPCs":     large(t, string(good), 4097, 1, 1),
	} {
		t.Run(name, func(t *testing.T) {
			response, err := sites[0].client().Apply(t.Context(), &sluicev1.ApplyRequest{Config: []byte(bad), Name: "bad.yaml"})
			if err != nil {
				t.Fatal(err)
			}
			if len(response.GetProblems()) == 0 {
				t.Error("no problem reported")
			}
			if now, err := os.ReadFile(sites[0].config()); err != nil || string(now) != string(good) {
				t.Errorf("the configuration file was changed (%v)", err)
			}
			if status := sites[0].status(t); status.GetConfig().GetRevision() != 1 || status.GetConfig().GetLastError() == "" {
				t.Errorf("status does not tell: %v", status.GetConfig())
			}
		})
	}
}

func TestPortComesAndGoes(t *testing.T) {
	scope, sites := newSites(t)
	for _, s := range sites {
		s.start(t)
	}
	reach(t, sites, 3)
	sites[0].inside.Delete()
	sites[0].eventually(t, "missing port is a problem", func() error {
		if status := sites[0].status(t); status.GetHealth() != sluicev1.Health_HEALTH_DEGRADED {
			return fmt.Errorf("%v %q", status.GetHealth(), status.GetProblems())
		}
		return nil
	})
	scope.Connect(
		netnstest.End{Host: sites[0].host, Name: "eth0", Addrs: netnstest.Prefixes("172.16.1.10/24", "fd16:1::10/64")},
		netnstest.End{Host: sites[0].gateway, Name: "host0", Addrs: netnstest.Prefixes("172.16.1.1/24", "fd16:1::1/64")},
	)
	sites[0].host.Route(netip.MustParsePrefix("172.16.2.0/24"), netip.MustParseAddr("172.16.1.1"))
	sites[0].host.Route(netip.MustParsePrefix("fd16:2::/64"), netip.MustParseAddr("fd16:1::1"))
	sites[0].eventually(t, "port works again", func() error {
		if status := sites[0].status(t); status.GetHealth() != sluicev1.Health_HEALTH_READY {
			return fmt.Errorf("%v %q", status.GetHealth(), status.GetProblems())
		}
		return nil
	})
	reach(t, sites, 10)
}

// The set is that of deploy/systemd/sluice.service.
func TestRunsWithTheUnitsCapabilities(t *testing.T) {
	testenv.RequireTool(t, "setpriv")
	unit, err := os.ReadFile("../../deploy/systemd/sluice.service")
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(unit), "\nCapabilityBoundingSet=")
	line, _, _ := strings.Cut(after, "\n")
	if !ok {
		t.Fatal("the unit sets no capabilities")
	}
	set := "-all"
	for _, name := range strings.Fields(line) {
		set += ",+" + strings.ToLower(strings.TrimPrefix(name, "CAP_"))
	}
	_, sites := newSites(t)
	for _, s := range sites {
		s.start(t, "setpriv", "--bounding-set", set, "--inh-caps", set, "--no-new-privs")
	}
	reach(t, sites, 3)
}

// wireguardGo makes the gateway host of the second site a plain WireGuard host with the device wg0, as a peer of the first
// site, and returns how to run a command there.
func wireguardGo(t *testing.T, sites [2]*site, allowed string) (run func(name string, args ...string)) {
	t.Helper()
	host := sites[1].gateway
	daemon := host.Command(context.Background(), "wireguard-go", "-f", "wg0")
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	run = func(name string, args ...string) {
		t.Helper()
		if out, err := host.Command(t.Context(), name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %q: %v: %s", name, args, err, out)
		}
	}
	sites[1].eventually(t, "wg0 is there", func() error {
		_, err := host.Netlink().LinkByName("wg0")
		return err
	})
	run("wg", "set", "wg0", "private-key", filepath.Join(sites[1].dir, "wg.key"), "listen-port", "51820",
		"peer", sites[0].key.PublicKey().String(), "endpoint", "198.51.100.1:51820", "allowed-ips", allowed)
	run("ip", "link", "set", "wg0", "up", "mtu", "1420")
	return run
}

// A host that runs wireguard-go, set up with wg(8), is a full peer of the default VPC.
func TestPlainWireGuardHostIsAPeer(t *testing.T) {
	testenv.RequireTool(t, "wireguard-go", "wg")
	_, sites := newSites(t)
	host := sites[1].gateway
	run := wireguardGo(t, sites, "172.16.1.0/24,fd16:1::/64")
	for _, args := range [][]string{
		{"addr", "add", "172.16.2.77/32", "dev", "wg0"}, {"addr", "add", "fd16:2::77/128", "dev", "wg0", "nodad"},
		{"route", "add", "172.16.1.0/24", "dev", "wg0", "src", "172.16.2.77"}, {"route", "add", "fd16:1::/64", "dev", "wg0", "src", "fd16:2::77"},
	} {
		run("ip", args...)
	}
	sites[0].start(t)
	all := netnstest.PingOptions{Count: 10, All: true, Timeout: 4 * time.Second}
	for _, addr := range []string{"172.16.2.77", "fd16:2::77"} {
		if err := netnstest.Ping(t.Context(), sites[0].host, netip.MustParseAddr(addr), all); err != nil {
			t.Error(err)
		}
	}
	for _, addr := range []netip.Addr{sites[0].addr4(), sites[0].addr6()} {
		if err := netnstest.Ping(t.Context(), host, addr, all); err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		t.Log(sites[0].nonZero(t))
	}
}
