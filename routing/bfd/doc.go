// Package bfd watches whether routers on the same link live: the asynchronous
// mode of BFD (RFC 5880) over one hop (RFC 5881), without authentication, echo
// or demand.
//
// It is GoBGP's packet format with a state machine of our own, because GoBGP's
// takes a router that begins its session anew for a dead one (FRR does so
// whenever BGP comes up), ends the BGP session, and starts over.
//
// A Watcher owns the sessions of one interface: two sockets and two goroutines.
// machine.go is the state of one session, without clock or sockets.
package bfd
