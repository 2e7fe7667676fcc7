package config

import (
	"net/netip"
	"slices"
	"time"
)

// Cluster says how the gateways of a site share the VPCs among them. See docs/ha.md.
type Cluster struct {
	// The other gateways of this site, by name of the peer. Each needs tunnel addresses;
	// its `vpcs` may be left out. All gateways of the site list each other.
	Members []string `yaml:"members,omitempty" jsonschema:"maxItems=2,example=oslo-2"`

	// Gateways of other sites that vote on who is active, by name of the peer: they must
	// list this site's gateways with `cluster`. Members and witnesses are three at
	// least, and a majority of them must be reached for a gateway to be active. Add or remove
	// one at a time, everywhere before the next.
	Witnesses []string `yaml:"witnesses,omitempty" jsonschema:"maxItems=6,example=bergen-1"`

	// Time from one report to the others to the next, 20ms to 1s. The same at all members.
	Interval time.Duration `yaml:"interval" jsonschema:"default=40ms"`

	// How many intervals what was granted to a member holds: after that without a word
	// from it, another takes over. The same at all members.
	Multiplier int `yaml:"multiplier" jsonschema:"minimum=3,maximum=50,default=5"`

	// Whether a gateway that is READY again takes the VPCs back for which it has the
	// highest priority: `automatic` after `holdDown`, `manual` only when told to
	// (`sluice cluster move` at the one that is active).
	Failback Failback `yaml:"failback" jsonschema:"enum=automatic,enum=manual,default=manual"`

	// How long a gateway must have been READY before it takes a VPC back, and how long
	// one that has moved a VPC away does not. 1s to 24h.
	HoldDown time.Duration `yaml:"holdDown" jsonschema:"default=1m"`

	// VPCs that one gateway at a time is active for. For those that are not listed all
	// of the site's gateways are, and flows are spread over them.
	VPCs []ClusterVPC `yaml:"vpcs,omitempty"`
}

// Failback says whether VPCs go back by themselves.
type Failback string

// Values of cluster.failback.
const (
	FailbackAutomatic Failback = "automatic"
	FailbackManual    Failback = "manual"
)

// ClusterVPC is a VPC that one gateway of the site at a time is active for.
type ClusterVPC struct {
	// Name of the VPC, one of `vpcs`.
	Name string `yaml:"name" jsonschema:"required"`

	// Of the gateways that are READY the one with the highest priority is elected.
	Priority uint16 `yaml:"priority" jsonschema:"minimum=0,maximum=65535,default=100"`

	// Addresses that the active gateway has on its ports: the next hop of hosts
	// without BGP, or the VTEP that an overlay's nodes send to. They must not be
	// configured on the interface otherwise.
	Addresses []ClusterAddress `yaml:"addresses,omitempty" jsonschema:"maxItems=16"`
}

// ClusterAddress is an address that moves with the active gateway.
type ClusterAddress struct {
	// Name of the port, one of `ports`, with an attachment of the VPC.
	Port string `yaml:"port" jsonschema:"required"`

	// The address, with the length of the link's prefix.
	Address netip.Prefix `yaml:"address" jsonschema:"required,example=192.0.2.1/24"`
}

// Enabled says whether there is a cluster.
func (c *Cluster) Enabled() bool { return len(c.Members) > 0 }

// Lease is how long what was granted to a member holds.
func (c *Cluster) Lease() time.Duration { return c.Interval * time.Duration(c.Multiplier) }

// VPC returns what is said about a VPC; nil: nothing.
func (c *Cluster) VPC(name string) *ClusterVPC {
	for i := range c.VPCs {
		if c.VPCs[i].Name == name {
			return &c.VPCs[i]
		}
	}
	return nil
}

// What we chose. Below the least interval a busy host's scheduling looks like death.
const (
	minClusterInterval = 20 * time.Millisecond
	maxClusterInterval = time.Second
	minHoldDown        = time.Second
	maxHoldDown        = 24 * time.Hour
	minVoters          = 3
)

