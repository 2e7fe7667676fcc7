package relay

import (
	"encoding/binary"
	"slices"

	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// What fits into a tunnel is known to the kernel as far as our own link and
// routes go, and to control code as far as the WAN behind them goes: it probes
// every peer (SendToPeer) and publishes what it finds, apart from the snapshot,
// because that is no reason to compile anything. Adjacencies are built anew then,
// and all that depends on the figure follows at once: what is too big, cut or
// clamped, and where padding ends.

// SetPeerMTUs publishes the longest inner IP packet that the path to each peer
// carries, by index in Snapshot.Peers; 0, and a peer beyond the end: as the port
// and the kernel's routes allow, which also bounds the others.
func (r *Relay) SetPeerMTUs(mtus []int) {
	if slices.Equal(mtus, *r.mtus.Load()) {
		return
	}
	mtus = slices.Clone(mtus)
	r.mtus.Store(&mtus)
	r.Wake()
}

// narrow holds an adjacency of peer id against what its path carries.
func (w *worker) narrow(a *adjacency, id uint32) {
	a.inner = a.limit - wireguard.Overhead
	if mtus := *w.mtus; int(id) < len(mtus) && mtus[id] > 0 {
		a.inner = min(a.inner, mtus[id])
	}
	if a.state == through {
		a.inner = min(a.inner, w.peers[a.slot].inner-a.headers.overhead()-wireguard.Overhead)
	}
}

// minMTU6 is what every IPv6 link carries (RFC 8200 section 5): no source makes
// its packets smaller for us.
const minMTU6 = 1280

// inPieces says whether a packet that is too long for the tunnel is carried
// nevertheless: an IPv6 packet that every link has to carry is sealed whole and
// its message cut (RFC 2473 section 7.1 b, RFC 4459 section 3.1). The kernel of
// the other side puts it together again; any that runs WireGuard does.
func (w *worker) inPieces(f *frame) bool {
	if f.ip.Version != 6 || f.ip.Len > minMTU6 {
		return false
	}
	f.cut = true
	if w.trace != nil {
		w.trace.note("encap", "too long for the tunnel, but no IPv6 host makes packets shorter than %d bytes: the message is cut", minMTU6)
	}
	return true
}

// maxMessagePieces is in how many pieces a message is cut at most: what carries
// minMTU6 over a path of 576 are three.
const maxMessagePieces = 4

// sendPieces sends a message with its outer headers in fragments of the outer
// packet. The first is the message's own frame; the others the relay has made.
func (w *worker) sendPieces(f *frame, adj *adjacency, v Verdict) {
	if adj.state == through {
		w.wrap(f, adj, v)
		return
	}
	h, b := &adj.headers, f.data()
	most := adj.inner + wireguard.Overhead + h.overhead()
	if len(b)-h.ip <= most { // it has waited, and the path is wider now
		w.send(f, adj.slot, v)
		return
	}
	headers, extension := h.ip+packet.IPv4Len, 0
	if h.six {
		headers, extension = h.ip+packet.IPv6Len, packet.FragmentLen
	}
	size := (most - (headers - h.ip) - extension) &^ 7
	payload := b[headers:]
	if n := (len(payload) + size - 1) / max(size, 1); size < 8 || n > maxMessagePieces || !f.room(extension) {
		w.drop(f, NoRoom)
		return
	}
	w.cutID++
	var pieces [maxMessagePieces]frame
	n := 0
	for at := size; at < len(payload); at += size {
		p := &pieces[n]
		*p = *f
		w.made++
		if !w.alloc(p) {
			w.count(TxFull)
			continue
		}
		n++
		end := min(at+size, len(payload))
		p.off, p.end = f.off, f.off+headers+extension+end-at
		piece := p.data()
		copy(piece, b[:headers])
		copy(piece[headers+extension:], payload[at:end])
		w.putFragment(piece, h, at, end < len(payload))
	}
	f.off, f.end = f.off-extension, f.off+headers+size
	copy(f.data(), b[:headers])
	w.putFragment(f.data(), h, 0, true)
	w.cut++
	w.send(f, adj.slot, v)
	for i := range pieces[:n] {
		w.send(&pieces[i], adj.slot, Originated)
	}
}

// putFragment makes the headers of b, which are those of the whole message, the ones of a fragment.
func (w *worker) putFragment(b []byte, h *template, offset int, more bool) {
	ip := b[h.ip:]
	if h.six {
		packet.PutFragment6(ip, packet.ProtoUDP, offset, more, w.cutID)
		return
	}
	binary.BigEndian.PutUint16(ip[4:6], uint16(w.cutID))
	packet.SetFragment(ip, offset, more)
}
