package gateway_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// newNarrowWAN puts a router into the WAN: the link of gateway 1 carries 1300 bytes, the other's 1500. The other end is a
// host with wireguard-go, whose datagrams the router (IPv4) or the host itself (IPv6) cuts.
func newNarrowWAN(t *testing.T, outer int) (near *site, far *site) {
	t.Helper()
	testenv.RequireTool(t, "wireguard-go", "wg")
	scope, sites := newSites(t)
	near, far = sites[0], &site{number: 2, host: sites[1].gateway, key: sites[1].key, dir: sites[1].dir}
	near.wan.Delete()
	router := scope.NewRouter("wanrouter")
	scope.Connect(
		netnstest.End{Host: near.gateway, Name: "wan0", MTU: 1300, Addrs: netnstest.Prefixes("198.51.100.1/24", "fd51::1/64")},
		netnstest.End{Host: router, Name: "near", MTU: 1300, Addrs: netnstest.Prefixes("198.51.100.254/24", "fd51::fe/64")},
	)
	scope.Connect(
		netnstest.End{Host: far.host, Name: "eth0", Addrs: netnstest.Prefixes("203.0.113.2/24", "fd52::2/64")},
		netnstest.End{Host: router, Name: "far", Addrs: netnstest.Prefixes("203.0.113.254/24", "fd52::fe/64")},
	)
	near.gateway.Route(netip.MustParsePrefix("203.0.113.0/24"), netip.MustParseAddr("198.51.100.254"))
	near.gateway.Route(netip.MustParsePrefix("fd52::/64"), netip.MustParseAddr("fd51::fe"))
	far.host.Route(netip.MustParsePrefix("198.51.100.0/24"), netip.MustParseAddr("203.0.113.254"))
	far.host.Route(netip.MustParsePrefix("fd51::/64"), netip.MustParseAddr("fd52::fe"))
	far.host.Sysctl("net.ipv4.ip_no_pmtu_disc", "1") // no DF on the host's datagrams, as the kernel's WireGuard does it

	us, them := "198.51.100.1:51820", "203.0.113.2:51820"
	if outer == 6 {
		us, them = "[fd51::1]:51820", "[fd52::2]:51820"
	}
	text, err := os.ReadFile(near.config())
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.Replace(string(text), "endpoint: 198.51.100.2:51820", "endpoint: \""+them+"\"\n    clampMSS: false", 1)
	if err := os.WriteFile(near.config(), []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	far.startWireGuardGo(t, near, us)
	near.start(t)
	return near, far
}

// startWireGuardGo makes the site's host a peer with an interface of 1420 bytes and the host's addresses of that site.
func (s *site) startWireGuardGo(t *testing.T, peer *site, endpoint string) {
	t.Helper()
	wg := fmt.Sprintf("wgl%d", os.Getpid()) // its control socket has this name in a folder that namespaces share
	daemon := s.host.Command(context.Background(), "wireguard-go", "-f", wg)
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	s.eventually(t, "the interface is there", func() error {
		_, err := s.host.Netlink().LinkByName(wg)
		return err
	})
	n := peer.number
	for _, args := range [][]string{
		{"wg", "set", wg, "private-key", filepath.Join(s.dir, "wg.key"), "listen-port", "51820",
			"peer", peer.key.PublicKey().String(), "endpoint", endpoint, "allowed-ips", fmt.Sprintf("172.16.%d.0/24,fd16:%d::/64", n, n)},
		{"ip", "link", "set", wg, "up", "mtu", "1420"},
		{"ip", "addr", "add", s.addr4().String() + "/32", "dev", wg},
		{"ip", "addr", "add", s.addr6().String() + "/128", "dev", wg, "nodad"},
		{"ip", "route", "add", fmt.Sprintf("172.16.%d.0/24", n), "dev", wg, "src", s.addr4().String()},
		{"ip", "route", "add", fmt.Sprintf("fd16:%d::/64", n), "dev", wg, "src", s.addr6().String()},
	} {
		if out, err := s.host.Command(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
	}
}

// The WAN cuts what a peer sends: the kernel puts the datagrams together, and the gateway takes them from there.
func TestDatagramsThatTheWANHasCutArrive(t *testing.T) {
	for _, outer := range []int{4, 6} {
		t.Run(fmt.Sprintf("IPv%d", outer), func(t *testing.T) {
			near, far := newNarrowWAN(t, outer)
			defer func() {
				if t.Failed() {
					t.Log(near.nonZero(t))
				}
			}()
			near.eventually(t, "the far host answers", func() error {
				return netnstest.Ping(t.Context(), near.host, far.addr4(), netnstest.PingOptions{Count: 1})
			})
			big := netnstest.PingOptions{Count: 10, All: true, Timeout: 4 * time.Second, Size: 1350}
			for _, way := range []struct { // the kernels learn what fits: the first one may be lost
				from *netnstest.Host
				to   netip.Addr
			}{{far.host, near.addr4()}, {near.host, far.addr4()}} {
				near.eventually(t, "a big ping is answered", func() error {
					return netnstest.Ping(t.Context(), way.from, way.to, netnstest.PingOptions{Count: 1, Size: 1350})
				})
			}
			before := near.counter(t, "socket", "reassembled")
			if err := netnstest.Ping(t.Context(), far.host, near.addr4(), big); err != nil {
				t.Error(err)
			}
			if err := netnstest.Ping(t.Context(), near.host, far.addr4(), big); err != nil {
				t.Error(err)
			}
			// Every request of the far host was cut on its way; its answers as well where they are long.
			if n := near.counter(t, "socket", "reassembled") - before; n < 20 {
				t.Errorf("%d datagrams were put together, want 20", n)
			}
			if n := near.counter(t, "xdp", "pass_fragment"); n < 40 {
				t.Errorf("the XDP program has seen %d fragments, want 40", n)
			}
			if outer == 4 { // inner IPv6 over a WAN of 1300 bytes: longer than 1280 goes this way only
				if err := netnstest.Ping(t.Context(), far.host, near.addr6(), netnstest.PingOptions{Count: 3, All: true, Timeout: 4 * time.Second, Size: 1180}); err != nil {
					t.Error(err)
				}
			}
			before = near.counter(t, "socket", "reassembled")
			if err := copyOver(t.Context(), far, near, 2<<20); err != nil {
				t.Error(err)
			}
			if n := near.counter(t, "socket", "reassembled") - before; n < 1000 {
				t.Errorf("%d segments came in fragments", n)
			}
			if err := copyOver(t.Context(), near, far, 2<<20); err != nil {
				t.Error(err)
			}
		})
	}
}

// Nobody else may have the WireGuard port, and a gateway that moves to another one takes its socket along.
func TestTheWireGuardPortIsTheGatewaysOwn(t *testing.T) {
	_, sites := started(t)
	taken := func(port int) (err error) {
		return sites[0].gateway.Do(func() error {
			conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: port})
			if err != nil {
				return err
			}
			return conn.Close()
		})
	}
	if err := taken(51820); err == nil {
		t.Error("somebody else could listen on the port")
	}
	sites[0].edit(t, "wireguard:\n", "wireguard:\n  listenPort: 51821\n")
	if err := taken(51820); err != nil {
		t.Errorf("the old port is not free: %v", err)
	}
	if err := taken(51821); err == nil {
		t.Error("somebody else could listen on the new port")
	}
}

