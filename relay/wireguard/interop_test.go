package wireguard

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tai64n"
)

// These tests run the unmodified wireguard-go as the other side, on a network in
// memory and in a bubble of testing/synctest, so that minutes take no time.

const ourInner, theirInner = "10.0.0.1", "10.0.0.2"

var (
	ourOuter   = netip.MustParseAddrPort("192.0.2.1:51820")
	theirOuter = netip.MustParseAddrPort("192.0.2.2:51820")
)

// facing is one of ours and one of theirs. Datagrams go straight to the other
// side; see is told of each and may drop it by returning false.
type facing struct {
	us   *live
	them *stock
	peer *Peer

	mu  sync.Mutex // held in see
	see func(fromUs bool, data []byte) bool
}

// watch sets see, which is called by one goroutine at a time; synctest.Wait
// comes before reading what it wrote.
func (f *facing) watch(see func(fromUs bool, data []byte) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.see = see
}

func (f *facing) passes(fromUs bool, data []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.see == nil || f.see(fromUs, data)
}

func face(t *testing.T, psk PresharedKey) *facing {
	f := &facing{}
	toUs := make(chan []byte, 4096)
	f.them = startStock(t, func(s sent) {
		if s.to == ourOuter && f.passes(false, s.data) {
			toUs <- s.data
		}
	})
	f.us = startLive(t, func(dg Datagram) {
		if dg.Remote == theirOuter && f.passes(true, dg.Data) {
			f.them.bind.in <- sent{from: ourOuter, data: dg.Data}
		}
	})
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case m := <-toUs:
				f.us.receive(m, Endpoint{Remote: theirOuter, Local: ourOuter.Addr()})
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop) })
	f.them.addPeer(t, f.us.key.PublicKey(), psk)
	p, err := f.us.d.SetPeer(PeerConfig{PublicKey: f.them.public, PresharedKey: psk, Endpoint: Endpoint{Remote: theirOuter}})
	if err != nil {
		t.Fatal(err)
	}
	f.peer = p
	return f
}

func (f *facing) say(text string)     { f.us.say(f.peer, ip(ourInner, theirInner, text)) }
func (f *facing) theySay(text string) { f.them.tun.Outbound <- ip(theirInner, ourInner, text) }

func (f *facing) talk(t *testing.T) {
	t.Helper()
	for _, n := range []int{0, 1, 16, 100, 1300} {
		text := string(bytes.Repeat([]byte{'t'}, n))
		f.say(text)
		expect(t, f.them.tun.Inbound, ip(ourInner, theirInner, text))
		f.theySay(text)
		expect(t, f.us.got, ip(theirInner, ourInner, text))
	}
}

func bothRoles(t *testing.T, test func(t *testing.T, f *facing, weBegin bool)) {
	psk := must(NewPresharedKey())
	for _, weBegin := range []bool{true, false} {
		for _, key := range []PresharedKey{{}, psk} {
			name := fmt.Sprintf("we begin %v, preshared key %v", weBegin, !key.IsZero())
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { test(t, face(t, key), weBegin) })
			})
		}
	}
}

func TestWireguardGoTalksToUs(t *testing.T) {
	bothRoles(t, func(t *testing.T, f *facing, weBegin bool) {
		if weBegin {
			f.say("first")
			expect(t, f.them.tun.Inbound, ip(ourInner, theirInner, "first"))
		} else {
			f.theySay("first")
			expect(t, f.us.got, ip(theirInner, ourInner, "first"))
		}
		c := f.us.d.Counters()
		if want := (Counters{Sent: c.Sent}); weBegin {
			want.Responses = 1
			if c != want {
				t.Errorf("counters %+v, want %+v", c, want)
			}
		} else if want.Initiations = 1; c != want {
			t.Errorf("counters %+v, want %+v", c, want)
		}
		f.talk(t)
		synctest.Wait()
		st := f.peer.Status()
		if tx := f.them.status(t, "rx_bytes"); tx != strconv.FormatUint(st.TxBytes, 10) {
			t.Errorf("we count %d bytes sent, they %s received", st.TxBytes, tx)
		}
		if rx := f.them.status(t, "tx_bytes"); rx != strconv.FormatUint(st.RxBytes, 10) {
			t.Errorf("we count %d bytes received, they %s sent", st.RxBytes, rx)
		}
	})
}

