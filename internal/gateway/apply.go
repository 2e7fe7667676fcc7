package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/neigh"
)

func newRevision(data []byte, path string) *sluicev1.ConfigRevision {
	sum := sha256.Sum256(data)
	return &sluicev1.ConfigRevision{Sha256: hex.EncodeToString(sum[:]), Path: path}
}

// commit puts a checked configuration into force: peers first, so that the snapshot can name them, then the snapshot,
// the program and the ports (reconcile), and last the peers that nothing names any more.
func (g *Gateway) commit(cfg *config.Config, s *secrets, revision *sluicev1.ConfigRevision) error {
	if s.private.PublicKey() != g.device.PublicKey() {
		if err := g.device.SetPrivateKey(s.private); err != nil {
			return err
		}
	}
	gone, err := g.setPeers(cfg, s)
	if err != nil {
		return err
	}
	g.cfg, g.bgp.passwords = cfg, s.passwords
	g.nextRevision++
	revision.Revision, revision.Applied = g.nextRevision, timestamppb.Now()
	g.revision = revision
	g.refused.Store(nil)
	for _, warning := range cfg.Warnings() {
		g.log.Warn("unencrypted", "warning", warning)
	}
	if cfg.HasDirectPeers() && !g.pinned {
		g.log.Warn("the XDP program was loaded before there were peers with encryption none: until a restart, forwarding to them ends with this process")
	}
	err = g.update()
	g.removePeers(gone)
	g.speak(g.kernel.Links())
	return err
}

// update compiles and publishes the forwarding state. It leaves the ports alone.
func (g *Gateway) update() error {
	links := g.kernel.Links()
	g.setPaths(links)
	p, err := compile(g.cfg, links, g.peerRefs(), g.bgp.router.Taken)
	if err != nil {
		return err
	}
	p.snapshot.Notice = g.notice()
	before := g.numbers.snapshot
	g.numbers.assign(p.snapshot, time.Now(), g.relay.RouteCounter)
	if err := g.relay.Update(p.snapshot); err != nil {
		g.numbers.assign(before, time.Now(), g.relay.RouteCounter)
		return err
	}
	g.tellLearner(p)
	g.watchPeers()
	g.setCluster()
	g.probePeers()
	failed := g.setState(p)
	g.announce(p.snapshot.Local)
	g.plan, g.links = p, links // what workers have, whatever the program has taken of it
	g.publish()
	return failed
}

// announce tells peers that talk to an address of ours which is gone where we are now: one with nothing to say would
// be silent, and the other side would go on sending to the old address until it takes us for dead.
func (g *Gateway) announce(local []netip.Addr) {
	if g.plan == nil {
		return
	}
	for _, p := range g.peers {
		if p.wireguard == nil {
			continue
		}
		if old := p.wireguard.Endpoint().Local; slices.Contains(g.plan.snapshot.Local, old) && !slices.Contains(local, old) {
			g.log.Info("our address is gone, telling the peer", "peer", p.cfg.Name, "address", old)
			p.wireguard.Announce()
		}
	}
}

// reconcile makes what is there what is wanted. What fails is logged, shown in Status, and tried again.
func (g *Gateway) reconcile() {
	if err := g.update(); err != nil {
		g.log.Error("update forwarding state", "error", err)
	}
	g.reconcilePorts(g.cfg, g.kernel.Links())
	g.listen()
	g.reconcileTUN(g.cfg)
	g.speak(g.kernel.Links())
	g.publish()
}

// reload reads the configuration file again. A file with problems changes nothing; they are the error.
func (g *Gateway) reload(ctx context.Context) (problems []config.Problem, changes []string, err error) {
	data, err := os.ReadFile(g.options.ConfigPath)
	if err != nil {
		return g.refuse(change{}, []config.Problem{{Message: err.Error()}}), nil, nil
	}
	return g.change(ctx, data, g.options.ConfigPath, change{})
}

// change says how a configuration is put into force.
type change struct {
	dryRun bool // only say what would change
	write  bool // and write it to the configuration file
}

// change checks a configuration as a whole and puts it into force, or reports all its problems and does nothing.
func (g *Gateway) change(ctx context.Context, data []byte, name string, how change) (problems []config.Problem, changes []string, err error) {
	cfg, err := config.Parse(data, name)
	if err != nil {
		var found *config.Error
		if !errors.As(err, &found) {
			return nil, nil, err
		}
		return g.refuse(how, found.Problems), nil, nil
	}
	s, err := readSecrets(cfg)
	if err != nil {
		return g.refuse(how, []config.Problem{{Message: err.Error()}}), nil, nil
	}
	defer s.zero()
	var failed error
	err = g.do(ctx, func() {
		if problems = needRestart(g.cfg, cfg); len(problems) > 0 {
			problems = g.refuse(how, problems)
			return
		}
		if err := fits(cfg, g.kernel.Links()); err != nil {
			problems = g.refuse(how, []config.Problem{{Message: err.Error()}})
			return
		}
		changes = describeChanges(g.cfg, cfg)
		if s.private.PublicKey() != g.device.PublicKey() {
			changes = append(changes, "wireguard: private key changed")
		}
		if how.dryRun {
			return
		}
		if how.write {
			if failed = replaceFile(g.options.ConfigPath, data); failed != nil {
				return
			}
		}
		if failed = g.commit(cfg, s, newRevision(data, g.options.ConfigPath)); failed != nil {
			return
		}
		g.reconcilePorts(g.cfg, g.links)
		g.listen()
		g.reconcileTUN(g.cfg)
		g.publish()
		g.log.Info("configuration in force", "revision", g.nextRevision, "changes", changes)
	})
	return problems, changes, errors.Join(err, failed)
}

