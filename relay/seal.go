package relay

import (
	"github.com/sluicegw/sluice/relay/wireguard"
)

// sealAll seals what encap has collected, puts the outer headers in front and
// queues the messages for sending.
func (w *worker) sealAll() {
	if len(w.sealing) == 0 {
		return
	}
	if w.trace == nil {
		w.batch.Seal(w.sealPackets, w.now)
	} else {
		w.traceSeal()
	}
	w.sendingToPeer = true
	for i, f := range w.sealing {
		w.sealed(f, &w.sealPackets[i])
	}
	w.sendingToPeer = false
	w.sealing, w.sealPackets = w.sealing[:0], w.sealPackets[:0]
	if len(w.doubled.out) > 0 {
		w.sealThrough()
	}
}

func (w *worker) sealed(f *frame, p *wireguard.Packet) {
	switch p.Result {
	case wireguard.OK:
	case wireguard.NoSession, wireguard.Expired:
		f.off, f.end = f.inner, f.inner+f.ip.Len // Seal left the bytes alone
		if f.origin == fromProbe {
			w.drop(f, NoSession)
			return
		}
		w.parkForSession(f)
		return
	case wireguard.NoPeer:
		w.drop(f, NoPeer)
		return
	default:
		w.drop(f, NoRoom)
		return
	}
	f.off -= wireguard.HeaderSize
	f.end = f.off + len(p.Buf)
	v := ToPeer
	if f.origin > fromPeer {
		switch v = Originated; f.origin {
		case fromKernel:
			v = KernelSent
		case fromTransit:
			v = PassedOn
		}
	} else {
		w.vpcCount(f).toPeer(f.ip.Len)
		w.routeCount(f)
	}
	w.outer(f, &w.peers[f.peer].adjacency, f.ip.TOS, v)
}

// outer puts an adjacency's headers in front of a UDP payload and sends it.
func (w *worker) outer(f *frame, adj *adjacency, tos uint8, v Verdict) {
	if !f.room(adj.headers.len) {
		w.drop(f, NoRoom)
		return
	}
	f.off -= adj.headers.len
	adj.headers.put(f.data(), tos, f.flow, 0, nil)
	if f.cut {
		w.sendPieces(f, adj, v)
		return
	}
	w.send(f, adj.slot, v)
}
