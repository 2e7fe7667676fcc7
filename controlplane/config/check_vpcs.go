package config

import (
	"net/netip"
	"slices"

	"github.com/sluicegw/sluice/internal/packet"
)

// Well-known UDP ports: RFC 7348 section 5 and RFC 8926 section 3.3.
const (
	vxlanPort  = 4789
	genevePort = 6081
)

// deriveDefaults sets the defaults that depend on other keys.
func (c *Config) deriveDefaults(r *report) {
	vni := map[string]uint32{}
	for i := range c.VPCs {
		v := &c.VPCs[i]
		if _, ok := vni[v.Name]; !ok {
			vni[v.Name] = v.VNI
		}
		if v.GatewayMAC.IsZero() && !r.has(element("vpcs", i)+".gatewayMAC") {
			v.GatewayMAC = defaultMAC(v.VNI)
		}
		for j := range v.Attachments {
			a := &v.Attachments[j]
			if a.Type != Routed && len(a.Prefixes) > 0 && a.Learn == "" {
				a.Learn = LearnTraffic
			}
			if a.UDPPort != 0 || r.has(element(element("vpcs", i)+".attachments", j)+".udpPort") {
				continue
			}
			switch a.Type {
			case VXLAN:
				a.UDPPort = vxlanPort
			case Geneve:
				a.UDPPort = genevePort
			}
		}
	}
	if c.Direct.PinDir == "" && !r.has("direct.pinDir") && c.Gateway != "" {
		c.Direct.PinDir = defaultPinDir + c.Gateway
	}
	for _, a := range c.WireGuard.TunnelAddresses {
		if a.Is4() && c.BGP.RouterID.IsZero() && !r.has("bgp.routerID") && (len(c.BGP.Neighbours) > 0 || c.SpeaksEVPN()) {
			c.BGP.RouterID = RouterID{a}
		}
	}
	if c.BGP.EVPN.ASN == 0 && !r.has("bgp.evpn.asn") && c.SpeaksEVPN() {
		c.BGP.EVPN.ASN = c.BGP.ASN
	}
	for i := range c.Peers {
		if b := &c.Peers[i].BGP; b.Enabled && b.ASN == 0 && !r.has(element("peers", i)+".bgp.asn") {
			b.ASN = c.BGP.EVPN.ASN
		}
		for j := range c.Peers[i].VPCs {
			v := &c.Peers[i].VPCs[j]
			if v.VNI == 0 && !r.has(element(element("peers", i)+".vpcs", j)+".vni") {
				v.VNI = vni[v.Name]
			}
		}
	}
}

// defaultMAC is a locally administered address. It depends on the VNI alone, so
// that gateways of one site share it and a pod's neighbour entry outlives one.
func defaultMAC(vni uint32) MAC {
	return MAC{0x02, 0x51, 0xce, byte(vni >> 16), byte(vni >> 8), byte(vni)}
}

func (c *checker) checkVPCs() {
	vnis := map[uint32]string{}
	routed := map[string]string{}
	for i := range c.VPCs {
		v, path := &c.VPCs[i], element("vpcs", i)
		c.checkVPCName(v, i)
		c.checkVNI(v, path, vnis)
		for j, a := range v.GatewayAddresses {
			c.checkGatewayAddress(v, i, j, a)
		}
		c.mac(path+".gatewayMAC", v.GatewayMAC)
		c.checkHostTimeout(path+".hostTimeout", v.HostTimeout)
		c.checkGroups(v.MulticastGroups, path+".multicastGroups")
		c.checkACL(v, path)
		c.checkLimits(path+".limits", &v.Limits)
		overlays := map[overlay]string{}
		for j := range v.Attachments {
			c.checkAttachment(i, j, overlays, routed)
		}
	}
}

func (c *checker) checkGroups(groups []netip.Prefix, path string) {
	for i, g := range groups {
		at := element(path, i)
		switch {
		case !g.IsValid() || g != g.Masked():
			c.add(at, "must be a prefix without host bits, such as 239.1.0.0/16")
		case !packet.CarriedGroup(g):
			c.add(at, "%s holds addresses that are no multicast groups, or groups that never leave their link (224.0.0.0/24, ff02::/16)", g)
		case slices.Contains(groups[:i], g):
			c.add(at, "%s is listed already", g)
		}
	}
}

func (c *checker) checkVPCName(v *VPC, i int) {
	path := element("vpcs", i) + ".name"
	if v.Name == "" || !c.name(path, v.Name) {
		return
	}
	if first, ok := c.vpcs[v.Name]; ok {
		c.add(path, "VPC %s is already %s: give this one another name", v.Name, c.ref(element("vpcs", first)))
		return
	}
	c.vpcs[v.Name] = i
}

func (c *checker) checkVNI(v *VPC, path string, vnis map[uint32]string) {
	path += ".vni"
	switch {
	case v.Name == DefaultVPC && v.VNI != 0:
		c.add(path, "must be 0 for the VPC named default: set it to 0 or give the VPC another name")
		return
	case v.Name != DefaultVPC && v.VNI == 0 && !c.has(path) && v.Name != "":
		c.add(path, "is required: choose 1 to 16777215, as the site's overlay uses it")
		return
	case v.Name != DefaultVPC && v.VNI == 0 && v.Name != "":
		c.add(path, "0 is the default VPC's: name this VPC default, or choose 1 to 16777215")
		return
	}
	if first, ok := vnis[v.VNI]; ok {
		c.add(path, "VNI %d is already VPC %s's, %s: each VPC needs its own", v.VNI, c.vpcNameAt(first), c.ref(first))
		return
	}
	vnis[v.VNI] = path
}

// vpcNameAt returns the name of the VPC that a path of it belongs to.
func (c *checker) vpcNameAt(path string) string {
	for i := range c.VPCs {
		if element("vpcs", i)+".vni" == path {
			return c.VPCs[i].Name
		}
	}
	return "?"
}

func (c *checker) checkGatewayAddress(v *VPC, i, j int, a netip.Addr) {
	list := element("vpcs", i) + ".gatewayAddresses"
	path := element(list, j)
	if a.Is6() && a.IsLinkLocalUnicast() && !a.Is4In6() && a.Zone() == "" {
		// fe80::1 is a common gateway address of pods.
	} else if !c.unicast(path, a) {
		return
	}
	for k, other := range v.GatewayAddresses[:j] {
		if a == other {
			c.add(path, "%s is listed already, %s: remove one", a, c.ref(element(list, k)))
			return
		}
	}
	c.claim(i, netip.PrefixFrom(a, a.BitLen()), use{path, -1})
}

func (c *checker) mac(path string, m MAC) {
	if m.IsZero() {
		c.add(path, "must not be all zero")
	} else if m[0]&1 != 0 {
		c.add(path, "%s is a group address: the first byte must be even", m)
	}
}
