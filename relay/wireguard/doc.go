// Package wireguard speaks the WireGuard protocol (whitepaper of 2020-06-01;
// wireguard.com/protocol): handshakes in both roles, sessions, timers, cookies,
// roaming, and transport messages in batches. Any WireGuard can be the peer.
//
// It is not a tunnel: it has no interface, no sockets and no allowed IPs. The
// caller moves datagrams, and checks that the inner source address of an opened
// packet belongs to its Peer.
//
// # Parts
//
// The Noise handshake is github.com/flynn/noise; cookies, the limit on
// handshakes per source and timestamps are those of golang.zx2c4.com/wireguard.
// Sessions, timers and the transport path are ours.
//
// # Goroutines
//
// One engine goroutine (Device.Run) does handshakes and timers, at a tick of
// 100 ms. Any number of workers seal and open with a Batch each, and hand
// handshake messages over with Device.Receive. Everything else may be called
// by any goroutine, also from within Options.Send. Locks, in order: Device.mu
// (engine and control; never workers), then one session.mu at a time (workers:
// for reading, all of a batch's), then Peer.keys, session.replayMu or
// Device.graveMu, which are leaves.
//
// # Memory
//
// Packets are sealed and opened in place in memory that the caller owns and that
// is borrowed for the call. Receive copies. Datagram.Data is made for the
// receiver of the call and is his.
//
//	d, err := wireguard.New(wireguard.Options{PrivateKey: key, Send: send})
//	peer, err := d.SetPeer(wireguard.PeerConfig{PublicKey: public, Endpoint: e})
//	go d.Run(ctx)
//	...
//	b := d.NewBatch() // per worker
//	pkts := []wireguard.Packet{{Buf: frame[room-wireguard.HeaderSize : room+n], Peer: peer}}
//	b.Seal(pkts, d.Clock()) // pkts[0].Buf is now the message, if Result is OK
//
// # Secrets
//
// Session keys are zeroed when their session ends, ephemeral and static keys when
// they are replaced, all of them when Run returns. That reaches the memory of
// this package. It does not reach, and only the garbage collector ends:
//   - the copy of each session key in the x/crypto cipher object;
//   - in flynn/noise, the chaining keys, the copy of the preshared key, the
//     cipher objects of the handshake, and DH results;
//   - copies that crypto/ecdh makes of private keys, and whatever the compiler
//     and the runtime leave on stacks they have moved.
//
// golang.zx2c4.com/wireguard has the same limits. Private and preshared keys
// write a placeholder wherever they are printed.
package wireguard
