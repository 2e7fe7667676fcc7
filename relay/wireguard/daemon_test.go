package wireguard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// udp moves datagrams between a live Device and a socket. It is for tests: the
// relay does that with AF_XDP.
type udp struct {
	conn *net.UDPConn
	live *live
	done chan struct{}
}

func listen(t *testing.T, host *netnstest.Host, addr netip.AddrPort) *udp {
	u := &udp{done: make(chan struct{})}
	err := host.Do(func() (err error) {
		u.conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	u.live = startLive(t, func(dg Datagram) {
		if _, err := u.conn.WriteToUDPAddrPort(dg.Data, dg.Remote); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Logf("send: %v", err) // like a packet that is lost
		}
	})
	go func() {
		defer close(u.done)
		buf := make([]byte, 2048)
		for {
			n, from, err := u.conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
			u.live.receive(buf[:n], Endpoint{Remote: from, Local: addr.Addr()})
		}
	}()
	t.Cleanup(func() {
		u.conn.Close()
		<-u.done
	})
	return u
}

// Debian's wireguard-go with a real TUN interface, set up with wg, on the other
// side of a veth pair.
func TestWireguardGoDaemonSetUpWithWg(t *testing.T) {
	// The daemon's control socket has this name in a folder that namespaces
	// share, so it is this process's own.
	wg := fmt.Sprintf("wgt%d", os.Getpid())
	testenv.RequireTool(t, "wireguard-go", "wg", "ip", "ping")
	for _, c := range []struct {
		name        string
		us, them    string
		psk, weCall bool
	}{
		{"we call over IPv4", "198.51.100.1", "198.51.100.2", false, true},
		{"it calls over IPv4 with a preshared key", "198.51.100.1", "198.51.100.2", true, false},
		{"we call over IPv6 with a preshared key", "2001:db8::1", "2001:db8::2", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := netnstest.New(t)
			near, far := n.NewHost("near"), n.NewHost("far")
			n.Connect(
				netnstest.End{Host: near, Name: "wan0", Addrs: netnstest.Prefixes("198.51.100.1/24", "2001:db8::1/64")},
				netnstest.End{Host: far, Name: "wan0", Addrs: netnstest.Prefixes("198.51.100.2/24", "2001:db8::2/64")},
			)
			us := netip.AddrPortFrom(netip.MustParseAddr(c.us), 51820)
			them := netip.AddrPortFrom(netip.MustParseAddr(c.them), 51821)
			u := listen(t, near, us)

			key := must(NewPrivateKey())
			var psk PresharedKey
			dir := t.TempDir()
			keyFile, pskFile := filepath.Join(dir, "key"), filepath.Join(dir, "psk")
			if err := key.WriteFile(keyFile); err != nil {
				t.Fatal(err)
			}
			args := []string{"set", wg, "listen-port", "51821", "private-key", keyFile,
				"peer", u.live.key.PublicKey().String(), "allowed-ips", "10.9.0.1/32,fd09::1/128", "endpoint", us.String()}
			if c.psk {
				psk = must(NewPresharedKey())
				if err := psk.WriteFile(pskFile); err != nil {
					t.Fatal(err)
				}
				args = append(args, "preshared-key", pskFile)
			}
			daemon(t, far, wg)
			run(t, far, "wg", args...)
			run(t, far, "ip", "addr", "add", "10.9.0.2/24", "dev", wg)
			run(t, far, "ip", "addr", "add", "fd09::2/64", "dev", wg, "nodad")
			run(t, far, "ip", "link", "set", wg, "up", "mtu", "1420")
			if got := strings.TrimSpace(run(t, far, "wg", "show", wg, "public-key")); got != key.PublicKey().String() {
				t.Errorf("wg says the public key is %s, we say %v", got, key.PublicKey())
			}
			peer := must(u.live.d.SetPeer(PeerConfig{PublicKey: key.PublicKey(), PresharedKey: psk, Endpoint: Endpoint{Remote: them}}))

			if c.weCall {
				// Echo requests of ours are answered by the daemon's kernel.
				for _, size := range []int{0, 500, 1392} {
					data := bytes.Repeat([]byte{'e'}, size)
					u.live.say(peer, echo(8, 7, data))
					wantEcho(t, u.live.got, data)
				}
			}
			// ping there, which we answer.
			stop := answerPings(u.live, peer)
			run(t, far, "ping", "-c", "3", "-i", "0.2", "-W", "5", "10.9.0.1")
			run(t, far, "ping", "-c", "3", "-i", "0.2", "-W", "5", "-s", "1392", "10.9.0.1")
			stop()
			if text := run(t, far, "wg", "show", wg, "latest-handshakes"); strings.HasSuffix(strings.TrimSpace(text), "\t0") {
				t.Errorf("wg knows of no handshake: %s", text)
			}
			st := peer.Status()
			if time.Since(st.LastHandshake) > time.Minute || !st.Session || st.Endpoint.Remote != them {
				t.Errorf("status %+v", st)
			}
			counters := u.live.d.Counters()
			if c.weCall != (counters.Responses > 0) || c.weCall == (counters.Initiations > 0) {
				t.Errorf("%+v, want us to have called: %v", counters, c.weCall)
			}
			for i := range u.live.results {
				if r, n := Result(i), u.live.results[i].Load(); n > 0 && r != OK && r != Keepalive {
					t.Errorf("%d messages: %v", n, r)
				}
			}
		})
	}
}

