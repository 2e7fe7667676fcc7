package contestants_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluicegw/sluice/bench/contestants"
	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/scenario"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// cabled is a host that stands for a machine with six interfaces, each two of which are joined.
func cabled(t *testing.T) (m *netnstest.Host, names []string) {
	t.Helper()
	s := netnstest.New(t)
	m = s.NewHost("machine")
	for i := range 3 {
		a, b := fmt.Sprint("nic", 2*i), fmt.Sprint("nic", 2*i+1)
		s.Connect(netnstest.End{Host: m, Name: a}, netnstest.End{Host: m, Name: b})
		names = append(names, a, b)
	}
	return m, names
}

func TestOverInterfacesOfTheMachine(t *testing.T) {
	testenv.RequireRoot(t)
	m, names := cabled(t)
	// They are given back, so the next one can borrow them.
	for _, d := range []scenario.Driver{contestants.Sluice{}, contestants.KernelForward{}, contestants.Sluice{}} {
		err := m.Do(func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			run, err := scenario.Contestant{Driver: d, NICs: names}.Start(ctx, method.Scenario{Size: 512, Flows: 16, Attachment: scenario.Routed})
			if err != nil {
				return err
			}
			c, err := run.Offer(ctx, 2000, 300*time.Millisecond)
			if err == nil && (c.Received < c.Offered/2 || c.Received == 0 || c.BadChecksums > 0) {
				t.Errorf("%s: %+v", d.Name(), c)
			}
			if err := run.Stop(); err != nil {
				t.Error(err)
			}
			return err
		})
		if err != nil {
			t.Fatalf("%s: %v", d.Name(), err)
		}
	}
}

func TestInterfacesThatCannotBeUsedAreRefused(t *testing.T) {
	testenv.RequireRoot(t)
	m, names := cabled(t)
	swap := func(with string) []string { return append([]string{with}, names[1:]...) }
	for _, c := range []struct {
		nics []string
		s    method.Scenario
		want string
	}{
		{names[:5], method.Scenario{}, "takes 6 interfaces"},
		{swap(names[1]), method.Scenario{}, "named twice"},
		{swap("lo"), method.Scenario{}, "loopback"},
		{swap("nonesuch0"), method.Scenario{}, "nonesuch0"},
		{names, method.Scenario{Workers: 2}, "ethtool -L nic0 combined 2"},
		{names, method.Scenario{Direction: method.Encrypt}, "from end to end"},
	} {
		err := m.Do(func() error {
			c.s.Attachment = scenario.Routed
			run, err := scenario.Contestant{Driver: contestants.Sluice{}, NICs: c.nics}.Start(t.Context(), c.s)
			if err == nil {
				err = run.Stop()
				t.Errorf("%v, %v: no error", c.nics, c.s)
			}
			return err
		})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, %v: %v does not say %q", c.nics, c.s, err, c.want)
		}
	}
}
