package config

import (
	"time"
)

// Probe says how a peer is watched.
type Probe struct {
	// Whether pings inside the tunnel, between tunnel addresses, tell if the peer is
	// alive. One that has answered and does so no more is down: its routes are taken
	// away until it answers again. A peer that has never answered is used as if it were up.
	Enabled bool `yaml:"enabled" jsonschema:"default=true"`

	// Time from one ping to the next, 10ms to 60s.
	Interval time.Duration `yaml:"interval" jsonschema:"default=100ms"`

	// How many intervals without an answer make it down, and how many answers in a
	// row make it up again.
	Multiplier int `yaml:"multiplier" jsonschema:"minimum=2,maximum=50,default=3"`
}

// What we chose: below, scheduling on a busy host looks like loss; above, BGP's hold time is sooner.
const (
	minProbeInterval = 10 * time.Millisecond
	maxProbeInterval = time.Minute
)

func (c *checker) checkProbe(path string, p *Probe) {
	if p.Interval < minProbeInterval || p.Interval > maxProbeInterval {
		c.add(path+".interval", "must be %s to %s, not %s", minProbeInterval, maxProbeInterval, p.Interval)
	}
}
