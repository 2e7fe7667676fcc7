package aead

import (
	"bytes"
	"encoding/binary"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
)

// vectors is avx512 without its way out to Generic for a few short packets.
type vectors struct{}

func (vectors) Seal(ops []Op) {
	for part := range slices.Chunk(ops, partPackets) {
		sealPart(part)
	}
}

func (vectors) Open(ops []Op) {
	for part := range slices.Chunk(ops, partPackets) {
		openPart(part)
	}
}

func vectorCiphers() map[string]Cipher {
	if !hasAVX512() {
		return nil
	}
	return map[string]Cipher{"avx512": avx512{}, "vectors": vectors{}}
}

func needAVX512(t *testing.T) {
	if !hasAVX512() {
		t.Skip("this CPU has no AVX-512 IFMA")
	}
}

func TestChooseFallsBackToGeneric(t *testing.T) {
	if c := choose(false); c != Generic() {
		t.Errorf("without AVX-512: %T", c)
	}
	if c := choose(true); c != (avx512{}) {
		t.Errorf("with AVX-512: %T", c)
	}
	if c := Best(); c != choose(hasAVX512()) {
		t.Errorf("here: %T", c)
	}
}

// The vectors of RFC 8439 whose nonce begins with four zero bytes.
func TestChaCha20AgreesWithRFC8439(t *testing.T) {
	needAVX512(t)
	sunscreen := []byte("Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.")
	for _, c := range []struct {
		section string
		key     string
		nonce   string // without the four zero bytes
		counter uint64
		plain   []byte
		want    string
	}{
		{"2.4.2", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "0000004a00000000", 1, sunscreen,
			"6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0b" +
				"f91b65c5524733ab8f593dabcd62b3571639d624e65152ab8f530c359f0861d8" +
				"07ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab7793736" +
				"5af90bbf74a35be6b40b8eedf2785e42874d"},
		{"2.6.2", "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", "0001020304050607", 0, make([]byte, 32),
			"8ad5a08b905f81cc815040274ab29471a833b637e3fd0da508dbb8e2fdd1a646"},
		{"A.1, vector 1", "0000000000000000000000000000000000000000000000000000000000000000", "0000000000000000", 0, make([]byte, 64),
			"76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7" +
				"da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"},
	} {
		data := slices.Clone(c.plain)
		key := [KeySize]byte(unhex(c.key))
		jobs := []job{{key: &key, nonce: binary.LittleEndian.Uint64(unhex(c.nonce)), data: &data[0], n: len(data), counter: c.counter}}
		if chacha16(&jobs[0], 1); !bytes.Equal(data, unhex(c.want)) {
			t.Errorf("section %s:\ngot  %x\nwant %s", c.section, data, c.want)
		}
	}
}

// tag runs the core for one packet in the given place of eight; the other places
// hold noise.
func tag(r *rand.Rand, place int, key [32]byte, data []byte) []byte {
	var keys [8][32]byte
	var tags [8][Overhead]byte
	jobs := make([]job, 8)
	for i := range jobs {
		noise := make([]byte, 1+r.IntN(600))
		fill(r, keys[i][:])
		fill(r, noise)
		jobs[i] = job{data: &noise[0], n: len(noise)}
	}
	data = append(make([]byte, 0, len(data)+1), data...) // so that there is an address
	keys[place], jobs[place] = key, job{data: &data[:1][0], n: len(data)}
	n := place + 1 + r.IntN(8-place)
	poly8(&jobs[0], n, &keys, &tags)
	if keys != [8][32]byte{} {
		panic("keys are still there")
	}
	return tags[place][:]
}

// authenticated is what the AEAD gives to Poly1305.
func authenticated(data []byte) []byte {
	m := append(slices.Clone(data), make([]byte, -len(data)&15+8)...)
	return binary.LittleEndian.AppendUint64(m, uint64(len(data)))
}

func TestPoly1305OfExtremeNumbers(t *testing.T) {
	needAVX512(t)
	r := rand.New(rand.NewPCG(3, 4))
	half := func(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }
	one := append([]byte{1}, half(0, 15)...)
	four := append([]byte{4}, half(0, 15)...)
	top := append(half(0, 12), 0xfc, 0xff, 0xff, 0x0f)
	for nr, rr := range [][]byte{half(0, 16), one, four, top, half(0xff, 16)} {
		for ns, s := range [][]byte{half(0, 16), one, half(0xff, 16)} {
			key := [32]byte(slices.Concat(rr, s))
			for _, b := range []byte{0, 1, 0x7f, 0x80, 0xfb, 0xff} {
				for _, n := range []int{0, 1, 15, 16, 17, 32, 48, 64, 96, 112, 113, 127, 128, 129, 240, 256, 368, 384, 400, 512, 640, 1024, 1500, 4096, 9000} {
					data := half(b, n)
					if got, want := tag(r, n&7, key, data), slowPoly1305(key, authenticated(data)); !bytes.Equal(got, want) {
						t.Fatalf("r %d, s %d, %d times %#x: got %x, want %x", nr, ns, n, b, got, want)
					}
				}
			}
		}
	}
}

