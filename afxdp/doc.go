// Package afxdp moves frames between a program and the kernel through AF_XDP
// sockets: a UMEM cut into frames, the four rings of each socket, and the
// sockets themselves. One UMEM serves any number of devices and queues, so a
// frame that was received on one is sent on another without a copy.
//
// It is not an XDP loader (something else redirects packets to the socket, by
// its descriptor) and it knows nothing of packets: a frame is bytes. It needs
// Linux 5.10, the first with one UMEM for several devices.
//
// # Ownership
//
// Every frame is in exactly one place: the pool of free frames, the caller, the
// receiving side of a socket (fill ring, kernel, RX ring) or its sending side (TX
// ring, kernel, completion ring). Frames move only so:
//
//	Alloc, Receive   → caller    (owned: to be given to Free or Send)
//	Free             caller → pool
//	Fill             pool → receiving side
//	Send             caller → sending side
//	Reclaim, Kick    sending side → pool
//	Close            both sides of the socket → pool
//
// The UMEM keeps one number per frame that says where it is. Giving away a frame
// that the caller does not have (a second Free, a Send of a frame in flight)
// is therefore noticed, changes nothing, and is counted by UMEM.Misuses; with
// UMEMOptions.Strict it panics, for tests.
//
// The memory of the frames belongs to the UMEM: mapped by NewUMEM, unmapped by
// UMEM.Close, which refuses while a socket lives. Slices from UMEM.Frame are
// borrowed: valid while the caller has the frame.
//
// # Goroutines
//
// A UMEM and all its sockets belong to one goroutine (a worker, locked to a
// thread). Nothing here takes a lock. Only Socket.Stats, Socket.FD and
// Socket.ZeroCopy may be called by others, until Close.
//
// # Use
//
// A forwarder from one socket to another is this loop; see the example for all of it.
//
//	n := in.Receive(batch)
//	in.Fill()
//	sent := out.Send(batch[:n])
//	for _, d := range batch[sent:n] {
//		umem.Free(d.Addr)
//	}
//	err := out.Kick()
//	out.Reclaim()
package afxdp
