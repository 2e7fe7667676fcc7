package gateway_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/netnstest"
)

func (s *site) counter(t testing.TB, component, name string) (sum uint64) {
	t.Helper()
	response, err := s.client().Counters(t.Context(), &sluicev1.CountersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range response.GetCounters() {
		if c.GetComponent() == component && c.GetName() == name {
			sum += c.GetValue()
		}
	}
	return sum
}

// A VPC's attachment is on the site's port. The same packet that enters the VPC there must not enter it from the WAN,
// even with a VTEP's source address.
func TestOverlayPacketsFromTheWANEnterNoVPC(t *testing.T) {
	_, sites := newSites(t)
	text, err := os.ReadFile(sites[0].config())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(sites[0].config(), []byte(large(t, string(text), 1, 1, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s := range sites {
		s.start(t)
	}
	reach(t, sites, 1)
	// VXLAN, VNI 1000: UDP from the pod 10.0.0.1 to the remote prefix 10.1.0.0/24.
	inner := make([]byte, 14+20+8)
	copy(inner, []byte{2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 8, 0})
	ip := inner[14:]
	copy(ip, []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 1, 0, 5})
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	copy(ip[20:], []byte{0x10, 0, 0x20, 0, 0, 8, 0, 0})
	message := append([]byte{8, 0, 0, 0, 0, 3, 0xe8, 0}, inner...)
	send := func(from *netnstest.Host, local, to string) {
		t.Helper()
		if err := from.Do(func() error {
			conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(local), 50000)),
				net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to)))
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = conn.Write(message)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	send(sites[0].host, "172.16.1.10", "172.16.1.1:4789")
	sites[0].eventually(t, "the site's packet is taken", func() error {
		if n := sites[0].counter(t, "xdp", "divert_vxlan"); n != 1 {
			return fmt.Errorf("%d packets", n)
		}
		return nil
	})
	sites[1].run(t, "ip", "addr", "add", "172.16.1.10/32", "dev", "lo")
	sites[1].run(t, "ip", "route", "add", "172.16.1.1/32", "via", "198.51.100.1")
	before := sites[0].counter(t, "xdp", "pass_local")
	send(sites[1].gateway, "172.16.1.10", "172.16.1.1:4789")
	send(sites[1].gateway, "198.51.100.2", "198.51.100.1:4789")
	sites[0].eventually(t, "the WAN's packets pass to the kernel", func() error {
		if n := sites[0].counter(t, "xdp", "pass_local"); n < before+2 {
			return fmt.Errorf("%d packets", n-before)
		}
		return nil
	})
	if n := sites[0].counter(t, "xdp", "divert_vxlan"); n != 1 {
		t.Errorf("%d packets entered the VPC, 1 came from the site", n)
	}
}

// Junk at the WireGuard port, of every message type and from many sources, costs the traffic nothing.
func TestJunkAtTheWireGuardPortLosesNoTraffic(t *testing.T) {
	_, sites := started(t)
	var sources []string
	for i := 10; i < 40; i++ {
		sources = append(sources, fmt.Sprintf("198.51.100.%d", i))
		sites[1].run(t, "ip", "addr", "add", sources[len(sources)-1]+"/24", "dev", "wan0")
	}
	ctx, stop := context.WithCancel(t.Context())
	flood := make(chan error, 1)
	go func() {
		flood <- sites[1].gateway.Do(func() error {
			to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("198.51.100.1:51820"))
			var conns []*net.UDPConn
			for _, source := range sources {
				conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(source), 0)), to)
				if err != nil {
					return err
				}
				defer conn.Close()
				conns = append(conns, conn)
			}
			sizes := []int{148, 92, 64, 128, 33}
			for n := 0; ctx.Err() == nil; n++ {
				message := make([]byte, sizes[n%len(sizes)])
				rand.Read(message)
				copy(message, []byte{byte(1 + n%len(sizes)), 0, 0, 0})
				if _, err := conns[n%len(conns)].Write(message); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
					return err
				}
				if n%64 == 0 {
					time.Sleep(time.Millisecond) // about 50000 per second
				}
			}
			return nil
		})
	}()
	err := netnstest.Ping(t.Context(), sites[0].host, sites[1].addr4(), netnstest.PingOptions{Count: 2000, All: true})
	stop()
	if err != nil {
		t.Error(err)
	}
	if err := <-flood; err != nil {
		t.Fatal(err)
	}
	if n := sites[0].counter(t, "xdp", "drop_bad_wireguard") + sites[0].counter(t, "xdp", "drop_handshake_rate") + sites[0].counter(t, "xdp", "drop_handshake_flood"); n < 100 {
		t.Errorf("only %d messages were junk", n)
	}
	reach(t, sites, 3)
}

// A gateway that moves while its site has nothing to say must not wait for traffic: the other side knows only the old address.
func TestASilentGatewayTellsItsPeerOfItsNewAddress(t *testing.T) {
	_, sites := started(t)
	reach(t, sites, 1)
	time.Sleep(time.Second) // answers that are owed have been sent
	sites[0].run(t, "ip", "addr", "add", "198.51.100.7/24", "dev", "wan0")
	sites[0].run(t, "ip", "addr", "del", "198.51.100.1/24", "dev", "wan0")
	sites[0].run(t, "ip", "addr", "add", "198.51.100.7/24", "dev", "wan0") // deleting the first one took it away, too
	sites[1].eventually(t, "the peer is at its new address", func() error {
		for _, p := range sites[1].status(t).GetPeers() {
			if e := p.GetEndpoint(); e != "198.51.100.7:51820" {
				return fmt.Errorf("it is at %s", e)
			}
		}
		return nil
	})
	if err := netnstest.Ping(t.Context(), sites[1].host, sites[0].addr4(), netnstest.PingOptions{Count: 3, All: true}); err != nil {
		t.Error(err)
	}
}
