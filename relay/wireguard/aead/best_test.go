package aead

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// agree seals and opens one batch with Generic and with c and compares all that
// can be seen: bytes, lengths, verdicts, and the memory around.
func agree(t *testing.T, c Cipher, r *rand.Rand, keys []Key, lengths []int) {
	t.Helper()
	const around = 200
	buf, want := make([][]byte, len(lengths)), make([][]byte, len(lengths))
	ops, slow := make([]Op, len(lengths)), make([]Op, len(lengths))
	for i, n := range lengths {
		at := around + r.IntN(64)
		buf[i] = make([]byte, at+n+Overhead+around)
		fill(r, buf[i])
		want[i] = slices.Clone(buf[i])
		key, nonce := &keys[r.IntN(len(keys))], r.Uint64()>>r.IntN(64)
		ops[i] = Op{Key: key, Nonce: nonce, Data: buf[i][at : at+n]}
		slow[i] = Op{Key: key, Nonce: nonce, Data: want[i][at : at+n]}
	}
	c.Seal(ops)
	Generic().Seal(slow)
	for i, n := range lengths {
		if len(ops[i].Data) != n+Overhead || !bytes.Equal(buf[i], want[i]) {
			t.Fatalf("packet %d of %v: sealed differently", i, lengths)
		}
	}
	broken := make([]bool, len(lengths))
	for i := range ops {
		if broken[i] = r.IntN(4) == 0; broken[i] {
			bit := r.IntN(8 * len(ops[i].Data))
			ops[i].Data[bit/8] ^= 1 << (bit % 8)
			slow[i].Data[bit/8] ^= 1 << (bit % 8)
		}
	}
	before := make([][]byte, len(lengths))
	for i := range ops {
		before[i] = slices.Clone(ops[i].Data)
	}
	c.Open(ops)
	Generic().Open(slow)
	for i, n := range lengths {
		if ops[i].OK == broken[i] || slow[i].OK == broken[i] || len(ops[i].Data) != len(slow[i].Data) {
			t.Fatalf("packet %d of %v, broken %v: opened %v (%d bytes), generic %v (%d bytes)", i, lengths, broken[i],
				ops[i].OK, len(ops[i].Data), slow[i].OK, len(slow[i].Data))
		}
		if broken[i] { // as it was, or zeros
			for j, b := range ops[i].Data {
				if b != 0 && b != before[i][j] {
					t.Fatalf("packet %d of %v is broken: byte %d was %#x and is %#x", i, lengths, j, before[i][j], b)
				}
			}
			start := len(buf[i]) - around - Overhead - n
			clear(buf[i][start : start+n+Overhead])
			clear(want[i][start : start+n+Overhead])
		} else { // so is the tag's memory
			clear(buf[i][len(buf[i])-around-Overhead:][:Overhead])
			clear(want[i][len(buf[i])-around-Overhead:][:Overhead])
		}
		if !bytes.Equal(buf[i], want[i]) {
			t.Fatalf("packet %d of %v: opened differently, or wrote outside", i, lengths)
		}
	}
}

func fill(r *rand.Rand, b []byte) {
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, r.Uint64())
		b = b[8:]
	}
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

func randomKeys(r *rand.Rand, n int) []Key {
	keys := make([]Key, n)
	for i := range keys {
		var raw [KeySize]byte
		fill(r, raw[:])
		keys[i].Set(&raw)
	}
	return keys
}

func TestBatchesOfAllKindsAgreeWithGeneric(t *testing.T) {
	for name, c := range ciphers() {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(9, 10))
			keys := randomKeys(r, 7)
			for n := range 2049 { // all lengths alone
				agree(t, c, r, keys, []int{n})
			}
			for count := range 100 { // all sizes of a batch, equal and mixed lengths
				for _, limit := range []int{1, 17, 65, 300, 1500, 9001} {
					equal, mixed := make([]int, count), make([]int, count)
					n := r.IntN(limit)
					for i := range count {
						equal[i], mixed[i] = n, r.IntN(limit)
					}
					agree(t, c, r, keys, equal)
					agree(t, c, r, keys, mixed)
				}
			}
		})
	}
}

