package config

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// Limits says how much may pass in each direction.
type Limits struct {
	// Packets that come through an attachment of this site.
	FromSite Limit `yaml:"fromSite,omitempty"`

	// Packets that come from a peer.
	ToSite Limit `yaml:"toSite,omitempty"`
}

// Limit is a token bucket: what exceeds it is dropped, and counted in `sluice
// status`. All workers share it. When there is more than the rate allows, packets of
// lower classes are refused first. The class follows from the DSCP: voice and control
// (CS5, EF, CS6, CS7), video and signalling (CS3, AF31 to CS4), normal, least effort
// (LE, CS1); each may only use what the higher ones leave of the burst (all of it, 7/8, 3/4,
// 1/2).
type Limit struct {
	// Bits per second: a number, with k, M or G for thousands, millions or
	// billions; from 8k to 800G. Any by default.
	Rate Rate `yaml:"rate,omitempty" jsonschema:"example=100M"`

	// Packets per second. Any by default.
	PacketRate uint32 `yaml:"packetRate,omitempty" jsonschema:"minimum=1,maximum=1000000000"`

	// How long's worth of traffic may pass at once, from 1ms to 10s; never less than
	// 32 KiB and 32 packets. By default 100ms.
	Burst time.Duration `yaml:"burst,omitempty" jsonschema:"example=100ms"`
}

// Rate is a number of bits per second; 0 is any.
type Rate uint64

const (
	minRate = 8_000
	maxRate = 800_000_000_000
)

var rateUnits = []struct {
	suffix string
	factor uint64
}{{"G", 1e9}, {"M", 1e6}, {"k", 1e3}, {"", 1}}

// String returns 100M or 2500k: the largest unit without a fraction.
func (r Rate) String() string {
	for _, u := range rateUnits {
		if n := uint64(r); n%u.factor == 0 && n >= u.factor {
			return strconv.FormatUint(n/u.factor, 10) + u.suffix
		}
	}
	return "0"
}

// MarshalText is String for encoders.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a number with or without a unit.
func (r *Rate) UnmarshalText(text []byte) error {
	number, factor := string(text), 1.0
	for _, u := range rateUnits {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, factor = rest, float64(u.factor)
			break
		}
	}
	plain := !strings.ContainsFunc(number, func(c rune) bool { return (c < '0' || c > '9') && c != '.' })
	n, err := strconv.ParseFloat(number, 64)
	switch n = math.Round(n * factor); {
	case err != nil || !plain:
		return errors.New("must be bits per second, such as 500k, 100M or 2.5G")
	case n < minRate || n > maxRate:
		return errors.New("must be 8k to 800G")
	}
	*r = Rate(n)
	return nil
}

// checkLimits checks those of both directions.
func (c *checker) checkLimits(path string, l *Limits) {
	c.checkLimit(path+".fromSite", &l.FromSite)
	c.checkLimit(path+".toSite", &l.ToSite)
}

func (c *checker) checkLimit(path string, l *Limit) {
	if l.Rate != 0 && (l.Rate < minRate || l.Rate > maxRate) { // from Go; a file's is reported already
		c.add(path+".rate", "must be 8k to 800G")
	}
	if l.Burst == 0 && !c.has(path+".burst") {
		return
	}
	if l.Burst < time.Millisecond || l.Burst > 10*time.Second {
		c.add(path+".burst", "must be 1ms to 10s, not %s", l.Burst)
	}
	if l.Rate == 0 && l.PacketRate == 0 && !c.anyBad(path) {
		c.add(path+".burst", "has nothing to go with: give rate or packetRate")
	}
}