func TestRekeyWithWireguardGoLosesNothing(t *testing.T) {
	bothRoles(t, func(t *testing.T, f *facing, weBegin bool) {
		initiations := [2]int{}
		f.watch(func(fromUs bool, data []byte) bool {
			if data[0] == device.MessageInitiationType {
				if fromUs {
					initiations[0]++
				} else {
					initiations[1]++
				}
			}
			return true
		})
		if weBegin {
			f.say("first")
			expect(t, f.them.tun.Inbound, ip(ourInner, theirInner, "first"))
		}
		for i := range 2000 { // 500 s
			text := fmt.Sprint(i)
			f.theySay(text)
			expect(t, f.us.got, ip(theirInner, ourInner, text))
			f.say(text)
			expect(t, f.them.tun.Inbound, ip(ourInner, theirInner, text))
			time.Sleep(250 * time.Millisecond)
		}
		synctest.Wait()
		// wireguard-go arms its retransmission after it has sent; when our
		// response is faster than that, it initiates once more for nothing.
		ours, theirs := initiations[0], initiations[1]
		if weBegin && (ours != 5 || theirs != 0) || !weBegin && (ours != 0 || theirs < 5 || theirs > 10) {
			t.Errorf("%d initiations by us, %d by them, want 5 by the one who began", ours, theirs)
		}
	})
}

func TestSimultaneousInitiationWithWireguardGo(t *testing.T) {
	for _, oursFirst := range []bool{true, false} {
		t.Run(fmt.Sprintf("ours arrives first %v", oursFirst), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { crossInitiations(t, oursFirst) })
		})
	}
}

// crossInitiations holds back an initiation of each side until both are under
// way.
func crossInitiations(t *testing.T, oursFirst bool) {
	f := face(t, PresharedKey{})
	var ours, theirs []byte
	f.watch(func(fromUs bool, data []byte) bool {
		if data[0] != device.MessageInitiationType {
			return true
		}
		if fromUs {
			ours = data
		} else {
			theirs = data
		}
		return false
	})
	f.peer.ask()
	synctest.Wait()
	f.theySay("crossing")
	synctest.Wait()
	if ours == nil || theirs == nil {
		t.Fatal("want an initiation of each side")
	}
	f.watch(nil)
	// One after the other: wireguard-go handles messages on several
	// goroutines, and can lose a session to a response and an initiation of
	// the same peer at the same time.
	if oursFirst {
		f.them.bind.in <- sent{from: ourOuter, data: ours}
		synctest.Wait()
		f.us.receive(theirs, Endpoint{Remote: theirOuter})
	} else {
		f.us.receive(theirs, Endpoint{Remote: theirOuter})
		synctest.Wait()
		f.them.bind.in <- sent{from: ourOuter, data: ours}
	}
	expect(t, f.us.got, ip(theirInner, ourInner, "crossing"))
	f.talk(t)
}

func TestKeepalivesOfBothSides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := face(t, PresharedKey{})
		f.say("first")
		expect(t, f.them.tun.Inbound, ip(ourInner, theirInner, "first"))
		time.Sleep(20 * time.Second)
		var at [2]time.Time
		f.watch(func(fromUs bool, data []byte) bool {
			if len(data) == Overhead {
				if fromUs {
					at[0] = time.Now()
				} else {
					at[1] = time.Now()
				}
			}
			return true
		})
		start := time.Now()
		f.say("they answer in 10s")
		<-f.them.tun.Inbound
		time.Sleep(20 * time.Second)
		f.theySay("we answer in 10s")
		<-f.us.got
		time.Sleep(20 * time.Second)
		synctest.Wait()
		for i, want := range []time.Duration{30 * time.Second, 10 * time.Second} {
			if got := at[i].Sub(start); got < want || got > want+200*time.Millisecond {
				t.Errorf("keepalive of side %d after %v, want %v", i, got, want)
			}
		}
	})
}

