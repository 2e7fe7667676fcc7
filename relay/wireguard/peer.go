package wireguard

import "time"

// PeerConfig describes a peer.
type PeerConfig struct {
	PublicKey    PublicKey
	PresharedKey PresharedKey // zero value: none. The Device keeps its own copy.
	// Endpoint is where the peer is at first. Invalid Remote: unknown, the
	// peer has to speak first.
	Endpoint Endpoint
	// PersistentKeepalive is the longest silence towards the peer. 0: none;
	// at most 65535 s.
	PersistentKeepalive time.Duration
	// ID is the caller's, for finding its own records without a map.
	ID uint32
}

// Peer is another gateway. All methods may be called by any goroutine.
type Peer struct{}

// PeerStatus is a picture of a peer. It holds no secrets.
type PeerStatus struct {
	PublicKey           PublicKey
	PresharedKey        bool // there is one
	Endpoint            Endpoint
	PersistentKeepalive time.Duration
	LastHandshake       time.Time     // zero: never
	Session             bool          // there is a session that can send
	SessionAge          time.Duration // of that session
	Handshaking         bool          // an initiation of ours is under way
	RxBytes, TxBytes    uint64        // whole messages, handshakes included
	RxPackets           uint64
	TxPackets           uint64
}

func (p *Peer) PublicKey() PublicKey { return PublicKey{} }
func (p *Peer) ID() uint32           { return 0 }

// Endpoint returns where the peer is now. Remote is invalid while unknown.
func (p *Peer) Endpoint() Endpoint { return Endpoint{} }

func (p *Peer) Status() PeerStatus { return PeerStatus{} }
