package wireguard

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.zx2c4.com/wireguard/device"

	"github.com/sluicegw/sluice/relay/wireguard/aead"
)

// FuzzReceive gives the engine a handshake message: one of the three kinds as
// a peer made it, changed by xor with data. macs: with the macs made right again,
// so that the change gets past them. However it is changed, it has one counter,
// and it is accepted only if what is authenticated is unchanged.
func FuzzReceive(f *testing.F) {
	for kind := range byte(4) {
		f.Add(kind, []byte{}, false)
		f.Add(kind, []byte{}, true)
		f.Add(kind, []byte{0, 0, 0, 0, 1}, true)                               // sender or receiver
		f.Add(kind, append(make([]byte, 40), 1), true)                         // ephemeral or static
		f.Add(kind, []byte{3}, false)                                          // another type
		f.Add(kind, append(make([]byte, device.MessageResponseSize), 1), true) // longer than a response
	}
	f.Fuzz(func(t *testing.T, kind byte, change []byte, macs bool) {
		_, a, b, toB, _ := pair(t)
		msg := a.firstInitiation(toB)
		to, authentic := b, 8 // the first byte that is authenticated
		switch kind % 4 {
		case 1: // response
			msg = b.hand(t, msg, a.addr)[0].data
			to = a
		case 2: // cookie
			b.load()
			msg = b.hand(t, msg, a.addr)[0].data
			to, authentic = a, 4
		case 3: // whatever comes
			msg = make([]byte, len(change))
		}
		m := bytes.Clone(msg)
		for i := range min(len(m), len(change)) {
			m[i] ^= change[i]
		}
		if len(change) > len(m) {
			m = append(m, change[len(m):]...)
		}
		isCookie := kind%4 == 2
		if macs && len(m) > 64 && !isCookie {
			remac(m, to.d.PublicKey())
		}
		same := kind%4 != 3 && len(m) == len(msg) && bytes.Equal(m[:4], msg[:4])
		if same {
			end := len(m) - 16 // mac2 is not looked at
			if isCookie {
				end = len(m)
			} else if macs {
				end -= 16
			} else {
				authentic = 4 // mac1 covers the sender
			}
			same = bytes.Equal(m[authentic:end], msg[authentic:end])
			if kind%4 == 1 && macs { // the response's receiver is looked up
				same = same && bytes.Equal(m[8:12], msg[8:12])
			}
		}
		before, used := to.d.Counters(), to.d.index.used
		from := netip.MustParseAddrPort("198.51.100.200:200")
		to.d.Receive(m, Endpoint{Remote: from})
		to.work()
		c := to.d.Counters()
		total := func(c Counters) uint64 {
			return c.Initiations + c.Responses + c.Cookies + c.QueueFull + c.Malformed + c.BadMAC1 +
				c.CookieReplies + c.RateLimited + c.Invalid + c.UnknownPeer + c.ReplayedInitiations + c.Failed
		}
		if total(c) != total(before)+1 {
			t.Errorf("%+v then %+v, want one more", before, c)
		}
		accepted := c.Initiations+c.Responses+c.Cookies != before.Initiations+before.Responses+before.Cookies
		if accepted != same {
			t.Errorf("accepted %v, want %v: %+v", accepted, same, c)
		}
		if !same {
			if to.d.index.used != used {
				t.Error("an index was spent on a bad message")
			}
			for _, p := range to.d.Peers() {
				if p.Endpoint().Remote == from {
					t.Error("a bad message moved the peer")
				}
			}
		}
	})
}

