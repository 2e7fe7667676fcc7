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

	"golang.org/x/sys/unix"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// A VPC of the default kind and one that travels in Geneve, each with a routed port of its own.
var mtuVPCs = []struct {
	name   string
	geneve int // what the format between gateways takes
	four   string
	six    string
}{{"default", 0, "172.16.%d.10", "fd16:%d::10"}, {"red", 36, "10.%d.0.10", "fd10:%d::10"}}

// newSitesBehindRouter puts a router of the WAN between two sites, whose links carry mtu bytes, and which tells nobody.
func newSitesBehindRouter(t *testing.T, outer, mtu int) [2]*site {
	t.Helper()
	testenv.RequireTool(t, "nft")
	scope, sites := newSites(t)
	router := scope.NewHost("router")
	router.Sysctl("net.ipv4.ip_forward", "1")
	router.Sysctl("net.ipv6.conf.all.forwarding", "1")
	silent := router.Command(t.Context(), "nft", "-f", "-")
	silent.Stdin = strings.NewReader(`table inet wan {
	chain output { type filter hook output priority 0; policy accept;
		icmp type destination-unreachable drop
		icmpv6 type packet-too-big drop
	}
}`)
	if out, err := silent.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
	for i, s := range sites {
		n, other := i+1, 2-i
		if i == 0 {
			s.run(t, "ip", "link", "del", "wan0") // and its other end
		}
		s.wan, _ = scope.Connect(
			netnstest.End{Host: s.gateway, Name: "wan0", Addrs: netnstest.Prefixes(fmt.Sprintf("203.0.%d.1/24", n), fmt.Sprintf("fd51:%d::1/64", n))},
			netnstest.End{Host: router, Name: fmt.Sprint("site", n), MTU: mtu, Addrs: routerAddrs(n, outer)},
		)
		s.gateway.Route(netip.MustParsePrefix(fmt.Sprintf("203.0.%d.0/24", other)), netip.MustParseAddr(fmt.Sprintf("203.0.%d.254", n)))
		if outer == 6 {
			s.gateway.Route(netip.MustParsePrefix(fmt.Sprintf("fd51:%d::/64", other)), netip.MustParseAddr(fmt.Sprintf("fd51:%d::fe", n)))
		}
		scope.Connect(
			netnstest.End{Host: s.host, Name: "eth1", Addrs: netnstest.Prefixes(fmt.Sprintf("10.%d.0.10/24", n), fmt.Sprintf("fd10:%d::10/64", n))},
			netnstest.End{Host: s.gateway, Name: "red0", Addrs: netnstest.Prefixes(fmt.Sprintf("10.%d.0.1/24", n), fmt.Sprintf("fd10:%d::1/64", n))},
		)
		s.host.Route(netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/24", other)), netip.MustParseAddr(fmt.Sprintf("10.%d.0.1", n)))
		s.host.Route(netip.MustParsePrefix(fmt.Sprintf("fd10:%d::/64", other)), netip.MustParseAddr(fmt.Sprintf("fd10:%d::1", n)))
		endpoint := fmt.Sprintf("203.0.%d.1:51820", other)
		if outer == 6 {
			endpoint = fmt.Sprintf("[fd51:%d::1]:51820", other)
		}
		text := fmt.Sprintf(`site: site%[1]d
gateway: gw%[1]d
ports: [{name: host0}, {name: red0}, {name: wan0}]
wireguard:
  keyFile: %[3]s/wg.key
  tunnelAddresses: [100.64.0.%[1]d, "fd64::%[1]d"]
vpcs:
  - name: default
    vni: 0
    attachments: [{type: routed, port: host0, prefixes: [172.16.%[1]d.0/24, "fd16:%[1]d::/64"]}]
  - name: red
    vni: 100
    attachments: [{type: routed, port: red0, prefixes: [10.%[1]d.0.0/24, "fd10:%[1]d::/64"]}]
peers:
  - name: peer
    publicKey: %[4]s
    endpoint: "%[5]s"
    tunnelAddresses: [100.64.0.%[2]d, "fd64::%[2]d"]
    vpcs:
      - name: default
        prefixes: [172.16.%[2]d.0/24, "fd16:%[2]d::/64"]
      - name: red
        prefixes: [10.%[2]d.0.0/24, "fd10:%[2]d::/64"]
api:
  socket: %[6]s
`, n, other, s.dir, sites[1-i].key.PublicKey(), endpoint, s.socket())
		if err := os.WriteFile(s.config(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return sites
}

// routerAddrs leaves IPv6 out where the WAN is too narrow for it.
func routerAddrs(n, outer int) []netip.Prefix {
	if outer == 6 {
		return netnstest.Prefixes(fmt.Sprintf("203.0.%d.254/24", n), fmt.Sprintf("fd51:%d::fe/64", n))
	}
	return netnstest.Prefixes(fmt.Sprintf("203.0.%d.254/24", n))
}

// A WAN that drops long packets and tells nobody is found within seconds, and is no black hole for anybody.
func TestAWANThatDropsLongPacketsAndTellsNobodyIsFound(t *testing.T) {
	for _, c := range []struct{ outer, mtu int }{{4, 1500}, {4, 1400}, {4, 1280}, {4, 1124}, {6, 1280}} {
		t.Run(fmt.Sprintf("%d bytes over IPv%d", c.mtu, c.outer), func(t *testing.T) {
			tunnel := c.mtu - 20 - 8 - 32 - 20*(c.outer/6)
			sites := newSitesBehindRouter(t, c.outer, c.mtu)
			for _, s := range sites {
				s.start(t)
			}
			for i, s := range sites {
				s.eventually(t, "hosts reach each other", func() error {
					return netnstest.Ping(t.Context(), s.host, sites[1-i].addr4(), netnstest.PingOptions{Count: 1})
				})
			}
			for _, s := range sites {
				s.eventually(t, "the path's MTU is found", func() error {
					p := s.status(t).GetPeers()[0]
					if p.GetMtuState() != sluicev1.MTUState_MTU_STATE_CONFIRMED || int(p.GetMtu()) != tunnel {
						return fmt.Errorf("%d, %v, want %d", p.GetMtu(), p.GetMtuState(), tunnel)
					}
					return nil
				})
			}
			for _, vpc := range mtuVPCs {
				for _, version := range []int{4, 6} {
					for i, s := range sites {
						address := vpc.four
						if version == 6 {
							address = vpc.six
						}
						to := netip.MustParseAddr(fmt.Sprintf(address, 2-i))
						if err := fits(t.Context(), s.host, sites[1-i].host, to, tunnel-vpc.geneve); err != nil {
							t.Errorf("site %d, %s, IPv%d: %v", i+1, vpc.name, version, err)
						}
					}
				}
			}
			if t.Failed() {
				t.Log(sites[0].nonZero(t))
				t.Log(sites[1].nonZero(t))
			}
		})
	}
}

// fits finds out whether hosts are treated as a path of limit bytes wants it: TCP in both directions with segments that fit, before anybody
// was told anything; the longest packet; and a word about one that is longer.
func fits(ctx context.Context, from, peer *netnstest.Host, to netip.Addr, limit int) error {
	header, longest := 20, limit
	if to.Is6() {
		header, longest = 40, max(limit, 1280) // IPv6 hosts believe in no less
	}
	const timestamps = 12 // of TCP, in every segment
	segments, err := echoTCP(ctx, from, peer, to, 10<<20)
	if err != nil {
		return fmt.Errorf("TCP: %w", err)
	}
	if want := limit - header - 20 - timestamps; segments != [2]int{want, want} {
		return fmt.Errorf("TCP sends segments of %d bytes there and %d back, want %d", segments[0], segments[1], want)
	}
	// The first may find no IPv6 neighbour yet.
	for deadline := time.Now().Add(10 * time.Second); ; {
		err := netnstest.Ping(ctx, from, to, netnstest.PingOptions{Count: 1, DontFragment: true, Size: longest - header - 8})
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("ping of %d bytes: %w", longest, err)
		}
	}
	told, err := toldMTU(from, to)
	if err == nil && told != longest {
		err = fmt.Errorf("told %d, want %d", told, longest)
	}
	if err != nil {
		return fmt.Errorf("UDP: %w", err)
	}
	return nil
}

// echoTCP sends n bytes to a host and back, and returns how long the segments are that each side sends.
func echoTCP(ctx context.Context, from, peer *netnstest.Host, to netip.Addr, n int) (segments [2]int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	deadline, _ := ctx.Deadline()
	var listener net.Listener
	err = peer.Do(func() (err error) {
		listener, err = net.Listen("tcp", netip.AddrPortFrom(to, 0).String())
		return err
	})
	if err != nil {
		return segments, err
	}
	defer listener.Close()
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	echoed := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			echoed <- err
			return
		}
		defer conn.Close()
		err = conn.SetDeadline(deadline)
		all, readErr := io.ReadAll(io.LimitReader(conn, int64(n)))
		_, writeErr := conn.Write(all)
		var sizeErr error
		segments[1], sizeErr = segmentSize(conn)
		echoed <- errors.Join(err, readErr, writeErr, sizeErr)
	}()
	var conn net.Conn
	err = from.Do(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String())
		return err
	})
	if err != nil {
		listener.Close()
		return segments, errors.Join(err, <-echoed)
	}
	defer conn.Close()
	data := bytes.Repeat([]byte("0123456789abcdef-and-seventeen-more"), n/35+1)[:n]
	err = conn.SetDeadline(deadline)
	_, writeErr := conn.Write(data)
	var sizeErr error
	segments[0], sizeErr = segmentSize(conn)
	back, readErr := io.ReadAll(io.LimitReader(conn, int64(n)))
	if !bytes.Equal(back, data) {
		err = errors.Join(err, fmt.Errorf("%d of %d bytes came back, or others", len(back), n))
	}
	return segments, errors.Join(err, writeErr, sizeErr, readErr, <-echoed)
}

