package relay

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

func TestASetOfAddressesHasWhatAMapHas(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	// Few enough to meet again, close enough to collide.
	four := func() netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(random.IntN(4)), byte(random.IntN(64))}) }
	six := func() netip.Addr {
		return netip.AddrFrom16([16]byte{0: 0xfd, 7: byte(random.IntN(4)), 15: byte(random.IntN(64))})
	}
	for size := range 200 {
		addrs := []netip.Addr{{}, netip.IPv4Unspecified(), netip.IPv6Unspecified()}
		has := make(map[netip.Addr]bool)
		for range size {
			for _, a := range []netip.Addr{four(), six()} {
				addrs = append(addrs, a)
				has[a] = true
			}
		}
		set := newAddrSet(addrs)
		for range 200 {
			if a := four(); set.has4(a.AsSlice()) != has[a] {
				t.Fatalf("%v among %d: %v", a, size, !has[a])
			}
			if a := six(); set.has6(a.AsSlice()) != has[a] {
				t.Fatalf("%v among %d: %v", a, size, !has[a])
			}
		}
		if set.has4(make([]byte, 4)) || set.has6(make([]byte, 16)) {
			t.Fatal("the unspecified address is in the set")
		}
	}
}
