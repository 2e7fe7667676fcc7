package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/xdp"
)

// Where there are peers with encryption none, the XDP program forwards to them without the process: it is pinned, and goes
// on however the process ends, on the last word it was given, until the next one takes over. `sluice cleanup` ends that.

// staysAttached says whether the program is to go on without us.
func (g *Gateway) staysAttached() bool {
	if !g.pinned || !g.cfg.HasDirectPeers() {
		return false
	}
	g.log.Warn("the XDP program stays attached and goes on forwarding to peers with encryption none; sluice cleanup ends that", "pins", g.cfg.Direct.PinDir)
	return true
}

// dropPins removes what a process before us has left attached, if there is no peer with encryption none any more: nobody
// would take it over.
func (g *Gateway) dropPins() error {
	g.pinned = g.cfg.HasDirectPeers()
	if g.pinned {
		return nil
	}
	if _, err := os.Stat(g.cfg.Direct.PinDir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := xdp.RemovePins(g.cfg.Direct.PinDir); err != nil {
		return fmt.Errorf("direct.pinDir: %w", err)
	}
	g.log.Info("there are no peers with encryption none any more: nothing stays attached that forwarded to them", "pins", g.cfg.Direct.PinDir)
	return nil
}

// takeOverWait is how long a start waits for the neighbours of hops. Chosen: a kernel that knows them answers within a
// few milliseconds; one that does not has nothing to lose.
const takeOverWait = time.Second

// expectHops finds out the neighbours of hops before the program takes over from one that knows them: a worker would have
// to park everything that comes until then. Which routed hosts there are the kernel remembers.
func (g *Gateway) expectHops() {
	if !g.pinned {
		return
	}
	wanted := make(map[neigh.Key]bool)
	for _, key := range g.forwarding.plan.neighbours {
		wanted[key] = true
	}
	for i := range g.plan.snapshot.VPCs {
		vpc := &g.plan.snapshot.VPCs[i]
		for _, a := range vpc.Attachments {
			if a.Kind == relay.Routed {
				g.rememberedHosts(vpc, a.Ifindex, wanted)
			}
		}
	}
	for deadline := time.Now().Add(takeOverWait); len(wanted) > 0 && time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		table := g.kernel.Table()
		for key := range wanted {
			if table.Lookup(key) != nil {
				delete(wanted, key)
			} else {
				g.kernel.Resolve(key)
			}
		}
	}
}

// rememberedHosts adds the neighbours on a port that are hosts of a VPC.
func (g *Gateway) rememberedHosts(vpc *relay.VPC, ifindex uint32, wanted map[neigh.Key]bool) {
	known, err := netlink.NeighList(int(ifindex), netlink.FAMILY_ALL)
	if err != nil {
		g.log.Warn("list the kernel's neighbours", "ifindex", ifindex, "error", err)
		return
	}
	for _, n := range known {
		a, ok := netip.AddrFromSlice(n.IP)
		a = a.Unmap()
		if !ok || n.State&(netlink.NUD_REACHABLE|netlink.NUD_STALE|netlink.NUD_DELAY|netlink.NUD_PROBE|netlink.NUD_PERMANENT) == 0 || len(wanted) >= xdp.MaxHops {
			continue
		}
		if r := vpc.Routes.Lookup(a); r != nil && r.NextHops[0].Kind == fib.Local {
			wanted[neigh.Key{Dst: a, Ifindex: ifindex}] = true
		}
	}
}
