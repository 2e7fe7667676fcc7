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

// writePeerTables writes a line for each peer and, where a peer has several paths, one for each path.
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
			paths.add(p.GetName(), path.GetName(), pathState(path), used, path.GetEndpoint(), dash(path.GetPort()), fmt.Sprint(path.GetPriority()),
				roundTrip(l.GetRtt()), roundTrip(l.GetJitter()), fmt.Sprintf("%d of %d", l.GetLost(), l.GetProbes()))
		}
	}
	if len(paths.rows) == 0 {
		return nil
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	return paths.write(w)
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
	if p.GetPort() != "" {
		parts = append(parts, "through "+p.GetPort())
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
