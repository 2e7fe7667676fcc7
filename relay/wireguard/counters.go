package wireguard

// Counters of the engine: what became of handshake messages. Transport packets
// are counted by their Result at the caller.
type Counters struct {
	Initiations, Responses, Cookies uint64 // accepted
	Sent                            uint64 // datagrams handed to Options.Send
	QueueFull                       uint64 // dropped: the engine is behind
	Malformed                       uint64 // dropped: type, length or reserved bytes
	BadMAC1                         uint64 // dropped: mac1 does not match
	CookieReplies                   uint64 // under load, answered with a cookie instead
	RateLimited                     uint64 // under load, dropped: too many from that source
	Invalid                         uint64 // dropped: fails authentication or no handshake of ours
	UnknownPeer                     uint64 // dropped: no such peer
	ReplayedInitiation              uint64 // dropped: timestamp not newer, or too soon after the last
}

// Counters returns a picture of the counters.
func (d *Device) Counters() Counters { return Counters{} }
