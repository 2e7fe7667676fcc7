package aead

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/cpu"
)

// avx512 seals and opens several packets at once: ChaCha20 with one block in
// each vector lane, the blocks of all packets one after the other
// (chacha20_amd64.s), and Poly1305 with the 52-bit multiplier
// (poly1305_amd64.s).
//
// It has no state. All scratch memory is on the stack of the caller: one-time
// keys and tags in the frames below, powers of a one-time key in the frame of
// poly8; they are overwritten before a call returns, and so are the vector
// registers. What is out of reach: registers that the kernel saved, and a stack
// that the garbage collector shrinks in the middle of a batch.
//
// What it does, and which memory it touches, depends on the number of packets,
// their lengths and the verdicts of Open, never on keys or bytes.
type avx512 struct{}

// hasAVX512 tells whether this CPU and this kernel can run avx512: besides
// AVX-512 F, BW, VL and IFMA it takes the shifts and bit operations of BMI.
func hasAVX512() bool {
	x := &cpu.X86
	return x.HasAVX512F && x.HasAVX512BW && x.HasAVX512VL && x.HasAVX512IFMA && x.HasBMI1 && x.HasBMI2
}

// job is a piece of work for the assembly: XOR the key stream of key and nonce,
// from block counter on, into n bytes at data; or authenticate n bytes at data.
type job struct {
	key     *[KeySize]byte
	nonce   uint64
	data    *byte
	n       int
	counter uint64 // below 2^32
}

// chacha16 does the jobs. The last bytes of a job may be in the same 64 bytes as
// the start of another, but jobs must not overlap.
//
//go:noescape
func chacha16(jobs *job, n int)

// poly8 computes the tags of n jobs, 1 to 8, and overwrites keys with zeros.
// Tags from the n-th on are garbage.
//
//go:noescape
func poly8(jobs *job, n int, keys *[8][32]byte, tags *[8][Overhead]byte)

const (
	// A part of a batch is done in one go: enough packets to fill all lanes even
	// when packets are short (a part of mixed lengths wastes eight lanes of
	// chacha20 on average), few enough bytes that Poly1305 finds in the first
	// level cache what ChaCha20 left there.
	partPackets = 32
	partBytes   = 12 << 10 // after 16 packets

	// With more packets than this, avx512 is faster than Generic whatever their
	// lengths are.
	fewPackets = 4
)

// scratch is what one part needs. It points into itself: only the function that
// declares it may write down such a pointer, or it would move to the heap.
type scratch struct {
	keys [partPackets][32]byte // one-time Poly1305 keys
	tags [partPackets][Overhead]byte
	jobs [2 * partPackets]job // keys first, then data
}

// part returns how many of ops to do in one go.
func part(ops []Op) int {
	n := min(len(ops), partPackets)
	if n <= partPackets/2 {
		return n
	}
	bytes := 0
	for i := range partPackets / 2 {
		bytes += len(ops[i].Data)
	}
	if bytes > partBytes {
		return partPackets / 2
	}
	return n
}

// few tells whether Generic is faster for a part: its time goes with the packets
// and the bytes, that of avx512 with the groups of sixteen blocks, however few of
// the lanes have work. The numbers are nanoseconds measured with batches of one to
// four packets of 16 to 1420 bytes (Emerald Rapids, 3.9 GHz); only their ratios
// matter.
func few(ops []Op, open bool) bool {
	if len(ops) > fewPackets {
		return false
	}
	bytes, blocks := 0, 0
	for i := range ops {
		n := len(ops[i].Data)
		bytes += n
		blocks += (n + 63) / 64
	}
	generic := 125*len(ops) + bytes*27/64
	vectors := 205 + bytes/16
	if open {
		// The one-time keys have a group of their own, and a call.
		vectors += 75 + 175*(1+(blocks+15)/16)
	} else {
		vectors += 175 * ((len(ops) + blocks + 15) / 16)
	}
	return generic < vectors
}

// vectorKey returns the bytes of a key that was set.
func (k *Key) vectorKey() *[KeySize]byte {
	if k.aead == nil {
		panic("aead: key is not set")
	}
	return &k.raw
}

// authenticate computes the tags of the data jobs.
func (s *scratch) authenticate(n int) {
	for i := 0; i < n; i += 8 {
		poly8(&s.jobs[n+i], min(n-i, 8), (*[8][32]byte)(s.keys[i:]), (*[8][Overhead]byte)(s.tags[i:]))
	}
}

func (avx512) Seal(ops []Op) {
	for len(ops) > 0 {
		n := part(ops)
		if few(ops[:n], false) {
			Generic().Seal(ops[:n])
		} else {
			sealPart(ops[:n])
		}
		ops = ops[n:]
	}
}

func sealPart(ops []Op) {
	var s scratch
	for i := range ops {
		op := &ops[i]
		if cap(op.Data)-len(op.Data) < Overhead {
			panic("aead: no room for the tag behind the data")
		}
		key := op.Key.vectorKey()
		d := len(ops) + i
		s.jobs[i].key, s.jobs[d].key = key, key
		s.jobs[i].nonce, s.jobs[d].nonce = op.Nonce, op.Nonce
		s.jobs[i].data, s.jobs[d].data = &s.keys[i][0], unsafe.SliceData(op.Data)
		s.jobs[i].n, s.jobs[d].n = len(s.keys[i]), len(op.Data)
		s.jobs[d].counter = 1
	}
	chacha16(&s.jobs[0], 2*len(ops))
	s.authenticate(len(ops))
	for i := range ops {
		op := &ops[i]
		n := len(op.Data)
		op.Data = op.Data[:n+Overhead]
		copy(op.Data[n:], s.tags[i][:])
	}
	clear(s.tags[:])
}

func (avx512) Open(ops []Op) {
	for len(ops) > 0 {
		n := part(ops)
		if few(ops[:n], true) {
			Generic().Open(ops[:n])
		} else {
			openPart(ops[:n])
		}
		ops = ops[n:]
	}
}

func openPart(ops []Op) {
	var s scratch
	for i := range ops {
		op := &ops[i]
		key := op.Key.vectorKey()
		d := len(ops) + i
		s.jobs[i].key, s.jobs[d].key = key, key
		s.jobs[i].nonce, s.jobs[d].nonce = op.Nonce, op.Nonce
		s.jobs[i].data, s.jobs[d].data = &s.keys[i][0], unsafe.SliceData(op.Data)
		s.jobs[i].n, s.jobs[d].n = len(s.keys[i]), max(len(op.Data)-Overhead, 0)
		s.jobs[d].counter = 1
	}
	chacha16(&s.jobs[0], len(ops))
	s.authenticate(len(ops))

	// Only what is authentic is decrypted: the jobs of the others are dropped.
	good := 0
	jobs := s.jobs[len(ops):]
	for i := range ops {
		op := &ops[i]
		op.OK = false
		n := len(op.Data) - Overhead
		if n < 0 {
			continue
		}
		// All bytes are compared, wherever the first difference is.
		tag, want := op.Data[n:], s.tags[i][:]
		diff := binary.LittleEndian.Uint64(tag) ^ binary.LittleEndian.Uint64(want)
		diff |= binary.LittleEndian.Uint64(tag[8:]) ^ binary.LittleEndian.Uint64(want[8:])
		if diff != 0 {
			continue
		}
		op.OK = true
		op.Data = op.Data[:n]
		jobs[good] = jobs[i]
		good++
	}
	chacha16(&jobs[0], good)
	clear(s.tags[:])
}
