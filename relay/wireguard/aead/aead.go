// Package aead seals and opens batches of packets with ChaCha20-Poly1305
// (RFC 8439), in place.
//
// The interface takes a whole batch at once, so that an implementation can
// work on several packets in parallel (one per vector lane) and so that the
// cost of an interface call is paid per batch, not per packet. The package
// knows nothing of WireGuard: no headers, sessions, replay or padding.
//
// The caller owns all memory. Data is overwritten in place and never kept;
// nothing is allocated. A Cipher may be called by any number of goroutines at
// once; a slice of Ops belongs to one goroutine at a time. A Key may be used by
// many goroutines at once, but the caller makes sure that nobody uses it while
// Set or Zero run.
//
//	var key aead.Key
//	key.Set(&secret)
//	ops := []aead.Op{{Key: &key, Nonce: 7, Data: buf[:n]}} // cap(Data) >= n+Overhead
//	aead.Best().Seal(ops)                                  // ops[0].Data is now n+Overhead long
package aead

import (
	"crypto/cipher"
	"crypto/subtle"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	// KeySize is the length of a key in bytes.
	KeySize = chacha20poly1305.KeySize
	// Overhead is the length of the tag that Seal appends.
	Overhead = chacha20poly1305.Overhead
)

// Cipher seals and opens batches. Implementations are safe for concurrent use.
type Cipher interface {
	// Seal encrypts Data of every Op in place and appends the tag, so Data
	// grows by Overhead within its capacity. Sealing cannot fail: a Data
	// without the capacity, or a Key that was never set, is a programming
	// error and panics.
	Seal([]Op)
	// Open verifies and decrypts Data of every Op in place. Where the tag
	// matches, OK is true and Data has become shorter by Overhead. Elsewhere
	// OK is false, Data keeps its length, and its memory holds what it held
	// before or zeros, never the plaintext.
	Open([]Op)
}

// Op is one packet of a batch.
type Op struct {
	Key   *Key
	Nonce uint64 // the last 8 of the 12 nonce bytes, little endian; the first 4 are zero
	Data  []byte // borrowed: until the call returns
	OK    bool   // result of Open

	// nonce is the expanded nonce. It lives here because a pointer to it goes
	// through cipher.AEAD, and a stack variable would be moved to the heap.
	nonce [chacha20poly1305.NonceSize]byte
}

// Key is a symmetric key, expanded once. The zero value is a key that was not
// set.
//
// Zero overwrites the bytes that this package holds. It cannot reach the copy
// inside the x/crypto cipher object: that is unreferenced after Zero, stays in
// memory until the garbage collector has freed it and the memory was used
// again. See the note on zeroing in package wireguard.
type Key struct {
	raw  [KeySize]byte
	aead cipher.AEAD
}

// Set copies and expands secret.
func (k *Key) Set(secret *[KeySize]byte) {
	k.raw = *secret
	a, err := chacha20poly1305.New(k.raw[:])
	if err != nil { // only for a wrong length, which the type excludes
		panic(err)
	}
	k.aead = a
}

// Zero forgets the key.
func (k *Key) Zero() {
	clear(k.raw[:])
	k.aead = nil
}

// Format keeps the key out of formatted text.
func (k *Key) Format(f fmt.State, _ rune) { io.WriteString(f, "(aead key)") }

// IsZero tells whether the key is unset or was zeroed.
func (k *Key) IsZero() bool {
	return k.aead == nil && subtle.ConstantTimeCompare(k.raw[:], make([]byte, KeySize)) == 1
}
