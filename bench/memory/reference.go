package memory

import (
	"context"
	"fmt"
	"time"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
	"github.com/sluicegw/sluice/relay/wireguard/aead"
)

// referencePath is what other paths are held against where no peer is: a copy of each
// packet and x/crypto's cipher over it, in batches. It is what a packet costs at
// the least, and moves with the machine as they do.
type referencePath struct {
	key    aead.Key
	frames [wireguard.BatchSize][]byte
	ops    [wireguard.BatchSize]aead.Op
	plain  *store
	nonce  uint64
}

func newReferencePath(size int) *referencePath {
	p := &referencePath{plain: newStore(flows, paddedLen(size))}
	copy(p.plain.memory, plaintexts(nearHost, farHost, size).at(0)[packet.EthernetLen:])
	p.key.Set(&[aead.KeySize]byte{1})
	for i := range p.frames {
		p.frames[i] = make([]byte, 2048)
	}
	return p
}

// Name implements Path.
func (p *referencePath) Name() string { return Reference }

// Seal implements Path.
func (p *referencePath) Seal(_ context.Context, n int) (time.Duration, error) {
	return p.loop(p.plain, n, aead.Generic().Seal)
}

// Open implements Path.
func (p *referencePath) Open(_ context.Context, n int) (time.Duration, error) {
	sealed := newStore(n, p.plain.length+aead.Overhead)
	for i := range n {
		b := sealed.at(i)
		op := []aead.Op{{Key: &p.key, Nonce: p.nonce + 1 + uint64(i), Data: b[:copy(b, p.plain.at(i))]}}
		aead.Generic().Seal(op)
	}
	return p.loop(sealed, n, aead.Generic().Open)
}

func (p *referencePath) loop(packets *store, n int, work func([]aead.Op)) (time.Duration, error) {
	opening := packets != p.plain
	begin, err := method.ProcessTime()
	if err != nil {
		return 0, err
	}
	for done := 0; done < n; {
		ops := p.ops[:min(len(p.ops), n-done)]
		for i := range ops {
			p.nonce++
			ops[i] = aead.Op{Key: &p.key, Nonce: p.nonce, Data: p.frames[i][:copy(p.frames[i], packets.at(done+i))]}
		}
		work(ops)
		if opening && !ops[0].OK {
			return 0, fmt.Errorf("%s: message %d does not open", Reference, done)
		}
		done += len(ops)
	}
	end, err := method.ProcessTime()
	return end - begin, err
}

// Close implements Path.
func (p *referencePath) Close() error { return nil }
