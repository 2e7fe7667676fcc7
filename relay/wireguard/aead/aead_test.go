package aead

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/crypto/chacha20"
)

// slow is ChaCha20-Poly1305 after RFC 8439, section 2.8, with Poly1305 in plain
// big numbers: the twin that every Cipher has to agree with.
func slow(key [KeySize]byte, nonce [12]byte, plain, aad []byte) []byte {
	c, err := chacha20.NewUnauthenticatedCipher(key[:], nonce[:])
	if err != nil {
		panic(err)
	}
	var block [64]byte
	c.XORKeyStream(block[:], block[:]) // section 2.6: the one-time key is block 0
	out := make([]byte, len(plain))
	c.XORKeyStream(out, plain)

	pad := func(b []byte) []byte { return append(b, make([]byte, -len(b)&15)...) }
	m := pad(slices.Clone(aad))
	m = append(m, pad(slices.Clone(out))...)
	m = binary.LittleEndian.AppendUint64(m, uint64(len(aad)))
	m = binary.LittleEndian.AppendUint64(m, uint64(len(plain)))
	return append(out, slowPoly1305([32]byte(block[:32]), m)...)
}

// slowPoly1305 is section 2.5.1.
func slowPoly1305(key [32]byte, m []byte) []byte {
	little := func(b []byte) *big.Int {
		b = slices.Clone(b)
		slices.Reverse(b)
		return new(big.Int).SetBytes(b)
	}
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 130), big.NewInt(5))
	mask := little([]byte{0xff, 0xff, 0xff, 0x0f, 0xfc, 0xff, 0xff, 0x0f, 0xfc, 0xff, 0xff, 0x0f, 0xfc, 0xff, 0xff, 0x0f})
	r := new(big.Int).And(little(key[:16]), mask)
	acc := new(big.Int)
	for block := range slices.Chunk(m, 16) {
		acc.Add(acc, little(append(slices.Clone(block), 1)))
		acc.Mod(acc.Mul(acc, r), p)
	}
	acc.Add(acc, little(key[16:]))
	tag := make([]byte, 32)
	acc.FillBytes(tag)
	slices.Reverse(tag)
	return tag[:16]
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// The vector of RFC 8439, section 2.8.2. It has a nonce and additional data that
// WireGuard never has, so it proves the twin.
func TestTwinAgreesWithRFC8439(t *testing.T) {
	plain := "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it."
	want := unhex("d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6" +
		"3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36" +
		"92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc" +
		"3ff4def08e4b7a9de576d26586cec64b6116" + "1ae10b594f09e26a7e902ecbd0600691")
	key := unhex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f")
	nonce := unhex("070000004041424344454647")
	if got := slow([KeySize]byte(key), [12]byte(nonce), []byte(plain), unhex("50515253c0c1c2c3c4c5c6c7")); !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

// ciphers are all implementations.
func ciphers() map[string]Cipher {
	all := map[string]Cipher{"generic": Generic()}
	maps.Copy(all, vectorCiphers())
	return all
}

func TestCiphersAgreeWithTheTwin(t *testing.T) {
	for name, c := range ciphers() {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			random := func(b []byte) {
				for i := range b {
					b[i] = byte(r.Uint32())
				}
			}
			keys := make([]Key, 5)
			raw := make([][KeySize]byte, len(keys))
			for i := range keys {
				random(raw[i][:])
				keys[i].Set(&raw[i])
			}
			// All lengths, in batches of all sizes, with keys mixed.
			lengths := make([]int, 0, 2100)
			for n := range 2050 {
				lengths = append(lengths, n)
			}
			r.Shuffle(len(lengths), func(i, j int) { lengths[i], lengths[j] = lengths[j], lengths[i] })
			for len(lengths) > 0 {
				n := min(1+r.IntN(64), len(lengths))
				ops := make([]Op, n)
				plain, sealed := make([][]byte, n), make([][]byte, n)
				for i := range ops {
					k := r.IntN(len(keys))
					plain[i] = make([]byte, lengths[i])
					random(plain[i])
					nonce := r.Uint64() >> r.IntN(64)
					ops[i] = Op{Key: &keys[k], Nonce: nonce, Data: append(make([]byte, 0, lengths[i]+Overhead), plain[i]...)}
					var full [12]byte
					binary.LittleEndian.PutUint64(full[4:], nonce)
					sealed[i] = slow(raw[k], full, plain[i], nil)
				}
				before := make([]*byte, n)
				for i := range ops {
					before[i] = &ops[i].Data[:1][0]
				}
				c.Seal(ops)
				for i := range ops {
					if !bytes.Equal(ops[i].Data, sealed[i]) {
						t.Fatalf("%d bytes: sealed differently", lengths[i])
					}
					if &ops[i].Data[0] != before[i] {
						t.Fatalf("%d bytes: not in place", lengths[i])
					}
					if i%3 == 2 { // one in three is broken
						ops[i].Data[r.IntN(len(ops[i].Data))] ^= 1 << r.IntN(8)
					}
				}
				c.Open(ops)
				for i := range ops {
					if want := i%3 != 2; ops[i].OK != want {
						t.Fatalf("%d bytes: opened %v, want %v", lengths[i], ops[i].OK, want)
					}
					if ops[i].OK && !bytes.Equal(ops[i].Data, plain[i]) {
						t.Fatalf("%d bytes: opened differently", lengths[i])
					}
				}
				lengths = lengths[n:]
			}
		})
	}
}

