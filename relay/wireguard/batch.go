package wireguard

import "github.com/sluicegw/sluice/relay/wireguard/aead"

// Result is what became of a packet.
type Result uint8

const (
	// OK: sealed or opened.
	OK Result = iota
	// Keepalive: opened, authentic, empty. Nothing to deliver.
	Keepalive
	// NoSession: not sealed, the packet is untouched. The engine was told and
	// makes a handshake; park the packet until Epoch changes.
	NoSession
	// NoPeer: not sealed, the peer is nil or was removed.
	NoPeer
	// NoRoom: not sealed, Buf has no room for header, padding and tag.
	NoRoom
	// Malformed: not a transport message.
	Malformed
	// BadIndex: no session has this receiver index.
	BadIndex
	// BadAuth: the tag does not match.
	BadAuth
	// Replay: authentic, but seen before or older than the replay window.
	Replay
	// Expired: the session is too old or has seen too many messages.
	Expired

	// NumResults is how many results there are.
	NumResults int = iota
)

var resultNames = [NumResults]string{
	"ok", "keepalive", "no session", "no peer", "no room", "malformed", "bad index", "bad auth", "replay", "expired",
}

func (r Result) String() string {
	if int(r) >= NumResults {
		return "unknown result"
	}
	return resultNames[r]
}

const (
	// HeaderSize is the length of the transport header in front of the
	// ciphertext.
	HeaderSize = 16
	// Overhead is what a transport message has more than the padded plaintext.
	Overhead = HeaderSize + aead.Overhead
	// MaxPadding is how many bytes Seal may add to the plaintext.
	MaxPadding = paddingMultiple - 1
	// BatchSize is how many packets Seal and Open work on at once; a longer
	// slice is done in several rounds.
	BatchSize = 64
)

// Packet is one packet of a batch.
//
// Seal: in, Buf[:HeaderSize] is room for the header and Buf[HeaderSize:] the
// plaintext, with MaxPadding+aead.Overhead bytes of capacity behind; out, with
// OK, Buf is the whole message, in the same place. An empty plaintext makes a
// keepalive.
//
// Open: in, Buf is the whole message; out, with OK, Buf is the plaintext within
// it, Buf[HeaderSize:len-16], still with the sender's padding (the length of
// the IP packet tells where it ends). With any other result but NoSession and
// NoPeer the bytes of Buf are undefined.
type Packet struct {
	Buf    []byte // borrowed: until the call returns
	Peer   *Peer  // Seal: in. Open: out with OK, Keepalive and Replay, else nil.
	MaxLen int    // Seal: in, padding does not make the plaintext longer than this (the inner MTU); 0: no limit
	Result Result // out
}

// Batch is the scratch memory of one worker: it must not be shared. Seal and
// Open do not allocate, and lock or count once per group, which is the packets
// of one batch that belong to the same session.
type Batch struct {
	// Locate writes where the message came from that is packet i of those given to Open. It is asked once per group, for the
	// last valid message: an Endpoint is larger than the rest of a Packet, and most are never looked at. nil: no peer moves.
	Locate func(i int, from *Endpoint)

	dev    *Device
	groups [BatchSize]group
	ops    [BatchSize]aead.Op
	// Per op: its packet, and the next op of the same group (Open).
	packet [BatchSize]uint8
	next   [BatchSize]uint8
	// Per packet: its group (Seal).
	of [BatchSize]uint8

	slots   [groupSlots]groupSlot
	from    Endpoint // what Locate wrote
	round   uint32   // number of the batch, for slots
	touched uint64   // see touch
}

// groupSlot says which group has a number that falls into it, in one round.
type groupSlot struct {
	round uint32
	of    uint8
}

// groupSlots is four times the groups of a batch, so that few of them share a slot.
const groupSlots = 4 * BatchSize

// slot is where to look for the group of a number: a peer's ID, or a receiver index. known: a
// group of this batch has that slot, of; there may be others with it. Not known: there is no
// such group yet. Without it, a batch for 64 peers would compare each packet with half of them.
func (b *Batch) slot(number uint32) (s *groupSlot, known bool) {
	s = &b.slots[number%groupSlots]
	return s, s.round == b.round
}

// none ends a list of ops and marks a packet without group.
const none = 0xff

// group is the packets of a batch that belong to one session.
type group struct {
	peer    *Peer
	session *session // locked for reading; nil: unusable, see result
	result  Result   // of every packet, when session is nil
	index   uint32   // receiver index

	packets int
	bytes   int    // of whole messages
	data    bool   // not only keepalives
	nonce   uint64 // Seal: of the next packet

	first, last uint8 // Open: list of ops
}

// AllFrom is a Locate for packets that all came from one place.
func AllFrom(place Endpoint) func(int, *Endpoint) {
	return func(_ int, from *Endpoint) { *from = place }
}

// NewBatch makes the scratch memory for one worker.
func (d *Device) NewBatch() *Batch { return &Batch{dev: d} }