// New goroutines have small stacks, which grow while a batch is under way.
func TestManyGoroutinesShareACipher(t *testing.T) {
	for name, c := range ciphers() {
		t.Run(name, func(t *testing.T) {
			keys := randomKeys(rand.New(rand.NewPCG(17, 18)), 3)
			for seed := range uint64(40) {
				t.Run(fmt.Sprint(seed), func(t *testing.T) {
					t.Parallel()
					r := rand.New(rand.NewPCG(seed, 19))
					agree(t, c, r, keys, []int{64, 1420, r.IntN(3000), 0, 512, r.IntN(100)})
				})
			}
		})
	}
}

func FuzzBatches(f *testing.F) {
	f.Add(uint64(1), []byte{0, 0, 64, 0, 0x8c, 5})
	f.Add(uint64(2), bytes.Repeat([]byte{0xdc, 5}, 64))
	f.Add(uint64(3), bytes.Repeat([]byte{64, 0}, 70))
	f.Fuzz(func(t *testing.T, seed uint64, raw []byte) {
		lengths := make([]int, 0, 80)
		for len(raw) >= 2 && len(lengths) < cap(lengths) {
			lengths = append(lengths, int(binary.LittleEndian.Uint16(raw)%9001))
			raw = raw[2:]
		}
		for _, c := range ciphers() {
			r := rand.New(rand.NewPCG(seed, 0))
			agree(t, c, r, randomKeys(r, 1+r.IntN(9)), lengths)
		}
	})
}

// Every byte of a packet is authenticated, and every bit of the tag.
func TestEveryByteCounts(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	keys := randomKeys(r, 1)
	for name, c := range ciphers() {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{0, 1, 15, 16, 17, 63, 64, 65, 111, 112, 113, 128, 239, 240, 241, 256, 368, 369, 496, 497, 700, 1420} {
				one := []Op{{Key: &keys[0], Nonce: 5, Data: make([]byte, n, n+Overhead)}}
				Generic().Seal(one)
				sealed := one[0].Data
				var ops []Op
				add := func(bit int) {
					data := slices.Clone(sealed)
					if bit >= 0 {
						data[bit/8] ^= 1 << (bit % 8)
					}
					ops = append(ops, Op{Key: &keys[0], Nonce: 5, Data: data, OK: bit >= 0})
				}
				add(-1)
				for i := range n {
					add(8*i + r.IntN(8))
				}
				for bit := 8 * n; bit < 8*(n+Overhead); bit++ {
					add(bit)
				}
				add(-1)
				for part := range slices.Chunk(ops, 64) {
					c.Open(part)
				}
				for i, op := range ops {
					if whole := i == 0 || i == len(ops)-1; op.OK != whole {
						t.Fatalf("%d bytes, change %d: opened %v", n, i, op.OK)
					}
				}
			}
		})
	}
}

// A packet opens with its own nonce and key alone.
func TestNonceAndKeyCount(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	keys := randomKeys(r, 2)
	for name, c := range ciphers() {
		t.Run(name, func(t *testing.T) {
			var ops []Op
			seal := func(nonce uint64) []byte {
				one := []Op{{Key: &keys[0], Nonce: nonce, Data: make([]byte, 100, 100+Overhead)}}
				Generic().Seal(one)
				return one[0].Data
			}
			for bit := range 64 {
				ops = append(ops, Op{Key: &keys[0], Nonce: 1<<40 ^ 1<<bit, Data: seal(1 << 40)})
			}
			ops = append(ops, Op{Key: &keys[1], Nonce: 1 << 40, Data: seal(1 << 40)})
			c.Open(ops)
			for i, op := range ops {
				if op.OK {
					t.Errorf("change %d opened", i)
				}
			}
		})
	}
}
