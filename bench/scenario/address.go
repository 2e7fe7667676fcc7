package scenario

import (
	"fmt"
	"net"
	"net/netip"
)

// What every contestant's packets look like. Sites are 1 and 2; the end host of a
// site is a plain host and, for the VXLAN attachment, a node with one pod.
const (
	// InnerMTU is what the ends may send: WireGuard's usual tunnel MTU.
	InnerMTU = 1420
	// LinkMTU leaves room for the longest headers of any contestant (VXLAN at the
	// site, Geneve in WireGuard on the WAN) around InnerMTU, so that all of them
	// carry the same packets and none fragments.
	LinkMTU = 1560
	// VNI is the first VPC's.
	VNI = 100
	// VXLANPort is IANA's.
	VXLANPort = 4789
	// DataPort is the UDP destination of the generator's inner packets.
	DataPort = 7000
)

func address(format string, site int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf(format, site))
}

// Underlay is the address of a site's end host (the VTEP) or gateway on the site link.
func Underlay(site int, gateway bool) netip.Addr {
	if gateway {
		return address("192.168.%d.1", site)
	}
	return address("192.168.%d.10", site)
}

// WAN is the outer address of a gateway.
func WAN(site int) netip.Addr { return address("198.51.100.%d", site) }

// Inner is the address that the end host of a site sends from and to.
func Inner(site int, attachment string) netip.Addr {
	if attachment == VXLAN {
		return address("10.%d.0.10", site)
	}
	return address("172.16.%d.10", site)
}

// InnerGateway is the gateway's address in the network of Inner.
func InnerGateway(site int, attachment string) netip.Addr {
	if attachment == VXLAN {
		return address("10.%d.0.1", site)
	}
	return address("172.16.%d.1", site)
}

// InnerPrefix is the network of Inner.
func InnerPrefix(site int, attachment string) netip.Prefix {
	if attachment == VXLAN {
		return netip.PrefixFrom(address("10.%d.0.0", site), 16)
	}
	return netip.PrefixFrom(address("172.16.%d.0", site), 24)
}

// ManyPrefix holds the destinations of a scenario with many routes; all of them are
// behind the second site's end host.
var ManyPrefix = netip.MustParsePrefix("10.64.0.0/12")

// ManyRoutes are n prefixes of ManyPrefix, one address each.
func ManyRoutes(n int) []netip.Prefix {
	all := make([]netip.Prefix, n)
	addr := ManyPrefix.Addr()
	for i := range all {
		all[i] = netip.PrefixFrom(addr, 32)
		addr = addr.Next()
	}
	return all
}

// EndMAC is the address of an end host's link, GatewayMAC of a gateway's site0.
func EndMAC(site int) net.HardwareAddr     { return net.HardwareAddr{2, 0, 0, 0, byte(site), 0x10} }
func GatewayMAC(site int) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, byte(site), 1} }

// WANMAC is the address of a gateway's wan0.
func WANMAC(site int) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 1, byte(site), 1} }

// PodMAC is the address inside the overlay of a site's end host.
func PodMAC(site int) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 10, byte(site), 0x10} }

// OverlayMAC is the address inside the overlay of every gateway.
func OverlayMAC() net.HardwareAddr { return net.HardwareAddr{2, 0x51, 0xce, 0, 0, 0x64} }
