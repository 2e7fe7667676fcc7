package netnstest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ICMP echo (RFC 792, RFC 4443 section 4).
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
	echoHeader               = 8
)

// PingOptions: the zero value sends up to 3 requests and wants one answer.
type PingOptions struct {
	Count   int           // requests; default 3
	All     bool          // every request must be answered, not just one
	Timeout time.Duration // per request; default 1 s
	Size    int           // of the data; default 56
	// Payload begins the data, and must come back; for looking for in captures.
	Payload []byte
	// DontFragment sets DF on IPv4; IPv6 packets are never fragmented on their way,
	// but the sending host may.
	DontFragment bool
}

// Ping sends ICMP echo requests from a host. The kernel of the other end answers.
func Ping(ctx context.Context, from *Host, to netip.Addr, o PingOptions) error {
	o.Count, o.Size = defaulted(o.Count, 3), max(defaulted(o.Size, 56), len(o.Payload))
	o.Timeout = defaulted(o.Timeout, time.Second)
	var conn net.PacketConn
	err := from.Do(func() (err error) {
		conn, err = openEcho(to, o)
		return err
	})
	if err != nil {
		return fmt.Errorf("host %s: ping %s: %w", from.Name(), to, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	answers := 0
	var last error
	for seq := 1; seq <= o.Count && ctx.Err() == nil; seq++ {
		if last = echo(conn, to, uint16(seq), o); last == nil {
			if answers++; !o.All {
				return nil
			}
		}
	}
	if ctx.Err() != nil {
		last = ctx.Err()
	}
	if answers < o.Count {
		return fmt.Errorf("host %s: ping %s: %d of %d answered: %w", from.Name(), to, answers, o.Count, last)
	}
	return nil
}

func defaulted[T int | time.Duration](value, fallback T) T {
	if value == 0 {
		return fallback
	}
	return value
}

func openEcho(to netip.Addr, o PingOptions) (net.PacketConn, error) {
	network := "ip4:icmp"
	if to.Is6() {
		network = "ip6:ipv6-icmp"
	}
	conn, err := net.ListenPacket(network, "")
	if err != nil {
		return nil, err
	}
	if o.DontFragment {
		if err := setDontFragment(conn.(*net.IPConn), to.Is6()); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return conn, nil
}

// echo sends one request and waits for its answer.
func echo(conn net.PacketConn, to netip.Addr, seq uint16, o PingOptions) error {
	message := make([]byte, echoHeader+o.Size)
	request, reply := byte(echoRequest4), byte(echoReply4)
	if to.Is6() {
		request, reply = echoRequest6, echoReply6
	}
	id := uint16(os.Getpid())
	message[0] = request
	binary.BigEndian.PutUint16(message[4:], id)
	binary.BigEndian.PutUint16(message[6:], seq)
	copy(message[echoHeader:], o.Payload)
	if to.Is4() { // the kernel fills in the sum of ICMPv6 (RFC 3542 section 3.1)
		binary.BigEndian.PutUint16(message[2:], checksum(message))
	}
	if err := conn.SetReadDeadline(time.Now().Add(o.Timeout)); err != nil {
		return err
	}
	if _, err := conn.WriteTo(message, &net.IPAddr{IP: net.IP(to.AsSlice())}); err != nil {
		return err
	}
	answer := make([]byte, 65536)
	for {
		n, from, err := conn.ReadFrom(answer)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return errors.New("no answer")
			}
			return err
		}
		if n < echoHeader || answer[0] != reply || binary.BigEndian.Uint16(answer[4:]) != id || binary.BigEndian.Uint16(answer[6:]) != seq {
			continue // a raw socket gets all of its host's ICMP
		}
		if source, ok := netip.AddrFromSlice(from.(*net.IPAddr).IP); !ok || source.Unmap() != to {
			continue
		}
		if string(answer[echoHeader:n]) != string(message[echoHeader:]) {
			return fmt.Errorf("the answer has other data (%d bytes, sent %d)", n-echoHeader, o.Size)
		}
		return nil
	}
}

// checksum is the Internet checksum (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func setDontFragment(conn *net.IPConn, v6 bool) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var e error
	if err := raw.Control(func(fd uintptr) {
		if v6 {
			e = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO)
		} else {
			e = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		}
	}); err != nil {
		return err
	}
	return e
}
