package relay

// Counters are totals since New. Received + Injected + Made is the sum of
// Verdicts plus the packets that are parked or in a worker's hands right now.
type Counters struct {
	Verdicts [NumVerdicts]uint64 // indexed by Verdict
	Received uint64              // packets taken from receive rings
	Injected uint64              // datagrams taken from Inject
	Made     uint64              // ICMP errors and answers
	Parked   uint64              // packets waiting now
	Batches  uint64              // batches that held at least one packet
	Sleeps   uint64              // times a worker slept for want of work
	VPCs     []VPCCounters       // by VNI, ascending
}

// VPCCounters count a VPC's packets that were delivered, and the bytes of
// their inner IP packets.
type VPCCounters struct {
	VNI                   uint32
	ToPeers, ToPeersBytes uint64
	ToSite, ToSiteBytes   uint64
}
