package demo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluicegw/sluice/internal/netnstest"
)

// servicePort is where every endpoint answers, TCP and UDP.
const servicePort = 7777

// endpoint is a pod or a host. Its services are goroutines of this process on
// sockets of its namespace.
type endpoint struct {
	site  *site
	name  string
	vpc   string
	node  int              // of a pod
	only  bool             // its address exists in its VPC only
	addrs []netip.Addr     // IPv4, IPv6
	mac   net.HardwareAddr // of a pod
	host  *netnstest.Host

	listener net.Listener
	packets  net.PacketConn
	serving  sync.WaitGroup
}

// token is how an endpoint tells who it is; nothing else distinguishes two pods
// with the same address.
func (e *endpoint) token() string { return "I am " + e.name + " " + string(e.site.lab.marker) }

// serve answers over TCP: a line "who ..." with the token, a line "copy N" and N
// bytes with their SHA-256; and over UDP any datagram with the token.
func (e *endpoint) serve() error {
	err := e.host.Do(func() (err error) {
		address := ":" + strconv.Itoa(servicePort)
		if e.listener, err = net.Listen("tcp", address); err != nil {
			return err
		}
		e.packets, err = net.ListenPacket("udp", address)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: serve: %w", e.name, err)
	}
	e.serving.Go(func() {
		for {
			conn, err := e.listener.Accept()
			if err != nil {
				return // closed
			}
			e.serving.Go(func() {
				defer conn.Close()
				e.answer(conn)
			})
		}
	})
	e.serving.Go(func() {
		request := make([]byte, 2048)
		for {
			_, from, err := e.packets.ReadFrom(request)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				// An answer that cannot be sent is one that the client misses.
				_, _ = e.packets.WriteTo([]byte(e.token()), from)
			}
		}
	})
	return nil
}

// answer serves one connection. What goes wrong is seen by the client, which
// misses its answer.
func (e *endpoint) answer(conn net.Conn) {
	if conn.SetDeadline(time.Now().Add(copyTimeout)) != nil {
		return
	}
	r := bufio.NewReaderSize(conn, 256<<10)
	line, err := r.ReadString('\n')
	if err != nil {
		return
	}
	verb, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
	switch verb {
	case "who":
		_, _ = io.WriteString(conn, e.token()+"\n")
	case "copy":
		if n, err := strconv.ParseInt(arg, 10, 64); err == nil {
			if sum, err := hash(io.LimitReader(r, n), n); err == nil {
				_, _ = io.WriteString(conn, sum+"\n")
			}
		}
	}
}

func (e *endpoint) close() error {
	var errs []error
	if e.listener != nil {
		errs = append(errs, e.listener.Close())
	}
	if e.packets != nil {
		errs = append(errs, e.packets.Close())
	}
	e.serving.Wait()
	return errors.Join(errs...)
}

// dial connects from the endpoint to an address's service.
func (e *endpoint) dial(ctx context.Context, network string, to netip.Addr, timeout time.Duration) (net.Conn, error) {
	var conn net.Conn
	err := e.host.Do(func() (err error) {
		d := net.Dialer{Timeout: timeout}
		conn, err = d.DialContext(ctx, network, netip.AddrPortFrom(to, servicePort).String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.name, err)
	}
	return conn, nil
}

// who asks whoever has an address who he is. UDP is asked up to three times, as
// nobody else would ask again.
func (e *endpoint) who(ctx context.Context, network string, to netip.Addr, timeout time.Duration) (string, error) {
	conn, err := e.dial(ctx, network, to, timeout)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	tries := 1
	if network == "udp" {
		tries = 3
	}
	answer := make([]byte, 2048)
	for range tries {
		if err = conn.SetDeadline(time.Now().Add(timeout)); err != nil {
			break
		}
		// The request carries the marker as well: nothing that is sent may be readable.
		if _, err = fmt.Fprintf(conn, "who %s\n", e.site.lab.marker); err != nil {
			break
		}
		var n int
		if n, err = conn.Read(answer); err == nil {
			name, ok := bytes.CutSuffix(bytes.TrimSpace(answer[:n]), append([]byte(" "), e.site.lab.marker...))
			if !ok {
				return "", fmt.Errorf("%s: %s %s answered %q", e.name, network, to, answer[:n])
			}
			return strings.TrimPrefix(string(name), "I am "), nil
		}
	}
	return "", fmt.Errorf("%s: %s %s: %w", e.name, network, to, err)
}
