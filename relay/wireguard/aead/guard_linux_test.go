package aead

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// fenced returns pages of memory between two pages that nobody may touch.
func fenced(t *testing.T, pages int) []byte {
	size := os.Getpagesize()
	all, err := unix.Mmap(-1, 0, (pages+2)*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(all); err != nil {
			t.Error(err)
		}
	})
	for _, page := range [][]byte{all[:size], all[len(all)-size:]} {
		if err := unix.Mprotect(page, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	return all[size : len(all)-size : len(all)-size]
}

// A byte read or written before the first or behind the last of a packet and its
// tag ends this test with SIGSEGV.
func TestNothingOutsideOfAPacketIsTouched(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	keys := randomKeys(r, 1)
	var lengths []int
	for n := range 700 {
		lengths = append(lengths, n)
	}
	lengths = append(lengths, 1023, 1024, 1025, 1419, 1420, 1421, 1500, 2047, 2048, 4000, 8999, 9000)
	for name, c := range ciphers() {
		t.Run(name, func(t *testing.T) {
			low, high := fenced(t, 3), fenced(t, 3)
			for _, n := range lengths {
				whole := n + Overhead
				plain := make([]byte, n)
				fill(r, plain)
				want := []Op{{Key: &keys[0], Nonce: 3, Data: append(make([]byte, 0, whole), plain...)}}
				Generic().Seal(want)
				// One at the very start of its pages, one at the very end.
				ops := []Op{
					{Key: &keys[0], Nonce: 3, Data: low[:n:whole]},
					{Key: &keys[0], Nonce: 3, Data: high[len(high)-whole : len(high)-Overhead]},
				}
				for i := range ops {
					copy(ops[i].Data, plain)
				}
				c.Seal(ops)
				for i := range ops {
					if !bytes.Equal(ops[i].Data, want[0].Data) {
						t.Fatalf("%d bytes: sealed differently", n)
					}
				}
				c.Open(ops)
				for i := range ops {
					if !ops[i].OK || !bytes.Equal(ops[i].Data, plain) {
						t.Fatalf("%d bytes: opened differently", n)
					}
				}
			}
		})
	}
}
