package routing

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicegw/sluice/internal/testenv"
)

// exaConfig is a router that announces a good prefix and, with attributes that no router would send, others.
const exaConfig = `neighbor 127.0.0.1 {
  router-id 10.255.0.2;
  local-address 127.0.0.2;
  local-as 65002;
  peer-as 65001;
  family { ipv4 unicast; ipv6 unicast; }
  static {
    route 10.1.1.0/24 next-hop 192.0.2.2;
    route 10.1.2.0/24 next-hop 192.0.2.2 attribute [ 0x08 0xc0 0x010203 ];
    route 10.1.3.0/24 next-hop 192.0.2.2 attribute [ 0x20 0xc0 0x0102030405 ];
    route 10.1.4.0/24 next-hop 192.0.2.2 attribute [ 0x63 0x80 0x00 ];
    route 10.1.5.0/24 next-hop 192.0.2.2 attribute [ 0xfe 0xc0 0xdeadbeef ];
    route 10.1.6.0/24 next-hop 127.0.0.1;
    route 127.1.0.0/16 next-hop 192.0.2.2;
  }
}
`

// RFC 7606: a route whose attributes are malformed is treated as withdrawn, and the session goes on.
func TestExaBGPsMalformedRoutesAreIgnored(t *testing.T) {
	t.Parallel()
	testenv.RequireTool(t, "exabgp")
	gateway, _ := newPair(t)
	gateway.neighbour().Passive = true
	gateway.set(t)
	file := filepath.Join(t.TempDir(), "exabgp.conf")
	if err := os.WriteFile(file, []byte(exaConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "exabgp", file)
	c.Env = append(os.Environ(), fmt.Sprint("exabgp_tcp_port=", gateway.config.Ports[0].ListenPort),
		"exabgp_daemon_drop=false", "exabgp_api_cli=false", "exabgp_log_level=INFO")
	c.Cancel, c.WaitDelay = func() error { return c.Process.Signal(os.Interrupt) }, 5*time.Second
	c.Stdout, c.Stderr = t.Output(), t.Output()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Cancel(); err != nil {
			t.Error(err)
		}
		c.Wait() // it ends by our signal
	}()
	eventually(t, "the good routes", func() error {
		got := fmt.Sprint(gateway.learned())
		for _, want := range []string{"10.1.1.0/24", "10.1.4.0/24", "10.1.5.0/24"} {
			if !strings.Contains(got, want) {
				return errors.New("has " + got)
			}
		}
		return nil
	})
	for _, p := range gateway.learned() {
		if s := p.String(); s == "10.1.2.0/24" || s == "10.1.3.0/24" || s == "10.1.6.0/24" || s == "127.1.0.0/16" {
			t.Errorf("%s is in use", s)
		}
	}
	if s := gateway.one(t); s.State != Established || s.Ended != 0 {
		t.Errorf("the session is %+v", s)
	}
}

