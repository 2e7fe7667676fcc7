package wireguard

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// keySize is the length of every key of the protocol.
const keySize = 32

// PublicKey identifies a peer. Its text form is base64.
type PublicKey [keySize]byte

// PrivateKey is our identity. The zero value is no key.
//
// Copies share the same memory: Zero on one zeroes all, passing one around
// leaves no bytes behind on stacks, and printing a struct that holds one, even
// in an unexported field that fmt reads by reflection, shows an address at
// most. Clone makes an independent copy. String, Format, LogValue and the
// marshallers write a placeholder; RevealBase64 and WriteFile are the only ways
// out.
type PrivateKey struct{ secret }

// PresharedKey is an optional symmetric key that is mixed into the handshakes
// with one peer. It behaves like PrivateKey.
type PresharedKey struct{ secret }

// secret is what the two have in common. There are two pointers on the way to
// the bytes because fmt follows one: a wrong verb (%s of a struct that has a key
// in an unexported field) prints what it points to.
type secret struct{ p *box }

type box struct{ key *[keySize]byte }

func newBox() secret { return secret{&box{new([keySize]byte)}} }

// key is only for a secret that is not zero.
func (s secret) key() *[keySize]byte { return s.p.key }

var errKeyText = errors.New("want 44 characters of base64")

// decodeKey never quotes the text: it may be a secret in the wrong place.
func decodeKey(dst *[keySize]byte, text []byte) error {
	var buf [keySize + 1]byte // Decode wants room for the padding's bytes
	defer clear(buf[:])
	if len(text) != base64.StdEncoding.EncodedLen(keySize) {
		return errKeyText
	}
	n, err := base64.StdEncoding.Strict().Decode(buf[:], text)
	if err != nil || n != keySize {
		return errKeyText
	}
	copy(dst[:], buf[:])
	return nil
}

// ParsePublicKey reads base64.
func ParsePublicKey(text string) (PublicKey, error) {
	var k PublicKey
	if err := decodeKey((*[keySize]byte)(&k), []byte(text)); err != nil {
		return PublicKey{}, fmt.Errorf("parse public key: %w", err)
	}
	return k, nil
}

// ParsePrivateKey reads base64.
func ParsePrivateKey(text string) (PrivateKey, error) {
	s, err := parseSecret([]byte(text))
	if err != nil {
		return PrivateKey{}, fmt.Errorf("parse private key: %w", err)
	}
	return PrivateKey{s}, nil
}

// ParsePresharedKey reads base64.
func ParsePresharedKey(text string) (PresharedKey, error) {
	s, err := parseSecret([]byte(text))
	if err != nil {
		return PresharedKey{}, fmt.Errorf("parse preshared key: %w", err)
	}
	return PresharedKey{s}, nil
}

func parseSecret(text []byte) (secret, error) {
	s := newBox()
	if err := decodeKey(s.key(), text); err != nil {
		return secret{}, err
	}
	if s.IsZero() {
		return secret{}, errors.New("the key is all zero")
	}
	return s, nil
}

// NewPrivateKey makes a random key, clamped as Curve25519 wants it (RFC 7748,
// section 5), which is the form that wg genkey writes.
func NewPrivateKey() (PrivateKey, error) {
	s, err := newSecret()
	if err != nil {
		return PrivateKey{}, fmt.Errorf("make private key: %w", err)
	}
	b := s.key()
	b[0] &= 248
	b[31] = b[31]&127 | 64
	return PrivateKey{s}, nil
}

// NewPresharedKey makes a random key.
func NewPresharedKey() (PresharedKey, error) {
	s, err := newSecret()
	if err != nil {
		return PresharedKey{}, fmt.Errorf("make preshared key: %w", err)
	}
	return PresharedKey{s}, nil
}

func newSecret() (secret, error) {
	s := newBox()
	_, err := io.ReadFull(rand.Reader, s.key()[:])
	return s, err
}

// PublicKey computes the public half. The zero key has the zero public key.
func (k PrivateKey) PublicKey() PublicKey {
	if k.p == nil {
		return PublicKey{}
	}
	key, err := ecdh.X25519().NewPrivateKey(k.key()[:])
	if err != nil { // only for a wrong length, which the type excludes
		panic(err)
	}
	return PublicKey(key.PublicKey().Bytes())
}

// Clone returns a copy with its own memory.
func (k PrivateKey) Clone() PrivateKey { return PrivateKey{k.clone()} }

// Clone returns a copy with its own memory.
func (k PresharedKey) Clone() PresharedKey { return PresharedKey{k.clone()} }

// Equal compares in constant time.
func (k PrivateKey) Equal(o PrivateKey) bool { return k.equal(o.secret) }

// Equal compares in constant time.
func (k PresharedKey) Equal(o PresharedKey) bool { return k.equal(o.secret) }

func (k PublicKey) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// IsZero tells whether there is no key.
func (k PublicKey) IsZero() bool { return k == PublicKey{} }

func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

func (k *PublicKey) UnmarshalText(text []byte) error {
	p, err := ParsePublicKey(string(text))
	if err == nil {
		*k = p
	}
	return err
}

func (k PublicKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

func (s secret) clone() secret {
	if s.p == nil {
		return s
	}
	c := newBox()
	*c.key() = *s.key()
	return c
}

func (s secret) equal(o secret) bool {
	if s.p == nil || o.p == nil {
		return s.p == o.p
	}
	return subtle.ConstantTimeCompare(s.key()[:], o.key()[:]) == 1
}

// bytes is the key, or zeros when there is none: the protocol's meaning of no
// preshared key.
func (s secret) bytes() [keySize]byte {
	if s.p == nil {
		return [keySize]byte{}
	}
	return *s.key()
}

// IsZero tells whether there is no key, or it was zeroed.
func (s secret) IsZero() bool {
	return s.p == nil || subtle.ConstantTimeCompare(s.key()[:], make([]byte, keySize)) == 1
}

// Zero overwrites the key, and with it all copies that are not a Clone.
func (s secret) Zero() {
	if s.p != nil {
		clear(s.key()[:])
	}
}

// RevealBase64 returns the secret as text, for `sluice key` and key files. The
// caller clears it after use.
func (s secret) RevealBase64() []byte {
	if s.p == nil {
		return nil
	}
	return base64.StdEncoding.AppendEncode(nil, s.key()[:])
}

// redacted stands for a secret in every text.
const redacted = "(secret)"

func (s secret) String() string                 { return redacted }
func (s secret) GoString() string               { return redacted }
func (s secret) Format(f fmt.State, _ rune)     { io.WriteString(f, redacted) }
func (s secret) LogValue() slog.Value           { return slog.StringValue(redacted) }
func (s secret) MarshalText() ([]byte, error)   { return []byte(redacted), nil }
func (s secret) MarshalJSON() ([]byte, error)   { return []byte(`"` + redacted + `"`), nil }
func (s secret) MarshalBinary() ([]byte, error) { return []byte(redacted), nil }
func (s secret) MarshalYAML() (any, error)      { return redacted, nil }
