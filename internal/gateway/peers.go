package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/liveness"
	"github.com/sluicegw/sluice/relay/wireguard"
	"github.com/sluicegw/sluice/routing"
	"github.com/sluicegw/sluice/xdp"
)

// resolveTimeout bounds one look-up of a peer's name.
const resolveTimeout = 5 * time.Second

// peer is a configured peer in force.
type peer struct {
	peerRef
	cfg       config.Peer
	preshared wireguard.PresharedKey
	endpoint  netip.AddrPort // configured or resolved; invalid while unknown
	paths     []liveness.Path
	names     map[string][]netip.Addr // of its paths, as resolved
	resolving bool
	problem   string // why its name does not resolve
}

// secrets are the keys that a configuration names, read from their files.
type secrets struct {
	private   wireguard.PrivateKey
	preshared map[string]wireguard.PresharedKey // by peer name
	passwords map[string]routing.Secret         // by BGP neighbour's name
}

func readSecrets(cfg *config.Config) (*secrets, error) {
	s := &secrets{preshared: make(map[string]wireguard.PresharedKey), passwords: make(map[string]routing.Secret)}
	var err error
	if s.private, err = wireguard.ReadPrivateKey(cfg.WireGuard.KeyFile); err != nil {
		return nil, fmt.Errorf("wireguard.keyFile: %w", err)
	}
	own := s.private.PublicKey()
	for _, p := range cfg.Peers {
		if p.Encryption == config.EncryptionNone {
			continue
		}
		if wireguard.PublicKey(p.PublicKey) == own {
			s.zero()
			return nil, fmt.Errorf("peer %s: publicKey is this gateway's own", p.Name)
		}
		if p.PresharedKeyFile == "" {
			continue
		}
		key, err := wireguard.ReadPresharedKey(p.PresharedKeyFile)
		if err != nil {
			s.zero()
			return nil, fmt.Errorf("peer %s: presharedKeyFile: %w", p.Name, err)
		}
		s.preshared[p.Name] = key
	}
	for _, n := range cfg.BGP.Neighbours {
		if n.PasswordFile == "" {
			continue
		}
		if s.passwords[n.Name], err = readPassword(n.PasswordFile); err != nil {
			s.zero()
			return nil, fmt.Errorf("bgp neighbour %s: passwordFile: %w", n.Name, err)
		}
	}
	return s, nil
}

func (s *secrets) zero() {
	s.private.Zero()
	for _, k := range s.preshared {
		k.Zero()
	}
}

// setPeers adds and changes peers, so that the next snapshot can name them. Peers that are no longer configured are
// returned: they go once no snapshot holds them. A peer is its public key, or the address of one that has none: under
// another name it is still the same.
func (g *Gateway) setPeers(cfg *config.Config, s *secrets) (gone []*peer, err error) {
	next := make(map[string]*peer, len(cfg.Peers))
	before := make(map[string]*peer, len(g.peers))
	for _, p := range g.peers {
		before[identity(&p.cfg)] = p
	}
	for _, c := range cfg.Peers {
		key := s.preshared[c.Name]
		p := &peer{cfg: c, preshared: key.Clone()}
		if old := before[identity(&c)]; old != nil {
			delete(before, identity(&c))
			p.peerRef, p.names = old.peerRef, old.names
			if old.cfg.Endpoint == c.Endpoint {
				p.endpoint, p.problem = old.endpoint, old.problem
			}
			old.preshared.Zero()
		} else {
			p.id = g.freeID(next)
		}
		if literal, ok := c.Endpoint.AddrPort(); ok {
			p.endpoint = literal
		}
		if err := g.setPeer(p); err != nil {
			return nil, err
		}
		next[c.Name] = p
	}
	g.peers = next
	return slices.Collect(maps.Values(before)), nil
}

// identity is what makes a configured peer the same after a change.
func identity(p *config.Peer) string {
	if p.Encryption == config.EncryptionNone {
		return p.Endpoint.Host
	}
	return p.PublicKey.String()
}

func (g *Gateway) setPeer(p *peer) error {
	if p.cfg.Encryption == config.EncryptionNone {
		return nil // no session to keep: the snapshot is all there is
	}
	ref, err := g.device.SetPeer(wireguard.PeerConfig{
		PublicKey:           wireguard.PublicKey(p.cfg.PublicKey),
		PresharedKey:        p.preshared,
		Endpoint:            wireguard.Endpoint{Remote: p.endpoint},
		PersistentKeepalive: p.cfg.PersistentKeepalive,
		FlowPorts:           flowPorts(&p.cfg),
		ID:                  p.id,
	})
	if err != nil {
		return fmt.Errorf("peer %s: %w", p.cfg.Name, err)
	}
	p.wireguard = ref
	return nil
}

