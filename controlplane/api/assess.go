package api

import (
	"fmt"
	"time"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
)

// staleHandshake is how old the last handshake of a session that carries traffic
// can be: WireGuard rejects a key after 180 s (REJECT_AFTER_TIME).
const staleHandshake = 180 * time.Second

// Assess says in words what the ports, peers, hosts and configuration of a status show
// to be wrong or worth knowing, and sets its health from that. A gateway that is starting or
// stopping keeps that health.
func Assess(s *sluicev1.StatusResponse, now time.Time) {
	s.Problems = nil
	dead := 0
	for _, p := range s.GetPorts() {
		if text := portProblem(p); text != "" {
			s.Problems = append(s.Problems, "port "+p.GetName()+": "+text)
			dead++
		}
	}
	if text := s.GetTun().GetProblem(); text != "" {
		s.Problems = append(s.Problems, "tun "+s.GetTun().GetName()+": "+text)
	}
	for _, p := range s.GetPeers() {
		if text := peerProblem(p, now); text != "" {
			s.Problems = append(s.Problems, "peer "+p.GetName()+": "+text)
		}
	}
	s.Notes = nil
	for _, p := range s.GetPeers() {
		s.Problems = append(s.Problems, pathProblems(p)...)
	}
	for _, p := range s.GetPeers() {
		if p.GetMtu() < p.GetMtuLimit() && p.GetMtuState() != sluicev1.MTUState_MTU_STATE_CONFIGURED {
			s.Notes = append(s.Notes, fmt.Sprintf("peer %s: the path carries packets of %d bytes, our port would allow %d; senders are told", p.GetName(), p.GetMtu(), p.GetMtuLimit()))
		}
	}
	s.Problems = append(s.Problems, s.GetHostProblems()...)
	s.Problems = append(s.Problems, s.GetBgpProblems()...)
	s.Problems = append(s.Problems, s.GetClusterProblems()...)
	if text := s.GetConfig().GetLastError(); text != "" {
		s.Problems = append(s.Problems, "configuration: the last change was refused, the one before is in force: "+text)
	}
	if s.Health == sluicev1.Health_HEALTH_STARTING || s.Health == sluicev1.Health_HEALTH_STOPPING {
		return
	}
	switch {
	case len(s.GetPorts()) == dead: // also when there are none
		s.Health = sluicev1.Health_HEALTH_DOWN
	case len(s.GetProblems()) > 0:
		s.Health = sluicev1.Health_HEALTH_DEGRADED
	default:
		s.Health = sluicev1.Health_HEALTH_READY
	}
	if s.GetDrain() != nil && s.Health != sluicev1.Health_HEALTH_DOWN {
		s.Health = sluicev1.Health_HEALTH_DRAINING
		s.Notes = append(s.Notes, drainNote(s.GetDrain()))
	}
}

func drainNote(d *sluicev1.Drain) string {
	switch d.GetPhase() {
	case sluicev1.DrainPhase_DRAIN_PHASE_SILENT:
		return fmt.Sprintf("drained: nothing has flowed for %s, the gateway can be stopped", Age(d.GetQuiet().AsDuration()))
	case sluicev1.DrainPhase_DRAIN_PHASE_WITHDRAWN:
		return fmt.Sprintf("drain: withdrawn from the routers, %.0f packets per second still flow", d.GetPacketsPerSecond())
	}
	return fmt.Sprintf("drain: peers and routers are asked to send elsewhere, %.0f packets per second still flow", d.GetPacketsPerSecond())
}

func portProblem(p *sluicev1.Port) string {
	switch {
	case p.GetProblem() != "":
		return p.GetProblem()
	case p.GetXdpMode() == "":
		return "no XDP program runs on it; see the log for why"
	case !p.GetLinkUp():
		return "the link is down; check the cable or the virtual switch"
	case p.GetQueues() == 0:
		return "no queue has a socket; see the log for why"
	}
	return ""
}

// peerProblem is silent about a peer that nobody wants to talk to: no session is
// then as it should be.
func peerProblem(p *sluicev1.Peer, now time.Time) string {
	var since time.Duration
	if t := p.GetLastHandshake(); t != nil {
		since = now.Sub(t.AsTime())
	}
	switch {
	case p.GetProblem() != "":
		return p.GetProblem()
	case p.GetState() == sluicev1.PeerState_PEER_STATE_UP && since > staleHandshake,
		p.GetState() == sluicev1.PeerState_PEER_STATE_CONNECTING && p.GetLastHandshake() != nil:
		return fmt.Sprintf("no handshake for %s; check its endpoint (%s) and that it is running", Age(since), orNone(p.GetEndpoint()))
	case p.GetState() != sluicev1.PeerState_PEER_STATE_CONNECTING:
		return ""
	case p.GetEndpoint() == "":
		return "traffic waits for it, but it has not called and no endpoint is configured; set endpoint, or wait for it to call"
	}
	return fmt.Sprintf("it has not answered yet; check its endpoint (%s), its keys and the firewalls between", p.GetEndpoint())
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// Age returns a duration as people say it: two units at most, 3m10s, 2h5m, 4d3h.
func Age(d time.Duration) string {
	const day = 24 * time.Hour
	two := func(big time.Duration, bigName string, small time.Duration, smallName string) string {
		s := fmt.Sprintf("%d%s", d/big, bigName)
		if rest := d % big / small; rest > 0 {
			s += fmt.Sprintf("%d%s", rest, smallName)
		}
		return s
	}
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(d, 0)/time.Second)
	case d < time.Hour:
		return two(time.Minute, "m", time.Second, "s")
	case d < day:
		return two(time.Hour, "h", time.Minute, "m")
	}
	return two(day, "d", time.Hour, "h")
}

// pathProblems tells of the paths of a living peer that have failed.
func pathProblems(p *sluicev1.Peer) (lines []string) {
	if p.GetLiveness().GetState() != sluicev1.LiveState_LIVE_STATE_UP {
		return nil // said already
	}
	used := "no path"
	for _, path := range p.GetPaths() {
		if path.GetUsed() {
			used = "path " + path.GetName()
		}
	}
	for _, path := range p.GetPaths() {
		switch {
		case path.GetPortDown():
			lines = append(lines, fmt.Sprintf("peer %s: port %s of path %s is down; %s is used", p.GetName(), path.GetPort(), path.GetName(), used))
		case path.GetLiveness().GetState() == sluicev1.LiveState_LIVE_STATE_DOWN:
			lines = append(lines, fmt.Sprintf("peer %s: path %s to %s has failed; %s is used", p.GetName(), path.GetName(), path.GetEndpoint(), used))
		case path.GetLossy():
			lines = append(lines, fmt.Sprintf("peer %s: path %s to %s loses more than a tenth of its probes", p.GetName(), path.GetName(), path.GetEndpoint()))
		}
	}
	return lines
}
