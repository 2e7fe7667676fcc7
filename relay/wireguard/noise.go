package wireguard

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/flynn/noise"
	"golang.org/x/crypto/curve25519"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tai64n"

	"github.com/sluicegw/sluice/relay/wireguard/aead"
)

// This file is the seam to github.com/flynn/noise: Noise_IKpsk2 with WireGuard's
// prologue, in both roles, down to the two transport keys.

// errLowOrder: the public key of the other side has no shared secret with anyone.
var errLowOrder = errors.New("public key of low order")

// dh is Curve25519 with another answer to keys of low order.
//
// flynn/noise gives up a handshake half way when DH returns an error, without
// the rollback that it does for a message that fails authentication. A forged
// response with such a key would so end an initiation of ours that the true
// response could still complete. With a random secret instead the message
// simply fails authentication.
type dh struct{ noise.DHFunc }

func (d dh) DH(private, public []byte) ([]byte, error) {
	shared, err := d.DHFunc.DH(private, public)
	if err != nil {
		shared = make([]byte, keySize)
		if _, err := io.ReadFull(rand.Reader, shared); err != nil {
			return nil, err
		}
	}
	return shared, nil
}

// suite makes the cipher suite; a function, as we have no globals.
func suite() noise.CipherSuite {
	return noise.NewCipherSuite(dh{noise.DH25519}, noise.CipherChaChaPoly, noise.HashBLAKE2s)
}

// checkPublicKey refuses a peer's key that no handshake can succeed with.
func checkPublicKey(own PrivateKey, peer PublicKey) error {
	if _, err := curve25519.X25519(own.key()[:], peer[:]); err != nil {
		return errLowOrder
	}
	return nil
}

// handshake is one run of the Noise handshake.
type handshake struct {
	state *noise.HandshakeState
}

// transportKeys are the outcome of a handshake.
type transportKeys struct{ send, receive [aead.KeySize]byte }

func (k *transportKeys) zero() { *k = transportKeys{} }

func noiseConfig(own PrivateKey, public PublicKey) noise.Config {
	return noise.Config{
		CipherSuite:           suite(),
		Pattern:               noise.HandshakeIK,
		Prologue:              []byte(device.WGIdentifier),
		PresharedKeyPlacement: 2,
		// flynn/noise keeps this slice and does not copy what it points to.
		StaticKeypair: noise.DHKey{Private: own.key()[:], Public: public[:]},
	}
}

// initiate starts a handshake as initiator and appends the Noise part of message
// 1 to out.
func initiate(own PrivateKey, public, peer PublicKey, psk PresharedKey, ts tai64n.Timestamp, out []byte) (*handshake, []byte, error) {
	c := noiseConfig(own, public)
	c.Initiator = true
	c.PeerStatic = peer[:]
	key := psk.bytes()
	defer clear(key[:])
	c.PresharedKey = key[:] // copied
	state, err := noise.NewHandshakeState(c)
	if err != nil {
		return nil, nil, fmt.Errorf("start handshake: %w", err)
	}
	h := &handshake{state}
	out, _, _, err = state.WriteMessage(out, ts[:])
	if err != nil {
		h.zero()
		return nil, nil, fmt.Errorf("write initiation: %w", err)
	}
	return h, out, nil
}

// finish reads the Noise part of message 2. When it fails, the handshake is as
// before, and the true response can still come.
func (h *handshake) finish(msg []byte) (transportKeys, error) {
	_, toResponder, toInitiator, err := h.state.ReadMessage(nil, msg)
	if err != nil {
		return transportKeys{}, fmt.Errorf("read response: %w", err)
	}
	keys := transportKeys{send: toResponder.UnsafeKey(), receive: toInitiator.UnsafeKey()}
	*toResponder, *toInitiator = noise.CipherState{}, noise.CipherState{}
	return keys, nil
}

// consume starts a handshake as responder with the Noise part of message 1, and
// tells who it is from and when it was made.
func consume(own PrivateKey, public PublicKey, msg []byte) (h *handshake, peer PublicKey, ts tai64n.Timestamp, err error) {
	state, err := noise.NewHandshakeState(noiseConfig(own, public))
	if err != nil {
		return nil, peer, ts, fmt.Errorf("start handshake: %w", err)
	}
	h = &handshake{state}
	payload, _, _, err := state.ReadMessage(nil, msg)
	if err != nil {
		h.zero()
		return nil, peer, ts, fmt.Errorf("read initiation: %w", err)
	}
	copy(ts[:], payload)
	copy(peer[:], state.PeerStatic())
	return h, peer, ts, nil
}

// respond appends the Noise part of message 2 to out.
func (h *handshake) respond(psk PresharedKey, out []byte) ([]byte, transportKeys, error) {
	key := psk.bytes()
	defer clear(key[:])
	if err := h.state.SetPresharedKey(key[:]); err != nil { // copies
		return nil, transportKeys{}, fmt.Errorf("set preshared key: %w", err)
	}
	out, toResponder, toInitiator, err := h.state.WriteMessage(out, nil)
	if err != nil {
		return nil, transportKeys{}, fmt.Errorf("write response: %w", err)
	}
	keys := transportKeys{send: toInitiator.UnsafeKey(), receive: toResponder.UnsafeKey()}
	*toResponder, *toInitiator = noise.CipherState{}, noise.CipherState{}
	return out, keys, nil
}

// zero forgets the ephemeral key and the inline parts of the handshake. What it
// cannot reach is in the package documentation.
func (h *handshake) zero() {
	clear(h.state.LocalEphemeral().Private)
	*h.state = noise.HandshakeState{}
	h.state = nil
}
