package config

import (
	"fmt"
	"path/filepath"
	"strings"
)

// defaultPinDir is where the gateways of a host have their pins, each a
// directory of its own.
const defaultPinDir = "/sys/fs/bpf/sluice/"

// HasDirectPeers says whether a peer is spoken to in the clear.
func (c *Config) HasDirectPeers() bool {
	for i := range c.Peers {
		if c.Peers[i].Encryption == EncryptionNone {
			return true
		}
	}
	return false
}

// Warnings are what is allowed and should be meant, one sentence each: for
// `sluice check`, and for the log when a configuration is put into force.
func (c *Config) Warnings() []string {
	var lines []string
	for i := range c.Peers {
		p := &c.Peers[i]
		if p.Encryption != EncryptionNone {
			continue
		}
		names := make([]string, len(p.VPCs))
		for j := range p.VPCs {
			names[j] = p.VPCs[j].Name
		}
		lines = append(lines, fmt.Sprintf("peer %s has encryption none: all traffic of VPC %s with it travels in the clear, "+
			"and whoever can send from %s can send into it (docs/direct.md)", p.Name, strings.Join(names, ", "), p.Endpoint.Host))
	}
	return lines
}

// checkDirectPort claims the UDP port only when there is somebody to use it.
func (c *checker) checkDirectPort() {
	if c.HasDirectPeers() {
		c.claimUDP("direct.port", c.Direct.Port, "peers with encryption none")
	}
	// Not a name that a mistake could make the root of something else: pins are
	// removed from there.
	if c.has("direct.pinDir") {
		c.absolutePath("direct.pinDir", c.Direct.PinDir)
		if filepath.IsAbs(c.Direct.PinDir) && filepath.Clean(c.Direct.PinDir) != c.Direct.PinDir {
			c.add("direct.pinDir", "write %s", filepath.Clean(c.Direct.PinDir))
		}
	}
}

// checkDirect checks a peer with encryption none.
func (c *checker) checkDirect(p *Peer, path string, endpoints map[Endpoint]string) {
	for _, key := range []struct {
		name string
		set  bool
	}{
		{"publicKey", !p.PublicKey.IsZero()},
		{"presharedKeyFile", p.PresharedKeyFile != ""},
		{"persistentKeepalive", p.PersistentKeepalive != 0},
		{"flowPort", p.FlowPort != 0},
		{"flowPortCount", p.FlowPortCount != 0},
		{"tunnelAddresses", len(p.TunnelAddresses) > 0},
		{"mtu", p.MTU != 0},
		{"paths", len(p.Paths) > 0},
		{"relayTo", len(p.RelayTo) > 0},
		{"relayLimit", p.RelayLimit != Limit{}},
	} {
		if key.set {
			c.add(path+"."+key.name, "has no meaning with encryption none: remove it, or remove encryption to encrypt the traffic with %s", p.Name)
		}
	}
	at := path + ".endpoint"
	if p.Endpoint.IsZero() {
		c.add(at, "is required with encryption none: the address is all that tells the peer from a stranger")
		return
	}
	address, literal := p.Endpoint.AddrPort()
	if !literal {
		c.add(at, "must be an IP address and a port with encryption none: the address is all that tells the peer from a stranger, and a name may lead anywhere")
		return
	}
	c.checkEndpoint(at, p.Endpoint, endpoints)
	if first, ok := c.directs[address.Addr()]; ok {
		c.add(at, "%s is already the address of %s, which has encryption none too: their packets could not be told apart", address.Addr(), c.ref(first))
		return
	}
	c.directs[address.Addr()] = path
}
