package gateway

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/relay"
)

func TestWhomAnAttachmentTrusts(t *testing.T) {
	host := config.Host{VTEP: netip.MustParseAddr("192.168.2.11")}
	a := config.Attachment{Type: config.VXLAN, Hosts: []config.Host{host, host}, VTEPs: []netip.Addr{netip.MustParseAddr("fd19::1")}}
	if got := trustedVTEPs(&a); got != nil {
		t.Errorf("without a list only %v are trusted", got)
	}
	a.TrustedVTEPs = []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24")}
	if got := fmt.Sprint(trustedVTEPs(&a)); got != "[192.168.1.0/24 192.168.2.11/32 fd19::1/128]" {
		t.Errorf("trusted are %s", got)
	}
}

func TestRulesMeanTheSameToTheRelay(t *testing.T) {
	list := config.ACL{Default: config.Reject, Rules: []config.ACLRule{
		{Name: "r", Action: config.Deny, Direction: config.ToSite, Protocol: config.TCP, Established: true,
			Source: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, DestinationPorts: []config.PortRange{{First: 1, Last: 2}}, SourcePorts: []config.PortRange{{First: 3, Last: 4}}},
		{Action: config.Allow, Direction: config.FromSite, Protocol: config.ICMP, ICMPTypes: []config.ICMPType{{Type: 3, Code: 4}, {Type: 8, AnyCode: true}}},
		{Action: config.Reject, Direction: config.BothDirections},
	}}
	got := relayACL(&list)
	if got.Default != relay.Reject || len(got.Rules) != 3 {
		t.Fatalf("%+v", got)
	}
	first, second, third := got.Rules[0], got.Rules[1], got.Rules[2]
	if first.Action != relay.Deny || first.Direction != relay.DirectionToSite || first.Protocol != 6 || !first.Established || len(first.Source) != 1 ||
		first.DestinationPorts[0] != (relay.PortRange{First: 1, Last: 2}) || first.SourcePorts[0] != (relay.PortRange{First: 3, Last: 4}) {
		t.Errorf("%+v", first)
	}
	if second.Action != relay.Allow || second.Direction != relay.DirectionFromSite ||
		!slices.Equal(second.ICMP, []relay.ICMPMatch{{Type: 3, Code: 4}, {Type: 8, AnyCode: true}}) {
		t.Errorf("%+v", second)
	}
	if third.Action != relay.Reject || third.Direction != relay.BothDirections {
		t.Errorf("%+v", third)
	}
	if first.ID == second.ID || second.ID == third.ID {
		t.Error("rules have the same id")
	}
}
