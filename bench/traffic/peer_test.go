package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// gateway is the side that opens: a device behind a socket.
type gateway struct {
	device *wireguard.Device
	key    wireguard.PublicKey
}

func newGateway(t testing.TB, h *netnstest.Host, at netip.AddrPort, peer wireguard.PublicKey) *gateway {
	t.Helper()
	var socket *net.UDPConn
	if err := h.Do(func() (err error) {
		socket, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	key, err := wireguard.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{}
	g.device, err = wireguard.New(wireguard.Options{PrivateKey: key, Send: func(d wireguard.Datagram) {
		if _, err := socket.WriteToUDPAddrPort(d.Data, d.Remote); err != nil {
			t.Error(err)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	g.key = g.device.PublicKey()
	if _, err := g.device.SetPeer(wireguard.PeerConfig{PublicKey: peer}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- g.device.Run(ctx) }()
	go func() {
		buffer, batch := make([]byte, 1<<16), g.device.NewBatch()
		for {
			n, from, err := socket.ReadFromUDPAddrPort(buffer)
			if err != nil {
				if errors.Is(err, net.ErrClosed) {
					err = nil
				}
				ended <- err
				return
			}
			e := wireguard.Endpoint{Remote: netip.AddrPortFrom(from.Addr().Unmap(), from.Port())}
			if !g.device.Receive(buffer[:n], e) {
				batch.Locate = wireguard.AllFrom(e)
				batch.Open([]wireguard.Packet{{Buf: buffer[:n]}}, g.device.Clock())
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		closing(t, socket)
		if err := errors.Join(<-ended, <-ended); err != nil {
			t.Error(err)
		}
	})
	return g
}

// newTunnel is a pair of hosts with a gateway at the second one, and its peer at the first.
func newTunnel(t testing.TB, from, to string) (pair, *gateway, *Peer) {
	t.Helper()
	n := netnstest.New(t)
	p := pair{scope: n, a: n.NewHost("a"), b: n.NewHost("b")}
	p.aLink, p.bLink = n.Connect(netnstest.End{Host: p.a, Name: "eth0", Addrs: netnstest.Prefixes("192.0.2.1/24", "2001:db8::1/64")},
		netnstest.End{Host: p.b, Name: "eth0", Addrs: netnstest.Prefixes("192.0.2.2/24", "2001:db8::2/64")})
	private, err := wireguard.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	local, remote := netip.AddrPortFrom(netip.MustParseAddr(from), 51820), netip.AddrPortFrom(netip.MustParseAddr(to), 51820)
	g := newGateway(t, p.b, remote, private.PublicKey())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	peer, err := NewPeer(ctx, PeerOptions{Host: p.a, Local: local, Remote: remote, PrivateKey: private, PublicKey: g.key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closing(t, peer) })
	return p, g, peer
}

func TestSealedMessagesArriveAndOpen(t *testing.T) {
	for name, addrs := range map[string][2]string{"ipv4": {"192.0.2.1", "192.0.2.2"}, "ipv6": {"2001:db8::1", "2001:db8::2"}} {
		t.Run(name, func(t *testing.T) {
			p, g, peer := newTunnel(t, addrs[0], addrs[1])
			flow := Flow{Format: GeneveIP, Inner: inner6, Outer: outer4, Flows: 5, VNI: 9, Sizes: IMIX()}
			flow.Sizes[0].Size, flow.Sizes[2].Size = 77, 1360 // the one is padded, and the other fits
			const count = 1000
			frames, err := peer.Seal(SealOptions{Flow: flow, SrcMAC: [6]byte(p.aLink.MAC), DstMAC: [6]byte(p.bLink.MAC), Count: count})
			if err != nil {
				t.Fatal(err)
			}
			defer closing(t, frames)

			// On the wire they are messages with numbers in order.
			s := p.sink(t, SinkOptions{SumEvery: 1})
			sender := p.generator(t, Options{Frames: frames, Rate: 50_000})
			sent := run(t, sender, time.Minute)
			if c := arrived(t, s, count); sent.Packets != count || c.Sealed != count || c.Bytes != sent.Bytes || c.Missing+c.Duplicates+c.BadSums+c.Malformed != 0 {
				t.Errorf("sent %+v, arrived %+v", sent, c)
			}

			// The gateway opens them, once each, and what comes out is the flow's.
			flow = flow.withDefaults()
			ip := 14
			header := ip + ipLen(peer.options.Local.Addr()) + 8
			batch, schedule := g.device.NewBatch(), flow.schedule()
			plain := make([]Frame, 0, count)
			for round, want := range []wireguard.Result{wireguard.OK, wireguard.Replay} {
				for i := range count {
					entry := make([]byte, frames.stride)
					if _, err := frames.memory.ReadAt(entry, int64(i*frames.stride)); err != nil {
						t.Fatal(err)
					}
					frame := entry[frameHeader:][:binary.NativeEndian.Uint32(entry[8:])]
					one := []wireguard.Packet{{Buf: frame[header:]}}
					batch.Open(one, g.device.Clock())
					if one[0].Result != want {
						t.Fatalf("message %d, round %d: %v, want %v", i, round, one[0].Result, want)
					}
					if want == wireguard.Replay {
						continue
					}
					whole := flow.frame(stamp{flow: uint16(i % 5), seq: uint32(i / 5), time: stampIndex | uint64(i)}, flow.Sizes[schedule[i%1536]].Size)
					if got := one[0].Buf; len(got) < len(whole)-ip || string(got[:len(whole)-ip]) != string(whole[ip:]) {
						t.Fatalf("message %d:\n got %x\nwant %x", i, got, whole[ip:])
					}
					plain = append(plain, Frame{Data: whole})
				}
			}

			// A sink behind the gateway knows when each was sent.
			behind := looseSink(t, SinkOptions{Sent: frames, SumEvery: 1})
			for _, f := range plain {
				runOnce(t, behind.objs.Sink, f.Data, xdpDrop)
			}
			if h, err := behind.Latency(); err != nil || h.Count != count || h.Min <= 0 || h.Max > time.Minute {
				t.Errorf("%d latencies from %v to %v, %v", h.Count, h.Min, h.Max, err)
			}
			if c := read(t, behind); c.Packets != count || c.Missing+c.BadSums+c.Malformed != 0 {
				t.Errorf("opened: %+v", c)
			}
			if _, err := peer.Seal(SealOptions{Flow: Flow{Format: VXLAN, Inner: inner4, Outer: outer4}, Count: 1}); err == nil {
				t.Error("a frame was sealed")
			}
		})
	}
}

func TestNobodyAnswersTheHandshake(t *testing.T) {
	n := netnstest.New(t)
	a := n.NewHost("a")
	private, err := wireguard.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = NewPeer(ctx, PeerOptions{Host: a, Local: netip.MustParseAddrPort("127.0.0.1:51820"), Remote: netip.MustParseAddrPort("127.0.0.1:9"), PrivateKey: private, PublicKey: private.PublicKey()})
	if err == nil {
		t.Error("no error")
	}
}
