package liveness

import (
	"testing"
	"time"

	"github.com/sluicegw/sluice/relay/wireguard"
)

// A path through another peer is taken when the direct one fails, and left when that has worked for a while, however fast it is.
func TestADirectPathIsPreferredToOneThroughAnotherPeer(t *testing.T) {
	n := newNetwork(t)
	relayed := radio
	relayed.Via = new(wireguard.Peer)
	n.peer.Paths[1].Endpoint = relayed
	n.rtt[relayed.Remote], n.rtt[fibre.Remote] = 1*ms, 90*ms
	n.p.SetPeers([]Peer{n.peer})
	n.goOn(30 * time.Second)
	n.uses(fibre)
	n.dead[fibre.Remote] = true
	n.goOn(400 * time.Millisecond)
	n.uses(relayed)
	n.dead[fibre.Remote] = false
	n.goOn(9 * time.Second)
	n.uses(relayed)
	n.goOn(3 * time.Second)
	n.uses(fibre)
	n.peer.Paths[1].Priority = 1 // unless the configuration says otherwise
	n.p.SetPeers([]Peer{n.peer})
	n.goOn(11 * time.Second)
	n.uses(relayed)
}
