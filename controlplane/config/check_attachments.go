package config

import "net/netip"

// overlay is what tells one overlay attachment of a VPC from another.
type overlay struct {
	kind AttachmentType
	port string
	udp  uint16
}

// checkAttachment checks attachment j of a VPC. overlays holds those of this
// VPC, routed those of all, by port.
func (c *checker) checkAttachment(vpc, j int, overlays map[overlay]string, routed map[string]string) {
	a, path := &c.VPCs[vpc].Attachments[j], element(element("vpcs", vpc)+".attachments", j)
	c.checkPortName(path+".port", a.Port)
	switch a.Type {
	case Routed:
		c.checkRouted(vpc, a, path, routed)
	case VXLAN, Geneve:
		c.checkOverlay(vpc, a, path, overlays)
	}
	c.checkFabric(vpc, j, path)
}

func (c *checker) checkPortName(path, port string) {
	if _, ok := c.ports[port]; ok || port == "" || c.namesBad("ports", len(c.Ports)) {
		return
	}
	names := make([]string, 0, len(c.Ports))
	for _, p := range c.Ports {
		names = append(names, p.Name)
	}
	if s, ok := nearest(port, names); ok {
		c.add(path, "%q is not a port: did you mean %q?", port, s)
	} else {
		c.add(path, "%q is not a port: add it to ports", port)
	}
}

func (c *checker) checkRouted(vpc int, a *Attachment, path string, routed map[string]string) {
	if first, ok := routed[a.Port]; ok && a.Port != "" {
		c.add(path, "port %s has a routed attachment already, %s: a port has at most one", a.Port, c.ref(first))
	} else {
		routed[a.Port] = path
	}
	if a.UDPPort != 0 || c.has(path+".udpPort") {
		c.add(path+".udpPort", "is for overlays: remove it from this routed attachment")
	}
	if len(a.VTEPs) > 0 || c.has(path+".vteps") {
		c.add(path+".vteps", "is for overlays: remove it from this routed attachment")
	}
	if a.Learn != "" {
		c.add(path+".learn", "is for overlays: remove it from this routed attachment")
	}
	if len(a.TrustedVTEPs) > 0 || c.has(path+".trustedVTEPs") {
		c.add(path+".trustedVTEPs", "is for overlays: remove it from this routed attachment")
	}
	if len(a.Hosts) > 0 || c.has(path+".hosts") {
		c.add(path+".hosts", "is for overlays: give this routed attachment prefixes")
	} else if len(a.Prefixes) == 0 && !c.hasNeighbour(a.Port) {
		c.add(path+".prefixes", "is required: list the local prefixes behind port %s, or learn them from a neighbour (bgp.neighbours)", a.Port)
	}
	for i, p := range a.Prefixes {
		c.prefix(vpc, element(path+".prefixes", i), p, -1)
	}
	c.checkOptions(vpc, a, path)
}

func (c *checker) checkOverlay(vpc int, a *Attachment, path string, overlays map[overlay]string) {
	id := overlay{a.Type, a.Port, a.UDPPort}
	if first, ok := overlays[id]; ok {
		c.add(path, "%s on port %s is attached already, %s: put the hosts in one list", a.Type, a.Port, c.ref(first))
	} else {
		overlays[id] = path
	}
	c.claimUDP(path+".udpPort", a.UDPPort, string(a.Type))
	c.checkLearned(vpc, a, path)
	c.rulePrefixes(path+".trustedVTEPs", a.TrustedVTEPs)
	for i := range a.Hosts {
		h, p := &a.Hosts[i], element(path+".hosts", i)
		for j, prefix := range h.Prefixes {
			c.prefix(vpc, element(p+".prefixes", j), prefix, -1)
		}
		if h.VTEP.IsValid() {
			c.unicast(p+".vtep", h.VTEP)
		}
		if !h.MAC.IsZero() || c.has(p+".mac") {
			c.mac(p+".mac", h.MAC)
		}
	}
	c.checkOptions(vpc, a, path)
}

// claimUDP gives a UDP port to one protocol: what arrives there is told apart by
// nothing else.
func (c *checker) claimUDP(path string, port uint16, what string) {
	first, ok := c.udp[port]
	if !ok {
		c.udp[port] = udpUse{what, path}
	} else if first.what != what {
		c.add(path, "UDP port %d is already for %s, %s: choose another", port, first.what, c.ref(first.path))
	}
}

// prefix checks a prefix and claims it in a VPC; peer is -1 for this site.
func (c *checker) prefix(vpc int, path string, p netip.Prefix, peer int) {
	if c.unicastPrefix(path, p) {
		c.claim(vpc, p, use{path, peer})
	}
}

// unicastPrefix checks that a prefix can be routed.
func (c *checker) unicastPrefix(path string, p netip.Prefix) bool {
	a := p.Addr()
	switch {
	case !p.IsValid():
		c.add(path, "is not a prefix") // from Go; a file's is reported already
	case a.Is4In6():
		c.add(path, "%s is written as IPv6: write it as an IPv4 prefix", p)
	case p != p.Masked():
		c.add(path, "%s has host bits set: write %s, or %s for this one address", p, p.Masked(), netip.PrefixFrom(a, a.BitLen()))
	case a.IsMulticast(), a.IsLoopback(), a.Is6() && a.IsLinkLocalUnicast(), a.IsUnspecified() && p.IsSingleIP():
		c.add(path, "%s cannot be routed: only unicast prefixes can", p)
	default:
		return true
	}
	return false
}

// claim gives a prefix of a VPC to this site or to a peer. Prefixes may overlap,
// the longest wins; the same one may be at several peers, which share the flows,
// but not at two places of this site, and not both here and there.
func (c *checker) claim(vpc int, p netip.Prefix, u use) {
	first, ok := c.claims[vpc][p]
	if !ok {
		c.claims[vpc][p] = u
		return
	}
	switch {
	case first.peer < 0 && u.peer < 0:
		c.add(u.path, "%s is local already, %s: remove one", p, c.ref(first.path))
	case first.peer < 0:
		c.add(u.path, "%s is local to this site, %s: it cannot also be behind a peer", p, c.ref(first.path))
	case first.peer == u.peer:
		c.add(u.path, "%s is listed already, %s: remove one", p, c.ref(first.path))
	case (c.Peers[first.peer].Encryption == EncryptionNone) != (c.Peers[u.peer].Encryption == EncryptionNone):
		c.add(u.path, "%s is listed already, %s, and of these two peers one has encryption none: part of the flows would travel in the clear", p, c.ref(first.path))
	default:
		c.claims[vpc][p] = u // ECMP; the last peer is whom a repeat would repeat
	}
}
