package pair

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"os"
)

// Token is the secret that both sides know. It has no String method, so that it is not printed by mistake.
type Token struct{ secret []byte }

const (
	// tokenBytes of randomness cannot be guessed, also by one who has seen proofs.
	tokenBytes = 16
	// minToken and maxToken bound the text of a token: 26 characters are 16 random bytes.
	minToken = 26
	maxToken = 256
)

var tokenText = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewToken makes a random one.
func NewToken() Token {
	var raw [tokenBytes]byte
	rand.Read(raw[:]) // never fails (crypto/rand since Go 1.24)
	return Token{[]byte(tokenText.EncodeToString(raw[:]))}
}

// ParseToken takes a token's text, with blanks around it. Anything of enough characters is one.
func ParseToken(text []byte) (Token, error) {
	text = bytes.TrimSpace(text)
	switch {
	case len(text) < minToken:
		return Token{}, fmt.Errorf("token: %d characters, at least %d are needed", len(text), minToken)
	case len(text) > maxToken:
		return Token{}, fmt.Errorf("token: %d characters, at most %d are allowed", len(text), maxToken)
	}
	for _, c := range text {
		if c <= ' ' || c > '~' {
			return Token{}, errors.New("token: only printable ASCII characters without blanks are allowed")
		}
	}
	return Token{bytes.Clone(text)}, nil
}

// ReadToken reads a file that only its owner may read.
func ReadToken(path string) (Token, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Token{}, fmt.Errorf("read token: %w", err)
	}
	if !info.Mode().IsRegular() {
		return Token{}, fmt.Errorf("read token %s: not a regular file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return Token{}, fmt.Errorf("read token %s: others may read it (chmod 600 %s)", path, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Token{}, fmt.Errorf("read token: %w", err)
	}
	t, err := ParseToken(text)
	if err != nil {
		return Token{}, fmt.Errorf("read %s: %w", path, err)
	}
	return t, nil
}

// Reveal is the token's text, for the one place that shows it.
func (t Token) Reveal() string { return string(t.secret) }

// nonces of a session: the client's, then the server's.
type nonces [2][nonceLen]byte

const nonceLen = 16

// proof shows that its sender knows the token, in a role, in this session.
func (t Token) proof(role string, n nonces) []byte {
	m := hmac.New(sha256.New, t.secret)
	m.Write([]byte("sluice bench 1 " + role + "\x00"))
	m.Write(n[0][:])
	m.Write(n[1][:])
	return m.Sum(nil)
}

// The roles of a proof.
const (
	roleServer = "server"
	roleClient = "client"
	roleUDP    = "udp"    // its first bytes are the tag of the session's packets
	roleStream = "stream" // what a TCP connection of the session begins with
)

// proves compares in constant time.
func (t Token) proves(role string, n nonces, proof []byte) bool {
	return hmac.Equal(t.proof(role, n), proof)
}

// tag of the session's UDP packets.
func (t Token) tag(n nonces) (tag [tagLen]byte) {
	copy(tag[:], t.proof(roleUDP, n))
	return tag
}
