package wireguard

import (
	"encoding/binary"
	"net/netip"
	"time"

	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tai64n"
)

// Constants of the protocol (whitepaper, sections 5.4 and 6.1). Sizes and types
// come from golang.zx2c4.com/wireguard/device.
const (
	rekeyAfterTime  = int64(120 * time.Second)
	rejectAfterTime = int64(180 * time.Second)
	rekeyAttempt    = int64(90 * time.Second)
	rekeyTimeout    = int64(5 * time.Second)
	keepaliveAfter  = int64(10 * time.Second)

	rekeyAfterMessages  = 1 << 60
	rejectAfterMessages = 1<<64 - 1<<13 - 1

	// An initiator that only receives makes a new session when the old one
	// has just enough time left for one try (section 6.2).
	rekeyOnReceive = rejectAfterTime - keepaliveAfter - rekeyTimeout
	// After this long without a new session everything is zeroed (section 6.3).
	zeroAfterTime = 3 * rejectAfterTime
)

// Constants that we chose, mostly those of the other implementations.
const (
	// rekeyJitter is the most that is added to REKEY_TIMEOUT, so that two
	// sides that start at once do not do so again (Linux: 333 ms).
	rekeyJitter = int64(334 * time.Millisecond)
	// initiationInterval is how often one peer may initiate (Linux: 50 per
	// second); it bounds the work that a peer's key holder can cause.
	initiationInterval = int64(20 * time.Millisecond)
	// loadHold is how long we stay under load after the inbox was last long.
	loadHold = int64(time.Second)
	// paddingMultiple is the unit of padding (section 5.4.6).
	paddingMultiple = 16
)

// Offsets in messages 1 and 2: type, sender (, receiver), Noise message, macs.
const (
	initiationNoise = 8
	responseNoise   = 12
	macsSize        = 32
)

// handshakeSize returns the size that a handshake message must have by its
// first word: type and three reserved zero bytes. 0: not a handshake message.
func handshakeSize(msg []byte) int {
	if len(msg) < 4 {
		return 0
	}
	switch binary.LittleEndian.Uint32(msg) {
	case device.MessageInitiationType:
		return device.MessageInitiationSize
	case device.MessageResponseType:
		return device.MessageResponseSize
	case device.MessageCookieReplyType:
		return device.MessageCookieReplySize
	}
	return 0
}

// timestamp is tai64n.Now for a given time. The library can only read the
// machine's clock, and ours may be injected; the rounding to 2^24 ns, which
// hides how fast we answer, is the library's.
func timestamp(t time.Time) tai64n.Timestamp {
	const base = 1<<62 + 10 // TAI64 label of 1970 and the leap seconds of then
	var ts tai64n.Timestamp
	binary.BigEndian.PutUint64(ts[:], base+uint64(t.Unix()))
	binary.BigEndian.PutUint32(ts[8:], uint32(t.Nanosecond())&^(1<<24-1))
	return ts
}

// sourceBytes is what a cookie is bound to: the address and port of the sender.
func sourceBytes(buf []byte, from netip.AddrPort) []byte {
	addr := from.Addr().Unmap().As16()
	buf = append(buf, addr[:]...)
	return binary.BigEndian.AppendUint16(buf, from.Port())
}

// rateKey is what counts as one source: an IPv4 address, or an IPv6 /64, of
// which one host can use every address.
func rateKey(from netip.AddrPort) netip.Addr {
	addr := from.Addr().Unmap().WithZone("")
	if addr.Is6() {
		p, err := addr.Prefix(64)
		if err != nil { // only for a length out of range
			panic(err)
		}
		return p.Addr()
	}
	return addr
}
