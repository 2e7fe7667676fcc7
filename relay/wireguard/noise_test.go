package wireguard

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/flynn/noise"

	"github.com/sluicegw/sluice/relay/wireguard/aead"
)

func unhex(s string) []byte { return must(hex.DecodeString(s)) }

func keyOf(s string) PrivateKey {
	k := PrivateKey{newBox()}
	copy(k.key()[:], unhex(s))
	return k
}

// A published vector of Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s (the one with
// prologue, preshared key and empty payloads), through our suite and configuration
// with only prologue and randomness replaced.
func TestNoiseVector(t *testing.T) {
	initiator := keyOf("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	responder := keyOf("0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20")
	psk := unhex("2176657279736563726574766572797365637265747665727973656372657421")
	state := func(own, other PrivateKey, ephemeral string, begins bool) *noise.HandshakeState {
		c := noiseConfig(own, own.PublicKey())
		c.Prologue = unhex("6e6f74736563726574")
		c.Random = bytes.NewReader(unhex(ephemeral))
		c.PresharedKey = psk
		if c.Initiator = begins; begins {
			public := other.PublicKey()
			c.PeerStatic = public[:]
		}
		return must(noise.NewHandshakeState(c))
	}
	a := &handshake{state(initiator, responder, "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f", true)}
	b := &handshake{state(responder, initiator, "4142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f60", false)}

	first, _, _, err := a.state.WriteMessage(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := unhex("358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254d06f15f78ad0914d9715147bb5a5004b27345a838bab4aa8bc5f144afc2cf4ccb88f9ea1ebd99e94b76e50af7eee0e59549f4f47de925ee65c9dee48f8990082")
	if !bytes.Equal(first, want) {
		t.Errorf("first message %x, want %x", first, want)
	}
	if _, _, _, err := b.state.ReadMessage(nil, first); err != nil {
		t.Fatal(err)
	}
	if got := PublicKey(b.state.PeerStatic()); got != initiator.PublicKey() {
		t.Errorf("initiator is %v", got)
	}
	secret, err := parseSecret([]byte("IXZlcnlzZWNyZXR2ZXJ5c2VjcmV0dmVyeXNlY3JldCE="))
	if err != nil || !bytes.Equal(secret.key()[:], psk) {
		t.Fatal("preshared key", err)
	}
	second, keysB, err := b.respond(PresharedKey{secret}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want = unhex("64b101b1d0be5a8704bd078f9895001fc03e8e9f9522f188dd128d9846d484665db536cf97f15c6ece2431fc1c0057b4")
	if !bytes.Equal(second, want) {
		t.Errorf("second message %x, want %x", second, want)
	}
	keysA, err := a.finish(second)
	if err != nil {
		t.Fatal(err)
	}
	if keysA.send != keysB.receive || keysA.receive != keysB.send {
		t.Error("the two sides have different keys")
	}
	// The first transport message each way, without WireGuard's header.
	for i, c := range []struct {
		key               *[aead.KeySize]byte
		plain, ciphertext string
	}{
		{&keysA.send, "79656c6c6f777375626d6172696e65", "6013ea114b4c4884afb82bf029f72f924bd8a32c487a15a1cef4855ba234be"},
		{&keysB.send, "7375626d6172696e6579656c6c6f77", "8a2e7119635e41a35b7e64e0adac5483b66b1a9827895124ea07d58440b654"},
	} {
		var key aead.Key
		key.Set(c.key)
		ops := []aead.Op{{Key: &key, Data: append(make([]byte, 0, 64), unhex(c.plain)...)}}
		aead.Generic().Seal(ops)
		if !bytes.Equal(ops[0].Data, unhex(c.ciphertext)) {
			t.Errorf("transport %d: %x, want %s", i, ops[0].Data, c.ciphertext)
		}
	}
}

func TestHandshakeForgetsItsEphemeralKey(t *testing.T) {
	w, a, b, toB, _ := pair(t)
	a.say(toB, "x")
	a.work()
	h := toB.initiation.handshake
	state := h.state
	ephemeral := state.LocalEphemeral().Private
	if bytes.Equal(ephemeral, make([]byte, keySize)) {
		t.Fatal("no ephemeral key")
	}
	w.settle()
	if !bytes.Equal(ephemeral, make([]byte, keySize)) {
		t.Error("the ephemeral key is not zeroed")
	}
	if state.LocalEphemeral().Private != nil || state.PeerStatic() != nil || h.state != nil {
		t.Error("the handshake is not cleared")
	}
	// The private key that it pointed to is not touched.
	if !a.d.private.Equal(a.key) || !b.d.private.Equal(b.key) {
		t.Error("a private key was zeroed")
	}
}

func TestPeersKeyOfLowOrderIsRefused(t *testing.T) {
	w := newWorld(t)
	a := w.add("192.0.2.1:1")
	one := PublicKey{1}
	if _, err := a.d.SetPeer(PeerConfig{PublicKey: one}); err == nil {
		t.Error("accepted")
	}
}
