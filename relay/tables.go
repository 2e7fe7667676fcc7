package relay

import (
	"encoding/binary"
	"net/netip"
)

// addrSet is a set of addresses that is asked once per packet: a small
// open-addressed table for IPv4, a map for IPv6. It never changes once built.
type addrSet struct {
	four []uint32 // 0 is an empty slot; 0.0.0.0 is never ours
	six  map[[16]byte]struct{}
}

func newAddrSet(addrs []netip.Addr) addrSet {
	size := 8
	for size < 2*len(addrs) {
		size *= 2
	}
	s := addrSet{four: make([]uint32, size), six: make(map[[16]byte]struct{})}
	for _, a := range addrs {
		a = a.Unmap()
		switch {
		case !a.IsValid() || a.IsUnspecified():
		case a.Is4():
			four := a.As4()
			key := binary.BigEndian.Uint32(four[:])
			i := int(hash32(key)) & (size - 1)
			for s.four[i] != 0 && s.four[i] != key {
				i = (i + 1) & (size - 1)
			}
			s.four[i] = key
		default:
			s.six[a.As16()] = struct{}{}
		}
	}
	return s
}

// has4 looks the four bytes at b up.
func (s *addrSet) has4(b []byte) bool {
	if len(s.four) == 0 {
		return false
	}
	key, mask := binary.BigEndian.Uint32(b), len(s.four)-1
	for i := int(hash32(key)) & mask; s.four[i] != 0; i = (i + 1) & mask {
		if s.four[i] == key {
			return true
		}
	}
	return false
}

// has6 looks the sixteen bytes at b up.
func (s *addrSet) has6(b []byte) bool {
	_, ok := s.six[[16]byte(b[:16])]
	return ok
}

// hasDst looks the destination of the IP packet b up.
func (s *addrSet) hasDst(version uint8, b []byte) bool {
	if version == 4 {
		return s.has4(b[16:20])
	}
	return s.has6(b[24:40])
}

func hash32(x uint32) uint32 { return x * 0x9e3779b1 >> 16 }

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
