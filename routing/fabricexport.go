package routing

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// A fabric is told three things of a VPC: that we are one of its VTEPs, where our addresses in it are, and which prefixes
// other sites have behind us, the router.

// fabricExport is exportTo for a fabric.
func (s *speaker) fabricExport(r *rib, prefix netip.Prefix, from origin) (exportAs, bool) {
	v := s.fabricVPC(r.vpc)
	if v == nil || r.evpn == nil || r.silent || r.spare || !v.VTEP.IsValid() {
		return exportAs{}, false
	}
	_, always := r.export[prefix]
	return exportAs{evpn: r.evpn, vtep: v.VTEP, mac: v.MAC, tunnel: v.Tunnel}, always || from == ofGateways
}

// fabricOwn adds what a fabric is told of ourselves.
func (s *speaker) fabricOwn(r *rib, out map[exportKey]exportAs) {
	v := s.fabricVPC(r.vpc)
	if v == nil || r.evpn == nil || r.silent || r.spare || !v.VTEP.IsValid() {
		return
	}
	add := func(a netip.Addr, kind RouteKind, mac [6]byte) {
		key := exportKey{vpc: r.vpc, prefix: netip.PrefixFrom(a, a.BitLen()), kind: kind}
		out[key] = exportAs{evpn: r.evpn, kind: kind, vtep: v.VTEP, mac: mac, tunnel: v.Tunnel}
	}
	add(v.VTEP, VTEPRoute, [6]byte{})
	for _, a := range v.Gateways {
		add(a.WithZone(""), HostRoute, v.MAC)
	}
}

// fabricAnnouncement tells a fabric of a prefix, a host or a VTEP. Unlike the next hop towards gateways, that of an overlay is not the
// session's own address.
func (as exportAs) fabricAnnouncement(p netip.Prefix) (*apiutil.Path, error) {
	failed := func(err error) (*apiutil.Path, error) { return nil, fmt.Errorf("evpn route %s: %w", p, err) }
	rd := bgp.GetRouteDistinguisher(as.evpn.Distinguisher.distinguisher())
	esi := bgp.EthernetSegmentIdentifier{Type: bgp.ESI_ARBITRARY, Value: make([]byte, 9)}
	mac := net.HardwareAddr(as.mac[:]).String()
	communities := []bgp.ExtendedCommunityInterface{bgp.NewEncapExtended(bgp.TunnelType(as.tunnel))}
	attrs := []bgp.PathAttributeInterface{bgp.NewPathAttributeOrigin(bgp.BGP_ORIGIN_ATTR_TYPE_IGP)}
	var nlri *bgp.EVPNNLRI
	var err error
	switch as.kind {
	case HostRoute:
		nlri, err = bgp.NewEVPNMacIPAdvertisementRoute(rd, esi, 0, mac, p.Addr(), []uint32{as.evpn.VNI})
		// Leaves for which the VNI is a VRF's take a host for a route, and need the MAC address of its router: FRR would send
		// what is behind the same next hop to none.
		communities = append(communities, bgp.NewDefaultGatewayExtended(), bgp.NewRoutersMacExtended(mac))
	case VTEPRoute:
		nlri, err = bgp.NewEVPNMulticastEthernetTagRoute(rd, 0, p.Addr())
		attrs = append(attrs, bgp.NewPathAttributePmsiTunnel(bgp.PMSI_TUNNEL_TYPE_INGRESS_REPL, false, as.evpn.VNI, &bgp.IngressReplTunnelID{Value: p.Addr()}))
	default:
		unspecified := netip.IPv6Unspecified()
		if p.Addr().Is4() {
			unspecified = netip.IPv4Unspecified()
		}
		nlri, err = bgp.NewEVPNIPPrefixRoute(rd, esi, 0, uint8(p.Bits()), p.Addr(), unspecified, as.evpn.VNI)
		communities = append(communities, bgp.NewRoutersMacExtended(mac))
	}
	if err != nil {
		return failed(err)
	}
	for _, t := range as.evpn.Targets {
		c, err := bgp.ParseExtended(t.target())
		if err != nil {
			return failed(err)
		}
		communities = append(communities, c)
	}
	reach, err := bgp.NewPathAttributeMpReachNLRI(bgp.RF_EVPN, []bgp.PathNLRI{{NLRI: nlri}}, as.vtep)
	if err != nil {
		return failed(err)
	}
	attrs = append(attrs, reach, bgp.NewPathAttributeExtendedCommunities(communities))
	return &apiutil.Path{Family: bgp.RF_EVPN, Nlri: nlri, Attrs: attrs}, nil
}
