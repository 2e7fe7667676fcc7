package demo

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"
)

// copyTimeout bounds one copy, also on a slow and busy machine.
const copyTimeout = 60 * time.Second

// block is how often the data repeats but for its offset, and markerEvery how
// often the marker is in it: at least once in every full packet.
const (
	block       = 256 << 10
	markerEvery = 512
)

// data is a stream of n bytes that is random, says where it is, and has
// the marker in it.
type data struct {
	left, offset int64
	block        []byte
}

func newData(n int64, marker []byte) *data {
	d := &data{left: n, block: make([]byte, block)}
	rand.Read(d.block) // never fails (crypto/rand since Go 1.24)
	for i := 16; i < block; i += markerEvery {
		copy(d.block[i:], marker)
	}
	return d
}

// WriteTo writes all of it.
func (d *data) WriteTo(w io.Writer) (written int64, err error) {
	for d.left > 0 {
		binary.BigEndian.PutUint64(d.block, uint64(d.offset))
		n, err := w.Write(d.block[:min(d.left, block)])
		written += int64(n)
		d.left, d.offset = d.left-int64(n), d.offset+int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// hash reads n bytes and returns their SHA-256.
func hash(r io.Reader, n int64) (string, error) {
	h := sha256.New()
	if got, err := io.CopyBuffer(struct{ io.Writer }{h}, r, make([]byte, 256<<10)); err != nil || got != n {
		return "", fmt.Errorf("%d of %d bytes arrived: %v", got, n, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// copyTo sends n bytes to an address's service, which answers with the hash of
// what it got.
func (e *endpoint) copyTo(ctx context.Context, to netip.Addr, n int64) (Copy, error) {
	conn, err := e.dial(ctx, "tcp", to, 5*time.Second)
	if err != nil {
		return Copy{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(copyTimeout)); err != nil {
		return Copy{}, err
	}
	began, sum := time.Now(), sha256.New()
	if _, err := fmt.Fprintf(conn, "copy %d\n", n); err != nil {
		return Copy{}, err
	}
	if sent, err := newData(n, e.site.lab.marker).WriteTo(io.MultiWriter(conn, sum)); err != nil {
		return Copy{}, fmt.Errorf("%s: copy to %s stopped after %d bytes: %w", e.name, to, sent, err)
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return Copy{}, fmt.Errorf("%s: copy to %s: no answer: %w", e.name, to, err)
	}
	c := Copy{Bytes: n, Seconds: time.Since(began).Seconds(), SHA256: hex.EncodeToString(sum.Sum(nil))}
	if got := strings.TrimSpace(answer); got != c.SHA256 {
		return c, fmt.Errorf("%s: copy to %s: SHA-256 %s arrived as %s", e.name, to, c.SHA256, got)
	}
	return c, nil
}
