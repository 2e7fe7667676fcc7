package relay

import (
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/packet"
)

// A gateway that is about to go first has to become unused, and until then nothing that reaches it may be lost. It says
// so to its peers in its answers to their liveness probes (Snapshot.Notice), which then send through another gateway of
// its site; what it still sends them they take all the same (VPC.Spare).

// giveNotice puts what we say of ourselves into the answer to a probe.
func (w *worker) giveNotice(f *frame) {
	header := packet.IPv4Len
	if f.ip.Version == 6 {
		header = packet.IPv6Len
	}
	packet.SetNotice(f.data()[header:], w.state.notice)
}

// spare says whether the peer that sent a packet is one that the route back leaves out for now. The table is asked for
// that very prefix: a peer that is left out of a route gets no part of what is inside of it and others have.
func (w *worker) spare(f *frame, back *fib.Route) bool {
	table := w.state.vpcs[f.vpc].spare
	if table == nil {
		return false
	}
	r := table.Exact(back.Prefix)
	return r != nil && leadsTo(r, f.peer)
}

// spares checks and takes over the spare next hops of a VPC.
func (c *compiler) spares(v *VPC, vs *vpcState) {
	if v.Spare == nil || v.Spare.Len() == 0 {
		return
	}
	for r := range v.Spare.All() {
		for _, hop := range r.NextHops {
			if hop.Kind != fib.Remote || int(hop.ID) >= len(c.out.peers) {
				c.problem("vpc %s spare %v: %v is no peer", v.Name, r.Prefix, hop)
			}
		}
	}
	vs.spare = v.Spare
}