func TestShortDataDoesNotOpen(t *testing.T) {
	var key Key
	key.Set(new([KeySize]byte))
	for name, c := range ciphers() {
		for n := range Overhead {
			ops := []Op{{Key: &key, Data: make([]byte, n), OK: true}, {Key: &key, OK: true}}
			if c.Open(ops); ops[0].OK || ops[1].OK {
				t.Errorf("%s: %d bytes opened, or none", name, n)
			}
		}
	}
}

func TestSealWithoutRoomPanics(t *testing.T) {
	var key Key
	key.Set(new([KeySize]byte))
	for name, c := range ciphers() {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s sealed into other memory", name)
				}
			}()
			c.Seal([]Op{{Key: &key, Data: make([]byte, 10, 10+Overhead-1)}})
		}()
	}
}

func TestZeroedKeySealsNothing(t *testing.T) {
	var key Key
	if !key.IsZero() {
		t.Error("a new key is not zero")
	}
	key.Set(&[KeySize]byte{1, 2, 3})
	if key.IsZero() {
		t.Error("a set key is zero")
	}
	if text := fmt.Sprintf("%v %+v %x %s %d", &key, &key, &key, &key, &key); text != "(aead key) (aead key) (aead key) (aead key) (aead key)" {
		t.Errorf("printed as %s", text)
	}
	key.Zero()
	if !key.IsZero() {
		t.Error("a zeroed key is not zero")
	}
	for name, c := range ciphers() {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s sealed with a zeroed key", name)
				}
			}()
			c.Seal([]Op{{Key: &key, Data: make([]byte, 0, Overhead)}})
		}()
	}
}

func TestCiphersDoNotAllocate(t *testing.T) {
	var key Key
	key.Set(new([KeySize]byte))
	ops := make([]Op, 64)
	frames := make([][2048]byte, len(ops))
	for name, c := range ciphers() {
		allocs := testing.AllocsPerRun(50, func() {
			for i := range ops {
				ops[i].Key, ops[i].Nonce, ops[i].Data = &key, uint64(i), frames[i][:1000]
			}
			c.Seal(ops)
			c.Open(ops)
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}

func BenchmarkCipher(b *testing.B) {
	for name, c := range ciphers() {
		for _, size := range []int{64, 512, 1420} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				var key Key
				key.Set(new([KeySize]byte))
				ops := make([]Op, 64)
				frames := make([][2048]byte, len(ops))
				b.SetBytes(int64(size * len(ops)))
				b.ReportAllocs()
				for b.Loop() {
					for i := range ops {
						ops[i].Key, ops[i].Data = &key, frames[i][:size]
					}
					c.Seal(ops)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(ops)), "ns/packet")
			})
		}
	}
}
