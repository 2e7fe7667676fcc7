// Package memory measures, without a kernel, what a packet costs one core: our
// relay's whole path, our WireGuard sessions alone, and the unmodified
// wireguard-go device with its batches of 128.
//
// All have the same work in the same process with one P (GOMAXPROCS=1): the source
// copies packets into the contestant's memory, as a NIC or a TUN device would,
// the contestant seals or opens them, and the sink counts what comes out.
// Figures are the CPU time of the process for a packet. One P favours
// wireguard-go: its goroutines never wait for another core's cache. WireGuardGoAll
// has it as it is shipped.
//
// The far end of the tunnel is a wireguard.Device for all of them: it makes the
// session and, before a slice of opening begins, the messages to open.
//
// A Path is used by one goroutine at a time. It owns all its memory.
//
//	paths, err := memory.Paths(1420)
//	took, err := paths[0].Seal(ctx, 16384) // CPU time
package memory
