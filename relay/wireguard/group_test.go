package wireguard

import (
	"math/rand/v2"
	"testing"
)

// However peers' IDs share slots, the packets of a batch are grouped as a map would group them.
func TestPacketsAreGroupedByPeerWhateverTheirIDs(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	peers := make([]*Peer, 2*BatchSize)
	for i := range peers {
		peers[i] = new(Peer)
		peers[i].id.Store(uint32(random.IntN(4)*groupSlots + random.IntN(8))) // many with one ID, and with one slot
	}
	var b Batch
	pkts := make([]Packet, BatchSize)
	for round := range 200 {
		several := 1 + random.IntN(len(peers))
		for i := range pkts {
			pkts[i] = Packet{Buf: make([]byte, HeaderSize, 256), Peer: peers[random.IntN(several)]}
		}
		want := make(map[*Peer]int)
		groups := b.groupByPeer(pkts)
		for i := range pkts {
			p := pkts[i].Peer
			want[p]++
			if got := groups[b.of[i]].peer; got != p {
				t.Fatalf("round %d: packet %d is in the group of another peer", round, i)
			}
		}
		if len(groups) != len(want) {
			t.Fatalf("round %d: %d groups of %d peers", round, len(groups), len(want))
		}
		for i := range groups {
			if groups[i].packets != want[groups[i].peer] {
				t.Fatalf("round %d: group %d has %d packets, its peer %d", round, i, groups[i].packets, want[groups[i].peer])
			}
		}
	}
}

// The same of receiver indexes, none of which has a session here: each has its own group all the same.
func TestMessagesAreGroupedByReceiverIndexWhateverItsSlot(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	d := new(Device)
	d.index.init()
	b := d.NewBatch()
	pkts := make([]Packet, BatchSize)
	for round := range 200 {
		want := make(map[uint32]bool)
		for i := range pkts {
			index := uint32(random.IntN(4)*groupSlots + random.IntN(8))
			want[index] = true
			m := make([]byte, Overhead)
			m[0], m[4], m[5], m[6] = 4, byte(index), byte(index>>8), byte(index>>16)
			pkts[i] = Packet{Buf: m}
		}
		if groups, _ := b.groupBySession(pkts, 0); len(groups) != len(want) {
			t.Fatalf("round %d: %d groups of %d indexes", round, len(groups), len(want))
		}
	}
}