// freeID is the lowest id that neither a peer in force nor a new one has.
func (g *Gateway) freeID(next map[string]*peer) uint32 {
	taken := make(map[uint32]bool, len(g.peers)+len(next))
	for _, p := range g.peers {
		taken[p.id] = true
	}
	for _, p := range next {
		taken[p.id] = true
	}
	id := uint32(0)
	for taken[id] {
		id++
	}
	return id
}

func (g *Gateway) removePeers(gone []*peer) {
	for _, p := range gone {
		if p.wireguard == nil {
			continue
		}
		g.device.RemovePeer(wireguard.PublicKey(p.cfg.PublicKey))
		p.preshared.Zero()
	}
}

func (g *Gateway) peerRefs() map[string]peerRef {
	refs := make(map[string]peerRef, len(g.peers))
	for name, p := range g.peers {
		ref := p.peerRef
		ref.addresses, ref.use, ref.claims = p.addresses(), g.useOf(p), g.ha.roles.Load().claims[name]
		refs[name] = ref
	}
	return refs
}

// address is where the peer is: the last that it sent something authentic from, or else its endpoint.
func (p *peer) address() netip.Addr {
	if p.wireguard == nil {
		return p.endpoint.Addr()
	}
	if last := p.wireguard.Endpoint(); last.Remote.IsValid() && last.Via == nil {
		return last.Remote.Addr().Unmap().WithZone("")
	}
	return p.endpoint.Addr().Unmap().WithZone("")
}

// followPeers tells the XDP program when peers have come to other addresses.
func (g *Gateway) followPeers() {
	known := make(map[netip.Addr]bool, len(g.plan.xdp.Peers))
	for _, a := range g.plan.xdp.Peers {
		known[a] = true
	}
	for _, p := range g.peers {
		if a := p.address(); p.wireguard != nil && a.IsValid() && !known[a] && len(known) < xdp.MaxPeers {
			if err := g.update(); err != nil {
				g.log.Error("update forwarding state", "error", err)
			}
			return
		}
	}
}

// resolution is the answer to the look-up of a peer's name.
type resolution struct {
	peer  *peer
	addrs map[string][]netip.Addr // by name
	err   error
}

// resolveNames looks up the peers that are configured by name and have no session: at first, and again for as long as
// they do not answer, because the name may have moved. Look-ups run aside, as they may take seconds.
func (g *Gateway) resolveNames(ctx context.Context) {
	for _, p := range g.peers {
		names := hostNames(&p.cfg)
		if len(names) == 0 || p.resolving || p.wireguard.Status().Session && p.allUp(g.alive.Paths(p.id)) {
			continue
		}
		p.resolving = true
		go func() {
			r := resolution{peer: p, addrs: make(map[string][]netip.Addr)}
			bounded, cancel := context.WithTimeout(ctx, resolveTimeout)
			defer cancel()
			for _, name := range names {
				addrs, err := net.DefaultResolver.LookupNetIP(bounded, "ip", name)
				r.err = errors.Join(r.err, err)
				for _, a := range addrs {
					r.addrs[name] = append(r.addrs[name], a.Unmap())
				}
			}
			select {
			case g.resolved <- r:
			case <-g.done:
			}
		}()
	}
}

func (g *Gateway) applyResolution(r resolution) {
	p := r.peer
	p.resolving = false
	if g.peers[p.cfg.Name] != p { // changed or removed meanwhile
		return
	}
	p.problem = ""
	if r.err != nil {
		p.problem = "its endpoint does not resolve: " + r.err.Error()
	}
	if len(p.cfg.Paths) > 0 {
		g.applyNames(p, r.addrs)
	} else if found := r.addrs[p.cfg.Endpoint.Host]; len(found) > 0 && netip.AddrPortFrom(found[0], p.cfg.Endpoint.Port) != p.endpoint {
		p.endpoint = netip.AddrPortFrom(found[0], p.cfg.Endpoint.Port)
		if err := g.setPeer(p); err != nil {
			p.problem = err.Error()
		}
		g.log.Info("peer resolved", "peer", p.cfg.Name, "endpoint", p.endpoint)
	}
	g.publish()
}
