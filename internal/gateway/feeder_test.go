package gateway_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/sluicegw/sluice/internal/netnstest"
)

// feeder is a router that announces as many IPv4 prefixes as one likes as fast as they can be sent, and knows when the last
// one has left. A real router takes its time, and does not say when it has told everything. It calls the gateway, which
// must expect AS 65101 from it.
type feeder struct {
	conn net.Conn
	hop  netip.Addr
	mu   sync.Mutex // one message at a time
	buf  []byte
}

// BGP's messages (RFC 4271 section 4) and sizes.
const (
	bgpOpen, bgpUpdate, bgpKeepalive = 1, 2, 4
	bgpHeader, bgpMax                = 19, 4096
)

const feederAS = 65101

// startFeeder opens a session with the gateway at an address.
func startFeeder(t testing.TB, h *netnstest.Host, gateway, own netip.Addr) *feeder {
	t.Helper()
	f := &feeder{hop: own, buf: make([]byte, 0, bgpMax)}
	deadline := time.Now().Add(15 * time.Second)
	for {
		err := f.open(h, gateway)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("feeder: %v", err)
		}
		time.Sleep(200 * time.Millisecond)
	}
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop); f.conn.Close() })
	go func() { _, _ = io.Copy(io.Discard, f.conn) }() // what the gateway announces
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Second):
				_ = f.write(bgpKeepalive, nil) // a session that ends shows in the test
			}
		}
	}()
	return f
}

func (f *feeder) open(h *netnstest.Host, gateway netip.Addr) (err error) {
	if f.conn != nil {
		f.conn.Close()
	}
	if err := h.Do(func() (err error) {
		f.conn, err = net.DialTimeout("tcp", netip.AddrPortFrom(gateway, 179).String(), time.Second)
		return err
	}); err != nil {
		return err
	}
	id := f.hop.As4()
	capabilities := []byte{1, 4, 0, 1, 0, 1, 65, 4, 0, 0, feederAS >> 8, feederAS & 0xff} // IPv4 unicast; numbers of four bytes
	open := append([]byte{4, feederAS >> 8, feederAS & 0xff, 0, 90}, id[:]...)
	open = append(open, byte(2+len(capabilities)), 2, byte(len(capabilities)))
	if err := f.write(bgpOpen, append(open, capabilities...)); err != nil {
		return err
	}
	if err := f.write(bgpKeepalive, nil); err != nil {
		return err
	}
	// The gateway's OPEN and its KEEPALIVE: it has accepted ours.
	if err := f.conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	for _, want := range []byte{bgpOpen, bgpKeepalive} {
		var header [bgpHeader]byte
		if _, err := io.ReadFull(f.conn, header[:]); err != nil {
			return err
		}
		if header[18] != want {
			return fmt.Errorf("message of type %d, want %d", header[18], want)
		}
		if _, err := io.CopyN(io.Discard, f.conn, int64(binary.BigEndian.Uint16(header[16:]))-bgpHeader); err != nil {
			return err
		}
	}
	return f.conn.SetReadDeadline(time.Time{})
}

func (f *feeder) write(kind byte, body []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.buf = f.buf[:0]
	for range 16 {
		f.buf = append(f.buf, 0xff)
	}
	f.buf = binary.BigEndian.AppendUint16(f.buf, uint16(bgpHeader+len(body)))
	f.buf = append(append(f.buf, kind), body...)
	_, err := f.conn.Write(f.buf)
	return err
}

// announce announces prefixes; withdraw takes them back. They return when the last has left.
func (f *feeder) announce(t testing.TB, prefixes []netip.Prefix) {
	t.Helper()
	hop := f.hop.As4()
	attributes := []byte{0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, feederAS >> 8, feederAS & 0xff, 0x40, 3, 4, hop[0], hop[1], hop[2], hop[3]}
	head := append([]byte{0, 0, 0, byte(len(attributes))}, attributes...)
	f.each(t, prefixes, func(list []byte) []byte { return append(append([]byte(nil), head...), list...) })
}

func (f *feeder) withdraw(t testing.TB, prefixes []netip.Prefix) {
	t.Helper()
	f.each(t, prefixes, func(list []byte) []byte {
		return append(append(binary.BigEndian.AppendUint16(nil, uint16(len(list))), list...), 0, 0)
	})
}

func (f *feeder) each(t testing.TB, prefixes []netip.Prefix, message func(list []byte) []byte) {
	t.Helper()
	const room = 4000 // of a message, without header and attributes
	var list []byte
	var errs []error
	for i, p := range prefixes {
		a := p.Addr().As4()
		list = append(append(list, byte(p.Bits())), a[:(p.Bits()+7)/8]...)
		if len(list) > room-5 || i == len(prefixes)-1 {
			errs = append(errs, f.write(bgpUpdate, message(list)))
			list = list[:0]
		}
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("feeder: %v", err)
	}
}

// manyPrefixes are /24s from 20.0.0.0 on.
func manyPrefixes(n int) []netip.Prefix {
	out := make([]netip.Prefix, n)
	for i := range out {
		out[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{20 + byte(i>>16), byte(i >> 8), byte(i), 0}), 24)
	}
	return out
}
