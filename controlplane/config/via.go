package config

import (
	"slices"
)

// checkVia checks a path through another peer.
func (c *checker) checkVia(p *Peer, w *Path, at string) {
	if !w.Endpoint.IsZero() {
		c.add(at+".endpoint", "has no meaning with via: the path leads to the peer's tunnel address")
	}
	if w.Port != "" {
		c.add(at+".port", "has no meaning with via: the way to %s decides", w.Via)
	}
	switch other := c.otherPeer(p, at+".via", w.Via); {
	case other == nil:
	case len(other.Paths) > 0 && !slices.ContainsFunc(other.Paths, func(w Path) bool { return w.Via == "" }):
		c.add(at+".via", "%s is itself reached only through another peer", w.Via)
	}
}

// otherPeer finds another peer that has a tunnel; nil: there is none, which is reported.
func (c *checker) otherPeer(p *Peer, at, name string) *Peer {
	for i := range c.Peers {
		other := &c.Peers[i]
		switch {
		case other.Name != name:
			continue
		case other == p:
			c.add(at, "%s is this very peer", name)
		case other.Encryption == EncryptionNone:
			c.add(at, "%s has encryption none: there is no tunnel to it", name)
		case len(other.TunnelAddresses) == 0:
			c.add(at, "%s has no tunnelAddresses", name)
		default:
			return other
		}
		return nil
	}
	if !c.namesBad("peers", len(c.Peers)) {
		c.add(at, "%q is not a peer", name)
	}
	return nil
}

// checkRelayTo checks whom a peer may exchange sealed messages with through us.
func (c *checker) checkRelayTo(p *Peer, path string) {
	for i, name := range p.RelayTo {
		at := element(path+".relayTo", i)
		if other := c.otherPeer(p, at, name); other == nil {
			continue
		}
		if len(p.TunnelAddresses) == 0 {
			c.add(at, "%s has no tunnelAddresses, between which such messages travel", p.Name)
		}
		if slices.Contains(p.RelayTo[:i], name) {
			c.add(at, "%s is listed twice", name)
		}
	}
}