// message builds a BGP message (RFC 4271 section 4.1).
func message(kind byte, body []byte) []byte {
	out := make([]byte, 19, 19+len(body))
	for i := range 16 {
		out[i] = 0xff
	}
	binary.BigEndian.PutUint16(out[16:], uint16(19+len(body)))
	out[18] = kind
	return append(out, body...)
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever a router sends, the speaker survives, and a decent router gets its session afterwards.
func TestWhateverARouterSendsTheSpeakerSurvives(t *testing.T) {
	t.Parallel()
	gateway, router := newPair(t)
	gateway.neighbour().Passive = true
	gateway.set(t)
	where := fmt.Sprintf("127.0.0.1:%d", gateway.config.Ports[0].ListenPort)
	// Version 4, AS 65002, hold time 90, identifier 10.255.0.2, multiprotocol IPv4 unicast.
	open := message(1, unhex(t, "04 fdea 005a 0aff0002 08 0206 0104 0001 0001"))
	keepalive := message(4, nil)
	origin, path, hop := "40 01 01 00", "40 02 06 0201 0000fdea", "40 03 04 c0000202"
	short := "40 02 04 0201 fdea" // of two octets for each number, as we did not offer four
	for name, stream := range map[string][]byte{
		"nothing":                      {},
		"no BGP at all":                []byte("GET / HTTP/1.1\r\n\r\n"),
		"a message longer than all":    append(open[:16:16], 0xff, 0xff, 1),
		"a message of no length":       append(open[:16:16], 0, 0, 1),
		"half an OPEN":                 open[:25],
		"an OPEN with a long option":   message(1, unhex(t, "04 fdea 005a 0aff0002 ff 02ff 0104")),
		"version 3":                    message(1, unhex(t, "03 fdea 005a 0aff0002 00")),
		"a hold time of 1 s":           message(1, unhex(t, "04 fdea 0001 0aff0002 00")),
		"our own identifier":           message(1, unhex(t, "04 fdea 005a 0aff0001 00")),
		"an UPDATE before the OPEN":    message(2, unhex(t, "0000 0000")),
		"a NOTIFICATION":               append(open[:len(open):len(open)], message(3, unhex(t, "0602"))...),
		"a type that is none":          append(open[:len(open):len(open)], message(99, nil)...),
		"withdrawn longer than all":    update(open, keepalive, unhex(t, "ffff 0000")),
		"attributes longer than all":   update(open, keepalive, unhex(t, "0000 ffff 4001")),
		"a prefix of 33 bits":          update(open, keepalive, attributes(t, origin+short+hop, "21 0a010200 80")),
		"half a prefix":                update(open, keepalive, attributes(t, origin+short+hop, "18 0a")),
		"a path of numbers too long":   update(open, keepalive, attributes(t, origin+path+hop, "18 0a0102")),
		"a path segment without end":   update(open, keepalive, attributes(t, origin+"40 02 02 02ff"+hop, "18 0a0102")),
		"an origin of 9":               update(open, keepalive, attributes(t, "40 01 01 09"+short+hop, "18 0a0102")),
		"an origin of two bytes":       update(open, keepalive, attributes(t, "40 01 02 0000"+short+hop, "18 0a0102")),
		"an attribute twice":           update(open, keepalive, attributes(t, origin+origin+short+hop, "18 0a0102")),
		"no next hop":                  update(open, keepalive, attributes(t, origin+short, "18 0a0102")),
		"an extended length that lies": update(open, keepalive, attributes(t, origin+short+hop+"d0 08 ffff 00010002", "18 0a0102")),
		"an MP_REACH of garbage":       update(open, keepalive, attributes(t, origin+short+"80 0e 05 0002 01 ff 00", "")),
		"an MP_UNREACH of garbage":     update(open, keepalive, attributes(t, "80 0f 02 0002", "")),
	} {
		if err := throw(t.Context(), where, stream); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, r := range gateway.Routes() {
			if r.Verdict.Accepted() && r.Best {
				t.Errorf("%s: %s is in use", name, r.Prefix)
			}
		}
	}
	router.vpc().Export = prefixes("10.1.0.0/16")
	router.set(t)
	gateway.wants(t, "10.1.0.0/16")
}

// update is a whole session up to one UPDATE.
func update(open, keepalive, body []byte) []byte {
	return append(append(append([]byte(nil), open...), keepalive...), message(2, body)...)
}

func attributes(t *testing.T, attrs, nlri string) []byte {
	t.Helper()
	a := unhex(t, attrs)
	body := binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(a)))
	return append(append(body, a...), unhex(t, nlri)...)
}

// throw sends a stream from the neighbour's address, and reads what is answered until a moment has passed.
func throw(ctx context.Context, where string, stream []byte) error {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}, Timeout: 5 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", where)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(stream); err != nil {
		return nil // it has hung up already: its right
	}
	if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, conn)
	return nil
}