// flood puts the other side under load: more initiations with a right mac1 than
// it handles, while the bubble's clock stands still. An eighth of its queue of
// 1024 means load, and all of it would mean that it drops what comes next. On a busy
// machine it may keep pace for once.
func (f *facing) flood() {
	for range 50 {
		for range 800 {
			msg := make([]byte, device.MessageInitiationSize)
			msg[0] = device.MessageInitiationType
			var g device.CookieGenerator
			g.Init(device.NoisePublicKey(f.them.public))
			g.AddMacs(msg)
			f.them.bind.in <- sent{from: netip.MustParseAddrPort("198.51.100.1:1"), data: msg}
		}
		if f.them.dev.IsUnderLoad() {
			return
		}
		synctest.Wait()
	}
}

func TestWireguardGoUnderLoadGetsItsCookie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := face(t, PresharedKey{})
		var macs [][]byte
		f.watch(func(fromUs bool, data []byte) bool {
			if fromUs && data[0] == device.MessageInitiationType {
				macs = append(macs, data[len(data)-16:])
				return true
			}
			return true
		})
		f.flood()
		f.peer.ask()
		synctest.Wait()
		if c := f.us.d.Counters(); c.Cookies != 1 || c.Responses != 0 {
			t.Fatalf("%+v, want one cookie and no response", c)
		}
		time.Sleep(4900 * time.Millisecond)
		f.flood() // the second initiation meets load again
		time.Sleep(600 * time.Millisecond)
		synctest.Wait()
		if c := f.us.d.Counters(); c.Responses != 1 {
			t.Fatalf("%+v, want a response", c)
		}
		if len(macs) != 2 || !bytes.Equal(macs[0], make([]byte, 16)) || bytes.Equal(macs[1], make([]byte, 16)) {
			t.Errorf("mac2 of the initiations: %x, want zeros and then a mac", macs)
		}
		f.talk(t)
	})
}

func TestWeUnderLoadSendWireguardGoACookie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := face(t, PresharedKey{})
		f.us.d.mu.Lock()
		f.us.d.loadUntil = f.us.d.Clock() + int64(time.Minute)
		f.us.d.mu.Unlock()
		f.theySay("first")
		synctest.Wait()
		if c := f.us.d.Counters(); c.CookieReplies != 1 || c.Initiations != 0 {
			t.Fatalf("%+v, want one cookie reply and no accepted initiation", c)
		}
		time.Sleep(5500 * time.Millisecond)
		if c := f.us.d.Counters(); c.Initiations != 1 {
			t.Fatalf("%+v, want the second initiation accepted", c)
		}
		expect(t, f.us.got, ip(theirInner, ourInner, "first"))
		f.talk(t)
	})
}

func TestWireguardGoRoams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := face(t, PresharedKey{})
		f.talk(t)
		// They hear us from another port, and answer there.
		moved := netip.MustParseAddrPort("192.0.2.77:7")
		pkts := []Packet{plain(f.peer, ip(ourInner, theirInner, "moved"))}
		f.us.seal.Seal(pkts, f.us.d.Clock())
		f.them.bind.in <- sent{from: moved, data: pkts[0].Buf}
		expect(t, f.them.tun.Inbound, ip(ourInner, theirInner, "moved"))
		if got := f.them.status(t, "endpoint"); got != moved.String() {
			t.Errorf("their endpoint for us is %s, want %s", got, moved)
		}
	})
}

func TestWireguardGoChangesItsKeyAndWeChangeOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := face(t, PresharedKey{})
		f.talk(t)
		key := must(NewPrivateKey())
		f.them.set(t, "private_key=%x", *key.key())
		f.us.d.RemovePeer(f.them.public)
		f.peer = must(f.us.d.SetPeer(PeerConfig{PublicKey: key.PublicKey(), Endpoint: Endpoint{Remote: theirOuter}}))
		time.Sleep(10 * time.Second)
		f.talk(t)

		key = must(NewPrivateKey())
		if err := f.us.d.SetPrivateKey(key); err != nil {
			t.Fatal(err)
		}
		f.them.dev.RemoveAllPeers()
		f.them.addPeer(t, key.PublicKey(), PresharedKey{})
		time.Sleep(10 * time.Second)
		f.talk(t)
	})
}

func TestTimestampIsThatOfTheLibrary(t *testing.T) {
	// In the bubble the clock stands still, so both read the same.
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			time.Sleep(123456789 * time.Nanosecond)
			if got, want := timestamp(time.Now()), tai64n.Now(); got != want {
				t.Fatalf("timestamp %x, want %x", got, want)
			}
		}
	})
}
