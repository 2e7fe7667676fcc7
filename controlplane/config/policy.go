package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ACL is the access list of a VPC. It has no memory: each packet is judged by
// itself. The first rule that matches decides.
//
// Every packet that comes from the site's attachments or from a peer is judged,
// also one to a gateway address; ARP, neighbour discovery and the gateway's own
// ICMP errors are not. Where the default is not allow, let ICMP 3/4 (IPv4) and
// ICMPv6 2 pass, or path MTU discovery breaks.
type ACL struct {
	// What becomes of a packet that no rule matches: `allow`, `deny` (without a
	// word), or `reject` (its source is told: ICMP administratively prohibited).
	Default ACLAction `yaml:"default" jsonschema:"enum=allow,enum=deny,enum=reject,default=allow"`

	// The rules, in order. Prefixes and ranges of all rules multiplied out may make
	// at most 65536 combinations.
	Rules []ACLRule `yaml:"rules,omitempty"`
}

// ACLAction is what becomes of a packet.
type ACLAction string

// Values of vpcs[].acl.default and vpcs[].acl.rules[].action.
const (
	Allow  ACLAction = "allow"
	Deny   ACLAction = "deny"
	Reject ACLAction = "reject"
)

// SourceCheck says which sources a VPC takes from this site.
type SourceCheck string

// Values of vpcs[].sourceCheck.
const (
	SourceLoose  SourceCheck = "loose"
	SourceStrict SourceCheck = "strict"
	SourceOff    SourceCheck = "off"
)

// Direction is which way a packet crosses the gateway.
type Direction string

// Values of vpcs[].acl.rules[].direction.
const (
	BothDirections Direction = "both"
	FromSite       Direction = "fromSite"
	ToSite         Direction = "toSite"
)

// ACLRule matches packets that satisfy every key that it gives. Ports, ICMP
// types and `established` are never satisfied by a packet that does not carry
// them: by a fragment but the first, or by what is behind a header that Sluice
// does not know. To let fragments pass, add a rule without them.
type ACLRule struct {
	// For people: `sluice acl` shows it. May be left out.
	Name string `yaml:"name,omitempty"`

	// What becomes of the packet: `allow`, `deny` (without a word), or `reject` (its
	// source is told: ICMP administratively prohibited).
	Action ACLAction `yaml:"action" jsonschema:"required,enum=allow,enum=deny,enum=reject"`

	// `fromSite` for packets that come through an attachment, `toSite` for those
	// that come from a peer.
	Direction Direction `yaml:"direction" jsonschema:"enum=both,enum=fromSite,enum=toSite,default=both"`

	// What is behind the IP header and IPv6's extension headers: `tcp`, `udp`,
	// `icmp`, `icmpv6`, `gre`, `esp`, `ospf`, `sctp` or a number from 1 to 255. Any
	// by default.
	Protocol Protocol `yaml:"protocol,omitempty"`

	// Source prefixes, of one or both families. Any by default.
	Source []netip.Prefix `yaml:"source,omitempty"`

	// Destination prefixes, of one or both families. Any by default.
	Destination []netip.Prefix `yaml:"destination,omitempty"`

	// Source ports, with protocol `tcp` or `udp`. Any by default.
	SourcePorts []PortRange `yaml:"sourcePorts,omitempty"`

	// Destination ports, with protocol `tcp` or `udp`. Any by default.
	DestinationPorts []PortRange `yaml:"destinationPorts,omitempty"`

	// Types of message, with protocol `icmp` or `icmpv6`, each with or without a
	// code. Any by default.
	ICMPTypes []ICMPType `yaml:"icmpTypes,omitempty"`

	// Only TCP segments with ACK or RST: all but the one that opens a connection.
	Established bool `yaml:"established,omitempty"`
}

// Protocol is the number of an IP protocol; 0 is any.
type Protocol uint8

// Protocols that have a name in the file (IANA).
const (
	ICMP   Protocol = 1
	TCP    Protocol = 6
	UDP    Protocol = 17
	ICMPv6 Protocol = 58
)

