package relay

import (
	"github.com/sluicegw/sluice/internal/packet"
)

// origin says where a packet came from.
type origin uint8

const (
	fromSite    origin = iota // an attachment
	fromPeer                  // a tunnel
	fromKernel                // the host's own kernel, through the TUN device
	fromRelay                 // this relay made it
	fromEngine                // the WireGuard engine made it
	fromControl               // control code made it, for a peer
	fromProbe                 // the same, or an answer to a peer: see PeerPacket.Probe
	fromTransit               // a sealed message of one peer for another
)

// frame is a packet on its way through the stages: a UMEM chunk, the part of
// it that is the packet right now, and what earlier stages found out.
type frame struct {
	chunk    []byte // borrowed: the whole UMEM chunk, until the verdict
	base     uint64 // of the chunk in the UMEM
	start    int    // of the Ethernet header as received
	off, end int    // the packet is chunk[off:end]; stages move both

	ip   packet.IP // of the inner packet, once classified
	flow uint32    // its flow hash, once hashed
	vpc  int32     // index, once known
	peer uint32    // fromPeer: who sent it; sealing: for whom
	slot int32     // index of the queue it came in through

	route  uint32 // counter of the route to the destination, once looked up
	source uint32 // counter of the route back to the source; 0: not looked up

	origin   origin
	tos      uint8 // of the outermost header that was taken off
	cut      bool  // the message around it is sent in pieces, or through another peer
	flooded  bool  // to a multicast group, for one of several receivers
	critical bool  // one of the options below is marked critical
	options  int   // Geneve options to carry on: chunk[options:options+optionsLen]
	optsLen  int
	inner    int   // sealing: where the inner packet starts, to undo the encapsulation
	deadline int64 // once it was parked: when its time is over
	long     int32 // 1 + the number of the long buffer that chunk is (long.go); 0: chunk is a UMEM frame
}

// reset makes f the packet of this length at offset off of chunk. What a stage
// reads before another has written it is reset here, field by field: clearing the
// whole frame costs more than classifying it.
func (f *frame) reset(chunk []byte, base uint64, off, length, slot int) {
	f.chunk, f.base, f.long = chunk, base, 0
	f.start, f.off, f.end = off, off, off+length
	f.slot, f.vpc, f.origin, f.tos = int32(slot), -1, fromSite, 0
	f.optsLen, f.critical, f.cut, f.flooded, f.deadline, f.source = 0, false, false, false, 0, 0
}

// data is the packet as it is now.
func (f *frame) data() []byte { return f.chunk[f.off:f.end] }

// carried is the Geneve options that came with the packet.
func (f *frame) carried() []byte {
	if f.optsLen == 0 {
		return nil // options may be an offset of an earlier packet
	}
	return f.chunk[f.options : f.options+f.optsLen]
}

// room says whether n bytes can be put in front.
func (f *frame) room(n int) bool { return f.off >= n }