// FuzzOpen gives Open batches that are cut out of data: per message a byte that
// says what to do with it, and a byte for the length. Every message has a
// result; nothing is opened that was not sealed; and nothing is written outside.
func FuzzOpen(f *testing.F) {
	w, a, b, toB, toA := pair(f)
	w.connect(a, toB)
	genuine := handSealed(toA.current.Load(), 1<<20, []byte("genuine plaintext"))
	f.Add([]byte{})
	f.Add([]byte{0, 32})
	f.Add(append([]byte{0, byte(len(genuine))}, genuine...))
	f.Add(bytes.Repeat([]byte{1, 40, 4, 0, 0, 0}, 20))
	f.Add([]byte{2, 0, 1, 48, 4, 0, 0, 0, 2, 0, 3, 33, 4, 2, 5, 3, 7, 2})
	f.Fuzz(func(t *testing.T, data []byte) {
		s := toA.current.Load()
		// The window starts anew, so that one run does not depend on another.
		s.replayMu.Lock()
		s.replay = window{}
		s.replayMu.Unlock()
		const guard = 32
		var frames [][]byte
		var pkts []Packet
		var isGenuine []bool
		for len(data) >= 2 && len(pkts) < 200 {
			what, n := data[0]%4, min(int(data[1]), len(data)-2)
			msg := bytes.Clone(data[2 : 2+n])
			data = data[2+n:]
			switch {
			case what == 2:
				msg = bytes.Clone(genuine)
			case what == 1 && n >= 8: // the right index
				binary.LittleEndian.PutUint32(msg, device.MessageTransportType)
				binary.LittleEndian.PutUint32(msg[4:], s.localIndex)
			case what == 3 && n > 0: // one byte is changed
				msg, n = bytes.Clone(genuine), int(msg[0])
				msg[n%len(msg)] ^= byte(n | 1)
			}
			frame := bytes.Repeat([]byte{0xa5}, guard+len(msg)+guard)
			copy(frame[guard:], msg)
			frames = append(frames, frame)
			pkts = append(pkts, Packet{Buf: frame[guard : guard+len(msg)], Peer: toA, Result: 0xff})
			isGenuine = append(isGenuine, bytes.Equal(msg, genuine))
		}
		b.batch.Open(pkts, b.d.Clock())
		opened := 0
		for i, p := range pkts {
			if int(p.Result) >= NumResults {
				t.Fatalf("message %d has no result", i)
			}
			good := p.Result == OK || p.Result == Keepalive || p.Result == Replay
			if good != isGenuine[i] {
				t.Errorf("message %d: %v, genuine %v", i, p.Result, isGenuine[i])
			}
			if good != (p.Peer == toA) || !good && p.Peer != nil {
				t.Errorf("message %d: %v with peer %v", i, p.Result, p.Peer)
			}
			if p.Result == OK {
				opened++
				if string(p.Buf) != "genuine plaintext" {
					t.Errorf("message %d: opened to %q", i, p.Buf)
				}
			}
			fr := frames[i]
			if want := bytes.Repeat([]byte{0xa5}, guard); !bytes.Equal(fr[:guard], want) || !bytes.Equal(fr[len(fr)-guard:], want) {
				t.Errorf("message %d: written outside", i)
			}
		}
		if opened > 1 {
			t.Errorf("one message was opened %d times", opened)
		}
	})
}

// FuzzSeal seals packets of any size in frames of any room. What is sealed opens
// to the same with zeros behind; what cannot be is left alone.
func FuzzSeal(f *testing.F) {
	w, a, b, toB, _ := pair(f)
	w.connect(a, toB)
	f.Add([]byte("plaintext"), uint16(64), uint16(1420))
	f.Add([]byte{}, uint16(16), uint16(0))
	f.Add(bytes.Repeat([]byte{1}, 1419), uint16(17), uint16(1420))
	f.Add([]byte{1}, uint16(15), uint16(1))
	f.Fuzz(func(t *testing.T, data []byte, room, limit uint16) {
		room %= 100
		const guard = 32
		frame := bytes.Repeat([]byte{0xa5}, guard+HeaderSize+len(data)+int(room)+guard)
		end := guard + HeaderSize + len(data)
		copy(frame[guard+HeaderSize:], data)
		before := bytes.Clone(frame)
		pkts := []Packet{{Buf: frame[guard : end : end+int(room)], Peer: toB, MaxLen: int(limit)}}
		a.batch.Seal(pkts, a.d.Clock())
		p := pkts[0]
		need := paddedSize(len(data), int(limit)) - len(data) + aead.Overhead
		if (p.Result == OK) != (int(room) >= need) {
			t.Fatalf("%v with %d bytes of room, %d needed", p.Result, room, need)
		}
		if p.Result != OK {
			if p.Result != NoRoom || !bytes.Equal(frame, before) {
				t.Errorf("%v, touched %v", p.Result, !bytes.Equal(frame, before))
			}
			return
		}
		if n := len(p.Buf) - Overhead; n < len(data) || n-len(data) > MaxPadding || limit > 0 && n > max(int(limit), len(data)) {
			t.Errorf("%d bytes padded to %d, limit %d", len(data), n, limit)
		}
		if !bytes.Equal(frame[:guard], before[:guard]) || !bytes.Equal(frame[guard+len(p.Buf):], before[guard+len(p.Buf):]) {
			t.Error("written outside")
		}
		plain, r := b.open(p.Buf, a.addr)
		if len(p.Buf) == Overhead {
			if r != Keepalive {
				t.Errorf("empty: %v", r)
			}
			return
		}
		if r != OK || !bytes.HasPrefix(plain, data) || len(bytes.Trim(plain[len(data):], "\x00")) != 0 {
			t.Errorf("%v, opened to %x, want %x", r, plain, data)
		}
	})
}
