package config

import (
	"slices"
	"time"
)

// checkEVPN checks what gateways tell each other.
func (c *checker) checkEVPN() {
	c.checkAllowed()
	h := c.BGP.EVPN.HoldTime
	if h < minHold || h > maxHold || h%time.Second != 0 {
		c.add("bgp.evpn.holdTime", "must be %s to %s in whole seconds, not %s", minHold, maxHold, h)
	}
	if !c.SpeaksEVPN() {
		if slices.ContainsFunc(c.BGP.Neighbours, func(n BGPNeighbour) bool { return n.EVPN }) {
			c.checkDistinguishers()
		}
		return
	}
	if c.BGP.EVPN.ASN == 0 && !c.has("bgp.evpn.asn") && !c.has("bgp.asn") {
		c.add("bgp.evpn.asn", "is required, or bgp.asn: peers with bgp.enabled are told our AS number")
	}
	if c.BGP.RouterID.IsZero() && !c.has("bgp.routerID") && len(c.BGP.Neighbours) == 0 {
		c.add("bgp.routerID", "is required: wireguard.tunnelAddresses has no IPv4 address to take")
	}
	if c.WireGuard.TUN.Name == "" && !c.anyBad("wireguard.tun") {
		c.add("wireguard.tun.name", "is required: the BGP sessions with peers run over this device")
	}
	c.checkDistinguishers()
	for i := range c.Peers {
		c.checkPeerBGP(element("peers", i), &c.Peers[i])
	}
}

func (c *checker) checkPeerBGP(path string, p *Peer) {
	if ours := c.BGP.EVPN.ASN; p.BGP.Enabled && p.BGP.Role != "" && p.BGP.ASN != ours && ours != 0 {
		c.add(path+".bgp.role", "peer %s is of AS %d and we of %d: reflection is inside one", p.Name, p.BGP.ASN, ours)
	}
	switch {
	case !p.BGP.Enabled:
		if p.BGP.ASN != 0 {
			c.add(path+".bgp.asn", "needs bgp.enabled: there is no session with peer %s", p.Name)
		}
		if p.BGP.Role != "" {
			c.add(path+".bgp.role", "needs bgp.enabled: there is no session with peer %s", p.Name)
		}
	case p.Encryption == EncryptionNone:
		c.add(path+".bgp.enabled", "peer %s has no tunnel that the session could run in: remove it, or encryption none", p.Name)
	case len(p.TunnelAddresses) == 0:
		c.add(path+".tunnelAddresses", "is required: the BGP session with peer %s runs between tunnel addresses", p.Name)
	default:
		_, _, ok := c.TunnelPair(p)
		if !ok && !c.anyBad(path+".tunnelAddresses") && !c.anyBad("wireguard.tunnelAddresses") {
			c.add(path+".tunnelAddresses", "has no address of a family that we have one of: the BGP session with peer %s runs between tunnel addresses", p.Name)
		}
	}
}

// checkAllowed checks what peers may announce, which nobody but the peer is bound by.
func (c *checker) checkAllowed() {
	for i := range c.Peers {
		for j := range c.Peers[i].VPCs {
			v, path := &c.Peers[i].VPCs[j], element(element("peers", i)+".vpcs", j)
			if len(v.Prefixes) == 0 && len(v.AllowedPrefixes) == 0 && !c.anyBad(path) {
				c.add(path+".prefixes", "is required, or allowedPrefixes for what the peer announces by BGP")
			}
			for k, p := range v.AllowedPrefixes {
				at := element(path+".allowedPrefixes", k)
				if c.unicastPrefix(at, p) && slices.Contains(v.AllowedPrefixes[:k], p) {
					c.add(at, "%s is listed already", p)
				}
			}
			switch at := path + ".allowedPrefixes"; {
			case len(v.AllowedPrefixes) == 0:
			case c.Peers[i].Encryption == EncryptionNone:
				c.add(at, "peer %s has no tunnel that BGP could run in: list its prefixes", c.Peers[i].Name)
			case !c.SpeaksEVPN():
				c.add(at, "nobody can announce these: no peer has bgp.enabled")
			}
		}
	}
}

// checkDistinguishers sees to it that routes of two VPCs cannot be taken for one another.
func (c *checker) checkDistinguishers() {
	seen := map[VPNID]int{}
	for i := range c.VPCs {
		id := c.VPCs[i].Distinguisher(c.BGP.RouterID)
		if id.IsZero() {
			continue // the router id is missing, which is told
		}
		if first, ok := seen[id]; ok {
			c.add(element("vpcs", i)+".evpn.routeDistinguisher", "is %s, as that of VPC %s: give this one another", id, c.VPCs[first].Name)
			continue
		}
		seen[id] = i
	}
}