// A port that somebody else has costs fragments, and nothing else; it is taken when it is free.
func TestAWireGuardPortThatIsTakenIsTriedAgain(t *testing.T) {
	_, sites := newSites(t)
	var conn *net.UDPConn
	if err := sites[0].gateway.Do(func() (err error) {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 51820})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, s := range sites {
		s.start(t)
	}
	reach(t, sites, 3)
	conn.Close()
	if err := sites[0].process.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	sites[0].eventually(t, "the port is taken", func() error {
		return sites[0].gateway.Do(func() error {
			conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 51820})
			if err != nil {
				return nil
			}
			conn.Close()
			return fmt.Errorf("it is free")
		})
	})
}

// A worker owns one queue of a port. What the NIC puts into others goes to the kernel, and comes back by the socket.
func TestDatagramsOfQueuesWithoutAnAFXDPSocketArrive(t *testing.T) {
	scope, sites := newSites(t)
	sites[0].wan.Delete()
	scope.Connect(
		netnstest.End{Host: sites[0].gateway, Name: "wan0", Queues: 4, Addrs: netnstest.Prefixes("198.51.100.1/24")},
		netnstest.End{Host: sites[1].gateway, Name: "wan0", Queues: 4, Addrs: netnstest.Prefixes("198.51.100.2/24")},
	)
	sites[0].start(t)
	const flows = 64
	message := make([]byte, 64) // data of a session that nobody has
	message[0] = 4
	if err := sites[1].gateway.Do(func() error {
		for range flows {
			conn, err := net.Dial("udp4", "198.51.100.1:51820")
			if err != nil {
				return err
			}
			defer conn.Close()
			if _, err := conn.Write(message); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	sites[0].eventually(t, "all datagrams are at a worker", func() error {
		if n := sites[0].counter(t, "relay", "unknown_index"); n != flows {
			return fmt.Errorf("%d of %d; %s", n, flows, sites[0].nonZero(t))
		}
		return nil
	})
	if sites[0].counter(t, "socket", "whole") == 0 || sites[0].counter(t, "xdp", "pass_no_socket") == 0 {
		t.Errorf("no datagram came by way of the kernel: %s", sites[0].nonZero(t))
	}
}
