package gateway_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// edit replaces text in the configuration and reloads it.
func (s *site) edit(t testing.TB, old, new string) {
	t.Helper()
	s.rewrite(t, old, new)
	s.reload(t)
}

// rewrite replaces text in the configuration.
func (s *site) rewrite(t testing.TB, old, new string) {
	t.Helper()
	text, err := os.ReadFile(s.config())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(old)) {
		t.Fatalf("the configuration does not say %q", old)
	}
	if err := os.WriteFile(s.config(), bytes.Replace(text, []byte(old), []byte(new), 1), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *site) reload(t testing.TB) {
	t.Helper()
	response, err := s.client().Reload(t.Context(), &sluicev1.ReloadRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if p := response.GetProblems(); len(p) > 0 {
		t.Fatalf("refused: %v", p)
	}
}

func started(t testing.TB) (*netnstest.Scope, [2]*site) {
	t.Helper()
	scope, sites := newSites(t)
	for _, s := range sites {
		s.start(t)
	}
	reach(t, sites, 3)
	return scope, sites
}

func TestPeerKeepsItsSessionUnderANewName(t *testing.T) {
	_, sites := started(t)
	sites[0].edit(t, "name: peer\n", "name: bergen\n")
	reach(t, sites, 3)
	if peers := sites[0].status(t).GetPeers(); len(peers) != 1 || peers[0].GetName() != "bergen" {
		t.Errorf("peers are %v", peers)
	}
}

func TestPeerGoesAndComesBack(t *testing.T) {
	_, sites := started(t)
	good, err := os.ReadFile(sites[0].config())
	if err != nil {
		t.Fatal(err)
	}
	before, after, _ := strings.Cut(string(good), "peers:\n")
	_, after, _ = strings.Cut(after, "api:\n")
	for _, text := range []string{before + "api:\n" + after, string(good)} {
		if err := os.WriteFile(sites[0].config(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(60 * time.Millisecond) // a peer may begin 20 handshakes per second
		sites[0].reload(t)
	}
	// The other side still holds a session that is gone here; the first packet from here replaces it.
	if err := netnstest.Ping(t.Context(), sites[0].host, sites[1].addr4(), netnstest.PingOptions{Count: 3, All: true}); err != nil {
		t.Error(err)
	}
	reach(t, sites, 3)
}

// The first packet after a rotation that the peer hears of late waits for the second handshake message, five seconds
// after the first: longer than anything else in this package takes.
func TestKeysAndPortsChangeWhileTheGatewayRuns(t *testing.T) {
	_, sites := started(t)
	// A new private key, told to the peer first.
	key, err := wireguard.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	old := sites[0].key
	path := filepath.Join(sites[0].dir, "wg.key")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := key.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	sites[0].reload(t)
	sites[1].edit(t, old.PublicKey().String(), key.PublicKey().String())
	sites[0].key = key
	patient(t, sites)

	// A pre-shared key, on one side first.
	for _, s := range sites {
		psk := filepath.Join(s.dir, "psk")
		if err := os.WriteFile(psk, []byte("FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE=\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.edit(t, "    endpoint:", "    presharedKeyFile: "+psk+"\n    endpoint:")
	}
	patient(t, sites)

	// Another port, and the peer is told.
	sites[0].edit(t, "  keyFile:", "  listenPort: 51821\n  keyFile:")
	sites[1].edit(t, "198.51.100.1:51820", "198.51.100.1:51821")
	reach(t, sites, 3)

	// Another address; the old one goes.
	sites[0].run(t, "ip", "addr", "add", "198.51.100.7/24", "dev", "wan0")
	sites[1].edit(t, "198.51.100.1:51821", "198.51.100.7:51821")
	sites[0].run(t, "ip", "addr", "del", "198.51.100.1/24", "dev", "wan0")
	sites[0].run(t, "ip", "addr", "add", "198.51.100.7/24", "dev", "wan0")
	// What it sends before it has seen the change comes from the old address, and the peer would answer there until it
	// hears from the new one.
	sites[0].eventually(t, "new address is in force", func() error {
		for _, p := range sites[0].status(t).GetPorts() {
			if a := p.GetAddresses(); p.GetName() == "wan0" && slices.Contains(a, "198.51.100.7/24") && !slices.Contains(a, "198.51.100.1/24") {
				return nil
			}
		}
		return errors.New("status shows the old address")
	})
	// The route's source follows the links by a moment: a packet may still leave from the old address and miss its answer.
	if err := netnstest.Ping(t.Context(), sites[0].host, sites[1].addr4(), netnstest.PingOptions{Count: 5}); err != nil {
		t.Error(err)
	}
	reach(t, sites, 3)
	for _, s := range sites {
		if text, err := os.ReadFile(s.log.Name()); err != nil || bytes.Contains(text, []byte("FpCyhws9")) {
			t.Errorf("a secret is in the log (%v)", err)
		}
	}
}

// patient sends one packet that may wait for a handshake to be tried again, and then what reach sends.
func patient(t testing.TB, sites [2]*site) {
	t.Helper()
	if err := netnstest.Ping(t.Context(), sites[0].host, sites[1].addr4(), netnstest.PingOptions{Count: 1, All: true, Timeout: 8 * time.Second}); err != nil {
		t.Error(err)
	}
	reach(t, sites, 3)
}

// run runs a command in the gateway's namespace. That something is there already is no failure: deleting an address
// may have taken others with it, or not (promote_secondaries).
func (s *site) run(t testing.TB, name string, args ...string) {
	t.Helper()
	out, err := s.gateway.Command(t.Context(), name, args...).CombinedOutput()
	if err != nil && !bytes.Contains(out, []byte("already assigned")) && !bytes.Contains(out, []byte("File exists")) {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}

func (s *site) descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.process.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestPortThatFlapsLeaksNothing(t *testing.T) {
	scope, sites := started(t)
	before := sites[0].descriptors(t)
	for range 20 {
		sites[0].inside.Delete()
		_, sites[0].inside = scope.Connect(
			netnstest.End{Host: sites[0].host, Name: "eth0", Addrs: netnstest.Prefixes("172.16.1.10/24", "fd16:1::10/64")},
			netnstest.End{Host: sites[0].gateway, Name: "host0", Addrs: netnstest.Prefixes("172.16.1.1/24", "fd16:1::1/64")},
		)
		time.Sleep(10 * time.Millisecond) // some are noticed, some are not
	}
	sites[0].host.Route(netip.MustParsePrefix("172.16.2.0/24"), netip.MustParseAddr("172.16.1.1"))
	sites[0].host.Route(netip.MustParsePrefix("fd16:2::/64"), netip.MustParseAddr("fd16:1::1"))
	sites[0].eventually(t, "port works again", func() error {
		if status := sites[0].status(t); status.GetHealth() != sluicev1.Health_HEALTH_READY {
			return fmt.Errorf("%v %q", status.GetHealth(), status.GetProblems())
		}
		return nil
	})
	reach(t, sites, 5)
	sites[0].eventually(t, "no descriptor is left behind", func() error {
		if now := sites[0].descriptors(t); now > before+1 { // one connection of the API comes and goes
			return fmt.Errorf("%d descriptors, before %d", now, before)
		}
		return nil
	})
}

func TestStatusTellsOfAConfigurationThatCannotBeRead(t *testing.T) {
	_, sites := newSites(t)
	sites[0].start(t)
	if err := os.Remove(sites[0].config()); err != nil {
		t.Fatal(err)
	}
	if _, err := sites[0].client().Reload(t.Context(), &sluicev1.ReloadRequest{}); err != nil {
		t.Fatal(err)
	}
	if why := sites[0].status(t).GetConfig().GetLastError(); !strings.Contains(why, "no such file") {
		t.Errorf("status says %q", why)
	}
}
