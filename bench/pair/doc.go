// Package pair measures the path between two of the user's own hosts: one serves,
// the other one runs the measurements. It is what `sluice bench` does, typically
// from a host behind one gateway to a host behind another.
//
// What it finds: the path's MTU, round-trip times, the highest UDP rates without
// loss (NDR) and with at most 0.5 % of it (PDR) by the search of package method, loss,
// duplicates and reordering, the variation of the one-way delay below those rates, and
// the goodput of TCP. What it is not: a generator for line rate. It sends
// through sockets, so on a fast path the hosts are the limit, and the result then says so.
//
// # The protocol
//
// One port, TCP and UDP. The control connection (TCP) carries messages: JSON behind
// a length of four bytes, big endian, each at most maxMessage long. Hello and
// challenge carry Version; sides with different ones part with an error.
//
//	client                           server
//	hello (version, nonce)      →
//	                            ←    challenge (version, nonce, proof of the token)
//	prove (proof of the token)  →
//	                            ←    welcome (limits, host)
//	one request after the other ↔    ready, counts, sent, failed
//
// The proof is HMAC-SHA256, keyed with the token, over both nonces and the sender's role: the
// token itself never crosses the network, and neither side talks to one that does not
// know it. What follows is not encrypted: whoever can change packets on the path can
// change the figures.
//
// UDP packets carry a tag derived from the token and the nonces, and the server has UDP
// sockets only while a session lasts. It sends nothing to an address other than that
// of the control connection, and there only to ports that showed the tag; it answers an
// echo with as many bytes as came; when the control connection ends, everything ends. So it
// cannot be made to send to others, or more than it was asked for by who holds the token.
// Rates, sizes and times have limits on both sides.
//
// Clocks of the two hosts need not agree: round trips are taken on one of them, and of
// one-way delays only the variation is reported: by how much a packet's delay exceeds the least one of
// its trial (RFC 5481, PDV). In the seconds of a trial clocks drift apart by some microseconds.
//
// A Server and a Client are used by one goroutine each. Nothing runs after Serve or Run return.
//
//	server := pair.Server{Token: token, Limits: pair.DefaultLimits()}
//	go server.Serve(ctx, listener)
//	result, err := pair.Run(ctx, "172.16.2.10:7411", token, pair.Options{})
package pair
