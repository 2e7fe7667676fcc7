package traffic

import (
	"context"
	"errors"
	"net/netip"

	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// PeerOptions of a Peer.
type PeerOptions struct {
	Host       *netnstest.Host
	Local      netip.AddrPort // ours, where a socket is bound
	Remote     netip.AddrPort // the gateway's
	PrivateKey wireguard.PrivateKey
	PublicKey  wireguard.PublicKey    // of the gateway
	Preshared  wireguard.PresharedKey // default: none
}

// Peer is the other gateway of a gateway under test: it shakes hands over a socket and seals packets in advance.
type Peer struct{}

// NewPeer shakes hands with the gateway, until it answers or ctx is done.
func NewPeer(ctx context.Context, o PeerOptions) (*Peer, error) { return nil, errors.ErrUnsupported }

// SealOptions say what to seal.
type SealOptions struct {
	Flow           Flow    // of which the IP packet is sealed: Plain or GeneveIP
	SrcMAC, DstMAC [6]byte // of the outer frames
	Count          int     // how many messages, each with a nonce of its own
}

// Seal seals packets with the session as it is now. They are accepted once each, for as long as the session lives.
func (p *Peer) Seal(o SealOptions) (*Frames, error) { return nil, errors.ErrUnsupported }

// Close ends the peer.
func (p *Peer) Close() error { return nil }