// daemon starts wireguard-go in the foreground and waits for its socket.
func daemon(t *testing.T, host *netnstest.Host, wg string) {
	ctx, cancel := context.WithCancel(context.Background())
	cmd := host.Command(ctx, "wireguard-go", "-f", wg)
	cmd.Env = append(os.Environ(), "LOG_LEVEL=error", "WG_PROCESS_FOREGROUND=1")
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		<-cmd.Done()
	})
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err := host.Command(ctx, "wg", "show", wg).Run(); err == nil {
			return
		} else if time.Now().After(end) {
			t.Fatal("wireguard-go does not answer: ", err)
		}
	}
}

func run(t *testing.T, host *netnstest.Host, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := host.Command(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// echo makes an ICMP echo message from 10.9.0.1 to 10.9.0.2.
func echo(kind byte, seq byte, data []byte) []byte {
	p := make([]byte, 28, 28+len(data))
	p[0], p[8], p[9] = 0x45, 64, 1
	total := 28 + len(data)
	p[2], p[3] = byte(total>>8), byte(total)
	copy(p[12:], []byte{10, 9, 0, 1, 10, 9, 0, 2})
	p[20], p[25], p[27] = kind, 1, seq
	p = append(p, data...)
	putSum(p[10:], p[:20])
	putSum(p[22:], p[20:])
	return p
}

func putSum(at, over []byte) {
	at[0], at[1] = 0, 0
	var sum uint32
	for i := 0; i < len(over); i += 2 {
		sum += uint32(over[i]) << 8
		if i+1 < len(over) {
			sum += uint32(over[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	at[0], at[1] = ^byte(sum>>8), ^byte(sum)
}

// wantEcho waits for an echo reply; the daemon's kernel may send other things,
// such as router solicitations.
func wantEcho(t *testing.T, from <-chan []byte, data []byte) {
	t.Helper()
	for {
		select {
		case p := <-from:
			if len(p) >= 28 && p[0] == 0x45 && p[9] == 1 && p[20] == 0 {
				if got := p[28:][:len(data)]; !bytes.Equal(got, data) {
					t.Fatalf("echo of %q, want %q", got, data)
				}
				return
			}
		case <-time.After(20 * time.Second):
			t.Fatal("no echo reply in 20s")
		}
	}
}

// answerPings answers echo requests until stop is called.
func answerPings(l *live, peer *Peer) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			case p := <-l.got:
				if len(p) < 28 || p[0] != 0x45 || p[9] != 1 || p[20] != 8 {
					continue
				}
				p = p[:int(p[2])<<8|int(p[3])]
				p[20] = 0
				src := [4]byte(p[12:16])
				copy(p[12:16], p[16:20])
				copy(p[16:20], src[:])
				putSum(p[10:], p[:20])
				putSum(p[22:], p[20:])
				l.say(peer, p)
			}
		}
	}()
	return func() { close(quit); <-done }
}
