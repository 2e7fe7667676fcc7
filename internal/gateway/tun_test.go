package gateway_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
	"github.com/sluicegw/sluice/relay/wireguard"
)

func (s *site) tunnel4() netip.Addr { return netip.MustParseAddr(fmt.Sprintf("100.64.0.%d", s.number)) }
func (s *site) tunnel6() netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd64::%d", s.number)) }

// withTUN gives the gateway tunnel addresses and a TUN device.
func (s *site) withTUN(t testing.TB, peer *site) {
	t.Helper()
	s.rewrite(t, "vpcs:", fmt.Sprintf("  tunnelAddresses: [%v, \"%v\"]\n  tun: {name: sluice0}\nvpcs:", s.tunnel4(), s.tunnel6()))
	s.rewrite(t, "    vpcs:\n", fmt.Sprintf("    tunnelAddresses: [%v, \"%v\"]\n    vpcs:\n", peer.tunnel4(), peer.tunnel6()))
}

func hasLink(h *netnstest.Host, name string) bool {
	_, err := h.Netlink().LinkByName(name)
	return err == nil
}

// The kernels of two gateways talk between their tunnel addresses, whatever is routed for the sites; the device comes and
// goes with the configuration and with the process, however that ends.
func TestKernelsOfTwoGatewaysTalk(t *testing.T) {
	_, sites := newSites(t)
	for i, s := range sites {
		s.withTUN(t, sites[1-i])
		s.start(t)
	}
	for i, s := range sites {
		peer := sites[1-i]
		for _, to := range []netip.Addr{peer.tunnel4(), peer.tunnel6()} {
			if err := netnstest.Ping(t.Context(), s.gateway, to, netnstest.PingOptions{Count: 5, All: true, Timeout: 4 * time.Second}); err != nil {
				t.Fatalf("%v; %s; %s", err, sites[0].nonZero(t), sites[1].nonZero(t))
			}
			if err := copyBetween(t.Context(), s.gateway, peer.gateway, to, 10<<20); err != nil {
				t.Fatalf("%v; %s; %s", err, sites[0].nonZero(t), sites[1].nonZero(t))
			}
		}
	}
	reach(t, sites, 3) // the sites are there as well
	status := sites[0].status(t)
	if tun := status.GetTun(); tun.GetProblem() != "" || tun.GetMtu() != 1420 || tun.GetToKernelBytes() < 10<<20 || tun.GetFromKernelBytes() < 10<<20 ||
		!slices.Equal(tun.GetAddresses(), []string{"100.64.0.1", "fd64::1"}) || !slices.Equal(tun.GetPeers(), []string{"100.64.0.2", "fd64::2"}) {
		t.Errorf("status: %v", tun)
	}
	if status.GetHealth() != sluicev1.Health_HEALTH_READY {
		t.Errorf("the gateway is %v: %v", status.GetHealth(), status.GetProblems())
	}

	// Reload: another name, MTU and address.
	sites[0].rewrite(t, "tun: {name: sluice0}", "tun: {name: inside, mtu: 1300}")
	sites[0].rewrite(t, ", \"fd64::1\"]", "]")
	sites[0].reload(t)
	sites[0].eventually(t, "device has its new name", func() error {
		if hasLink(sites[0].gateway, "sluice0") || !hasLink(sites[0].gateway, "inside") {
			return errors.New("no")
		}
		return nil
	})
	if got := hostAddresses(t, sites[0].gateway, "inside"); !slices.Equal(got, []string{"100.64.0.1"}) {
		t.Errorf("addresses %q", got)
	}
	if err := copyBetween(t.Context(), sites[1].gateway, sites[0].gateway, sites[0].tunnel4(), 1<<20); err != nil {
		t.Error(err)
	}

	// Somebody deletes the device: it comes back.
	link, err := sites[0].gateway.Netlink().LinkByName("inside")
	if err != nil {
		t.Fatal(err)
	}
	if err := sites[0].gateway.Netlink().LinkDel(link); err != nil {
		t.Fatal(err)
	}
	sites[0].eventually(t, "device is made again", func() error {
		again, err := sites[0].gateway.Netlink().LinkByName("inside")
		if err == nil && again.Attrs().Index == link.Attrs().Index {
			err = errors.New("still the old one")
		}
		return err
	})
	sites[0].eventually(t, "kernels talk again", func() error {
		return netnstest.Ping(t.Context(), sites[0].gateway, sites[1].tunnel4(), netnstest.PingOptions{Count: 1, Timeout: time.Second})
	})

	sites[0].stop(t)
	if hasLink(sites[0].gateway, "inside") {
		t.Error("the device is still there after the gateway has stopped")
	}
	if err := sites[1].process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-sites[1].process.Done()
	sites[1].eventually(t, "device is gone after a kill", func() error {
		if hasLink(sites[1].gateway, "sluice0") {
			return errors.New("no")
		}
		return nil
	})
}

