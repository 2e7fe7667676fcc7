package scenario

import (
	"net/netip"
	"path/filepath"

	"github.com/sluicegw/sluice/relay/wireguard"
)

// Keys makes a key for each gateway and writes it to wg.key in the host's folder, where
// only root can read it.
func (l *Lab) Keys() (keys [2]wireguard.PrivateKey, err error) {
	for i, site := range l.Ends {
		if keys[i], err = wireguard.NewPrivateKey(); err != nil {
			return keys, err
		}
		if err = keys[i].WriteFile(filepath.Join(site.Gateway.Dir(), "wg.key")); err != nil {
			return keys, err
		}
	}
	return keys, nil
}

// Prefixes are what is at a site (0 or 1), as short as its own gateway needs it.
func (l *Lab) Prefixes(site int) []netip.Prefix {
	all := []netip.Prefix{InnerPrefix(site+1, l.Scenario.Attachment)}
	if site == 1 && l.Scenario.Routes > 1 {
		all = append(all, ManyPrefix)
	}
	return all
}

// RoutesTo are the routes to a site that the other one's gateway has: as many as the
// scenario asks for, to the second site.
func (l *Lab) RoutesTo(site int) []netip.Prefix {
	all := []netip.Prefix{InnerPrefix(site+1, l.Scenario.Attachment)}
	if site == 1 && l.Scenario.Routes > 1 {
		all = append(all, ManyRoutes(l.Scenario.Routes-1)...)
	}
	return all
}
