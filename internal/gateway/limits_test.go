package gateway_test

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// A VPC that may send 100 packets per second, under far more: what is beyond is refused, counted and shown.
func TestALimitHoldsRealTraffic(t *testing.T) {
	_, sites := started(t)
	reach(t, sites, 1)
	sites[0].edit(t, "  - name: default\n    vni: 0\n", "  - name: default\n    vni: 0\n    limits:\n      fromSite: {packetRate: 100}\n")
	before := sites[1].counter(t, "relay", "to_site")
	const seconds, sent = 3, 3000
	err := sites[0].host.Do(func() error {
		conn, err := net.Dial("udp", netip.AddrPortFrom(sites[1].addr4(), 9).String())
		if err != nil {
			return err
		}
		defer conn.Close()
		for range sent {
			if _, err := conn.Write([]byte("more than may pass")); err != nil && !nobodyListens(err) {
				return err
			}
			time.Sleep(seconds * time.Second / sent)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	passed, limited := sites[1].counter(t, "relay", "to_site")-before, sites[0].counter(t, "relay", "rate_limited")
	if passed < 100 || passed > sent/2 || limited < sent/2 {
		t.Errorf("%d packets passed and %d were refused of %d in %d s or more at 100 per second", passed, limited, sent, seconds)
	}
	found := false
	for _, l := range sites[0].status(t).GetLimits() {
		if l.GetName() == "vpc default" && l.GetPacketRate() == 100 {
			found = true
			if got := l.GetRefused()[2].GetPackets(); got != limited {
				t.Errorf("status shows %d refused packets of the normal class, the counter %d", got, limited)
			}
		}
	}
	if !found {
		t.Errorf("status shows no limit: %v", sites[0].status(t).GetLimits())
	}
}

// nobodyListens says that the other host has answered that nobody listens.
func nobodyListens(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && errors.Is(op.Err, syscall.ECONNREFUSED)
}
