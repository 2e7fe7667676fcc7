package relay

import (
	"encoding/binary"
	"net/netip"

	"github.com/sluicegw/sluice/internal/fib"
)

// Where a packet may come from: inside, its source must lie where it came in
// (RFC 2827, RFC 3704); outside, an overlay may know its nodes. What a peer may
// send is the business of open.go.

// SourceCheck says which sources a VPC takes from this site.
type SourceCheck uint8

// The kinds of source check.
const (
	SourceLoose  SourceCheck = iota // any that the VPC has a local route to
	SourceStrict                    // only those that are reached through the port that the packet came in through
	SourceOff                       // any
)

// ofSite says whether a packet that came through an attachment may have its
// source: the route back (nil: none) must lead to this site.
func (w *worker) ofSite(f *frame, back *fib.Route) bool {
	check := w.state.vpcs[f.vpc].sources
	if check == SourceOff {
		return true
	}
	if back == nil {
		return false
	}
	for _, h := range back.NextHops {
		if h.Kind == fib.Local && (check == SourceLoose || w.state.deliveries[h.ID].ifindex == w.queues[f.slot].ifindex) {
			return true
		}
	}
	return false
}

// claimsOurs says whether a route for peers covers an address of the gateway
// itself in the VPC, so that the route back does not tell a peer that pretends
// to be us.
func (c *compiler) claimsOurs(v *VPC, routes *fib.Table) bool {
	ours := v.GatewayAddresses
	if v.VNI == 0 {
		ours = append(append([]netip.Addr(nil), ours...), c.in.Tunnel...)
	}
	for _, a := range ours {
		if r := routes.Lookup(a.Unmap().WithZone("")); r != nil && r.NextHops[0].Kind == fib.Remote {
			return true
		}
	}
	return false
}

// isOurs says whether the source of a packet is an address of the gateway itself.
func (w *worker) isOurs(f *frame) bool {
	src := f.ip.Src(f.data())
	return w.state.vpcs[f.vpc].gateways.has(src) || f.vpc == w.state.defaultVPC && w.state.tunnel.has(src)
}

// trusted are the VTEPs that an overlay attachment takes packets from.
type trusted struct {
	key  uint64 // attachmentKey
	four []entry4
	six  []entry6
}

// trustedVTEPs compiles an attachment's list.
func trustedVTEPs(key uint64, prefixes []netip.Prefix) trusted {
	t := trusted{key: key}
	rule := &ACLRule{Source: prefixes}
	add4(&t.four, rule, []entryRest{{}})
	add6(&t.six, rule, []entryRest{{}})
	return t
}

// holds says whether the source of the outer IP packet b is in the list.
func (t *trusted) holds(b []byte) bool {
	if b[0]>>4 == 4 {
		src := binary.BigEndian.Uint32(b[12:16])
		for i := range t.four {
			if (src^t.four[i].src)&t.four[i].srcMask == 0 {
				return true
			}
		}
		return false
	}
	hi, lo := binary.BigEndian.Uint64(b[8:16]), binary.BigEndian.Uint64(b[16:24])
	for i := range t.six {
		e := &t.six[i]
		if (hi^e.src[0])&e.srcMask[0]|(lo^e.src[1])&e.srcMask[1] == 0 {
			return true
		}
	}
	return false
}

// trusts says whether an attachment takes packets from the VTEP that the outer
// IP packet b came from. An attachment without a list takes all.
func (w *worker) trusts(key uint64, b []byte) bool {
	for i := range w.state.trusted {
		if w.state.trusted[i].key == key {
			return w.state.trusted[i].holds(b)
		}
	}
	return true
}
