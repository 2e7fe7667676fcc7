package config

import "time"

// Drain says how the gateway goes out of use: peers and site routers are asked to send through another gateway of the
// site, what comes meanwhile is forwarded, and when nothing comes any more the gateway is drained. `sluice drain` does
// it at any time. See docs/drain.md.
type Drain struct {
	// Whether SIGTERM (systemctl stop) drains the gateway before it stops.
	OnStop bool `yaml:"onStop" jsonschema:"default=false"`

	// After what time prefixes are withdrawn from the site's routers, which until then
	// have been announced with the community GRACEFUL_SHUTDOWN. 0s to 10m.
	WithdrawAfter time.Duration `yaml:"withdrawAfter" jsonschema:"default=2s"`

	// How long nothing may flow for the gateway to count as drained. 200ms to 1m.
	Silence time.Duration `yaml:"silence" jsonschema:"default=1s"`

	// The longest that stopping waits for that. 1s to 10m; systemd's own patience
	// (TimeoutStopSec) must be longer.
	Timeout time.Duration `yaml:"timeout" jsonschema:"default=10s"`
}

// What we chose: two looks at the counters make a silence, and nobody waits longer than ten minutes.
const (
	maxDrain   = 10 * time.Minute
	minSilence = 200 * time.Millisecond
	maxSilence = time.Minute
)

func (c *checker) checkDrain() {
	within := func(key string, d, least, most time.Duration) {
		if d < least || d > most {
			c.add("drain."+key, "must be %s to %s, not %s", least, most, d)
		}
	}
	within("withdrawAfter", c.Drain.WithdrawAfter, 0, maxDrain)
	within("silence", c.Drain.Silence, minSilence, maxSilence)
	within("timeout", c.Drain.Timeout, time.Second, maxDrain)
}
