package pair

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a server on this host until the test ends, and returns its address.
func serve(t *testing.T, at string, limits Limits) (address string, token Token) {
	t.Helper()
	token = NewToken()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Skipf("no loopback address %s: %v", at, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	s := &Server{Token: token, Limits: limits}
	go func() { ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return l.Addr().String(), token
}

// small limits keep a test from using the machine for itself.
func small() Limits {
	return Limits{PacketRate: 5000, BitRate: 1e9, Trial: time.Second, Session: time.Minute, Flows: 4}
}

func TestEverythingIsMeasuredOverLoopback(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(at, func(t *testing.T) {
			address, token := serve(t, at, small())
			last, steps := 0, 0
			r, err := Run(t.Context(), address, token, Options{
				Sizes: []int{100, 9000}, Flows: 2, Streams: 2, Trial: 30 * time.Millisecond, MaxRate: 2000,
				Progress: func(done, of int, what string) {
					if done < last || done > of {
						t.Errorf("progress from %d to %d of %d (%s)", last, done, of, what)
					}
					last, steps = done, of
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			if last != steps || steps == 0 {
				t.Errorf("the bar ends at %d of %d", last, steps)
			}
			if r.MTU != MaxSize { // loopback carries 64 KiB
				t.Errorf("mtu %d", r.MTU)
			}
			if r.RTT == nil || r.RTT.Received < r.RTT.Sent/2 || len(r.RTT.Trip) == 0 || r.RTT.Trip[0].At <= 0 {
				t.Errorf("round trips %+v", r.RTT)
			}
			if len(r.UDP) != 4 || len(r.TCP) != 2 {
				t.Fatalf("%d udp and %d tcp results", len(r.UDP), len(r.TCP))
			}
			for _, u := range r.UDP {
				// A busy machine may make it less, but loopback carries some.
				if u.PDR.PPS <= 0 || u.PDR.PPS > 2100 || len(u.Loads) != len(shares) {
					t.Errorf("%+v", u)
				}
				for _, l := range u.Loads {
					if l.Sent == 0 || l.Received > l.Sent || l.Duplicates > 0 {
						t.Errorf("%s %d B: %+v", u.Direction, u.Size, l)
					}
				}
			}
			for _, x := range r.TCP {
				if x.Bits < 1e6 {
					t.Errorf("tcp %s: %.0f bit/s over loopback", x.Direction, x.Bits)
				}
			}
			if _, err := json.Marshal(r); err != nil {
				t.Errorf("the result has no JSON: %v", err)
			}
		})
	}
}

func TestAnotherTokenIsRefusedByBothSides(t *testing.T) {
	address, _ := serve(t, "127.0.0.1:0", small())
	if _, err := Run(t.Context(), address, NewToken(), Options{}); !errors.Is(err, ErrToken) {
		t.Errorf("the client, of a server with another token: %v", err)
	}
	// A client that does not care what the server proves.
	c := &conn{Conn: dialTCP(t, address), max: maxMessage}
	if err := c.send(message{Kind: kindHello, Protocol: protocol, Version: Version, Nonce: make([]byte, nonceLen), Flows: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.expect(kindChallenge, time.Second); err != nil {
		t.Fatal(err)
	}
	if err := c.send(message{Kind: kindProve, Proof: make([]byte, 32)}); err != nil {
		t.Fatal(err)
	}
	if m, err := c.expect(kindWelcome, time.Second); err == nil || !strings.Contains(err.Error(), "another token") {
		t.Errorf("the server welcomes a stranger: %+v, %v", m, err)
	}
}

func dialTCP(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestAnotherVersionIsToldSo(t *testing.T) {
	address, _ := serve(t, "127.0.0.1:0", small())
	c := &conn{Conn: dialTCP(t, address), max: maxMessage}
	if err := c.send(message{Kind: kindHello, Protocol: protocol, Version: Version + 1, Nonce: make([]byte, nonceLen), Flows: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.expect(kindChallenge, time.Second); err == nil || !strings.Contains(err.Error(), "the client speaks \"sluice-bench\" version 2, the server \"sluice-bench\" version 1") {
		t.Error(err)
	}
}

// talk makes a session with which a test can ask for anything.
func talk(t *testing.T, address string, token Token) *client {
	t.Helper()
	c, err := connect(t.Context(), address, token, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.close() })
	return c
}

func TestTheServerHoldsTheClientToItsLimits(t *testing.T) {
	address, token := serve(t, "127.0.0.1:0", small())
	c := talk(t, address, token)
	if err := c.knock(t.Context()); err != nil {
		t.Fatal(err)
	}
	good := trial{ID: 1, Direction: Down, Size: 100, Rate: 100, Duration: minTrial, Flows: 1}
	for name, change := range map[string]func(*trial){
		"a rate above the limit":            func(t *trial) { t.Rate = 5001 },
		"no rate":                           func(t *trial) { t.Rate = 0 },
		"a time above the limit":            func(t *trial) { t.Duration = time.Second + 1 },
		"more flows than the session has":   func(t *trial) { t.Flows = 3 },
		"no flows":                          func(t *trial) { t.Flows = 0 },
		"packets longer than a jumbo frame": func(t *trial) { t.Size = MaxSize + 1 },
		"packets without room for a header": func(t *trial) { t.Size = 59 },
		"a direction that is none":          func(t *trial) { t.Direction = "sideways" },
	} {
		bad := good
		change(&bad)
		if err := c.control.send(message{Kind: kindRate, Trial: &bad}); err != nil {
			t.Fatal(err)
		}
		if m, err := c.control.expect(kindSent, 2*time.Second); err == nil || !strings.Contains(err.Error(), "the other side:") {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	if err := c.control.send(message{Kind: kindRate, Trial: &good}); err != nil {
		t.Fatal(err)
	}
	if m, err := c.control.expect(kindSent, 5*time.Second); err != nil || m.Sent.Packets == 0 {
		t.Errorf("what is allowed: %+v, %v", m.Sent, err)
	}
}

func TestASecondClientHasToWait(t *testing.T) {
	address, token := serve(t, "127.0.0.1:0", small())
	c := talk(t, address, token)
	if _, err := Run(t.Context(), address, token, Options{Flows: 1}); err == nil || !strings.Contains(err.Error(), ErrBusy.Error()) {
		t.Errorf("a second client: %v", err)
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var again *client
		if again, err = connect(t.Context(), address, token, 1); err == nil {
			again.close()
			return
		}
	}
	t.Errorf("when the first one has gone: %v", err)
}

// The server must not be made to send to who has not proven anything.
func TestStrangersGetNothingByUDP(t *testing.T) {
	address, token := serve(t, "127.0.0.1:0", small())
	c := talk(t, address, token)
	if err := c.knock(t.Context()); err != nil {
		t.Fatal(err)
	}
	ask := func(local string, tag [tagLen]byte) bool {
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(local)}}
		u, err := d.DialContext(t.Context(), "udp4", address)
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		b := make([]byte, answerLen)
		header{What: echo}.put(b, tag)
		if _, err := u.Write(b); err != nil {
			t.Fatal(err)
		}
		u.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		n, err := u.Read(make([]byte, 100))
		if n > len(b) {
			t.Errorf("%d bytes answer %d", n, len(b))
		}
		return err == nil
	}
	if !ask("127.0.0.1", c.tag) {
		t.Error("the client's own echo is not answered")
	}
	if ask("127.0.0.1", [tagLen]byte{1}) {
		t.Error("a packet with another tag is answered")
	}
	if ask("127.0.0.2", c.tag) {
		t.Error("a packet from another address is answered")
	}
	c.close()
	for end := time.Now().Add(10 * time.Second); ask("127.0.0.1", c.tag) && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if ask("127.0.0.1", c.tag) {
		t.Error("after the session an echo is answered")
	}
}

func TestWhatTheServerSendsEndsWithTheControlConnection(t *testing.T) {
	limits := small()
	limits.Trial = 20 * time.Second
	address, token := serve(t, "127.0.0.1:0", limits)
	c := talk(t, address, token)
	if err := c.knock(t.Context()); err != nil {
		t.Fatal(err)
	}
	tr := trial{ID: 7, Direction: Down, Size: 100, Rate: 1000, Duration: 20 * time.Second, Flows: 1}
	r := newReceiver(tr)
	c.receiver.Store(r)
	if err := c.control.send(message{Kind: kindRate, Trial: &tr}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); r.received() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing came")
		}
	}
	c.control.Close()
	time.Sleep(500 * time.Millisecond)
	before := r.received()
	time.Sleep(300 * time.Millisecond)
	if after := r.received(); after != before {
		t.Errorf("%d packets came after the client had gone", after-before)
	}
}

func TestTokens(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	made := NewToken()
	read, err := ReadToken(file("good", made.Reveal()+"\n", 0o600))
	if err != nil || read.Reveal() != made.Reveal() {
		t.Errorf("%v", err)
	}
	for name, path := range map[string]string{
		"one that others may read": file("open", made.Reveal(), 0o644),
		"a short one":              file("short", "secret", 0o600),
		"one with blanks in it":    file("blank", made.Reveal()+" "+made.Reveal(), 0o600),
		"a folder":                 dir,
		"none":                     filepath.Join(dir, "none"),
	} {
		if _, err := ReadToken(path); err == nil || strings.Contains(err.Error(), made.Reveal()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var n nonces
	if made.proves(roleClient, n, made.proof(roleServer, n)) {
		t.Error("the server's proof passes for the client's: it could be sent back")
	}
}

func TestMessagesAreBoundedAndStrict(t *testing.T) {
	for name, text := range map[string]string{
		"a long one":           "\x00\x01\x00\x01",
		"one that is cut":      "\x00\x00\x00\x05{}",
		"an unknown field":     "\x00\x00\x00\x07{\"x\":1}",
		"bytes behind it":      "\x00\x00\x00\x04{}{}",
		"no JSON":              "\x00\x00\x00\x03abc",
		"another protocol":     "GET / HTTP/1.1\r\n\r\n",
		"nothing":              "",
		"a length and no more": "\x00\x00\x00\x01",
	} {
		if m, err := readMessage(strings.NewReader(text), maxMessage); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
	if got := printable("a\x1b[2Jb\n" + strings.Repeat("x", 1000)); strings.ContainsAny(got, "\x1b\n") || len(got) > 300 {
		t.Errorf("%q", got)
	}
}

func FuzzMessages(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x10{\"kind\":\"hello\"}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readMessage(bytes.NewReader(b), maxHello)
		if err != nil {
			return
		}
		// What was read can be written, and read again as the same.
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var again message
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatal(err)
		}
		if m.Trial != nil && m.Trial.validate(small(), false) == nil {
			newReceiver(*m.Trial) // whatever passes can be allocated
		}
	})
}

func FuzzHeader(f *testing.F) {
	tag := [tagLen]byte{1, 2, 3, 4, 5, 6, 7, 8}
	b := make([]byte, answerLen)
	header{What: answer, Flow: 3, Trial: 4, Seq: 5, Sent: 6, Received: 7, Answered: 8}.put(b, tag)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := parseHeader(b, tag)
		if !ok {
			return
		}
		again := bytes.Clone(b)
		h.put(again, tag)
		if !bytes.Equal(again, b) {
			t.Fatalf("%x is written as %x", b, again)
		}
		r := newReceiver(trial{ID: h.Trial, Size: len(b) + overheadV4, Rate: 100, Duration: time.Second, Flows: 2})
		r.take(h, len(b)+overheadV4, 100)
		r.take(h, len(b)+overheadV4, 100)
		if c := r.finish(); c.Received > 1 || c.Received != c.Duplicates {
			t.Fatalf("%+v", c)
		}
	})
}

func TestReceiverCountsOrderAndDuplicates(t *testing.T) {
	r := newReceiver(trial{ID: 1, Size: 100, Rate: 100, Duration: time.Second, Flows: 2})
	for i, p := range []struct{ flow, seq int }{{0, 0}, {0, 2}, {0, 1}, {0, 2}, {1, 0}, {0, 3}, {2, 0}, {0, 1 << 40}} {
		// The clocks are an hour apart; each packet takes 10 µs longer than the one before.
		r.take(header{Flow: uint16(p.flow), Trial: 1, Seq: uint64(p.seq), Sent: int64(time.Hour)}, 100, int64(1000+i*10_000))
	}
	r.take(header{Trial: 2, Seq: 9}, 100, 1)
	r.take(header{Trial: 1, Seq: 9}, 99, 1)
	c := r.finish()
	if c.Received != 5 || c.Reordered != 1 || c.Duplicates != 1 || c.Bytes != 500 {
		t.Errorf("%+v", c)
	}
	if n := len(c.Variation); n == 0 || c.Variation[0].UpTo != 0 || c.Variation[n-1].UpTo < 50*time.Microsecond || c.Variation[n-1].UpTo > 52*time.Microsecond {
		t.Errorf("variation %v", c.Variation)
	}
	if !c.validate(sent{Packets: 5}) || c.validate(sent{Packets: 4}) {
		t.Error("more than was sent must not pass, as much must")
	}
}

func TestHistogramBucketsAreNarrow(t *testing.T) {
	var last time.Duration
	for d := time.Duration(1); d < time.Minute; d += d/7 + 1 {
		h := histogram{}
		h.add(d)
		b := h.buckets()
		if len(b) != 1 || b[0].UpTo < d || float64(b[0].UpTo) > 1.032*float64(d) || b[0].UpTo < last {
			t.Fatalf("%v is in %v", d, b)
		}
		last = b[0].UpTo
	}
	h := histogram{}
	h.add(-time.Second)
	h.add(time.Hour)
	if b := h.buckets(); len(b) != 2 || b[0].UpTo != 0 {
		t.Errorf("%v", b)
	}
}

func TestRatesSayWhatBoundThem(t *testing.T) {
	lossAt := func(overrun uint64) map[float64]outcome {
		return map[float64]outcome{1: {sent: sent{Packets: 100}, counts: counts{Received: 90, Overrun: overrun}}}
	}
	for _, c := range []struct {
		rate, offered, limit float64
		made                 map[float64]outcome
		want                 Bound
	}{
		{950, 1000, 1000, nil, BoundLimit},
		{480, 500, 1000, nil, BoundSender},
		{100, 500, 1000, lossAt(9), BoundReceiver},
		{100, 500, 1000, lossAt(1), BoundPath},
	} {
		if got := bound(c.rate, c.offered, c.limit, c.made); got != c.want {
			t.Errorf("%v of %v offered, limit %v: %s, want %s", c.rate, c.offered, c.limit, got, c.want)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]Options{
		"a tiny size": {Sizes: []int{10}}, "a direction": {Directions: []string{"left"}}, "a part": {Parts: []string{"dns"}},
		"flows": {Flows: 257}, "streams": {Streams: -1}, "a short trial": {Trial: time.Millisecond}, "a rate": {MaxRate: -1},
	} {
		if err := o.Validate(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := (Options{}).Validate(); err != nil {
		t.Error(err)
	}
	if err := DefaultLimits().Validate(); err != nil {
		t.Error(err)
	}
	if err := (Limits{}).Validate(); err == nil || strings.Count(err.Error(), "limit") != 5 {
		t.Errorf("all problems at once: %v", err)
	}
}
