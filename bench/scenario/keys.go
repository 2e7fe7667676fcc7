package scenario

import (
	"net/netip"
	"path/filepath"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// WireGuardPort is where WireGuard gateways listen.
const WireGuardPort = 51820

// Peer is a WireGuard gateway as the other side knows it.
type Peer struct {
	Number   int
	Key      wireguard.PublicKey
	Endpoint netip.AddrPort
	Tunnel   netip.Addr // its address inside the tunnels
	Prefixes []netip.Prefix

	private wireguard.PrivateKey
}

// makeKeys makes the keys of a lab. Those of gateways that are started are in wg.key in
// the host's folder, where only root can read them.
func (l *Lab) makeKeys() error {
	for i := range l.peers {
		n := 1
		if i == 1 && l.standIn {
			n = l.Scenario.Peers
		}
		for k := range n {
			key, err := wireguard.NewPrivateKey()
			if err != nil {
				return err
			}
			l.peers[i] = append(l.peers[i], Peer{
				Number: k + 1, Key: key.PublicKey(), private: key,
				Endpoint: netip.AddrPortFrom(outer(i+1, k), WireGuardPort),
				Tunnel:   tunnelAddress(i+1, k),
			})
		}
		if err := l.peers[i][0].private.WriteFile(filepath.Join(l.Ends[i].Gateway.Dir(), "wg.key")); err != nil {
			return err
		}
		for _, p := range l.peers[i][1:] {
			l.Ends[i].WAN.AddAddr(netip.PrefixFrom(p.Endpoint.Addr(), wanBits))
			if err := l.Scope.Err(); err != nil {
				return err
			}
			if err := Neighbour(l.Ends[1-i].Gateway, l.Ends[1-i].WAN.Name, p.Endpoint.Addr(), WANMAC(i+1)); err != nil {
				return err
			}
		}
		// Every peer has its share of the routes.
		for r, prefix := range l.RoutesTo(i) {
			p := &l.peers[i][r%n]
			p.Prefixes = append(p.Prefixes, prefix)
		}
	}
	return nil
}

// outer is the WAN address of the k-th gateway at a site: the first one's own, and for
// those that it stands in for others of the same network.
func outer(site, k int) netip.Addr {
	if k == 0 {
		return WAN(site)
	}
	return netip.AddrFrom4([4]byte{198, 51, 101 + byte(k>>8), byte(k)})
}

// tunnelAddress of the k-th gateway at a site.
func tunnelAddress(site, k int) netip.Addr {
	return netip.AddrFrom4([4]byte{100, 64 + byte(k>>8), byte(k), byte(site)})
}

// Peers are what a site's gateway (0 or 1) has for peers.
func (l *Lab) Peers(site int) []Peer { return l.peers[1-site] }

// PrivateKey of a site's gateway.
func (l *Lab) PrivateKey(site int) wireguard.PrivateKey { return l.peers[site][0].private }

// Active says whether a site's gateway is to be started. Where only one gateway is under test and
// it speaks WireGuard, we are the other one.
func (l *Lab) Active(site int) bool {
	switch {
	case !l.standIn:
		return true
	case l.Scenario.Direction == method.Encrypt:
		return site == 0
	}
	return site == 1
}

// Prefixes are what is at a site (0 or 1), as short as its own gateway needs it.
func (l *Lab) Prefixes(site int) []netip.Prefix {
	all := []netip.Prefix{InnerPrefix(site+1, l.Scenario.Attachment)}
	if site == 1 && l.many() > 0 {
		all = append(all, ManyPrefix)
	}
	return all
}

// RoutesTo are the routes to a site that the other one's gateway has: as many as the
// scenario asks for, to the second site.
func (l *Lab) RoutesTo(site int) []netip.Prefix {
	all := []netip.Prefix{InnerPrefix(site+1, l.Scenario.Attachment)}
	if site == 1 {
		all = append(all, ManyRoutes(l.many())...)
	}
	return all
}

// maxMany leaves room for a gateway's own prefixes in a table of 100 000.
const maxMany = 99_990

// many is how many routes there are beside the one to the second site's network: every peer needs one.
func (l *Lab) many() int {
	n := min(l.Scenario.Routes-1, maxMany)
	if l.Scenario.Peers > 1 {
		n = max(n, l.Scenario.Peers)
	}
	return n
}
