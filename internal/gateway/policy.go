package gateway

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"connectrpc.com/connect"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/relay"
)

// relayACL is a configured access list as the workers are told.
func relayACL(a *config.ACL) relay.ACL {
	out := relay.ACL{Default: relayAction(a.Default)}
	for i := range a.Rules {
		r := &a.Rules[i]
		rule := relay.ACLRule{
			ID: ruleID(r), Action: relayAction(r.Action), Direction: relayDirection(r.Direction), Source: r.Source, Destination: r.Destination,
			Protocol: uint8(r.Protocol), Established: r.Established,
		}
		for _, p := range r.SourcePorts {
			rule.SourcePorts = append(rule.SourcePorts, relay.PortRange(p))
		}
		for _, p := range r.DestinationPorts {
			rule.DestinationPorts = append(rule.DestinationPorts, relay.PortRange(p))
		}
		for _, t := range r.ICMPTypes {
			rule.ICMP = append(rule.ICMP, relay.ICMPMatch(t))
		}
		out.Rules = append(out.Rules, rule)
	}
	return out
}

// ruleID is what makes a rule the same after a change: all that it says.
func ruleID(r *config.ACLRule) string { return r.Name + " " + string(r.Action) + " " + r.Match() }

func relayAction(a config.ACLAction) relay.ACLAction {
	switch a {
	case config.Deny:
		return relay.Deny
	case config.Reject:
		return relay.Reject
	default:
		return relay.Allow
	}
}

func relayDirection(d config.Direction) relay.Direction {
	switch d {
	case config.FromSite:
		return relay.DirectionFromSite
	case config.ToSite:
		return relay.DirectionToSite
	default:
		return relay.BothDirections
	}
}

func relaySources(s config.SourceCheck) relay.SourceCheck {
	switch s {
	case config.SourceStrict:
		return relay.SourceStrict
	case config.SourceOff:
		return relay.SourceOff
	default:
		return relay.SourceLoose
	}
}

// trustedVTEPs is whom an overlay attachment trusts: nil is everybody.
func trustedVTEPs(a *config.Attachment) []netip.Prefix {
	if len(a.TrustedVTEPs) == 0 {
		return nil
	}
	list := slices.Clone(a.TrustedVTEPs)
	for _, v := range a.VTEPs {
		list = append(list, netip.PrefixFrom(v, v.BitLen()))
	}
	for _, h := range a.Hosts {
		list = append(list, netip.PrefixFrom(h.VTEP, h.VTEP.BitLen()))
	}
	for _, s := range a.Subnets {
		for _, v := range slices.Concat(s.Bouncers, s.Dividers) {
			list = append(list, netip.PrefixFrom(v, v.BitLen()))
		}
	}
	slices.SortFunc(list, netip.Prefix.Compare)
	return slices.Compact(list)
}

// ACL implements api.Backend.
func (g *Gateway) ACL(_ context.Context, r *sluicev1.ACLRequest) (*sluicev1.ACLResponse, error) {
	v := g.view.Load()
	if r.GetVpc() != "" && v.vpc(r.GetVpc()) == nil {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no VPC %s", r.GetVpc()))
	}
	counts := g.relay.Meters()
	response := &sluicev1.ACLResponse{}
	for i := range v.cfg.VPCs {
		vpc := &v.cfg.VPCs[i]
		if r.GetVpc() != "" && r.GetVpc() != vpc.Name {
			continue
		}
		rest := counts[relay.MeterKey{Kind: relay.RuleMeter, ID: vpc.VNI}]
		out := &sluicev1.ACL{Vpc: vpc.Name, Vni: vpc.VNI, DefaultAction: string(vpc.ACL.Default), DefaultPackets: rest.Packets, DefaultBytes: rest.Bytes}
		for j := range vpc.ACL.Rules {
			rule := &vpc.ACL.Rules[j]
			n := counts[relay.MeterKey{Kind: relay.RuleMeter, ID: vpc.VNI, Name: ruleID(rule)}]
			out.Rules = append(out.Rules, &sluicev1.ACLRule{Name: rule.Name, Action: string(rule.Action), Match: rule.Match(), Packets: n.Packets, Bytes: n.Bytes})
		}
		response.Acls = append(response.Acls, out)
	}
	slices.SortFunc(response.Acls, func(a, b *sluicev1.ACL) int { return int(a.GetVni()) - int(b.GetVni()) })
	return response, nil
}
