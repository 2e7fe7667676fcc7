package memory

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/sluicegw/sluice/internal/packet"
)

// devicePath is the unmodified wireguard-go device between a TUN device and a UDP
// socket in memory.
type devicePath struct {
	name   string
	procs  int // Ps while it works
	device *device.Device
	tun    *memoryTUN
	bind   *memoryBind
	far    *far
	plain  *store
}

func newDevicePath(name string, size, procs int) (*devicePath, error) {
	p := &devicePath{name: name, procs: procs, plain: plaintexts(nearHost, farHost, size)}
	nearKey, farKey, err := keys()
	if err != nil {
		return nil, err
	}
	closed := make(chan struct{})
	p.tun = &memoryTUN{events: make(chan tun.Event, 1), source: newSource(closed)}
	p.tun.events <- tun.EventUp
	p.bind = &memoryBind{source: newSource(closed), mail: make(chan []byte, 64), toFar: func(m []byte) { p.far.receive(m) }}
	p.device = device.NewDevice(p.tun, p.bind, device.NewLogger(device.LogLevelSilent, ""))
	secret, err := hexKey(nearKey.RevealBase64())
	if err != nil {
		return nil, err
	}
	public := farKey.PublicKey()
	if err := p.device.IpcSet(fmt.Sprintf("private_key=%s\nlisten_port=%d\npublic_key=%s\nendpoint=%s:%d\nallowed_ip=%s\n",
		secret, udpPort, hex.EncodeToString(public[:]), farWAN, udpPort, farPrefix)); err != nil {
		return nil, fmt.Errorf("configure wireguard-go: %w", err)
	}
	if err := p.device.Up(); err != nil {
		return nil, fmt.Errorf("start wireguard-go: %w", err)
	}
	p.far, err = newFar(size, farKey, nearKey.PublicKey(), func(m []byte) {
		select {
		case p.bind.mail <- m:
		default: // lost, as any datagram may be
		}
	})
	return p, err
}

// hexKey turns a key into the text that wireguard-go wants.
func hexKey(text []byte) (string, error) {
	key, err := base64.StdEncoding.DecodeString(string(text))
	return hex.EncodeToString(key), err
}

// Name implements Path.
func (p *devicePath) Name() string { return p.name }

// Seal implements Path.
func (p *devicePath) Seal(ctx context.Context, n int) (time.Duration, error) {
	took, _, err := p.seal(ctx, n, 0)
	return took, err
}

func (p *devicePath) seal(ctx context.Context, n, keep int) (time.Duration, [][]byte, error) {
	if err := p.far.connect(ctx); err != nil {
		return 0, nil, err
	}
	return p.run(ctx, p.tun.source, p.plain, n, keep)
}

// Open implements Path.
func (p *devicePath) Open(ctx context.Context, n int) (time.Duration, error) {
	took, _, err := p.open(ctx, n, 0)
	return took, err
}

func (p *devicePath) open(ctx context.Context, n, keep int) (time.Duration, [][]byte, error) {
	if err := p.far.connect(ctx); err != nil {
		return 0, nil, err
	}
	messages, err := p.far.messages(n)
	if err != nil {
		return 0, nil, err
	}
	return p.run(ctx, p.bind.source, messages, n, keep)
}

func (p *devicePath) run(ctx context.Context, in *source, packets *store, n, keep int) (time.Duration, [][]byte, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(p.procs))
	s := new(slice)
	p.tun.slice, p.bind.slice = nil, nil
	if in == p.tun.source {
		p.bind.slice = s
	} else {
		p.tun.slice = s
	}
	took, kept, err := s.run(ctx, packets, 0, 1, n, keep, func() { in.work <- s.in.Load() })
	if err != nil {
		return 0, nil, fmt.Errorf("%s: %w", p.name, err)
	}
	return took, kept, nil
}

// Close implements Path.
func (p *devicePath) Close() error {
	p.device.Close()
	return p.far.close()
}

// batchSize is conn.IdealBatchSize, what wireguard-go uses with the kernel's
// vectorised calls.
const batchSize = conn.IdealBatchSize

// source hands packets to one of wireguard-go's reading goroutines.
type source struct {
	work   chan *feed
	feed   *feed
	closed chan struct{}
}

func newSource(closed chan struct{}) *source {
	return &source{work: make(chan *feed), closed: closed}
}

