package gateway

import (
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/relay"
)

func relayLimit(l *config.Limit) relay.Limit {
	return relay.Limit{Bits: uint64(l.Rate), Packets: uint64(l.PacketRate), Burst: l.Burst}
}

func relayLimits(l *config.Limits) relay.Limits {
	return relay.Limits{FromSite: relayLimit(&l.FromSite), ToSite: relayLimit(&l.ToSite)}
}

// limits lists those in force, with what they have refused: ports, VPCs, peers.
func (g *Gateway) limits(v *view) []*sluicev1.Limit {
	var out []*sluicev1.Limit
	var counts map[relay.MeterKey]relay.MeterCount
	add := func(name string, key relay.MeterKey, l relay.Limit) {
		if l.Bits == 0 && l.Packets == 0 {
			return
		}
		if counts == nil {
			counts = g.relay.Meters()
		}
		limit := &sluicev1.Limit{Name: name, Direction: key.Direction.String(), Rate: l.Bits, PacketRate: l.Packets}
		for key.Class = range uint8(relay.NumClasses) {
			limit.Refused = append(limit.Refused, &sluicev1.ClassCount{Packets: counts[key].Packets, Bytes: counts[key].Bytes})
		}
		out = append(out, limit)
	}
	both := func(name string, key relay.MeterKey, l relay.Limits) {
		key.Direction = relay.DirectionFromSite
		add(name, key, l.FromSite)
		key.Direction = relay.DirectionToSite
		add(name, key, l.ToSite)
	}
	s := v.plan.snapshot
	for i := range s.Ports {
		add("port "+s.Ports[i].Name, relay.MeterKey{Kind: relay.PortLimitMeter, ID: s.Ports[i].Ifindex, Direction: relay.DirectionFromSite}, s.Ports[i].ToPeers)
	}
	for i := range s.VPCs {
		both("vpc "+s.VPCs[i].Name, relay.MeterKey{Kind: relay.VPCLimitMeter, ID: s.VPCs[i].VNI}, s.VPCs[i].Limits)
	}
	for i := range s.Peers {
		both("peer "+s.Peers[i].Name, relay.MeterKey{Kind: relay.PeerLimitMeter, ID: uint32(i)}, s.Peers[i].Limits)
		if len(v.relaysWith(s.Peers[i].Name)) > 0 {
			add("relay of "+s.Peers[i].Name, relay.MeterKey{Kind: relay.RelayLimitMeter, ID: uint32(i), Direction: relay.DirectionFromSite}, s.Peers[i].RelayLimit)
		}
	}
	return out
}
