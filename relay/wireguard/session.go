package wireguard

import (
	"sync"
	"sync/atomic"

	"github.com/sluicegw/sluice/relay/wireguard/aead"
)

// session is a pair of transport keys with a peer, or, before it is live, the
// place that a handshake of ours has reserved for one.
//
// Life: born with an index (indexTable.add), made live once with its keys,
// killed once. A worker holds mu for reading while it works on a group of
// packets with the session, so that keys are never zeroed under it: sealing with
// a zeroed key would give the plaintext away. One session's lock is never
// taken while another lock that workers want is held.
type session struct {
	peer       *Peer
	localIndex uint32 // set before anybody sees the session

	mu   sync.RWMutex
	live bool // guarded by mu, as are the next ones, which do not change while live
	// initiator: we began this session, so it is on us to replace it.
	initiator     bool
	remoteIndex   uint32
	created       int64 // Clock
	send, receive aead.Key

	// unconfirmed: we are the responder and the initiator has not shown yet
	// that it has the keys, so we must not send with them.
	unconfirmed atomic.Bool
	// renewed: the new handshake that receiving late in the session's life
	// asks for has been asked for.
	renewed atomic.Bool

	// What senders write and what receivers write sit on cache lines of
	// their own.
	_     [64]byte
	nonce atomic.Uint64 // of the next message
	_     [64]byte

	replayMu sync.Mutex
	replay   window // guarded by replayMu
}

// start makes the session live. keys are zeroed.
func (s *session) start(keys *transportKeys, remoteIndex uint32, initiator bool, now int64) {
	s.mu.Lock()
	s.send.Set(&keys.send)
	s.receive.Set(&keys.receive)
	s.remoteIndex = remoteIndex
	s.initiator = initiator
	s.created = now
	s.live = true
	s.mu.Unlock()
	s.unconfirmed.Store(!initiator)
	keys.zero()
}

// kill waits for the workers that use the session and forgets its keys.
func (s *session) kill() {
	s.mu.Lock()
	s.live = false
	s.send.Zero()
	s.receive.Zero()
	s.mu.Unlock()
}

// reserve takes n nonces and returns the first. False: the session has sent as
// many messages as it may.
//
// The check comes before the addition, so that the counter cannot run on to
// its end and start again: workers that pass the check at the same time
// overshoot the limit by a batch each, and behind the limit there are 2^13.
func (s *session) reserve(n uint64) (first uint64, ok bool) {
	if s.nonce.Load() > rejectAfterMessages-n {
		return 0, false
	}
	end := s.nonce.Add(n)
	return end - n, end <= rejectAfterMessages
}
