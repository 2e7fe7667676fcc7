package bfd

import (
	"net/netip"
	"testing"
	"time"
)

// until waits for something.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("not within 15 s: %s", what)
}

// A watcher has no way to tell its own packets from a router's of the same discriminator: two of them need two networks. So one
// talks with itself here, over sockets: it hears its own discriminator as the router's, and comes up.
func TestAWatcherSpeaksOverSockets(t *testing.T) {
	for _, router := range []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")} {
		down := make(chan string, 1)
		w, err := New(Options{Port: 33784, OnDown: func(_ netip.Addr, why string) { down <- why }})
		if err != nil {
			t.Fatal(err)
		}
		w.Set(map[netip.Addr]Session{router: {Interval: 20 * time.Millisecond, Multiplier: 50}})
		until(t, "it is up, and sends in short intervals", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			m := w.sessions[router].machine
			return m.state == Up && m.theirs == int64(20*time.Millisecond)
		})
		// Its packets go elsewhere: it hears nothing any more.
		w.mu.Lock()
		w.sessions[router].conn.Close()
		w.mu.Unlock()
		select {
		case why := <-down:
			if why != "nothing was heard from it" {
				t.Error(why)
			}
		case <-time.After(15 * time.Second):
			t.Error("it is not noticed that nothing comes any more")
		}
		if s, _ := w.Status(router); s.Failures != 1 {
			t.Errorf("%+v", s)
		}
		w.Set(nil)
		if _, ok := w.Status(router); ok {
			t.Error("it is still watched")
		}
		w.Close()
		w, err = New(Options{Port: 33784})
		if err != nil {
			t.Fatalf("the port is not free again: %v", err)
		}
		w.Close()
	}
}

func TestAPacketThatCameThroughARouterIsRefused(t *testing.T) {
	good := []byte("\x20\x40\x03\x18\x00\x00\x00\x07\x00\x00\x00\x00\x00\x0f\x42\x40\x00\x01\x86\xa0\x00\x00\x00\x00")
	w := &Watcher{sessions: map[netip.Addr]*session{}, begun: time.Now(), log: nil, poke: make(chan struct{}, 1)}
	router := netip.MustParseAddr("192.0.2.1")
	w.sessions[router] = &session{machine: newMachine(time.Second, 3, -quiet), router: router}
	with := func(i int, v byte) []byte {
		b := append([]byte(nil), good...)
		b[i] = v
		return b
	}
	for name, c := range map[string]struct {
		b    []byte
		from netip.Addr
		hops int
	}{
		"through a router":    {good, router, 254},
		"no TTL":              {good, router, -1},
		"of somebody else":    {good, netip.MustParseAddr("192.0.2.2"), 255},
		"authenticated":       {with(1, 0x44), router, 255},
		"for many":            {with(1, 0x41), router, 255},
		"short":               {good[:23], router, 255},
		"another length":      {with(3, 23), router, 255},
		"nothing":             {nil, router, 255},
		"version 2":           {with(0, 0x40), router, 255},
		"without multiplier":  {with(2, 0), router, 255},
		"up, of no session":   {with(1, 0xc0), router, 255},
		"for another session": {with(11, 1), router, 255},
	} {
		before := w.refused
		w.take(c.b, c.from, c.hops)
		if w.refused != before+1 || w.sessions[router].machine.state != Down {
			t.Errorf("%s: it was taken", name)
		}
	}
	if w.take(good, router, 255); w.sessions[router].machine.state != Init {
		t.Errorf("the good one was not taken: %v", w.sessions[router].machine.state)
	}
}
