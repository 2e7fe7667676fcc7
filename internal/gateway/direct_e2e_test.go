package gateway_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
	"github.com/sluicegw/sluice/xdp"
)

// directBed is two sites on a plain link: at the first a node of the kernel's VXLAN with a pod, at the second a routed host.
type directBed struct {
	testing.TB
	sites [2]*site
	pod   *netnstest.Host
	host  *netnstest.Host
	outer int // IP version of the link
}

const podMAC = "02:00:00:00:01:11"

func (b *directBed) podAddr(version int) netip.Addr {
	return netip.MustParseAddr(map[int]string{4: "10.1.1.11", 6: "fd10:1::11"}[version])
}

func (b *directBed) hostAddr(version int) netip.Addr {
	return netip.MustParseAddr(map[int]string{4: "10.2.0.10", 6: "fd10:2::10"}[version])
}

func newDirectBed(t testing.TB, outer int) *directBed {
	t.Helper()
	testenv.RequireRoot(t)
	scope := netnstest.New(t)
	b := &directBed{TB: t, outer: outer}
	for i := range b.sites {
		s := &site{number: i + 1, gateway: scope.NewHost(fmt.Sprint("gw", i+1)), dir: t.TempDir()}
		s.makeKey(t)
		b.mountPins(s)
		b.sites[i] = s
	}
	one, two := b.sites[0], b.sites[1]
	sw := scope.NewSwitch("switch")
	one.inside = sw.Plug(netnstest.End{Host: one.gateway, Name: "site0", MTU: 1600, Addrs: netnstest.Prefixes("192.168.1.1/24")})
	node := scope.NewVXLANNode(netnstest.NodeOptions{Name: "node1", Switch: sw, VTEP: netip.MustParsePrefix("192.168.1.11/24"),
		Remotes: []netip.Addr{netip.MustParseAddr("192.168.1.1")}, Segments: []netnstest.Segment{{Name: "red", VNI: 100}}})
	b.pod = node.NewPod(netnstest.PodOptions{Name: "pod", Segment: "red", MAC: netnstest.MAC(podMAC), MTU: 1450,
		Addrs: netnstest.Prefixes("10.1.1.11/16", "fd10:1::11/64"), Gateways: []netip.Addr{netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd10:1::1")}})
	b.host = scope.NewHost("host2")
	eth0, inside := scope.Connect(
		netnstest.End{Host: b.host, Name: "eth0", Addrs: netnstest.Prefixes("10.2.0.10/24", "fd10:2::10/64")},
		netnstest.End{Host: two.gateway, Name: "host0", Addrs: netnstest.Prefixes("10.2.0.1/24", "fd10:2::1/64")},
	)
	two.inside = inside
	b.host.Route(netip.MustParsePrefix("10.1.0.0/16"), netip.MustParseAddr("10.2.0.1"))
	b.host.Route(netip.MustParsePrefix("fd10:1::/64"), netip.MustParseAddr("fd10:2::1"))
	one.wan, two.wan = scope.Connect(
		netnstest.End{Host: one.gateway, Name: "wan0", Addrs: netnstest.Prefixes("198.51.100.1/24", "fd51::1/64")},
		netnstest.End{Host: two.gateway, Name: "wan0", Addrs: netnstest.Prefixes("198.51.100.2/24", "fd51::2/64")},
	)
	// A veth takes what XDP redirects to it only if its peer polls: with a program, or with GRO.
	run(t, b.host, "ethtool", "-K", eth0.Name, "gro", "on")
	run(t, sw.Host, "ethtool", "-K", "port1", "gro", "on")
	for i := range b.sites {
		b.write(i, "encryption: none\n    endpoint: "+b.endpoint(1-i))
	}
	return b
}

func run(t testing.TB, h *netnstest.Host, name string, args ...string) {
	t.Helper()
	if out, err := h.Command(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// mountPins gives a gateway a BPF file system of its own, which goes with the test whatever is left in it.
func (b *directBed) mountPins(s *site) {
	b.Helper()
	root := filepath.Join(s.dir, "bpf")
	if err := os.Mkdir(root, 0o700); err != nil {
		b.Fatal(err)
	}
	if err := unix.Mount("bpf", root, "bpf", 0, "mode=0700"); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := xdp.RemovePins(s.pins()); err != nil {
			b.Error(err)
		}
		if err := unix.Unmount(root, 0); err != nil {
			b.Error(err)
		}
	})
}

func (s *site) pins() string { return filepath.Join(s.dir, "bpf", "gw") }

func (b *directBed) endpoint(site int) string {
	if b.outer == 4 {
		return fmt.Sprintf("198.51.100.%d:51821", site+1)
	}
	return fmt.Sprintf(`"[fd51::%d]:51821"`, site+1)
}

// write writes a configuration; peer is what is said of the peer beside its name and VPCs.
func (b *directBed) write(i int, peer string) {
	b.Helper()
	s := b.sites[i]
	text := fmt.Sprintf(`site: site%[1]d
gateway: gw%[1]d
ports:
  - name: wan0
  - name: %[2]s
wireguard:
  keyFile: %[3]s/wg.key
  tunnelAddresses: [100.64.0.%[1]d]
direct:
  pinDir: %[7]s
vpcs:
  - name: red
    vni: %[1]d00
%[4]speers:
  - name: peer
    %[5]s
    vpcs:
      - name: red
        vni: %[6]d00
        prefixes: [10.%[6]d.0.0/16, "fd10:%[6]d::/64"]
api:
  socket: %[8]s
`, s.number, s.inside.Name, s.dir, []string{`    gatewayAddresses: [10.1.0.1, "fd10:1::1"]
    attachments:
      - type: vxlan
        port: site0
        hosts: [{prefixes: [10.1.1.11/32, "fd10:1::11/128"], vtep: 192.168.1.11, mac: "` + podMAC + `"}]
`, `    attachments:
      - {type: routed, port: host0, prefixes: [10.2.0.0/24, "fd10:2::/64"]}
`}[i], peer, 2-i, s.pins(), s.socket())
	if err := os.WriteFile(s.config(), []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
}

func (b *directBed) start() {
	b.Helper()
	for _, s := range b.sites {
		s.start(b)
	}
}

// warm pings both ways, both families, until an answer comes: neighbours are found, and hops made.
func (b *directBed) warm() {
	b.Helper()
	for _, version := range []int{4, 6} {
		b.eventually("ping", func() error {
			return errors.Join(b.ping(b.pod, b.hostAddr(version), 1), b.ping(b.host, b.podAddr(version), 1))
		})
	}
}

func (b *directBed) eventually(what string, f func() error) {
	b.Helper()
	var err error
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	for _, s := range b.sites {
		b.Log(s.nonZero(b))
	}
	b.Fatalf("%s: %v", what, err)
}

func (b *directBed) ping(from *netnstest.Host, to netip.Addr, count int) error {
	return netnstest.Ping(b.Context(), from, to, netnstest.PingOptions{Count: count, All: true})
}

// settled waits until the relays have nothing more to do with pings: the program knows all neighbours.
func (b *directBed) settled() {
	b.Helper()
	b.warm()
	b.eventually("pings that no relay sees", func() error {
		before := b.relayed()
		for _, version := range []int{4, 6} {
			if err := errors.Join(b.ping(b.pod, b.hostAddr(version), 1), b.ping(b.host, b.podAddr(version), 1)); err != nil {
				return err
			}
		}
		if n := b.relayed() - before; n != 0 {
			return fmt.Errorf("the relays have handled %d packets", n)
		}
		return nil
	})
}

// relayed is how many packets the relays have sent on.
func (b *directBed) relayed() (n uint64) {
	for _, s := range b.sites {
		for _, name := range []string{"to_direct", "to_site", "to_peer"} {
			n += s.counter(b, "relay", name)
		}
	}
	return n
}

// transfer sends bytes by TCP and compares their sums.
func (b *directBed) transfer(from, to *netnstest.Host, address netip.Addr, size int64) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 60*time.Second)
	defer cancel()
	var listener net.Listener
	if err := to.Do(func() (err error) {
		listener, err = net.Listen("tcp", netip.AddrPortFrom(address, 7000).String())
		return err
	}); err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	type result struct {
		sum []byte
		n   int64
		err error
	}
	received := make(chan result, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			received <- result{err: err}
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(60 * time.Second))
		hash := sha256.New()
		n, err := io.Copy(hash, conn)
		received <- result{hash.Sum(nil), n, err}
	}()
	var conn net.Conn
	if err := from.Do(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String())
		return err
	}); err != nil {
		for _, s := range b.sites {
			b.Log(s.nonZero(b))
		}
		b.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(60 * time.Second))
	hash := sha256.New()
	_, err := io.Copy(io.MultiWriter(conn, hash), io.LimitReader(rand.NewChaCha8([32]byte{1}), size))
	err = errors.Join(err, conn.Close())
	got := <-received
	if err = errors.Join(err, got.err); err != nil || got.n != size || !bytes.Equal(got.sum, hash.Sum(nil)) {
		b.Fatalf("%v to %v: %d of %d bytes, %v", from.Name(), address, got.n, size, err)
	}
}

