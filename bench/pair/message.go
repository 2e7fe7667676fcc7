package pair

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Version of the protocol: sides of different versions do not talk.
const Version = 1

// protocol is in the first message, so that something else on the port is told from an old version.
const protocol = "sluice-bench"

const (
	// maxMessage bounds a message: the longest one is counts with a histogram of a thousand buckets.
	maxMessage = 64 << 10
	// maxHello bounds a message of a side that has proven nothing yet.
	maxHello = 1 << 10
	// helloTimeout is how long a handshake may take, writeTimeout a message.
	helloTimeout = 10 * time.Second
	writeTimeout = 10 * time.Second
)

// kind of a message.
type kind string

// The messages. The client's requests are open, echo, rate and tcp.
const (
	kindHello     kind = "hello"
	kindChallenge kind = "challenge"
	kindProve     kind = "prove"
	kindWelcome   kind = "welcome"
	kindStream    kind = "stream" // first on a TCP connection that carries data
	kindRate      kind = "rate"   // a trial with UDP packets
	kindTCP       kind = "tcp"
	kindReady     kind = "ready"
	kindSent      kind = "sent"
	kindCounts    kind = "counts"
	kindFailed    kind = "failed"
)

// message is everything that crosses the control connection; Kind says which fields are set.
type message struct {
	Kind     kind   `json:"kind"`
	Protocol string `json:"protocol,omitempty"`
	Version  int    `json:"version,omitempty"`
	Nonce    []byte `json:"nonce,omitempty"`
	Proof    []byte `json:"proof,omitempty"`
	// Flows of the session, in hello: how many UDP ports the client has.
	Flows  int     `json:"flows,omitempty"`
	Number int     `json:"number,omitempty"` // of a stream
	Limits *Limits `json:"limits,omitempty"`
	Host   *Host   `json:"host,omitempty"`
	Trial  *trial  `json:"trial,omitempty"`
	TCP    *stream `json:"tcp,omitempty"`
	Sent   *sent   `json:"sent,omitempty"`
	Counts *counts `json:"counts,omitempty"`
	Error  string  `json:"error,omitempty"`
}

// ErrProtocol says that the other side is no Sluice, or of another version, or says what it must not.
var ErrProtocol = errors.New("protocol")

// ErrToken says that the other side does not know our token.
var ErrToken = errors.New("the other side has another token")

// conn is a control connection. One goroutine at a time reads, one writes.
type conn struct {
	net.Conn
	max int // bytes of a message that may come
}

func (c *conn) send(m message) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(text) > maxMessage {
		return fmt.Errorf("send %s: %d bytes are too long for a message", m.Kind, len(text))
	}
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(text)), uint32(len(text)))
	if _, err := c.Write(append(b, text...)); err != nil {
		return fmt.Errorf("send %s: %w", m.Kind, err)
	}
	return nil
}

// receive reads a message, whatever it is, within a time.
func (c *conn) receive(d time.Duration) (m message, err error) {
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		return m, err
	}
	return readMessage(c, c.max)
}

// readMessage reads one message of at most limit bytes.
func readMessage(r io.Reader, limit int) (m message, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return m, fmt.Errorf("receive: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if int64(n) > int64(limit) {
		return m, fmt.Errorf("%w: a message of %d bytes, at most %d are allowed (is this port a `sluice bench serve`?)", ErrProtocol, n, limit)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return m, fmt.Errorf("receive: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return message{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if d.InputOffset() != int64(len(bytes.TrimRight(text, "\n"))) {
		return message{}, fmt.Errorf("%w: bytes behind a message", ErrProtocol)
	}
	return m, nil
}

// expect reads a message that has to be of a kind. What the other side could not do is an error in its words.
func (c *conn) expect(k kind, d time.Duration) (message, error) {
	m, err := c.receive(d)
	switch {
	case err != nil:
		return m, err
	case m.Kind == kindFailed:
		return m, fmt.Errorf("the other side: %s", printable(m.Error))
	case m.Kind != k:
		return m, fmt.Errorf("%w: %q where %q was due", ErrProtocol, m.Kind, k)
	}
	return m, nil
}

// printable keeps a text of the other side from writing to the terminal as it likes.
func printable(s string) string {
	out := []rune(s)
	for i, r := range out {
		if r < ' ' || r == 0x7f || r > 0xffff || r >= 0x80 && r < 0xa0 {
			out[i] = '?'
		}
	}
	return string(out[:min(len(out), 300)])
}

// nonce of a message.
func (m message) nonce() (n [nonceLen]byte, err error) {
	if len(m.Nonce) != nonceLen {
		return n, fmt.Errorf("%w: a nonce of %d bytes", ErrProtocol, len(m.Nonce))
	}
	return [nonceLen]byte(m.Nonce), nil
}
