package config

import (
	"strings"
)

// TUN is the device by which the gateway's own kernel speaks inside the tunnels.
type TUN struct {
	// Name of the TUN device that Sluice makes, with `wireguard.tunnelAddresses` and a
	// route to each peer's ones, so that the kernel of this gateway and those of its
	// peers can talk: BGP, scraping, ssh, ping. It exists while Sluice runs. Off by
	// default. To the kernel the addresses are like any others of this host: set
	// rp_filter or a firewall against who claims them outside of the tunnels.
	Name string `yaml:"name,omitempty" jsonschema:"example=sluice0"`

	// MTU of the device. Where a peer's path takes less, the kernel is told so.
	MTU int `yaml:"mtu" jsonschema:"minimum=1280,maximum=1700,default=1420"`
}

func (c *checker) checkTUN() {
	const path = "wireguard.tun.name"
	name := c.WireGuard.TUN.Name
	if name == "" {
		if c.has(path) {
			c.add(path, "must not be empty: leave the key out for no device")
		}
		return
	}
	first, taken := c.ports[name]
	switch {
	case badInterfaceName(name) || strings.Contains(name, "%"): // the kernel would put a number for %d
		c.add(path, "%q is not an interface name: at most 15 bytes without slash, colon, percent sign or space", name)
	case taken:
		c.add(path, "%s is %s: Sluice makes the TUN device itself, give it another name", name, c.ref(first))
	case len(c.WireGuard.TunnelAddresses) == 0:
		c.add("wireguard.tunnelAddresses", "is required: wireguard.tun gives the kernel these addresses")
	}
}
