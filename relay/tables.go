package relay

import (
	"encoding/binary"
	"net/netip"
)

// addrSet is a set of addresses that is asked for every packet: two small
// open-addressed tables, which never change once built. The unspecified address
// is never ours and marks an empty slot.
type addrSet struct {
	four []uint32
	six  [][2]uint64
}

func newAddrSet(addrs []netip.Addr) addrSet {
	size := 8
	for size < 2*len(addrs) {
		size *= 2
	}
	s := addrSet{four: make([]uint32, size), six: make([][2]uint64, size)}
	for _, a := range addrs {
		a = a.Unmap()
		switch {
		case !a.IsValid() || a.IsUnspecified():
		case a.Is4():
			four := a.As4()
			key := binary.BigEndian.Uint32(four[:])
			i := slot4(key, size)
			for s.four[i] != 0 && s.four[i] != key {
				i = (i + 1) & (size - 1)
			}
			s.four[i] = key
		default:
			six := a.As16()
			key := [2]uint64{binary.BigEndian.Uint64(six[:8]), binary.BigEndian.Uint64(six[8:])}
			i := slot6(key[0], key[1], size)
			for s.six[i] != [2]uint64{} && s.six[i] != key {
				i = (i + 1) & (size - 1)
			}
			s.six[i] = key
		}
	}
	return s
}

// has4 looks the four bytes at b up.
func (s *addrSet) has4(b []byte) bool {
	key, mask := binary.BigEndian.Uint32(b), len(s.four)-1
	for i := slot4(key, len(s.four)); i&mask < len(s.four); i++ {
		switch s.four[i&mask] {
		case 0:
			return false
		case key:
			return true
		}
	}
	return false
}

// has6 looks the sixteen bytes at b up.
func (s *addrSet) has6(b []byte) bool {
	hi, lo, mask := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), len(s.six)-1
	for i := slot6(hi, lo, len(s.six)); i&mask < len(s.six); i++ {
		switch e := &s.six[i&mask]; {
		case e[0]|e[1] == 0:
			return false
		case e[0] == hi && e[1] == lo:
			return true
		}
	}
	return false
}

// has looks an address up, of which an invalid one is never there.
func (s *addrSet) has(a netip.Addr) bool {
	switch {
	case a.Is4():
		b := a.As4()
		return s.has4(b[:])
	case a.Is6():
		b := a.As16()
		return s.has6(b[:])
	}
	return false
}

// hasDst looks the destination of the IP packet b up.
func (s *addrSet) hasDst(version uint8, b []byte) bool {
	if version == 4 {
		return s.has4(b[16:20])
	}
	return s.has6(b[24:40])
}

// slot4 and slot6 are where the search for an address begins in a table of size
// slots.
func slot4(key uint32, size int) int { return int(key*0x9e3779b1>>16) & (size - 1) }

func slot6(hi, lo uint64, size int) int {
	return int((hi*0xbb67ae8584caa73b^lo)*0x9e3779b97f4a7c15>>40) & (size - 1)
}

// numberMap maps 64-bit keys to small numbers: open addressing over a table
// that never changes once built. Slot keys are key+1, so that 0 is empty.
type numberMap struct {
	keys   []uint64
	values []int32
}

func newNumberMap(pairs map[uint64]int32) numberMap {
	size := 8
	for size < 2*len(pairs) {
		size *= 2
	}
	m := numberMap{keys: make([]uint64, size), values: make([]int32, size)}
	for k, v := range pairs {
		i := m.slot(k)
		for m.keys[i] != 0 {
			i = (i + 1) & (size - 1)
		}
		m.keys[i], m.values[i] = k+1, v
	}
	return m
}

func (m *numberMap) slot(k uint64) int { return int(k*0x9e3779b97f4a7c15>>40) & (len(m.keys) - 1) }

// find returns the number of k, or -1.
func (m *numberMap) find(k uint64) int32 {
	if len(m.keys) == 0 {
		return -1
	}
	for i := m.slot(k); m.keys[i] != 0; i = (i + 1) & (len(m.keys) - 1) {
		if m.keys[i] == k+1 {
			return m.values[i]
		}
	}
	return -1
}