// read fills up to a batch; skip is what of each packet the reader does not want.
func (s *source) read(bufs [][]byte, sizes []int, offset, skip int) (n int) {
	for n < len(bufs) && s.feed != nil && s.feed.next < s.feed.want {
		sizes[n] = copy(bufs[n][offset:], s.feed.packets.at(s.feed.next)[skip:])
		s.feed.next += s.feed.step
		n++
	}
	return n
}

// memoryTUN is a tun.Device.
type memoryTUN struct {
	events chan tun.Event
	source *source
	slice  *slice
	once   sync.Once
}

func (t *memoryTUN) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	for {
		if n := t.source.read(bufs, sizes, offset, packet.EthernetLen); n > 0 {
			return n, nil
		}
		select {
		case t.source.feed = <-t.source.work:
		case <-t.source.closed:
			return 0, os.ErrClosed
		}
	}
}

func (t *memoryTUN) Write(bufs [][]byte, offset int) (int, error) {
	if t.slice != nil {
		tally := t.slice.out.Load()
		for _, b := range bufs {
			tally.add(b[offset:])
		}
	}
	return len(bufs), nil
}

func (t *memoryTUN) Close() error {
	t.once.Do(func() {
		close(t.source.closed)
		close(t.events)
	})
	return nil
}

func (t *memoryTUN) File() *os.File           { return nil }
func (t *memoryTUN) MTU() (int, error)        { return innerMTU, nil }
func (t *memoryTUN) Name() (string, error)    { return "memory", nil }
func (t *memoryTUN) Events() <-chan tun.Event { return t.events }
func (t *memoryTUN) BatchSize() int           { return batchSize }

// memoryBind is a conn.Bind. The device opens and closes it several times.
type memoryBind struct {
	source *source
	slice  *slice
	mail   chan []byte
	toFar  func([]byte)

	mu     sync.Mutex
	closed chan struct{}
}

func (b *memoryBind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed != nil {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	closed := make(chan struct{})
	b.closed = closed
	return []conn.ReceiveFunc{func(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		return b.receive(closed, packets, sizes, eps)
	}}, port, nil
}

func (b *memoryBind) receive(closed chan struct{}, packets [][]byte, sizes []int, eps []conn.Endpoint) (n int, err error) {
	for {
		if n = b.source.read(packets, sizes, 0, outerLen); n == 0 {
			select {
			case b.source.feed = <-b.source.work:
				continue
			case m := <-b.mail:
				sizes[0], n = copy(packets[0], m), 1
			case <-closed:
				return 0, net.ErrClosed
			}
		}
		for i := range n {
			eps[i] = endpoint{}
		}
		return n, nil
	}
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

func (b *memoryBind) Send(bufs [][]byte, _ conn.Endpoint) error {
	for _, m := range bufs {
		switch {
		case !isData(m):
			b.toFar(m)
		case b.slice != nil:
			b.slice.out.Load().add(m)
		}
	}
	return nil
}

func (b *memoryBind) SetMark(uint32) error { return nil }
func (b *memoryBind) BatchSize() int       { return batchSize }

func (b *memoryBind) ParseEndpoint(s string) (conn.Endpoint, error) {
	if s != netip.AddrPortFrom(farWAN, udpPort).String() {
		return nil, errors.New("parse endpoint: there is only the far end")
	}
	return endpoint{}, nil
}

// endpoint is the far end's address.
type endpoint struct{}

func (endpoint) ClearSrc()           {}
func (endpoint) SrcToString() string { return "" }
func (endpoint) DstToString() string { return netip.AddrPortFrom(farWAN, udpPort).String() }
func (endpoint) DstIP() netip.Addr   { return farWAN }
func (endpoint) SrcIP() netip.Addr   { return netip.Addr{} }
func (endpoint) DstToBytes() []byte {
	b, err := netip.AddrPortFrom(farWAN, udpPort).MarshalBinary()
	if err != nil {
		return nil
	}
	return b
}

var (
	_ tun.Device    = (*memoryTUN)(nil)
	_ conn.Bind     = (*memoryBind)(nil)
	_ wireguardPath = (*devicePath)(nil)
	_ wireguardPath = (*relayPath)(nil)
)

// wireguardPath is a Path whose output can be looked at.
type wireguardPath interface {
	Path
	seal(ctx context.Context, n, keep int) (time.Duration, [][]byte, error)
	open(ctx context.Context, n, keep int) (time.Duration, [][]byte, error)
}