func hostAddresses(t testing.TB, h *netnstest.Host, name string) (out []string) {
	t.Helper()
	link, err := h.Netlink().LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	list, err := h.Netlink().AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		out = append(out, a.IP.String())
	}
	return out
}

// Any WireGuard host is a peer, and its kernel talks to ours. It cannot pretend to be another peer.
func TestTheKernelOfAPlainWireGuardHostTalksToOurs(t *testing.T) {
	testenv.RequireTool(t, "wireguard-go", "wg")
	_, sites := newSites(t)
	other, err := wireguard.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	sites[0].withTUN(t, sites[1])
	sites[0].rewrite(t, "api:", fmt.Sprintf(`  - name: other
    publicKey: %s
    tunnelAddresses: [100.64.0.3]
    vpcs:
      - name: default
        prefixes: [172.16.3.0/24]
api:`, other.PublicKey()))
	host := sites[1].gateway
	run := wireguardGo(t, sites, "100.64.0.1/32,fd64::1/128")
	for _, args := range [][]string{
		{"addr", "add", "100.64.0.2/32", "dev", "wg0"}, {"addr", "add", "100.64.0.3/32", "dev", "wg0"}, {"addr", "add", "fd64::2/128", "dev", "wg0", "nodad"},
		{"route", "add", "100.64.0.1/32", "dev", "wg0", "src", "100.64.0.2"}, {"route", "add", "fd64::1/128", "dev", "wg0", "src", "fd64::2"},
	} {
		run("ip", args...)
	}
	sites[0].start(t)
	all := netnstest.PingOptions{Count: 5, All: true, Timeout: 4 * time.Second}
	for _, c := range []struct {
		from, to *netnstest.Host
		addr     netip.Addr
	}{
		{sites[0].gateway, host, sites[1].tunnel4()}, {sites[0].gateway, host, sites[1].tunnel6()},
		{host, sites[0].gateway, sites[0].tunnel4()}, {host, sites[0].gateway, sites[0].tunnel6()},
	} {
		if err := netnstest.Ping(t.Context(), c.from, c.addr, all); err != nil {
			t.Fatalf("%v; %s", err, sites[0].nonZero(t))
		}
		if err := copyBetween(t.Context(), c.from, c.to, c.addr, 10<<20); err != nil {
			t.Fatalf("%v; %s", err, sites[0].nonZero(t))
		}
	}

	var conn net.PacketConn
	if err := sites[0].gateway.Do(func() (err error) {
		conn, err = net.ListenPacket("udp4", "100.64.0.1:7")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, from := range []string{"100.64.0.3", "100.64.0.2"} { // the honest one last: what came before it has come
		if err := host.Do(func() error {
			out, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(from)}, &net.UDPAddr{IP: net.ParseIP("100.64.0.1"), Port: 7})
			if err != nil {
				return err
			}
			defer out.Close()
			_, err = out.Write([]byte(from))
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 100)
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, from, err := conn.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "100.64.0.2" || !strings.HasPrefix(from.String(), "100.64.0.2:") {
		t.Errorf("got %q from %v: %v", buf[:n], from, err)
	}
	if got := sites[0].nonZero(t); !strings.Contains(got, "relay/tunnel_mismatch=1") {
		t.Errorf("the forged packet was not counted: %s", got)
	}
}

// A name that somebody has already is a problem that is told, and the gateway forwards nevertheless.
func TestATUNDeviceThatCannotBeMadeIsTold(t *testing.T) {
	_, sites := newSites(t)
	sites[0].withTUN(t, sites[1])
	sites[0].rewrite(t, "tun: {name: sluice0}", "tun: {name: taken}")
	taken := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "taken"}, Mode: netlink.TUNTAP_MODE_TUN}
	if err := sites[0].gateway.Do(func() error { return netlink.LinkAdd(taken) }); err != nil {
		t.Fatal(err)
	}
	sites[0].start(t)
	sites[1].start(t)
	reach(t, sites, 3)
	status := sites[0].status(t)
	if problem := status.GetTun().GetProblem(); !strings.Contains(problem, "another interface of that name") || status.GetHealth() != sluicev1.Health_HEALTH_DEGRADED {
		t.Errorf("%v: %q", status.GetHealth(), problem)
	}
	link, err := sites[0].gateway.Netlink().LinkByName("taken")
	if err != nil {
		t.Fatal(err)
	}
	if err := sites[0].gateway.Netlink().LinkDel(link); err != nil {
		t.Fatal(err)
	}
	sites[0].eventually(t, "the device is made when the name is free", func() error {
		if status := sites[0].status(t); status.GetHealth() != sluicev1.Health_HEALTH_READY {
			return fmt.Errorf("%v: %q", status.GetHealth(), status.GetProblems())
		}
		return nil
	})
}
