// Package liveness finds out which peers are alive: it sends echo requests
// inside each tunnel, through the data path, and a peer is alive for as long as
// answers come back. On the way it measures the round trip, its jitter and the loss.
//
// A peer that has never answered is of unknown state, and nothing is held against
// it: any WireGuard implementation may be the peer, and need not answer.
//
// One goroutine (Run) serves all peers, from a heap of who is due next. machine.go
// is the state of one peer, without clock or sockets.
package liveness
