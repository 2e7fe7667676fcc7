package routing

import (
	"fmt"
	"slices"
	"testing"
)

// A gateway that leaves marks what it announces, then takes it back, and comes again; the session stays, and what the
// router announces counts all the while.
func TestAGatewayLeavesStepByStepInOneSession(t *testing.T) {
	t.Parallel()
	for _, internal := range []bool{false, true} {
		t.Run(fmt.Sprintf("internal %t", internal), func(t *testing.T) {
			t.Parallel()
			gateway, router := newPair(t)
			if internal {
				router.config.ASN, router.neighbour().ASN, gateway.neighbour().ASN = 65001, 65001, 65001
			}
			high, med := uint32(250), uint32(7)
			gateway.neighbour().Export = &Policy{Name: "some", Rules: []Rule{
				{Prefixes: []PrefixRange{{Prefix: prefixes("10.3.0.0/16")[0], Min: 16, Max: 16}}, Refuse: true},
				{LocalPref: &high, MED: &med, AddCommunities: []Community{{Parts: [3]uint32{65001, 5}}}},
			}}
			gateway.vpc().Export = prefixes("10.2.0.0/16", "10.3.0.0/16", "fd10:2::/48")
			router.vpc().Export = prefixes("10.1.0.0/16")
			gateway.set(t)
			router.set(t)
			router.wants(t, "10.2.0.0/16", "fd10:2::/48")
			gateway.wantState(t, Established)
			since := gateway.one(t).Since
			marked := func(want bool) {
				t.Helper()
				eventually(t, fmt.Sprintf("marked %t", want), func() error {
					all := router.Routes()
					for _, r := range all {
						pref := uint32(defaultLocalPref)
						if internal {
							pref = high
						}
						if want {
							pref = 0
						}
						a := &r.Attributes
						if a.has(GracefulShutdown) != want || a.LocalPref != pref || a.MED != med || !a.has(Community{Parts: [3]uint32{65001, 5}}) {
							return fmt.Errorf("%+v", r)
						}
					}
					if len(all) != 2 {
						return fmt.Errorf("%d routes", len(all))
					}
					return nil
				})
				for _, r := range gateway.Announced() {
					if r.Best && slices.Contains(r.Attributes.Communities, GracefulShutdown) != want {
						t.Errorf("we say that we announce %+v", r)
					}
				}
			}
			leave := func(l Leaving) {
				gateway.config.Leaving = l
				gateway.set(t)
			}
			marked(false)
			leave(Lowered)
			marked(true)
			leave(Withdrawn)
			router.wants(t)
			gateway.wants(t, "10.1.0.0/16")
			leave(Lowered)
			marked(true)
			leave(Staying)
			marked(false)
			if now := gateway.one(t); !now.Since.Equal(since) || now.Ended != 0 {
				t.Errorf("the session began anew: %+v", now)
			}
		})
	}
}
