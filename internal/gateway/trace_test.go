package gateway_test

import (
	"slices"
	"testing"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
)

// TestATraceAgreesWithTheGateway: what a running gateway says would happen.
func TestATraceAgreesWithTheGateway(t *testing.T) {
	_, sites := newSites(t)
	for _, s := range sites {
		s.start(t)
	}
	reach(t, sites, 1)
	s := sites[0]
	near, far := s.addr4().String(), sites[1].addr4().String()
	for _, c := range []struct {
		name     string
		request  *sluicev1.TraceRequest
		verdicts []string
	}{
		{"to the peer", &sluicev1.TraceRequest{Source: near, Destination: far, Protocol: 6, DestinationPort: 443}, []string{"divert_routed", "to_peer"}},
		{"to the peer, IPv6", &sluicev1.TraceRequest{Source: s.addr6().String(), Destination: sites[1].addr6().String(), Protocol: 58}, []string{"divert_routed", "to_peer"}},
		{"too long", &sluicev1.TraceRequest{Source: near, Destination: far, Length: 1500}, []string{"divert_routed", "too_big", "originated"}},
		{"TTL over", &sluicev1.TraceRequest{Source: near, Destination: far, Ttl: 1}, []string{"divert_routed", "ttl_expired", "originated"}},
		{"to nowhere", &sluicev1.TraceRequest{Source: near, Destination: "203.0.113.9"}, []string{"pass_no_route"}},
		{"from the peer", &sluicev1.TraceRequest{Source: far, Destination: near, Peer: "peer"}, []string{"to_site"}},
		{"from the peer with our source", &sluicev1.TraceRequest{Source: near, Destination: near, Peer: "peer"}, []string{"source_not_allowed"}},
		{"a frame", &sluicev1.TraceRequest{Port: "wan0", Packet: []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 8, 6}}, []string{"pass_not_ip"}},
	} {
		got, err := s.client().Trace(t.Context(), c.request)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !slices.Equal(got.GetVerdicts(), c.verdicts) {
			t.Errorf("%s: verdicts %q, want %q: %v", c.name, got.GetVerdicts(), c.verdicts, got.GetSteps())
		}
	}
	for name, request := range map[string]*sluicev1.TraceRequest{
		"no source":         {Destination: far},
		"two families":      {Source: near, Destination: "fd00::1"},
		"no such VPC":       {Vpc: "nosuch", Source: near, Destination: far},
		"no such peer":      {Peer: "nosuch", Source: near, Destination: far},
		"no such port":      {Port: "nosuch", Source: near, Destination: far},
		"nobody's source":   {Source: "203.0.113.1", Destination: far},
		"no IP packet":      {Packet: []byte{1, 2, 3}},
		"a port too large":  {Source: near, Destination: far, SourcePort: 70000},
		"longer than fits":  {Source: near, Destination: far, Length: 9000},
		"a frame too short": {Port: "wan0", Packet: []byte{1}},
	} {
		if got, err := s.client().Trace(t.Context(), request); err == nil {
			t.Errorf("%s: traced: %v", name, got.GetSteps())
		}
	}
}
