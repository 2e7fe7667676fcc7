package config

import (
	"time"
)

// Path is one of several ways to a peer.
type Path struct {
	// Name of the path, for people and metrics.
	Name string `yaml:"name" jsonschema:"required,example=fibre"`

	// Outer address and UDP port of the peer on this path: an IP address or a DNS
	// name. Each address of a name is a path of its own.
	Endpoint Endpoint `yaml:"endpoint,omitempty" jsonschema:"example=198.51.100.2:51820"`

	// The port that this path leaves through, one of `ports`: for two uplinks. The
	// kernel needs a route to the endpoint through that interface, of whatever
	// metric. By default the kernel's best route decides.
	Port string `yaml:"port,omitempty" jsonschema:"example=wan0"`

	// Name of another peer that both we and this peer reach, through whose tunnels the
	// messages travel, in place of `endpoint`: for two gateways behind NATs. They stay
	// sealed between the two ends. That gateway must allow it (`relayTo`), and the peer
	// needs such a path too.
	Via string `yaml:"via,omitempty" jsonschema:"example=hub-1"`

	// Which path is preferred of those that work: the smallest. Of equal ones the
	// fastest is, by round trip, jitter and loss.
	Priority int `yaml:"priority" jsonschema:"minimum=0,maximum=65535,default=10"`
}

// maxPathHold is our choice: longer is for people to decide.
const maxPathHold = time.Hour

// checkPaths checks the paths of a peer.
func (c *checker) checkPaths(peer int, endpoints map[Endpoint]string) {
	p, path := &c.Peers[peer], element("peers", peer)
	if p.PathHold < 0 || p.PathHold > maxPathHold {
		c.add(path+".pathHold", "must be 0s to %s, not %s", maxPathHold, p.PathHold)
	}
	if len(p.Paths) == 0 {
		return
	}
	if !p.Endpoint.IsZero() {
		c.add(path+".endpoint", "give either endpoint or paths: make it one of %s", c.ref(path+".paths"))
	}
	if !p.Probe.Enabled {
		c.add(path+".probe.enabled", "must be true: only probes tell which of several paths work")
	}
	if !c.anyBad(path+".tunnelAddresses") && !c.anyBad("wireguard.tunnelAddresses") && !commonFamily(c.WireGuard.TunnelAddresses, p.TunnelAddresses) {
		c.add(path+".tunnelAddresses", "is required with paths, of a family that wireguard.tunnelAddresses has: paths are probed between tunnel addresses")
	}
	type way struct {
		endpoint Endpoint
		port     string
	}
	names, ways, vias := map[string]string{}, map[way]string{}, map[string]string{}
	for i := range p.Paths {
		w, at := &p.Paths[i], element(path+".paths", i)
		if w.Name != "" && c.name(at+".name", w.Name) {
			if first, ok := names[w.Name]; ok {
				c.add(at+".name", "path %s is already %s: give this one another name", w.Name, c.ref(first))
			}
			names[w.Name] = at
		}
		c.checkPortName(at+".port", w.Port)
		if w.Via != "" {
			c.checkVia(p, w, at)
			if first, ok := vias[w.Via]; ok {
				c.add(at+".via", "there is a path via %s already, %s", w.Via, c.ref(first))
			}
			vias[w.Via] = at
			continue
		}
		if w.Endpoint.IsZero() {
			c.add(at+".endpoint", "is required: it is where the path leads, unless that is via another peer")
			continue
		}
		this := way{w.Endpoint, w.Port}
		if first, ok := ways[this]; ok {
			c.add(at+".endpoint", "%s is already %s: give it another port, or remove one", w.Endpoint, c.ref(first))
			continue
		}
		ways[this] = at
		if first, ok := endpoints[w.Endpoint]; ok && first == path {
			continue // another path of this peer leads there, through another port
		}
		c.checkEndpoint(at+".endpoint", w.Endpoint, endpoints)
		if endpoints[w.Endpoint] == at {
			endpoints[w.Endpoint] = path
		}
	}
}
