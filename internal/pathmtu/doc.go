// Package pathmtu finds out what the path to each peer carries, by probes inside
// the tunnel (DPLPMTUD, RFC 8899): a WAN that drops long packets and tells nobody
// is found, whatever it is made of, and so is one that changes.
//
// A probe is an ICMP echo request from our tunnel address to the peer's, of the size
// in question. Any WireGuard implementation answers it: the kernel behind a Linux
// peer does. The answer is as long as the request, so what is found is what the path
// carries both ways. A peer that answers no probe, however short, tells nothing, and
// nothing is changed on its account.
//
// search.go is the state machine of one peer, without clock or network; prober.go
// runs those of all peers on one goroutine, and publishes what they find. It is not
// on the path of any packet.
package pathmtu