func TestTrafficBetweenDirectPeersPassesTheRelaysBy(t *testing.T) {
	for _, outer := range []int{4, 6} {
		t.Run(fmt.Sprintf("over IPv%d", outer), func(t *testing.T) {
			b := newDirectBed(t, outer)
			b.start()
			b.settled()
			before := b.relayed()
			for _, version := range []int{4, 6} {
				if err := errors.Join(b.ping(b.pod, b.hostAddr(version), 50), b.ping(b.host, b.podAddr(version), 50)); err != nil {
					t.Error(err)
				}
			}
			b.transfer(b.pod, b.host, b.hostAddr(outer), 100<<20)
			b.transfer(b.host, b.pod, b.podAddr(10-outer), 20<<20)
			// On a virtual port the program leaves a packet to the relay whose checksum looks unfinished: of those that are
			// finished one in 65536 does.
			if n := b.relayed() - before; n > 40 {
				t.Errorf("the relays have handled %d packets: %s, %s", n, b.sites[0].nonZero(t), b.sites[1].nonZero(t))
			}
			b.countersTell()
			for _, s := range b.sites {
				if status := s.status(t); status.GetHealth() != sluicev1.Health_HEALTH_READY || status.GetPeers()[0].GetState() != sluicev1.PeerState_PEER_STATE_UNENCRYPTED {
					t.Errorf("gateway %d is %v, peer %v: %q", s.number, status.GetHealth(), status.GetPeers()[0].GetState(), status.GetProblems())
				}
			}
		})
	}
}