// segmentSize is how much data a connection sends in one segment, as its kernel says.
func segmentSize(conn net.Conn) (size int, err error) {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var inside error
	err = raw.Control(func(fd uintptr) { size, inside = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) })
	return size, errors.Join(err, inside)
}

// toldMTU sends datagrams of 1500 bytes that may not be cut until the host has been told what would fit.
func toldMTU(from *netnstest.Host, to netip.Addr) (mtu int, err error) {
	var conn net.Conn
	err = from.Do(func() (err error) {
		conn, err = net.Dial("udp", netip.AddrPortFrom(to, 9).String())
		return err
	})
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	level, discover, know, do, header := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_MTU, unix.IP_PMTUDISC_DO, 28
	if to.Is6() {
		level, discover, know, do, header = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_MTU, unix.IPV6_PMTUDISC_DO, 48
	}
	var inside error
	err = raw.Control(func(fd uintptr) { inside = unix.SetsockoptInt(int(fd), level, discover, do) })
	for deadline := time.Now().Add(10 * time.Second); err == nil && inside == nil && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		// Once the kernel knows it refuses, which is the news; nobody listens there.
		if _, err := conn.Write(make([]byte, 1500-header)); err != nil && !errors.Is(err, syscall.EMSGSIZE) && !errors.Is(err, syscall.ECONNREFUSED) {
			return 0, err
		}
		err = raw.Control(func(fd uintptr) { mtu, inside = unix.GetsockoptInt(int(fd), level, know) })
		if err == nil && inside == nil && mtu < 1500 {
			return mtu, nil
		}
	}
	return 0, errors.Join(err, inside, errors.New("nobody says that 1500 bytes are too long"))
}
