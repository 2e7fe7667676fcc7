package xdp

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
)

// Defaults of Options: a thousand peers behind one NAT that all begin anew are through within five seconds, while one
// source cannot make the relay compute more than a few per cent of a core's worth of handshakes. All strangers together
// can take about a third of a core.
const (
	DefaultHandshakeRate  = 200
	DefaultHandshakeBurst = 500
	DefaultStrangersRate  = 2000
	DefaultStrangersBurst = 4000
)

// Options of Load. The zero value works: nothing pinned, default handshake limits.
type Options struct {
	// PinPath is the directory for pins, on a bpffs; one is mounted when there is none. Links pinned there survive the
	// process, and the next Attach replaces the program on them atomically. Each gateway process needs its own.
	// Default: nothing is pinned, everything ends with the process.
	PinPath string
	// MultiBuffer takes packets that are longer than a buffer of the driver's (jumbo frames). It needs Linux 5.18, and
	// sockets with afxdp.SocketOptions.MultiBuffer (Linux 6.6) to receive them.
	MultiBuffer bool
	// HandshakeRate limits WireGuard messages of type 1 to 3 per second and source address (IPv6: per /64), before they
	// cost the relay anything. It is generous, for whoever can forge a peer's address can use up the peer's share; the
	// finer means (cookies, which prove an address) are the relay's. Default 200; negative: no limit.
	HandshakeRate int
	// HandshakeBurst is how many of them may come at once. Default 500.
	HandshakeBurst int
	// StrangersRate limits the same messages per second and interface, for all sources together that are not in
	// State.Peers: a flood from many or forged addresses. Default 2000; negative: no limit.
	StrangersRate int
	// StrangersBurst is how many of them may come at once. Default 4000.
	StrangersBurst int
}

// Validate reports what is wrong with the options.
func (o Options) Validate() error {
	var errs []error
	for _, limit := range []struct {
		name        string
		rate, burst int
	}{{"handshake", o.HandshakeRate, o.HandshakeBurst}, {"strangers", o.StrangersRate, o.StrangersBurst}} {
		if limit.rate > int(time.Second) {
			errs = append(errs, fmt.Errorf("%s rate %d: more than one per nanosecond", limit.name, limit.rate))
		}
		if limit.burst < 0 {
			errs = append(errs, fmt.Errorf("%s burst %d: negative", limit.name, limit.burst))
		}
	}
	return errors.Join(errs...)
}

// limitHandshakes writes the limits into the program's constants.
func (o Options) limitHandshakes(spec *ebpf.CollectionSpec) error {
	set := func(rate, burst, defaultRate, defaultBurst int, interval, ahead string) error {
		if rate < 0 {
			return nil // the object's default
		}
		if rate == 0 {
			rate = defaultRate
		}
		if burst == 0 {
			burst = defaultBurst
		}
		each := uint64(time.Second) / uint64(rate)
		return errors.Join(spec.Variables[interval].Set(each), spec.Variables[ahead].Set(each*uint64(burst)))
	}
	return errors.Join(
		set(o.HandshakeRate, o.HandshakeBurst, DefaultHandshakeRate, DefaultHandshakeBurst, bpfVarHandshakeInterval, bpfVarHandshakeBurst),
		set(o.StrangersRate, o.StrangersBurst, DefaultStrangersRate, DefaultStrangersBurst, bpfVarStrangersInterval, bpfVarStrangersBurst),
	)
}