var protocolNames = map[Protocol]string{ICMP: "icmp", TCP: "tcp", UDP: "udp", 47: "gre", 50: "esp", ICMPv6: "icmpv6", 89: "ospf", 132: "sctp"}

// String returns the name, or the number of a protocol that has none.
func (p Protocol) String() string {
	if name, ok := protocolNames[p]; ok {
		return name
	}
	return strconv.Itoa(int(p))
}

// MarshalText is String for encoders.
func (p Protocol) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads a name or a number from 1 to 255.
func (p *Protocol) UnmarshalText(text []byte) error {
	for number, name := range protocolNames {
		if name == string(text) {
			*p = number
			return nil
		}
	}
	n, err := strconv.ParseUint(string(text), 10, 8)
	if err != nil || n == 0 {
		return errors.New("must be tcp, udp, icmp, icmpv6, gre, esp, ospf, sctp or a number from 1 to 255")
	}
	*p = Protocol(n)
	return nil
}

// PortRange is one port or several in a row.
type PortRange struct{ First, Last uint16 }

// String returns 443 or 8000-8080.
func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// MarshalText is String for encoders.
func (r PortRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what String returns.
func (r *PortRange) UnmarshalText(text []byte) error {
	first, last, several := strings.Cut(string(text), "-")
	if !several {
		last = first
	}
	a, err := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	switch {
	case err != nil || err2 != nil:
		return fmt.Errorf("%q is not a port such as 443 or a range such as 8000-8080", text)
	case a > b:
		return fmt.Errorf("%s ends before it begins: write %d-%d", text, b, a)
	}
	r.First, r.Last = uint16(a), uint16(b)
	return nil
}

// ICMPType is a type of ICMP or ICMPv6 message, with one code or any.
type ICMPType struct {
	Type, Code uint8
	AnyCode    bool
}

// String returns 8 or 3/4.
func (t ICMPType) String() string {
	if t.AnyCode {
		return strconv.Itoa(int(t.Type))
	}
	return fmt.Sprintf("%d/%d", t.Type, t.Code)
}

// MarshalText is String for encoders.
func (t ICMPType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what String returns.
func (t *ICMPType) UnmarshalText(text []byte) error {
	typ, code, has := strings.Cut(string(text), "/")
	if !has {
		code = "0"
	}
	a, err := strconv.ParseUint(typ, 10, 8)
	b, err2 := strconv.ParseUint(code, 10, 8)
	if err != nil || err2 != nil {
		return fmt.Errorf("%q is not an ICMP type such as 8, or type and code such as 3/4", text)
	}
	t.Type, t.Code, t.AnyCode = uint8(a), uint8(b), !has
	return nil
}

// Match says in words which packets the rule is about: "fromSite tcp from
// 10.1.0.0/16 to any port 443".
func (r ACLRule) Match() string {
	var b strings.Builder
	if r.Direction != BothDirections && r.Direction != "" {
		b.WriteString(string(r.Direction) + " ")
	}
	if r.Protocol == 0 {
		b.WriteString("any")
	} else {
		b.WriteString(r.Protocol.String())
	}
	end := func(word string, prefixes []netip.Prefix, ports []PortRange) {
		if len(prefixes)+len(ports) == 0 {
			return
		}
		b.WriteString(" " + word + " " + listText(prefixes))
		if len(ports) > 0 {
			b.WriteString(" port " + listText(ports))
		}
	}
	end("from", r.Source, r.SourcePorts)
	end("to", r.Destination, r.DestinationPorts)
	if len(r.ICMPTypes) > 0 {
		b.WriteString(" type " + listText(r.ICMPTypes))
	}
	if r.Established {
		b.WriteString(" established")
	}
	return b.String()
}

// listText joins with commas; nothing is any.
func listText[T fmt.Stringer](list []T) string {
	if len(list) == 0 {
		return "any"
	}
	words := make([]string, len(list))
	for i, e := range list {
		words[i] = e.String()
	}
	return strings.Join(words, ",")
}
