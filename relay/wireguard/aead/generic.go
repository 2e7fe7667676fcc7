package aead

import "encoding/binary"

// Generic returns the cipher that runs on golang.org/x/crypto/chacha20poly1305,
// one packet after the other.
func Generic() Cipher { return generic{} }

type generic struct{}

func (generic) Seal(ops []Op) {
	for i := range ops {
		op := &ops[i]
		binary.LittleEndian.PutUint64(op.nonce[4:], op.Nonce)
		if cap(op.Data)-len(op.Data) < Overhead {
			// x/crypto would move the result to new memory.
			panic("aead: no room for the tag behind the data")
		}
		op.Data = op.Key.aead.Seal(op.Data[:0], op.nonce[:], op.Data, nil)
	}
}

func (generic) Open(ops []Op) {
	for i := range ops {
		op := &ops[i]
		binary.LittleEndian.PutUint64(op.nonce[4:], op.Nonce)
		plain, err := op.Key.aead.Open(op.Data[:0], op.nonce[:], op.Data, nil)
		op.OK = err == nil
		if op.OK {
			op.Data = plain
		}
	}
}