// fits says whether the XDP program can hold what a configuration means. That depends on the interfaces that are there,
// so config.Parse cannot tell.
func fits(cfg *config.Config, links *neigh.Links) error {
	refs := make(map[string]peerRef, len(cfg.Peers))
	for i := range cfg.Peers {
		refs[cfg.Peers[i].Name] = peerRef{id: uint32(i)}
	}
	p, err := compile(cfg, links, refs, nil)
	if err != nil {
		return err
	}
	return p.program().Validate()
}

// refuse remembers why a change was refused, for Status. A question what would change is not a change.
func (g *Gateway) refuse(how change, problems []config.Problem) []config.Problem {
	if how.dryRun {
		return problems
	}
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = p.Text("")
	}
	g.refused.Store(&refusal{why: strings.Join(lines, "; "), at: time.Now()})
	g.log.Warn("configuration refused", "problems", lines)
	return problems
}

// refusal is a change that was not made.
type refusal struct {
	why string
	at  time.Time
}

// needRestart lists changes of what a running gateway is built on.
func needRestart(old, new *config.Config) []config.Problem {
	var problems []config.Problem
	differ := func(changed bool, path string) {
		if changed {
			problems = append(problems, config.Problem{Path: path, Message: "changing it needs a restart (systemctl restart sluice)"})
		}
	}
	differ(old.Workers != new.Workers, "workers")
	differ(old.AFXDP != new.AFXDP, "afxdp")
	differ(old.API != new.API, "api")
	differ(old.WireGuard.HandshakeRate != new.WireGuard.HandshakeRate, "wireguard.handshakeRate")
	differ(old.Metrics != new.Metrics, "metrics")
	differ(old.Direct.PinDir != new.Direct.PinDir, "direct.pinDir")
	return problems
}

// describeChanges says what differs, one line each.
func describeChanges(old, new *config.Config) []string {
	var lines []string
	if old.Site != new.Site || old.Gateway != new.Gateway {
		lines = append(lines, fmt.Sprintf("gateway: now %s of site %s", new.Gateway, new.Site))
	}
	if old.WireGuard.ListenPort != new.WireGuard.ListenPort {
		lines = append(lines, fmt.Sprintf("wireguard: listens on UDP port %d", new.WireGuard.ListenPort))
	}
	if !slices.Equal(old.WireGuard.TunnelAddresses, new.WireGuard.TunnelAddresses) {
		lines = append(lines, "wireguard: tunnel addresses changed")
	}
	if old.Direct.Port != new.Direct.Port {
		lines = append(lines, fmt.Sprintf("direct: peers with encryption none send to UDP port %d", new.Direct.Port))
	}
	if old.WireGuard.TUN != new.WireGuard.TUN {
		lines = append(lines, "wireguard: tun device changed")
	}
	lines = append(lines, diff("port", old.Ports, new.Ports, func(p config.Port) string { return p.Name })...)
	lines = append(lines, diff("bgp neighbour", old.BGP.Neighbours, new.BGP.Neighbours, func(n config.BGPNeighbour) string { return n.Name })...)
	lines = append(lines, diff("bgp policy", old.BGP.Policies, new.BGP.Policies, func(p config.BGPPolicy) string { return p.Name })...)
	lines = append(lines, diff("bgp prefix list", old.BGP.PrefixLists, new.BGP.PrefixLists, func(l config.PrefixList) string { return l.Name })...)
	if old.BGP.EVPN != new.BGP.EVPN {
		lines = append(lines, "bgp: what gateways tell each other (evpn) changed: these sessions start anew")
	}
	if old.BGP.ASN != new.BGP.ASN || old.BGP.RouterID != new.BGP.RouterID {
		lines = append(lines, fmt.Sprintf("bgp: AS number %d, router id %s: all sessions start anew", new.BGP.ASN, new.BGP.RouterID))
	}
	lines = append(lines, diff("vpc", old.VPCs, new.VPCs, func(v config.VPC) string { return v.Name })...)
	return append(lines, diff("peer", old.Peers, new.Peers, func(p config.Peer) string { return p.Name })...)
}

// diff compares two lists whose elements have names.
func diff[T any](kind string, old, new []T, name func(T) string) []string {
	var lines []string
	before := make(map[string]T, len(old))
	for _, e := range old {
		before[name(e)] = e
	}
	for _, e := range new {
		was, ok := before[name(e)]
		delete(before, name(e))
		switch {
		case !ok:
			lines = append(lines, fmt.Sprintf("%s %s: added", kind, name(e)))
		case fmt.Sprintf("%+v", was) != fmt.Sprintf("%+v", e):
			lines = append(lines, fmt.Sprintf("%s %s: changed", kind, name(e)))
		}
	}
	for _, e := range old {
		if _, gone := before[name(e)]; gone {
			lines = append(lines, fmt.Sprintf("%s %s: removed", kind, name(e)))
		}
	}
	return lines
}

// replaceFile writes a file so that a crash leaves either the old or the new content.
func replaceFile(path string, data []byte) (err error) {
	mode := os.FileMode(0o600)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