// countersTell looks whether what the program has forwarded is in the counters of peer, VPC and route: 120 MB and more.
func (b *directBed) countersTell() {
	b.Helper()
	for i, s := range b.sites {
		peers, err := s.client().Peers(b.Context(), &sluicev1.PeersRequest{})
		if err != nil {
			b.Fatal(err)
		}
		vpcs, err := s.client().VPCs(b.Context(), &sluicev1.VPCsRequest{})
		if err != nil {
			b.Fatal(err)
		}
		routes, err := s.client().Routes(b.Context(), &sluicev1.RoutesRequest{})
		if err != nil {
			b.Fatal(err)
		}
		var to, from uint64
		for _, r := range routes.GetRoutes() {
			if r.GetKind() == sluicev1.RouteKind_ROUTE_KIND_REMOTE {
				to, from = to+r.GetToBytes(), from+r.GetFromBytes()
			}
		}
		out, in := uint64(100<<20), uint64(20<<20)
		if i == 1 {
			out, in = in, out
		}
		p, v := peers.GetPeers()[0], vpcs.GetVpcs()[0]
		for what, n := range map[string]uint64{"peer tx": p.GetTxBytes(), "vpc to peers": v.GetToPeersBytes(), "routes to": to} {
			if n < out || n > 3*out/2 {
				b.Errorf("gateway %d: %s %d bytes, want about %d", s.number, what, n, out)
			}
		}
		for what, n := range map[string]uint64{"peer rx": p.GetRxBytes(), "vpc to site": v.GetToSiteBytes(), "routes from": from} {
			if n < in || n > 3*in/2 {
				b.Errorf("gateway %d: %s %d bytes, want about %d", s.number, what, n, in)
			}
		}
	}
}

