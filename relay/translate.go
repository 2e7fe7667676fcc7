package relay

import (
	"net/netip"

	"github.com/sluicegw/sluice/internal/packet"
)

// Translation lets a site whose addresses collide with another's take part in
// a VPC: Prefix is what its hosts have, As what every other site knows them by.
type Translation struct {
	Prefix, As netip.Prefix // of one family and length
}

// translation is the translations of a VPC. Everything inside the gateway
// (routes, the source checks of both directions, gateway addresses) sees the
// site's own addresses: packets from a peer are translated before they are looked
// up, packets to one after that, right in front of the tunnel. That peers may
// only use their own addresses is checked on what they sent, so on what they
// are known by here.
type translation struct {
	out packet.Netmap // Prefix to As
	in  packet.Netmap // As to Prefix
}

// translateIn takes a packet that is about to be looked up, and says whether it
// lives. From outside, the site has only the addresses that it is known by;
// inside, nobody has those.
func (w *worker) translateIn(f *frame, t *translation) bool {
	b, ip := f.data(), &f.ip
	switch {
	case t.in.Has(ip.SrcBytes(b)):
		w.drop(f, OutsideAddress)
	case f.origin == fromPeer && t.out.Has(ip.DstBytes(b)):
		w.drop(f, InsideAddress)
	case f.origin == fromSite && t.in.Has(ip.DstBytes(b)):
		w.outsideFromSite(f)
	default:
		if f.origin == fromPeer {
			t.in.Destination(b, ip)
			if w.trace != nil {
				w.trace.note("translate", "the destination is %v at this site", ip.Dst(b))
			}
		}
		return true
	}
	return false
}

// outsideFromSite ends a packet of the site to an address that only other sites
// use. The source is told, if it is one that check would let pass: an
// error to a group or to somebody else's address must not leave.
func (w *worker) outsideFromSite(f *frame) {
	switch {
	case martian(f.ip.Version, f.data()):
		w.drop(f, Martian)
	case !w.ofSite(f, w.routes.route(w.state.vpcs, f.vpc, f.ip.SrcBytes(f.data()))):
		w.drop(f, SpoofedSource)
	default:
		w.unreachable(f, OutsideAddress)
	}
}

// translateError turns an ICMP error of ours around that is about a packet
// which was translated already: its source is at this site.
func (t *translation) translateError(f *frame) { t.in.Destination(f.data(), &f.ip) }

// translateOut takes a packet that goes to a peer. One that has waited (see
// park.go) comes a second time, which changes nothing: no As lies in a Prefix.
func (w *worker) translateOut(f *frame, t *translation) {
	t.out.Source(f.data(), &f.ip)
	if w.trace != nil {
		w.trace.note("translate", "the source is %v at the other sites", f.ip.Src(f.data()))
	}
}

// translation checks and prepares a VPC's translations; nil without.
func (c *compiler) translation(v *VPC) *translation {
	if len(v.Translate) == 0 {
		return nil
	}
	t := new(translation)
	var seen []netip.Prefix
	for _, e := range v.Translate {
		if !e.Prefix.IsValid() || !e.As.IsValid() || e.Prefix.Addr().Is4() != e.As.Addr().Is4() || e.Prefix.Bits() != e.As.Bits() {
			c.problem("vpc %s: translation of %v as %v: two prefixes of the same family and length are needed", v.Name, e.Prefix, e.As)
			continue
		}
		for _, p := range []netip.Prefix{e.Prefix, e.As} {
			if p != p.Masked() || p.Addr().Is4In6() {
				c.problem("vpc %s: translation of %v as %v: %v is not a plain prefix without host bits", v.Name, e.Prefix, e.As, p)
			}
			for _, other := range seen {
				if p.Overlaps(other) {
					c.problem("vpc %s: translation of %v as %v: %v overlaps %v", v.Name, e.Prefix, e.As, p, other)
				}
			}
			seen = append(seen, p)
		}
		t.out.Add(e.Prefix, e.As)
		t.in.Add(e.As, e.Prefix)
	}
	return t
}
