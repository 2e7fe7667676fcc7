package wireguard

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

	NumResults int = iota
)

const (
	// HeaderSize is the length of the transport header in front of the
	// ciphertext.
	HeaderSize = 16
	// Overhead is what a transport message has more than the padded plaintext.
	Overhead = HeaderSize + 16
	// MaxPadding is how many bytes Seal may add to the plaintext.
	MaxPadding = 15
)

// Packet is one packet of a batch.
//
// Seal: in, Buf[:HeaderSize] is room for the header and Buf[HeaderSize:] the
// plaintext, with MaxPadding+16 bytes of capacity behind; out, Buf is the whole
// message, in the same place. An empty plaintext makes a keepalive.
//
// Open: in, Buf is the whole message; out, with OK, Buf is the plaintext within
// it: Buf[HeaderSize:len-16], still with the sender's padding (the length of
// the IP packet tells where it ends).
type Packet struct {
	Buf    []byte   // borrowed: until the call returns
	Peer   *Peer    // Seal: in. Open: out, when the result is OK, Keepalive or Replay.
	From   Endpoint // Open: in, where the message came from
	MaxLen int      // Seal: in, padding must not make the plaintext longer than this (inner MTU); 0: no limit
	Result Result
}

// Batch is the scratch memory of one worker; it must not be shared.
type Batch struct{}

// NewBatch makes a Batch.
func (d *Device) NewBatch() *Batch { return &Batch{} }

// Seal turns packets into transport messages to their Peer. now is Clock.
// Where to send them says Peer.Endpoint.
func (b *Batch) Seal(pkts []Packet, now int64) {}

// Open turns transport messages into packets. now is Clock.
func (b *Batch) Open(pkts []Packet, now int64) {}
