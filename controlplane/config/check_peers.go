package config

import (
	"net/netip"
	"slices"
	"time"
)

// maxKeepalive is what the 16-bit option of every WireGuard tool can say.
const maxKeepalive = 65535 * time.Second

func (c *checker) checkPeers() {
	names, keys, endpoints := map[string]string{}, map[PublicKey]string{}, map[Endpoint]string{}
	for i := range c.Peers {
		p, path := &c.Peers[i], element("peers", i)
		if p.Name != "" && c.name(path+".name", p.Name) {
			if first, ok := names[p.Name]; ok {
				c.add(path+".name", "peer %s is already %s: give this one another name", p.Name, c.ref(first))
			} else {
				names[p.Name] = path
			}
		}
		if len(p.VPCs) == 0 && !c.isMember(p) {
			c.add(path+".vpcs", "is required, unless the peer is a member of our cluster")
		}
		c.checkPeerCluster(p, path)
		if p.Encryption == EncryptionNone {
			c.checkDirect(p, path, endpoints)
			c.checkLimits(path+".limits", &p.Limits)
			c.checkPeerVPCs(i)
			continue
		}
		if p.PublicKey.IsZero() && !c.has(path+".publicKey") {
			c.add(path+".publicKey", "is required, unless encryption is none")
		} else if c.publicKey(path+".publicKey", p.PublicKey) {
			if first, ok := keys[p.PublicKey]; ok {
				c.add(path+".publicKey", "is already the key of %s: every peer has its own", c.ref(first))
			} else {
				keys[p.PublicKey] = path
			}
		}
		if p.PresharedKeyFile != "" || c.has(path+".presharedKeyFile") {
			c.absolutePath(path+".presharedKeyFile", p.PresharedKeyFile)
		}
		if !p.Endpoint.IsZero() {
			c.checkEndpoint(path+".endpoint", p.Endpoint, endpoints)
		}
		if k := p.PersistentKeepalive; k < 0 || k > maxKeepalive || k%time.Second != 0 {
			c.add(path+".persistentKeepalive", "must be 0s to 65535s in whole seconds, not %s", k)
		}
		c.checkFlowPorts(p, path)
		c.checkTunnelAddresses(path+".tunnelAddresses", p.TunnelAddresses)
		c.checkLimits(path+".limits", &p.Limits)
		c.checkPeerVPCs(i)
		c.checkTunnelFamilies(p, path)
		c.checkProbe(path+".probe", &p.Probe)
		c.checkPaths(i, endpoints)
		if p.Cluster != "" {
			c.needsTunnel(p, path, "is required: members of a cluster tell what they are active for inside the tunnel")
		}
		c.checkRelayTo(p, path)
		c.checkLimit(path+".relayLimit", &p.RelayLimit)
	}
}

func (c *checker) checkFlowPorts(p *Peer, path string) {
	last := int(p.FlowPort) + p.FlowPortCount - 1
	switch {
	case p.FlowPort == 0 && p.FlowPortCount == 0:
	case p.FlowPortCount == 0:
		c.add(path+".flowPort", "needs flowPortCount: how many ports there are")
	case p.FlowPort == 0:
		c.add(path+".flowPortCount", "needs flowPort: the first of these ports")
	case p.FlowPortCount&(p.FlowPortCount-1) != 0:
		c.add(path+".flowPortCount", "must be a power of two, not %d", p.FlowPortCount)
	case last > 65535:
		c.add(path+".flowPortCount", "the last port would be %d: there are none above 65535", last)
	}
}

func (c *checker) checkEndpoint(path string, e Endpoint, endpoints map[Endpoint]string) {
	if ap, ok := e.AddrPort(); ok && !c.unicast(path, ap.Addr()) {
		return
	}
	if e.Port == 0 || !isHostName(e.Host) && !isAddr(e.Host) {
		c.add(path, "must be host:port") // from Go; a file's is reported already
		return
	}
	if first, ok := endpoints[e]; ok {
		c.add(path, "%s is already the endpoint of %s: two peers cannot share one", e, c.ref(first))
		return
	}
	endpoints[e] = parent(path)
}

func isAddr(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

func (c *checker) checkPeerVPCs(peer int) {
	p, list := &c.Peers[peer], element("peers", peer)+".vpcs"
	names, vnis := map[string]string{}, map[uint32]string{}
	for i := range p.VPCs {
		v, path := &p.VPCs[i], element(list, i)
		if first, ok := names[v.Name]; ok && v.Name != "" {
			c.add(path+".name", "VPC %s is listed already, %s: put the prefixes in one list", v.Name, c.ref(first))
			continue
		}
		names[v.Name] = path
		vpc, ok := c.vpcs[v.Name]
		if !ok {
			c.unknownVPC(path+".name", v.Name)
			continue
		}
		switch first, taken := vnis[v.VNI]; {
		case v.Name == DefaultVPC && v.VNI != 0:
			c.add(path+".vni", "must be 0: the default VPC has no other VNI anywhere")
		case v.Name != DefaultVPC && v.VNI == 0 && c.has(path+".vni"):
			c.add(path+".vni", "0 is the default VPC's: give VPC %s's VNI at %s, or leave the key out if it is ours", v.Name, p.Name)
		case taken && v.VNI != 0:
			c.add(path+".vni", "VNI %d is already that of %s at this peer: give the VNI that %s uses for VPC %s", v.VNI, c.ref(first), p.Name, v.Name)
		default:
			vnis[v.VNI] = path
		}
		for j, prefix := range v.Prefixes {
			c.prefix(vpc, element(path+".prefixes", j), prefix, peer)
		}
	}
}

func (c *checker) unknownVPC(path, name string) {
	if name == "" || c.namesBad("vpcs", len(c.VPCs)) {
		return // the mistake is there
	}
	names := make([]string, 0, len(c.VPCs))
	for _, v := range c.VPCs {
		names = append(names, v.Name)
	}
	if s, ok := nearest(name, names); ok {
		c.add(path, "%q is not a VPC: did you mean %q?", name, s)
	} else {
		c.add(path, "%q is not a VPC: add it to vpcs", name)
	}
}

// checkTunnelFamilies sees to it that Geneve can travel between the gateways.
func (c *checker) checkTunnelFamilies(p *Peer, path string) {
	i := slices.IndexFunc(p.VPCs, func(v PeerVPC) bool { return v.Name != DefaultVPC && v.Name != "" })
	if i < 0 {
		return
	}
	ours, theirs := c.WireGuard.TunnelAddresses, p.TunnelAddresses
	path += ".tunnelAddresses"
	if len(theirs) == 0 {
		c.add(path, "is required: VPC %s travels between tunnel addresses", p.VPCs[i].Name)
	}
	if len(ours) == 0 {
		c.add("wireguard.tunnelAddresses", "is required: VPC %s of peer %s travels between tunnel addresses", p.VPCs[i].Name, p.Name)
	}
	if len(ours) == 0 || len(theirs) == 0 || c.anyBad(path) || c.anyBad("wireguard.tunnelAddresses") {
		return
	}
	if !commonFamily(ours, theirs) {
		c.add(path, "has no address of a family that we have one of: ours is %s (wireguard.tunnelAddresses)", family(ours[0]))
	}
}

// commonFamily says whether both lists have an address of the same family.
func commonFamily(ours, theirs []netip.Addr) bool {
	for _, a := range ours {
		if slices.ContainsFunc(theirs, func(b netip.Addr) bool { return a.Is4() == b.Is4() }) {
			return true
		}
	}
	return false
}
