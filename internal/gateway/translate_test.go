package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// newTwins builds two sites whose hosts have the same addresses, 10.1.0.10 and fd10:1::10. The other site knows site n
// as 10.(100+n).0.0/16 and fd10:(100+n)::/32.
func newTwins(t *testing.T) [2]*site {
	t.Helper()
	testenv.RequireRoot(t)
	scope := netnstest.New(t)
	var sites [2]*site
	for i := range sites {
		n := i + 1
		s := &site{number: n, host: scope.NewHost(fmt.Sprint("host", n)), gateway: scope.NewHost(fmt.Sprint("gw", n)), dir: t.TempDir()}
		_, s.inside = scope.Connect(
			netnstest.End{Host: s.host, Name: "eth0", Addrs: netnstest.Prefixes("10.1.0.10/24", "fd10:1::10/64")},
			netnstest.End{Host: s.gateway, Name: "host0", Addrs: netnstest.Prefixes("10.1.0.1/24", "fd10:1::1/64")},
		)
		s.host.Route(netip.MustParsePrefix("10.0.0.0/8"), netip.MustParseAddr("10.1.0.1"))
		s.host.Route(netip.MustParsePrefix("fd10::/16"), netip.MustParseAddr("fd10:1::1"))
		s.makeKey(t)
		sites[i] = s
	}
	sites[0].wan, sites[1].wan = scope.Connect(
		netnstest.End{Host: sites[0].gateway, Name: "wan0", Addrs: netnstest.Prefixes("198.51.100.1/24")},
		netnstest.End{Host: sites[1].gateway, Name: "wan0", Addrs: netnstest.Prefixes("198.51.100.2/24")},
	)
	for i, s := range sites {
		peer := sites[1-i]
		text := fmt.Sprintf(`site: site%[1]d
gateway: gw%[1]d
ports: [{name: host0}, {name: wan0}]
wireguard: {keyFile: %[2]s/wg.key, tunnelAddresses: [100.64.0.%[1]d]}
vpcs:
  - name: red
    vni: 100
    attachments:
      - {type: routed, port: host0, prefixes: [10.1.0.0/16, "fd10:1::/32"]}
    translate:
      - {prefix: 10.1.0.0/16, as: 10.10%[1]d.0.0/16}
      - {prefix: "fd10:1::/32", as: "fd10:10%[1]d::/32"}
peers:
  - name: peer
    publicKey: %[3]s
    endpoint: %[4]s:51820
    tunnelAddresses: [100.64.0.%[5]d]
    vpcs: [{name: red, prefixes: [10.10%[5]d.0.0/16, "fd10:10%[5]d::/32"]}]
api: {socket: %[6]s}
`, s.number, s.dir, peer.key.PublicKey(), peer.outer(), peer.number, s.socket())
		if err := os.WriteFile(s.config(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return sites
}

// outside is how the other site reaches a site's host, by IP version.
func (s *site) outside(version int, host string) netip.Addr {
	if version == 4 {
		return netip.MustParseAddr(fmt.Sprintf("10.10%d.0.%s", s.number, host))
	}
	return netip.MustParseAddr(fmt.Sprintf("fd10:10%d::%s", s.number, host))
}

// TestSitesWithTheSameAddressesTalk: the kernels of both hosts, with their sockets, judge every packet and every ICMP
// error.
func TestSitesWithTheSameAddressesTalk(t *testing.T) {
	sites := newTwins(t)
	for _, s := range sites {
		s.start(t)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, s := range sites {
				t.Log(s.nonZero(t))
			}
		}
	})
	for i, s := range sites {
		other := sites[1-i]
		for _, version := range []int{4, 6} {
			own := map[int]string{4: "10.1.0.1", 6: "fd10:1::1"}[version]
			to := other.outside(version, "10")
			name := func(what string) string { return fmt.Sprintf("IPv%d from site %d: %s", version, s.number, what) }
			t.Run(name("ping"), func(t *testing.T) {
				if err := netnstest.Ping(t.Context(), s.host, to, netnstest.PingOptions{Count: 5, All: true, Timeout: 5 * time.Second}); err != nil {
					t.Error(err)
				}
			})
			t.Run(name("traceroute shows both gateways, each as it is known here"), func(t *testing.T) {
				for ttl, want := range []string{own, other.outside(version, "1").String()} {
					out, _ := s.host.Command(t.Context(), "ping", "-n", "-c", "1", "-W", "5", "-t", fmt.Sprint(ttl+1), to.String()).CombinedOutput()
					if !strings.Contains(string(out), "From "+want+" ") && !strings.Contains(string(out), "From "+want+":") {
						t.Errorf("hop %d is not %s:\n%s", ttl+1, want, out)
					}
				}
			})
			t.Run(name("a closed UDP port is refused at once"), func(t *testing.T) {
				if err := refused(s.host, to); err != nil {
					t.Error(err)
				}
			})
			t.Run(name("a datagram and its answer"), func(t *testing.T) {
				if err := datagram(t, s.host, other.host, to); err != nil {
					t.Error(err)
				}
			})
			t.Run(name("20 MB of TCP find their MTU and arrive as they were"), func(t *testing.T) {
				if err := stream(t, s.host, other.host, to, nil); err != nil {
					t.Error(err)
				}
			})
			t.Run(name("the real address of the other site is one's own"), func(t *testing.T) {
				inside := netip.MustParseAddr(map[int]string{4: "10.1.0.11", 6: "fd10:1::11"}[version])
				if err := netnstest.Ping(t.Context(), s.host, inside, netnstest.PingOptions{Count: 1, Timeout: time.Second}); err == nil {
					t.Errorf("%v answers, which nobody has here", inside)
				}
			})
		}
	}
}

// TestATranslatedConnectionOutlivesTheGateway: there is no state that could be lost.
func TestATranslatedConnectionOutlivesTheGateway(t *testing.T) {
	sites := newTwins(t)
	for _, s := range sites {
		s.start(t)
	}
	err := stream(t, sites[0].host, sites[1].host, sites[1].outside(4, "10"), func() {
		sites[0].stop(t)
		sites[0].start(t)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// refused makes sure that a datagram to a closed port is answered by an error that the kernel gives to the right socket.
func refused(from *netnstest.Host, to netip.Addr) error {
	return from.Do(func() error {
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 9)))
		if err != nil {
			return err
		}
		defer conn.Close()
		for range 10 { // hosts limit the rate of their errors
			if _, err := conn.Write([]byte("x")); errors.Is(err, syscall.ECONNREFUSED) {
				return nil
			}
			conn.SetReadDeadline(time.Now().Add(time.Second))
			if _, err = conn.Read(make([]byte, 16)); errors.Is(err, syscall.ECONNREFUSED) {
				return nil
			}
		}
		return fmt.Errorf("nobody refuses a datagram to %v", to)
	})
}

// datagram sends one to an echo server, which answers to the address that it sees.
func datagram(t *testing.T, from, to *netnstest.Host, addr netip.Addr) error {
	var server *net.UDPConn
	if err := to.Do(func() (err error) {
		server, err = net.ListenUDP("udp", nil)
		return err
	}); err != nil {
		return err
	}
	defer server.Close()
	seen := make(chan netip.AddrPort, 16)
	go func() {
		b := make([]byte, 1500)
		for {
			n, peer, err := server.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			seen <- peer
			server.WriteToUDPAddrPort(b[:n], peer)
		}
	}()
	port := server.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	err := from.Do(func() error {
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, port)))
		if err != nil {
			return err
		}
		defer conn.Close()
		b := make([]byte, 1500)
		for range 5 {
			if _, err = conn.Write([]byte("who am I?")); err != nil {
				return err
			}
			conn.SetReadDeadline(time.Now().Add(2 * time.Second))
			var n int
			if n, err = conn.Read(b); err == nil {
				if string(b[:n]) != "who am I?" {
					return fmt.Errorf("the answer is %q", b[:n])
				}
				return nil
			}
		}
		return err
	})
	if err == nil {
		peer := (<-seen).Addr().Unmap()
		t.Logf("seen as %v", peer)
		if strings.HasPrefix(peer.String(), "10.1.0.") || strings.HasPrefix(peer.String(), "fd10:1:") {
			err = fmt.Errorf("the other site sees the real address %v", peer)
		}
	}
	return err
}

// stream sends 20 MB over TCP, with something happening in the middle.
func stream(t *testing.T, from, to *netnstest.Host, addr netip.Addr, middle func()) error {
	var listener net.Listener
	if err := to.Do(func() (err error) {
		listener, err = net.Listen("tcp", ":0")
		return err
	}); err != nil {
		return err
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).AddrPort().Port()
	sent := bytes.Repeat([]byte("0123456789abcdefghijklmnopqrstuvwxyz-----------\n"), 20<<20/48)
	result := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			result <- err
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(90 * time.Second))
		got, err := io.ReadAll(conn)
		if err == nil && !bytes.Equal(got, sent) {
			err = fmt.Errorf("%d bytes arrived, not the %d that were sent", len(got), len(sent))
		}
		result <- err
	}()
	var conn net.Conn
	if err := from.Do(func() (err error) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", netip.AddrPortFrom(addr, port).String())
		return err
	}); err != nil {
		return err
	}
	conn.SetDeadline(time.Now().Add(90 * time.Second))
	half := len(sent) / 2
	_, err := conn.Write(sent[:half])
	if middle != nil {
		middle()
	}
	if err == nil {
		_, err = conn.Write(sent[half:])
	}
	conn.Close()
	return errors.Join(err, <-result)
}
