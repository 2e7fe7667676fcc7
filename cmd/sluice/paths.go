package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
)

// writePeerTables writes a line for each peer, where a peer has several paths one for each path, and one for each peer that exchanges
// messages with others through us.
func writePeerTables(w io.Writer, peers []*sluicev1.Peer, now time.Time) error {
	if err := peerTable(peers, now).write(w); err != nil {
		return err
	}
	paths := newTable("PEER", "PATH", "STATE", "USED", "ENDPOINT", "THROUGH", ">PRIORITY", ">RTT", ">JITTER", ">LOST")
	for _, p := range peers {
		for _, path := range p.GetPaths() {
			used := ""
			if path.GetUsed() {
				used = "yes"
			}
			l := path.GetLiveness()
			paths.add(p.GetName(), path.GetName(), pathState(path), used, path.GetEndpoint(), throughText(path), fmt.Sprint(path.GetPriority()),
				roundTrip(l.GetRtt()), roundTrip(l.GetJitter()), fmt.Sprintf("%d of %d", l.GetLost(), l.GetProbes()))
		}
	}
	relayed := newTable("PEER", "RELAYED WITH", ">SENT", ">RECEIVED")
	for _, p := range peers {
		if r := p.GetRelayed(); r != nil {
			relayed.add(p.GetName(), strings.Join(r.GetWith(), " "), traffic(r.GetSentPackets(), r.GetSentBytes()), traffic(r.GetReceivedPackets(), r.GetReceivedBytes()))
		}
	}
	for _, t := range []*table{paths, relayed} {
		if len(t.rows) == 0 {
			continue
		}
		if _, err := io.WriteString(w, "\n"); err != nil {
			return err
		}
		if err := t.write(w); err != nil {
			return err
		}
	}
	return nil
}

// throughText is what a path leads through: a port of ours, or another peer.
func throughText(p *sluicev1.Path) string {
	if p.GetVia() != "" {
		return "peer " + p.GetVia()
	}
	return dash(p.GetPort())
}

// relayedText is what a peer exchanges with others through us.
func relayedText(r *sluicev1.Relayed) string {
	return fmt.Sprintf("%s: sent %s, received %s", strings.Join(r.GetWith(), " "), traffic(r.GetSentPackets(), r.GetSentBytes()), traffic(r.GetReceivedPackets(), r.GetReceivedBytes()))
}

func roundTrip(d *durationpb.Duration) string {
	if d.AsDuration() == 0 {
		return "-"
	}
	return d.AsDuration().Round(10 * time.Microsecond).String()
}

// pathState is a word for how a path is.
func pathState(p *sluicev1.Path) string {
	switch {
	case p.GetPortDown():
		return "port down"
	case p.GetLossy() && p.GetLiveness().GetState() == sluicev1.LiveState_LIVE_STATE_UP:
		return "lossy"
	}
	return api.Word(p.GetLiveness().GetState())
}

// pathText is everything about a path, in a line.
func pathText(p *sluicev1.Path) string {
	parts := []string{p.GetEndpoint()}
	if p.GetPort() != "" || p.GetVia() != "" {
		parts = append(parts, "through "+throughText(p))
	}
	parts = append(parts, fmt.Sprintf("priority %d", p.GetPriority()))
	if p.GetUsed() {
		parts = append(parts, "in use")
	}
	if p.GetPortDown() {
		parts = append(parts, "port down")
	}
	return strings.Join(parts, ", ") + ": " + livenessText(p.GetLiveness())
}