// counted sends numbered packets without a pause and counts those that arrive.
func (b *directBed) counted(during func()) (sent, arrived int) {
	b.Helper()
	var server, client net.PacketConn
	if err := errors.Join(
		b.host.Do(func() (err error) {
			server, err = net.ListenPacket("udp", netip.AddrPortFrom(b.hostAddr(4), 7001).String())
			return err
		}),
		b.pod.Do(func() (err error) {
			client, err = net.ListenPacket("udp", netip.AddrPortFrom(b.podAddr(4), 0).String())
			return err
		})); err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	defer client.Close()
	var got atomic.Int64
	go func() {
		buf := make([]byte, 100)
		for {
			if _, _, err := server.ReadFrom(buf); err != nil {
				return
			}
			got.Add(1)
		}
	}()
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				stopped <- n
				return
			case <-time.After(500 * time.Microsecond):
			}
			if _, err := client.WriteTo([]byte("counted"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(b.hostAddr(4), 7001))); err == nil {
				n++
			}
		}
	}()
	during()
	close(stop)
	sent = <-stopped
	for deadline := time.Now().Add(5 * time.Second); got.Load() < int64(sent) && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	return sent, int(got.Load())
}

func TestTrafficGoesOnWhileTheGatewaysAreDeadAndWhenTheyStartAgain(t *testing.T) {
	b := newDirectBed(t, 4)
	b.start()
	b.settled()
	sent, arrived := b.counted(func() {
		for _, s := range b.sites {
			if err := s.process.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			<-s.process.Done()
		}
		for _, version := range []int{4, 6} {
			if err := errors.Join(b.ping(b.pod, b.hostAddr(version), 20), b.ping(b.host, b.podAddr(version), 20)); err != nil {
				t.Errorf("while both are dead: %v", err)
			}
		}
		b.transfer(b.host, b.pod, b.podAddr(4), 10<<20)
		b.start() // takes over what the dead have left
		b.settled()
		for _, s := range b.sites { // an orderly restart
			s.stop(t)
		}
		if err := b.ping(b.pod, b.hostAddr(6), 20); err != nil {
			t.Errorf("while both are stopped: %v", err)
		}
		b.start()
		b.settled()
	})
	if sent < 1000 || arrived != sent {
		t.Errorf("%d of %d packets arrived", arrived, sent)
	}
}

func TestNothingIsLeftOfADeadGatewayAfterItWasCleanedUp(t *testing.T) {
	b := newDirectBed(t, 4)
	b.start()
	b.settled()
	s := b.sites[0]
	if err := s.process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.process.Done()
	if !attached(t, s.wan) || !attached(t, s.inside) {
		t.Error("a killed gateway leaves no program behind")
	}
	if err := xdp.RemovePins(s.pins()); err != nil {
		t.Error(err)
	}
	if attached(t, s.wan) || attached(t, s.inside) {
		t.Error("the program is still attached")
	}
	if _, err := os.Stat(s.pins()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
	if err := b.ping(b.pod, b.hostAddr(4), 1); err == nil {
		t.Error("somebody still forwards")
	}
}

// A gateway that has no peer with encryption none any more takes away what was left forwarding to one.
func TestAPeerThatIsEncryptedAgainGetsNothingInTheClear(t *testing.T) {
	b := newDirectBed(t, 4)
	b.start()
	b.settled()
	for i, s := range b.sites {
		s.stop(t)
		b.write(i, fmt.Sprintf("publicKey: %s\n    endpoint: 198.51.100.%d:51820\n    tunnelAddresses: [100.64.0.%d]", b.sites[1-i].key.PublicKey(), 2-i, 2-i))
	}
	b.start()
	for _, s := range b.sites {
		if _, err := os.Stat(s.pins()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("gateway %d: pins are left: %v", s.number, err)
		}
	}
	b.warm()
	for _, s := range b.sites {
		if n := s.counter(t, "relay", "to_peer"); n == 0 {
			t.Errorf("gateway %d: nothing was sealed: %s", s.number, s.nonZero(t))
		}
		if n := s.counter(t, "relay", "to_direct") + s.counter(t, "xdp", "direct_to_peer"); n != 0 {
			t.Errorf("gateway %d: %d packets in the clear", s.number, n)
		}
		s.stop(t)
		if attached(t, s.wan) {
			t.Errorf("gateway %d: the program is still attached", s.number)
		}
	}
}
