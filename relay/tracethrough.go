package relay

import (
	"net/netip"

	"github.com/sluicegw/sluice/relay/wireguard"
)

// traceSealThrough is traceSeal for messages that are sealed again for a peer between.
func (w *worker) traceSealThrough() {
	for i := range w.doubled.sealing {
		p := &w.doubled.sealing[i]
		name := w.trace.snapshot.Peers[w.doubled.out[i].between].Name
		if p.Peer.Status().Session {
			w.trace.note("seal", "the message is sealed again, with the session with peer %s, which passes it on", name)
		} else {
			w.trace.note("seal", "there is no session with peer %s, through which the message would go", name)
		}
		p.Buf = p.Buf[:len(p.Buf)-wireguard.HeaderSize+wireguard.Overhead]
		p.Result = wireguard.OK
	}
}

// passage notes whom a message of a peer is for, and whether it may pass.
func (t *trace) passage(from uint32, dst netip.Addr, p passage, ok bool) {
	if !ok {
		t.note("relay", "%v is the tunnel address of a peer; peer %s may not send to it through us", dst, t.snapshot.Peers[from].Name)
		return
	}
	t.note("relay", "%v is the tunnel address of peer %s; peer %s may send sealed messages to it through us", dst, t.snapshot.Peers[p.to].Name, t.snapshot.Peers[from].Name)
}
