package routing

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// call opens a session from the neighbour's address by hand, and returns messages as they come.
func call(t *testing.T, gateway *end, stream []byte) (messages chan []byte) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}, Timeout: 5 * time.Second}
	conn, err := d.DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", gateway.config.Ports[0].ListenPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := conn.Write(stream); err != nil {
		t.Fatal(err)
	}
	messages = make(chan []byte, 16)
	go func() {
		defer close(messages)
		for {
			header := make([]byte, 19)
			if _, err := io.ReadFull(conn, header); err != nil {
				return
			}
			body := make([]byte, int(binary.BigEndian.Uint16(header[16:]))-len(header))
			if _, err := io.ReadFull(conn, body); err != nil {
				return
			}
			messages <- append(header, body...)
		}
	}()
	return messages
}

// Routes that went through our own AS are of no use, and GoBGP does not show them. They cost memory all the same.
func TestPrefixesThatAreNotShownCountForTheLimit(t *testing.T) {
	t.Parallel()
	gateway, _ := newPair(t)
	gateway.neighbour().Passive, gateway.neighbour().MaxPrefixes = true, 3
	gateway.set(t)
	open := message(1, unhex(t, "04 fdea 005a 0aff0002 08 0206 0104 0001 0001"))
	through := "40 01 01 00 40 02 06 0202 fdea fde9 40 03 04 c0000202" // AS 65002, and then ours, 65001
	gateway.wantState(t, Active)                                       // before it answers, calls are hung up on
	messages := call(t, gateway, update(open, message(4, nil), attributes(t, through, "18 0a0101 18 0a0102 18 0a0103 18 0a0104")))
	gateway.wantState(t, Established)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(15 * time.Second); ; {
		select {
		case <-deadline:
			t.Fatal("the session was not ended")
		case <-tick.C: // the speaker would look once a minute
			gateway.speakers["p0"].checkLimits(t.Context())
		case m, ok := <-messages:
			if !ok {
				t.Fatal("the session ended without a word")
			}
			if m[18] != 3 {
				continue
			}
			if want := []byte{6, 1}; !bytes.Equal(m[19:21], want) { // Cease, maximum number of prefixes reached (RFC 4486)
				t.Errorf("notification %v, want %v", m[19:21], want)
			}
			return
		}
	}
}

// The limit is for each address family, and a prefix that goes makes room for another.
func TestALimitIsOfWhatIsThereNow(t *testing.T) {
	t.Parallel()
	gateway, router := newPair(t)
	gateway.neighbour().MaxPrefixes = 2
	gateway.set(t)
	for _, list := range [][]netip.Prefix{
		prefixes("10.1.1.0/24", "10.1.2.0/24", "fd10:1::/64", "fd10:2::/64"),
		prefixes("10.1.1.0/24", "fd10:2::/64"),
		prefixes("10.1.1.0/24", "10.1.3.0/24", "fd10:2::/64", "fd10:3::/64"),
	} {
		router.config.VPCs = []VPC{{Name: "red", Export: list}}
		router.set(t)
		eventually(t, "they are there", func() error {
			if got := gateway.learned(); !slices.Equal(got, list) {
				return fmt.Errorf("has %v", got)
			}
			return nil
		})
	}
	if s := gateway.one(t); s.Ended != 0 || s.State != Established {
		t.Errorf("the session is %+v", s)
	}
}
