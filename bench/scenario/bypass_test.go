package scenario

import "testing"

func TestPacketsThatTheProcessesHandledAreNoBypass(t *testing.T) {
	for name, c := range map[string]struct {
		received, processes, kernel uint64
		ok                          bool
	}{
		"all by the kernel":                      {1_000_000, 0, 1_000_000, true},
		"more sent than arrived":                 {1_000_000, 0, 2_000_000, true},
		"a few by the processes":                 {1_000_000, 30, 999_970, true},
		"one in a hundred by the processes":      {1_000_000, 10_000, 990_000, false},
		"all by the processes":                   {1000, 1000, 0, false},
		"by nobody who counts":                   {1000, 0, 0, false},
		"half of them by somebody else":          {1000, 0, 500, false},
		"nothing arrived, the processes were on": {0, 1000, 0, false},
	} {
		if err := passedBy(c.received, c.processes, c.kernel); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
