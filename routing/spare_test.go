package routing

import (
	"fmt"
	"testing"
)

// A gateway that may take over in a moment tells its router so in a way that is worse than the active one's, whatever AS each
// is in, and then as the active one does; the session stays.
func TestASpareGatewayIsTheLastResort(t *testing.T) {
	t.Parallel()
	for _, internal := range []bool{false, true} {
		t.Run(fmt.Sprintf("internal %t", internal), func(t *testing.T) {
			t.Parallel()
			gateway, router := newPair(t)
			if internal {
				router.config.ASN, router.neighbour().ASN, gateway.neighbour().ASN = 65001, 65001, 65001
			}
			gateway.vpc().Export, gateway.vpc().Silent = prefixes("10.2.0.0/16", "fd10:2::/48"), true
			router.vpc().Export = prefixes("10.1.0.0/16")
			gateway.set(t)
			router.set(t)
			gateway.wants(t, "10.1.0.0/16")
			router.wants(t)
			since := gateway.one(t).Since
			say := func(spare bool) {
				t.Helper()
				gateway.vpc().Silent, gateway.vpc().Spare = false, spare
				gateway.set(t)
				eventually(t, fmt.Sprintf("spare %t", spare), func() error {
					all := router.Routes()
					for i := range all {
						a := &all[i].Attributes
						if (a.Origin == 2) != spare || a.HasMED != spare {
							return fmt.Errorf("%+v", all[i])
						}
					}
					if len(all) != 2 {
						return fmt.Errorf("%d routes", len(all))
					}
					return nil
				})
			}
			say(true)
			say(false)
			say(true)
			gateway.vpc().Silent = true
			gateway.set(t)
			router.wants(t)
			if now := gateway.one(t); !now.Since.Equal(since) || now.Ended != 0 {
				t.Errorf("the session began anew: %+v", now)
			}
		})
	}
}
