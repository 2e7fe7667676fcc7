package wireguard

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/tuntest"
)

// live is one of our Devices with its engine running. One goroutine of the test
// seals; another one, the network's, opens.
type live struct {
	t       testing.TB
	d       *Device
	key     PrivateKey
	seal    *Batch
	open    *Batch
	send    func(Datagram)
	got     chan []byte // plaintexts
	results [NumResults]atomic.Int64
}

func startLive(t testing.TB, send func(Datagram), change ...func(*Options)) *live {
	l := &live{t: t, key: must(NewPrivateKey()), send: send, got: make(chan []byte, 1<<16)}
	o := Options{PrivateKey: l.key, Send: send, Logger: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&o)
	}
	l.d = must(New(o))
	l.seal, l.open = l.d.NewBatch(), l.d.NewBatch()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l
}

// receive is called by the network.
func (l *live) receive(msg []byte, from Endpoint) {
	if handshakeSize(msg) != 0 {
		l.d.Receive(msg, from)
		return
	}
	pkts := []Packet{{Buf: bytes.Clone(msg)}}
	l.open.Locate = AllFrom(from)
	l.open.Open(pkts, l.d.Clock())
	l.results[pkts[0].Result].Add(1)
	if pkts[0].Result == OK {
		l.got <- pkts[0].Buf
	}
}

// say sends, and waits for a session first if it must. Any one goroutine may
// call it, so it does not end the test.
func (l *live) say(p *Peer, data []byte) {
	l.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; {
		epoch := l.d.Epoch()
		pkts := []Packet{plain(p, data)}
		l.seal.Seal(pkts, l.d.Clock())
		switch pkts[0].Result {
		case OK:
			l.send(Datagram{p.Endpoint(), pkts[0].Buf})
			return
		case NoSession:
		default:
			l.t.Errorf("seal: %v", pkts[0].Result)
			return
		}
		for l.d.Epoch() == epoch {
			if time.Now().After(end) {
				l.t.Error("no session after 30s")
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// expect waits for a packet that begins with want; padding may follow.
func expect(t testing.TB, from <-chan []byte, want []byte) {
	t.Helper()
	select {
	case got := <-from:
		if !bytes.HasPrefix(got, want) || len(bytes.Trim(got[len(want):], "\x00")) != 0 {
			t.Fatalf("got %x, want %x", got, want)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("nothing came in 30s")
	}
}

// stock is an unmodified wireguard-go device on a network in memory.
type stock struct {
	dev    *device.Device
	tun    *tuntest.ChannelTUN
	bind   *memoryBind
	public PublicKey
}

// memoryBind is a conn.Bind. What the device sends goes to out; what is put
// into in, it receives.
type memoryBind struct {
	in     chan sent
	out    func(sent)
	mu     sync.Mutex
	closed chan struct{}
}

type memoryEndpoint netip.AddrPort

func (memoryEndpoint) ClearSrc()             {}
func (memoryEndpoint) SrcToString() string   { return "" }
func (memoryEndpoint) SrcIP() netip.Addr     { return netip.Addr{} }
func (e memoryEndpoint) DstToString() string { return netip.AddrPort(e).String() }
func (e memoryEndpoint) DstIP() netip.Addr   { return netip.AddrPort(e).Addr() }
func (e memoryEndpoint) DstToBytes() []byte  { return []byte(e.DstToString()) }

func (b *memoryBind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = make(chan struct{})
	closed := b.closed
	return []conn.ReceiveFunc{func(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		select {
		case <-closed:
			return 0, net.ErrClosed
		case s := <-b.in:
			sizes[0] = copy(bufs[0], s.data)
			eps[0] = memoryEndpoint(s.from)
			n := 1
			for n < len(bufs) {
				select {
				case s := <-b.in:
					sizes[n] = copy(bufs[n], s.data)
					eps[n] = memoryEndpoint(s.from)
					n++
				default:
					return n, nil
				}
			}
			return n, nil
		}
	}}, port, nil
}

func (b *memoryBind) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed != nil {
		close(b.closed)
		b.closed = nil
	}
	return nil
}

func (b *memoryBind) SetMark(uint32) error { return nil }
func (b *memoryBind) BatchSize() int       { return 128 }

func (b *memoryBind) Send(bufs [][]byte, ep conn.Endpoint) error {
	for _, buf := range bufs {
		b.out(sent{to: netip.AddrPort(ep.(memoryEndpoint)), data: bytes.Clone(buf)})
	}
	return nil
}

func (b *memoryBind) ParseEndpoint(s string) (conn.Endpoint, error) {
	a, err := netip.ParseAddrPort(s)
	return memoryEndpoint(a), err
}

func startStock(t testing.TB, out func(sent)) *stock {
	key := must(NewPrivateKey())
	s := &stock{tun: tuntest.NewChannelTUN(), bind: &memoryBind{in: make(chan sent, 4096), out: out}, public: key.PublicKey()}
	s.dev = device.NewDevice(s.tun.TUN(), s.bind, device.NewLogger(device.LogLevelError, ""))
	s.set(t, "private_key=%x", *key.key())
	if err := s.dev.Up(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.dev.Close)
	return s
}

func (s *stock) set(t testing.TB, format string, args ...any) {
	t.Helper()
	if err := s.dev.IpcSet(fmt.Sprintf(format, args...) + "\n"); err != nil {
		t.Fatal(err)
	}
}

// stockPeers keeps every peer of every stock device from the garbage collector,
// which would drain its queues from outside of the test's bubble, and that
// ends the program.
var stockPeers struct {
	sync.Mutex
	all []*device.Peer
}

// addPeer makes one of ours its peer.
func (s *stock) addPeer(t testing.TB, public PublicKey, psk PresharedKey) {
	t.Helper()
	s.set(t, "public_key=%x\npreshared_key=%x\nallowed_ip=%s/32\nendpoint=%s", public[:], psk.bytes(), ourInner, ourOuter)
	stockPeers.Lock()
	defer stockPeers.Unlock()
	stockPeers.all = append(stockPeers.all, s.dev.LookupPeer(device.NoisePublicKey(public)))
}

// status returns a value of the peer's status, of which there must be one.
func (s *stock) status(t testing.TB, name string) string {
	t.Helper()
	text := must(s.dev.IpcGet())
	for line := range strings.SplitSeq(text, "\n") {
		if v, ok := strings.CutPrefix(line, name+"="); ok {
			return v
		}
	}
	t.Fatalf("no %s in %s", name, text)
	return ""
}

// ip makes an IPv4 packet of UDP with the text in it. wireguard-go looks at
// lengths and addresses only.
func ip(src, dst string, text string) []byte {
	p := make([]byte, 28, 28+len(text))
	p[0], p[8], p[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(p[2:], uint16(28+len(text)))
	binary.BigEndian.PutUint16(p[24:], uint16(8+len(text)))
	copy(p[12:], netip.MustParseAddr(src).AsSlice())
	copy(p[16:], netip.MustParseAddr(dst).AsSlice())
	return append(p, text...)
}
