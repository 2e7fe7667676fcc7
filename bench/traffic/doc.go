// Package traffic makes packets and counts them, in the kernel, without user space in the measured path.
//
// A Generator is an XDP program that BPF_PROG_RUN runs over and over in the mode "live frames" (Linux 5.18): each run
// makes one packet, which is redirected out of an interface. It floods, or keeps a rate by token bucket. A Sink is an
// XDP program on the last interface of the path: it finds the stamp that every packet carries behind whatever wraps it,
// counts what is lost, doubled, out of order or damaged, notes how long the packet took, and drops it.
//
// Where the DUT opens sealed packets, a Peer shakes hands with it and seals a ring of frames in advance, which a
// Generator then sends; the frames of a capture file go the same way.
//
// It is no test of TCP, and it knows nothing of the gateways it measures. It does not decide what a good result is:
// that is package method.
//
// # What to know
//
// A veth whose other end is to take live frames needs an XDP program there (Pass is one) or GRO, which makes it poll.
// They arrive in the queue whose number is the generator's CPU modulo the number of queues. The softirq of the far end
// runs on the generator's CPU and counts as its work.
//
// A Generator's Run belongs to one goroutine at a time; everything else may be called by any. The kernel owns the
// frames. Close releases programs and maps; both also go with the process.
//
//	sink, err := traffic.NewSink(traffic.SinkOptions{Host: b, Link: "eth0"})
//	defer sink.Close()
//	g, err := traffic.NewGenerator(traffic.Options{Host: a, Link: "eth0", Rate: 100_000, Flow: traffic.Flow{
//		Inner: traffic.Layer{Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.2.0.1")},
//		Flows: 16,
//	}})
//	defer g.Close()
//	sent, err := g.Run(ctx, time.Second)
//	counts, err := sink.Read()
//	fmt.Println(sent.Packets-counts.Packets, "lost")
package traffic
