package gateway_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// tenants are two sites with two VPCs that use the same addresses: each has a host at each site.
type tenants struct {
	sites [2]*site
	hosts [2]map[string]*netnstest.Host // by site, by VPC
}

var tenantVPCs = []string{"red", "blue"}

func tenantAddr(site, version int) netip.Addr {
	if version == 4 {
		return netip.MustParseAddr(fmt.Sprintf("10.%d.0.10", site+1))
	}
	return netip.MustParseAddr(fmt.Sprintf("fd10:%d::10", site+1))
}

// newTenants starts both gateways; policy holds keys of the VPCs of site 1.
func newTenants(t *testing.T, policy map[string]string) *tenants {
	t.Helper()
	testenv.RequireRoot(t)
	scope := netnstest.New(t)
	n := &tenants{}
	for i := range n.sites {
		s := &site{number: i + 1, gateway: scope.NewHost(fmt.Sprint("gw", i+1)), dir: t.TempDir()}
		n.hosts[i] = map[string]*netnstest.Host{}
		for j, vpc := range tenantVPCs {
			host := scope.NewHost(fmt.Sprint(vpc, i+1))
			n.hosts[i][vpc] = host
			// Hosts have the same addresses; the gateway has one of its own towards each.
			scope.Connect(
				netnstest.End{Host: host, Name: "eth0", Addrs: netnstest.Prefixes(fmt.Sprintf("10.%d.0.10/24", i+1), fmt.Sprintf("fd10:%d::10/64", i+1))},
				netnstest.End{Host: s.gateway, Name: vpc + "0", Addrs: netnstest.Prefixes(fmt.Sprintf("10.%d.0.%d/24", i+1, j+1), fmt.Sprintf("fd10:%d::%d/64", i+1, j+1))},
			)
			host.Route(netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/24", 2-i)), netip.MustParseAddr(fmt.Sprintf("10.%d.0.%d", i+1, j+1)))
			host.Route(netip.MustParsePrefix(fmt.Sprintf("fd10:%d::/64", 2-i)), netip.MustParseAddr(fmt.Sprintf("fd10:%d::%d", i+1, j+1)))
		}
		s.makeKey(t)
		n.sites[i] = s
	}
	scope.Connect(
		netnstest.End{Host: n.sites[0].gateway, Name: "wan0", Addrs: netnstest.Prefixes("198.51.100.1/24")},
		netnstest.End{Host: n.sites[1].gateway, Name: "wan0", Addrs: netnstest.Prefixes("198.51.100.2/24")},
	)
	n.write(t, 0, policy)
	n.write(t, 1, nil)
	for _, s := range n.sites {
		s.start(t)
	}
	return n
}

func (n *tenants) write(t *testing.T, i int, policy map[string]string) {
	t.Helper()
	s, peer := n.sites[i], n.sites[1-i]
	var vpcs, carried strings.Builder
	for j, vpc := range tenantVPCs {
		fmt.Fprintf(&vpcs, "  - name: %s\n    vni: %d\n    attachments: [{type: routed, port: %s0, prefixes: [10.%d.0.0/24, \"fd10:%d::/64\"]}]\n%s",
			vpc, 100*(j+1), vpc, i+1, i+1, policy[vpc])
		fmt.Fprintf(&carried, "      - {name: %s, prefixes: [10.%d.0.0/24, \"fd10:%d::/64\"]}\n", vpc, 2-i, 2-i)
	}
	text := fmt.Sprintf(`site: site%[1]d
gateway: gw%[1]d
ports: [{name: red0}, {name: blue0}, {name: wan0}]
wireguard: {keyFile: %[2]s/wg.key, tunnelAddresses: [100.64.0.%[1]d]}
api: {socket: %[3]s}
vpcs:
%[4]speers:
  - name: peer
    publicKey: %[5]s
    endpoint: %[6]s:51820
    tunnelAddresses: [100.64.0.%[7]d]
    vpcs:
%[8]s`, s.number, s.dir, s.socket(), &vpcs, peer.key.PublicKey(), peer.outer(), peer.number, &carried)
	if err := os.WriteFile(s.config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// echoServer answers TCP connections and UDP datagrams of a host on a port with what it is sent.
func echoServer(t *testing.T, host *netnstest.Host, port int) {
	t.Helper()
	address := fmt.Sprintf("[::]:%d", port)
	var listener net.Listener
	var packets net.PacketConn
	err := host.Do(func() (err error) {
		if listener, err = net.Listen("tcp", address); err != nil {
			return err
		}
		packets, err = net.ListenPacket("udp", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close(); packets.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := packets.ReadFrom(b)
			if err != nil {
				return
			}
			packets.WriteTo(b[:n], from)
		}
	}()
}

// ask sends a word and waits for its echo.
func ask(host *netnstest.Host, network string, to netip.Addr, port int, wait time.Duration) error {
	var conn net.Conn
	err := host.Do(func() (err error) {
		conn, err = net.DialTimeout(network, netip.AddrPortFrom(to, uint16(port)).String(), wait)
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(wait))
	if _, err := conn.Write([]byte("hello")); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 5))
	return err
}

const redRules = `    acl:
      default: deny
      rules:
        - {name: ping, action: allow, protocol: icmp}
        - {name: ping6, action: allow, protocol: icmpv6}
        - {name: web, action: allow, direction: fromSite, protocol: tcp, destinationPorts: [443]}
        - {name: replies, action: allow, direction: toSite, protocol: tcp, sourcePorts: [443], established: true}
        - {name: snmp, action: reject, protocol: udp, destinationPorts: [161]}
`

// Two VPCs with the same addresses and other rules in each; real TCP, UDP and pings of the kernel on both sides.
func TestVPCsWithTheSameAddressesHaveAccessListsOfTheirOwn(t *testing.T) {
	n := newTenants(t, map[string]string{"red": redRules})
	for _, vpc := range tenantVPCs {
		for i := range n.hosts {
			for _, port := range []int{80, 161, 443} {
				echoServer(t, n.hosts[i][vpc], port)
			}
		}
	}
	const long, short = 10 * time.Second, 700 * time.Millisecond
	for _, version := range []int{4, 6} {
		for from := range n.hosts {
			to := tenantAddr(1-from, version)
			for _, vpc := range tenantVPCs { // also brings the session and the neighbours up
				if err := netnstest.Ping(t.Context(), n.hosts[from][vpc], to, netnstest.PingOptions{Count: 3, All: true, Timeout: 5 * time.Second}); err != nil {
					t.Errorf("%s: ping from site %d over IPv%d: %v", vpc, from+1, version, err)
				}
			}
			for _, port := range []int{80, 161, 443} {
				for _, network := range []string{"tcp", "udp"} {
					what := fmt.Sprintf("%s port %d from site %d over IPv%d", network, port, from+1, version)
					if err := ask(n.hosts[from]["blue"], network, to, port, long); err != nil {
						t.Errorf("blue: %s: %v", what, err)
					}
					wanted := network == "tcp" && port == 443 && from == 0
					wait := short
					if wanted {
						wait = long
					}
					err := ask(n.hosts[from]["red"], network, to, port, wait)
					if wanted != (err == nil) {
						t.Errorf("red: %s: %v, want an answer: %v", what, err, wanted)
					}
				}
			}
		}
	}
	response, err := n.sites[0].client().ACL(t.Context(), &sluicev1.ACLRequest{Vpc: "red"})
	if err != nil {
		t.Fatal(err)
	}
	list := response.GetAcls()[0]
	if list.GetDefaultPackets() == 0 {
		t.Error("the default has counted nothing")
	}
	for _, r := range list.GetRules() {
		if r.GetPackets() == 0 || r.GetBytes() == 0 {
			t.Errorf("rule %s has counted nothing", r.GetName())
		}
	}
	if t.Failed() {
		t.Log(n.sites[0].nonZero(t), n.sites[1].nonZero(t))
	}
}

// While the configuration changes 50 times under traffic, what every version of it denies never gets through, and what
// every version allows is never lost.
func TestReloadsUnderTrafficOpenNoGap(t *testing.T) {
	rules := func(i int) map[string]string {
		return map[string]string{"red": fmt.Sprintf(`    acl:
      default: %s
      rules:
        - {action: allow, protocol: tcp, destinationPorts: [%d]}
        - {name: never, action: deny, protocol: udp, destinationPorts: [2000]}
        - {name: always, action: allow}
`, []string{"allow", "deny"}[i%2], 3000+i)}
	}
	n := newTenants(t, rules(0))
	red := n.hosts[0]["red"]
	if err := netnstest.Ping(t.Context(), red, tenantAddr(1, 4), netnstest.PingOptions{Count: 3, All: true, Timeout: 5 * time.Second}); err != nil {
		t.Fatal(err)
	}
	var in net.PacketConn
	if err := n.hosts[1]["red"].Do(func() (err error) { in, err = net.ListenPacket("udp4", ":2000"); return err }); err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var out net.Conn
	if err := red.Do(func() (err error) { out, err = net.Dial("udp4", tenantAddr(1, 4).String()+":2000"); return err }); err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	stop, sent := make(chan struct{}), make(chan int, 1)
	go func() {
		count := 0
		defer func() { sent <- count }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := out.Write([]byte("never")); err == nil {
				count++
			}
			time.Sleep(100 * time.Microsecond)
		}
	}()
	pings := make(chan error, 1)
	go func() {
		pings <- netnstest.Ping(t.Context(), red, tenantAddr(1, 4), netnstest.PingOptions{Count: 2000, All: true, Timeout: 5 * time.Second})
	}()
	for i := range 50 {
		n.write(t, 0, rules(i+1))
		n.sites[0].reload(t)
	}
	close(stop)
	count := <-sent
	if err := <-pings; err != nil {
		t.Errorf("what is always allowed: %v", err)
	}
	if err := in.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := in.ReadFrom(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a packet that is always denied got through: %v", err)
	}
	// Every one of them was denied by the rule, whose counter has survived all changes.
	n.sites[0].eventually(t, "every denied packet is counted", func() error {
		response, err := n.sites[0].client().ACL(t.Context(), &sluicev1.ACLRequest{Vpc: "red"})
		if err != nil {
			return err
		}
		if got := response.GetAcls()[0].GetRules()[1].GetPackets(); got != uint64(count) || count < 100 {
			return fmt.Errorf("%d of %d", got, count)
		}
		return nil
	})
}