func (c *checker) checkCluster() {
	k := &c.Cluster
	if !k.Enabled() {
		if len(k.VPCs) > 0 || len(k.Witnesses) > 0 {
			c.add("cluster.members", "is required: VPCs and witnesses are a cluster's")
		}
		return
	}
	if k.Interval < minClusterInterval || k.Interval > maxClusterInterval || k.Interval%time.Millisecond != 0 {
		c.add("cluster.interval", "must be %s to %s in whole milliseconds, not %s", minClusterInterval, maxClusterInterval, k.Interval)
	}
	if k.HoldDown < minHoldDown || k.HoldDown > maxHoldDown {
		c.add("cluster.holdDown", "must be %s to %s, not %s", minHoldDown, maxHoldDown, k.HoldDown)
	}
	seen := map[string]string{}
	for i, name := range k.Members {
		c.checkVoter(element("cluster.members", i), name, seen)
	}
	for i, name := range k.Witnesses {
		c.checkVoter(element("cluster.witnesses", i), name, seen)
	}
	if n := 1 + len(k.Members) + len(k.Witnesses); n < minVoters {
		c.add("cluster.witnesses", "this gateway, members and witnesses are %d: with fewer than %d nobody can take over when one of them dies", n, minVoters)
	}
	names, addresses := map[string]string{}, map[netip.Addr]string{}
	for i := range k.VPCs {
		v, path := &k.VPCs[i], element("cluster.vpcs", i)
		vpc, ok := c.vpcs[v.Name]
		if first, twice := names[v.Name]; twice && v.Name != "" {
			c.add(path+".name", "VPC %s is already %s", v.Name, c.ref(first))
		} else if !ok {
			c.unknownVPC(path+".name", v.Name)
		}
		names[v.Name] = path
		for j := range v.Addresses {
			if ok {
				c.checkClusterAddress(element(path+".addresses", j), &v.Addresses[j], &c.VPCs[vpc], addresses)
			}
		}
	}
}

// checkVoter checks that a peer can be a member or a witness.
func (c *checker) checkVoter(path, name string, seen map[string]string) {
	if first, ok := seen[name]; ok {
		c.add(path, "%s is already %s", name, c.ref(first))
		return
	}
	seen[name] = path
	at := slices.IndexFunc(c.Peers, func(p Peer) bool { return p.Name == name })
	switch {
	case at < 0:
		names := make([]string, 0, len(c.Peers))
		for i := range c.Peers {
			names = append(names, c.Peers[i].Name)
		}
		if s, ok := nearest(name, names); ok {
			c.add(path, "%q is not a peer: did you mean %q?", name, s)
		} else {
			c.add(path, "%q is not a peer: add it to peers", name)
		}
	case c.Peers[at].Encryption == EncryptionNone:
		c.add(path, "peer %s has encryption none: members and witnesses are known by their keys", name)
	default:
		c.needsTunnel(&c.Peers[at], element("peers", at), "is required: members and witnesses are spoken to inside the tunnel")
	}
}

// needsTunnel checks that there are tunnel addresses of one family at both ends.
func (c *checker) needsTunnel(p *Peer, path, why string) {
	ours := c.WireGuard.TunnelAddresses
	switch {
	case len(p.TunnelAddresses) == 0:
		c.add(path+".tunnelAddresses", "%s", why)
	case len(ours) == 0:
		c.add("wireguard.tunnelAddresses", "%s", why)
	case !slices.ContainsFunc(ours, func(a netip.Addr) bool {
		return slices.ContainsFunc(p.TunnelAddresses, func(b netip.Addr) bool { return a.Is4() == b.Is4() })
	}):
		c.add(path+".tunnelAddresses", "has no address of a family that we have one of: ours is %s (wireguard.tunnelAddresses)", family(ours[0]))
	}
}

func (c *checker) checkClusterAddress(path string, a *ClusterAddress, vpc *VPC, seen map[netip.Addr]string) {
	if !slices.ContainsFunc(vpc.Attachments, func(at Attachment) bool { return at.Port == a.Port }) && a.Port != "" {
		c.add(path+".port", "VPC %s has no attachment on port %q", vpc.Name, a.Port)
	}
	if !a.Address.IsValid() || !c.unicast(path+".address", a.Address.Addr()) {
		return
	}
	if first, ok := seen[a.Address.Addr()]; ok {
		c.add(path+".address", "%s is already %s", a.Address.Addr(), c.ref(first))
		return
	}
	seen[a.Address.Addr()] = path + ".address"
}

// isMember says whether a peer is another gateway of this site.
func (c *Config) isMember(p *Peer) bool { return slices.Contains(c.Cluster.Members, p.Name) }

// checkPeerCluster checks peers[].cluster.
func (c *checker) checkPeerCluster(p *Peer, path string) {
	if p.Cluster == "" {
		return
	}
	path += ".cluster"
	c.name(path, p.Cluster)
	switch {
	case p.Encryption == EncryptionNone:
		c.add(path, "peer %s has encryption none: members of a cluster are known by their keys", p.Name)
	case c.isMember(p):
		c.add(path, "peer %s is a member of our own cluster", p.Name)
	}
}
