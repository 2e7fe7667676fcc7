package wireguard

import "sync/atomic"

// Counters say what became of handshake messages. Transport messages are
// counted by their Result at the caller, and per peer in PeerStatus.
type Counters struct {
	Initiations         uint64 // accepted and answered
	Responses           uint64 // accepted
	Cookies             uint64 // accepted
	Sent                uint64 // datagrams handed to Options.Send
	QueueFull           uint64 // dropped: the engine is behind
	Malformed           uint64 // dropped: type, length or reserved bytes
	BadMAC1             uint64 // dropped: mac1 does not match
	CookieReplies       uint64 // under load: answered with a cookie instead
	RateLimited         uint64 // under load: dropped, too many from that source
	Invalid             uint64 // dropped: does not authenticate, or answers nothing of ours
	UnknownPeer         uint64 // dropped: authentic, but of nobody we know
	ReplayedInitiations uint64 // dropped: timestamp not newer, or too soon after the last
	Failed              uint64 // dropped: we could not answer (no free index, no randomness); logged
}

type counters struct {
	initiations, responses, cookies, sent, queueFull, malformed, badMAC1,
	cookieReplies, rateLimited, invalid, unknownPeer, replayed, failed atomic.Uint64
}

// Counters returns a picture of the counters.
func (d *Device) Counters() Counters {
	c := &d.counters
	return Counters{
		Initiations:         c.initiations.Load(),
		Responses:           c.responses.Load(),
		Cookies:             c.cookies.Load(),
		Sent:                c.sent.Load(),
		QueueFull:           c.queueFull.Load(),
		Malformed:           c.malformed.Load(),
		BadMAC1:             c.badMAC1.Load(),
		CookieReplies:       c.cookieReplies.Load(),
		RateLimited:         c.rateLimited.Load(),
		Invalid:             c.invalid.Load(),
		UnknownPeer:         c.unknownPeer.Load(),
		ReplayedInitiations: c.replayed.Load(),
		Failed:              c.failed.Load(),
	}
}
