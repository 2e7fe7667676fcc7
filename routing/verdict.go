package routing

import (
	"fmt"
	"net/netip"
)

// Verdict is what became of a route, and why.
type Verdict struct {
	Reason Reason
	Whose  string // the policy, or who has what the route overlaps
	Rule   int    // of the policy, from 1
}

// Reason is a kind of verdict.
type Reason uint8

// The reasons: RuleAccepts lets a router's route in, Allowed a gateway's, the others refuse it.
const (
	RuleAccepts Reason = iota
	Allowed            // a gateway may announce it
	RuleRefuses        // a rule of the policy says so
	NoRule             // no rule of the policy matches
	NoPolicy           // there is no policy
	NotUnicast         // no prefix that can be routed
	Overlaps           // it overlaps what belongs to somebody else
	Configured         // the configuration gives the same prefix to the site
	BadNextHop         // the next hop is missing, us, or no router or gateway
	NotItsOwn          // the next hop is another gateway than the one that announces it
	NoVPC              // no route target is that of a VPC which we have in common with the gateway
	WrongVNI           // the VNI is not the one that the gateway has for the VPC
	Recursive          // it names an Ethernet segment or gateway address to resolve
	NotAllowed         // the gateway may not announce it
	GatewayDead        // nothing can be sent to the gateway now
	NotVTEP            // the next hop is no VTEP of the overlay
	OtherTunnel        // it asks for another encapsulation than the overlay's
	BadMAC             // there is no MAC address that packets could go to
	Ours               // it is our own address, from another gateway of the site
	reasonCount        // how many there are
)

var reasonNames = [reasonCount]string{"accepted", "allowed", "rule", "no_rule", "no_policy", "not_unicast", "overlap", "configured", "next_hop",
	"not_its_own", "no_vpc", "vni", "recursive", "not_allowed", "dead",
	"vtep", "encapsulation", "mac", "ours"}

// String is a word for metrics.
func (r Reason) String() string {
	if r < reasonCount {
		return reasonNames[r]
	}
	return "unknown"
}

// Accepted says whether the route may be used.
func (v Verdict) Accepted() bool { return v.Reason.accepts() }

func (r Reason) accepts() bool { return r == RuleAccepts || r == Allowed }

// String says it in words.
func (v Verdict) String() string {
	switch v.Reason {
	case RuleAccepts:
		return fmt.Sprintf("accepted: policy %s rule %d", v.Whose, v.Rule)
	case RuleRefuses:
		return fmt.Sprintf("refused: policy %s rule %d", v.Whose, v.Rule)
	case NoRule:
		return fmt.Sprintf("refused: no rule of policy %s matches", v.Whose)
	case NoPolicy:
		return "refused: there is no policy"
	case NotUnicast:
		return "refused: it cannot be routed"
	case Overlaps:
		return "refused: it overlaps the " + v.Whose
	case Configured:
		return "refused: the configuration has the same prefix"
	case BadNextHop:
		return "refused: its next hop is missing, ours or nobody's"
	case Allowed:
		return "accepted: " + v.who() + " may announce it"
	case NotItsOwn:
		return "refused: its next hop is peer " + v.Whose
	case NoVPC:
		return "not used: no route target of a VPC that we share with " + v.who()
	case WrongVNI:
		return "refused: not the VNI that " + v.who() + " is configured to have for the VPC"
	case Recursive:
		return "refused: it has an Ethernet segment or gateway address to resolve"
	case NotAllowed:
		return "refused: " + v.who() + " may not announce it"
	case GatewayDead:
		return "not used: peer " + v.Whose + " answers no probes"
	case NotVTEP:
		return "refused: its next hop is no VTEP of the attachment"
	case OtherTunnel:
		return "refused: it asks for another encapsulation than that of the attachment"
	case BadMAC:
		return "refused: it has no MAC address that packets can go to"
	case Ours:
		return "not used: it is an address of this gateway, which another gateway has too"
	}
	return "unknown"
}

// who announces it: a gateway, or somebody in the fabric of the site.
func (v Verdict) who() string {
	if v.Whose == "" {
		return "the neighbour"
	}
	return "peer " + v.Whose
}

// noRouter says that an address can be no router's. Link-local ones can.
func noRouter(a netip.Addr) bool {
	return a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.Is4() && a.As4()[0] >= 240
}

// unicast says whether a prefix can be routed between sites.
func unicast(p netip.Prefix) bool {
	a := p.Addr()
	return !a.Is4In6() && !a.IsMulticast() && !a.IsLoopback() && !a.IsLinkLocalUnicast() &&
		!(a.IsUnspecified() && p.Bits() > 8) && !(a.Is4() && a.As4()[0] == 127) && !(a.Is4() && a.As4()[0] >= 240)
}
