package relay

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sluicegw/sluice/internal/packet"
)

// Control code of two gateways talks by datagrams between their tunnel addresses:
// what comes to a port that somebody listens on never reaches the host's kernel.
// The tunnel says who sent it, and that nobody else has read it.

// MaxPeerMessage is the longest datagram that a listener gets, in bytes of data:
// what fits the least MTU of IPv6 inside a tunnel.
const MaxPeerMessage = 1152

// PeerMessage is a datagram that a peer has sent to our tunnel address.
type PeerMessage struct {
	Peer uint32
	At   int64 // when the turn that received it began, by wireguard.Device.Clock
	Len  int
	Data [MaxPeerMessage]byte // Len bytes of it
}

type messageListener struct {
	port uint16
	to   chan<- PeerMessage
}

// ListenMessages has datagrams that peers send to a UDP port of our tunnel addresses
// handed to a channel. Workers never wait for it: what finds it full, or is too long,
// is lost and counted (MessageLost). stop ends it; a few may come after that.
func (r *Relay) ListenMessages(port uint16, to chan<- PeerMessage) (stop func(), err error) {
	if cap(to) == 0 {
		return nil, errors.New("listen for messages: the channel has no buffer")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	listeners := *r.messages.Load()
	if port == packet.PortGeneve || slices.ContainsFunc(listeners, func(l messageListener) bool { return l.port == port }) {
		return nil, fmt.Errorf("listen for messages: somebody has port %d already", port)
	}
	listeners = append(slices.Clone(listeners), messageListener{port, to})
	r.messages.Store(&listeners)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		left := slices.DeleteFunc(slices.Clone(*r.messages.Load()), func(l messageListener) bool { return l.port == port })
		r.messages.Store(&left)
	}, nil
}

// datagram takes UDP that a peer has sent to our tunnel address and that is no
// VPC's Geneve. Its checksum is not looked at: the tunnel vouches for it.
func (w *worker) datagram(f *frame, udp *packet.UDP) {
	for _, l := range *w.messages.Load() {
		if l.port != udp.Dst {
			continue
		}
		data := f.data()[f.ip.HeaderLen+packet.UDPLen : f.ip.HeaderLen+udp.Len]
		// A peer that floods us costs no copy: only the workers add to the channel.
		if len(data) > MaxPeerMessage || len(l.to) == cap(l.to) {
			w.drop(f, MessageLost)
			return
		}
		m := PeerMessage{Peer: f.peer, At: w.now, Len: len(data)}
		copy(m.Data[:], data)
		select {
		case l.to <- m:
			w.drop(f, MessageHeard)
		default:
			w.drop(f, MessageLost)
		}
		return
	}
	w.toHost(f)
}