// The last data block is chosen so that the polynomial comes out next to the
// numbers where the reduction could go wrong: multiples of p and of powers of two.
func TestPoly1305NextToItsPrime(t *testing.T) {
	needAVX512(t)
	r := rand.New(rand.NewPCG(5, 6))
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 130), big.NewInt(5))
	number := func(b []byte) *big.Int {
		b = slices.Clone(b)
		slices.Reverse(b)
		return new(big.Int).SetBytes(b)
	}
	var targets []*big.Int
	for _, bit := range []uint{0, 44, 64, 88, 128, 129, 130} {
		for d := int64(-6); d <= 6; d++ {
			x := new(big.Int).Lsh(big.NewInt(1), bit)
			targets = append(targets, x.Mod(x.Add(x, big.NewInt(d)), p))
		}
	}
	for _, blocks := range []int{1, 2, 7, 8, 9, 23, 24, 31, 32, 33, 47, 88} {
		for _, target := range targets {
			found := false
			for range 200 { // one in four has a solution of 128 bits
				var key [32]byte
				fill(r, key[:16])
				if r.IntN(2) == 0 {
					for i := range 16 {
						key[16+i] = 0xff
					}
				}
				data := make([]byte, 16*blocks)
				fill(r, data)
				clamped := slices.Clone(key[:16])
				for i, m := range []byte{255, 255, 255, 15, 252, 255, 255, 15, 252, 255, 255, 15, 252, 255, 255, 15} {
					clamped[i] &= m
				}
				rr := number(clamped)
				inverse := new(big.Int).ModInverse(rr, p)
				acc := new(big.Int)
				for block := range slices.Chunk(data[:16*(blocks-1)], 16) {
					acc.Add(acc, number(append(slices.Clone(block), 1)))
					acc.Mod(acc.Mul(acc, rr), p)
				}
				// target = ((acc + last)*r + length)*r
				length := number(append(authenticated(data)[len(data):], 1))
				last := new(big.Int).Mul(target, inverse)
				last.Mul(last.Sub(last, length), inverse)
				last.Mod(last.Sub(last, acc), p)
				if last.Sub(last, new(big.Int).Lsh(big.NewInt(1), 128)); last.Sign() < 0 || last.BitLen() > 128 {
					continue
				}
				found = true
				last.FillBytes(data[16*(blocks-1):])
				slices.Reverse(data[16*(blocks-1):])
				want := slowPoly1305(key, authenticated(data))
				sum := new(big.Int).Add(target, number(key[16:]))
				if sum.Sub(sum, number(want)).TrailingZeroBits() < 128 && sum.Sign() != 0 {
					t.Fatalf("the twin does not reach %v", target)
				}
				if got := tag(r, r.IntN(8), key, data); !bytes.Equal(got, want) {
					t.Fatalf("%d blocks, target %v: got %x, want %x", blocks, target, got, want)
				}
				break
			}
			if !found {
				t.Fatalf("%d blocks, target %v: no packet found", blocks, target)
			}
		}
	}
}

func TestPoly1305OfRandomNumbers(t *testing.T) {
	needAVX512(t)
	r := rand.New(rand.NewPCG(7, 8))
	for n := range 1600 {
		var key [32]byte
		fill(r, key[:])
		data := make([]byte, n)
		fill(r, data)
		for i := range data { // runs of ones and zeros more often than chance has it
			if data[i] < 64 {
				data[i] = 0xff
			} else if data[i] > 224 {
				data[i] = 0
			}
		}
		if got, want := tag(r, r.IntN(8), key, data), slowPoly1305(key, authenticated(data)); !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: got %x, want %x", n, got, want)
		}
	}
}

// The block counter has 32 bits; no packet comes near, but the lanes must not
// carry into each other.
func TestCountersOfLanesAreIndependent(t *testing.T) {
	needAVX512(t)
	var key [KeySize]byte
	all, single := make([]byte, 40*64), make([]byte, 40*64)
	jobs := []job{{key: &key, data: &all[0], n: len(all), counter: 0xffffffff - 40}}
	chacha16(&jobs[0], 1)
	for i := range 40 {
		jobs[0] = job{key: &key, data: &single[i*64], n: 64, counter: 0xffffffff - 40 + uint64(i)}
		chacha16(&jobs[0], 1)
	}
	if !bytes.Equal(all, single) {
		t.Error("blocks of one job and blocks one by one differ")
	}
}

func TestJobsMayBeEmpty(t *testing.T) {
	needAVX512(t)
	var key [KeySize]byte
	for count := range 5 {
		for first := range 3 {
			data := make([]byte, 70)
			jobs := make([]job, 8)
			for i := range jobs {
				jobs[i] = job{key: &key}
			}
			if first < count {
				jobs[first] = job{key: &key, data: &data[0], n: len(data)}
			}
			chacha16(&jobs[0], count)
			if changed := !bytes.Equal(data, make([]byte, 70)); changed != (first < count) {
				t.Errorf("%d jobs, the data in number %d: changed %v", count, first, changed)
			}
		}
	}
}
