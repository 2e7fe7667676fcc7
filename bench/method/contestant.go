package method

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrUnavailable is wrapped by Contestant.Start when this machine lacks what the
// contestant needs (a kernel module, a package). The text says what is missing;
// the report prints it in place of a figure.
var ErrUnavailable = errors.New("not available on this machine")

// Contestant is something that carries packets from one site to another.
type Contestant interface {
	// Name is short, unique and stable: it is a key in results.
	Name() string
	// Start builds the scenario's topology with this contestant as its
	// gateways, ready to carry (handshakes done, neighbours known). Several
	// contestants may be up at the same time, each in a topology of its own;
	// only one of them is offered packets.
	Start(context.Context, Scenario) (Run, error)
}

// Run is a contestant that is up.
type Run interface {
	// Offer is a Trial.
	Offer(ctx context.Context, rate float64, d time.Duration) (Counts, error)
	// PIDs of the device under test, for CPU time and memory. Empty when
	// the kernel itself is the contestant.
	PIDs() []int
	// Version as the contestant says it, with what it was built from.
	Version() string
	// Stop ends it and removes everything it has made.
	Stop() error
}

// Trial offers packets at a rate in packets per second (0: as many as possible) for
// a time, and counts what arrives. It does not warm up, but it waits for the
// last packets.
type Trial func(ctx context.Context, rate float64, d time.Duration) (Counts, error)

// Goodput is a Run that can carry TCP between the two ends.
type Goodput interface {
	// TCP returns the payload bits per second that arrived, and what it cost.
	TCP(ctx context.Context, d time.Duration) (bits float64, usage Usage, err error)
}

// Recoverer is a Run that can be disturbed while it carries packets.
type Recoverer interface {
	// Recover offers packets at a rate, makes the event happen and watches
	// until packets have come through again, or the time is over.
	Recover(ctx context.Context, event Event, rate float64, limit time.Duration) (Recovery, error)
}

// Burster is a Run that can be given a burst of an exact length at line rate.
type Burster interface {
	Burst(ctx context.Context, packets int) (Counts, error)
}

// Event is a disturbance.
type Event string

// The disturbances.
const (
	Kill     Event = "kill and restart" // kill -9 of the gateway under test, and start again at once
	Rekey    Event = "rekey"            // new session keys under load
	LinkFlap Event = "link flap"        // the WAN port goes down for a second and comes back
)

// Recovery is what a disturbance cost.
type Recovery struct {
	Event Event `json:"event"`
	// Outage is the longest time in which nothing arrived.
	Outage time.Duration `json:"outageNs"`
	// Recovered says that packets came through again.
	Recovered bool    `json:"recovered"`
	Lost      uint64  `json:"lost"`
	Rate      float64 `json:"rate"`
	Timeline  []Point `json:"timeline"`
}

// Point of a timeline.
type Point struct {
	At  time.Duration `json:"atNs"` // since the event; negative: before it
	PPS float64       `json:"pps"`  // received since the point before
}

// Direction says which part of the way is under test.
type Direction string

// The directions.
const (
	Through Direction = "through" // site - gw1 - WAN - gw2 - site
	Encrypt Direction = "encrypt" // site - gw1 - sink on the WAN
	Decrypt Direction = "decrypt" // sealed packets - gw2 - sink at the site
)

// Scenario is what is asked of a contestant. The zero value of a number means one
// of it, of Direction Through, of Size 64.
type Scenario struct {
	// Size of the inner IP packet in bytes; IMIX when IMIX is set: 64, 594 and 1420
	// in the shares 7 : 4 : 1 (the usual 1500 does not fit into a tunnel).
	Size int  `json:"size"`
	IMIX bool `json:"imix,omitempty"`
	// Native leaves super-packets alone; otherwise every link carries what a
	// wire would carry, for every contestant.
	Native    bool      `json:"native,omitempty"`
	Direction Direction `json:"direction"`
	// Attachment: "routed" (default VPC) or "vxlan". Empty: vxlan, where the contestant has it.
	Attachment string `json:"attachment,omitempty"`
	Flows      int    `json:"flows"`
	VNIs       int    `json:"vnis"`
	Routes     int    `json:"routes"`
	Peers      int    `json:"peers"`
	Workers    int    `json:"workers"`
	// GeneratorCPU runs the generator; DUTCPU everything under test. The zero values are CPU 0
	// and, by Normal, CPU 1 (two workers: from CPU 0).
	GeneratorCPU int `json:"generatorCPU"`
	DUTCPU       int `json:"dutCPU"`
}

// Normal fills in what the zero values mean.
func (s Scenario) Normal() Scenario {
	if s.Size == 0 {
		s.Size = 64
	}
	if s.Direction == "" {
		s.Direction = Through
	}
	for _, n := range []*int{&s.Flows, &s.VNIs, &s.Routes, &s.Peers, &s.Workers} {
		*n = max(*n, 1)
	}
	if s.DUTCPU == 0 && s.GeneratorCPU == 0 && s.Workers == 1 {
		s.DUTCPU = 1
	}
	return s
}

// String names the scenario; what is one of it is left out.
func (s Scenario) String() string {
	s = s.Normal()
	text := fmt.Sprintf("%d B", s.Size)
	if s.IMIX {
		text = "IMIX"
	}
	if s.Direction != Through {
		text += ", " + string(s.Direction)
	}
	if s.Attachment != "" {
		text += ", " + s.Attachment
	}
	for _, n := range []struct {
		count int
		what  string
	}{{s.Flows, "flows"}, {s.VNIs, "VNIs"}, {s.Routes, "routes"}, {s.Peers, "peers"}, {s.Workers, "workers"}} {
		if n.count > 1 {
			text += fmt.Sprintf(", %d %s", n.count, n.what)
		}
	}
	if s.Native {
		text += ", veth-native"
	}
	return text
}

// Counts of one trial, taken over one window.
type Counts struct {
	Window       time.Duration `json:"windowNs"`
	Offered      uint64        `json:"offered"`  // packets that the generator sent
	Received     uint64        `json:"received"` // packets that the sink counted
	Bytes        uint64        `json:"bytes"`    // of the inner packets received
	Gaps         uint64        `json:"gaps,omitempty"`
	Reordered    uint64        `json:"reordered,omitempty"`
	Duplicates   uint64        `json:"duplicates,omitempty"`
	BadChecksums uint64        `json:"badChecksums,omitempty"`
	// Usage of the machine in the window: take it with a Meter.
	Usage Usage `json:"usage"`
	// Latency one way, ascending; empty when it was not measured.
	Latency []Bucket `json:"latency,omitempty"`
}

// Bucket counts packets whose latency is at most UpTo and more than that of the bucket before.
type Bucket struct {
	UpTo  time.Duration `json:"upToNs"`
	Count uint64        `json:"count"`
}

// PPS is the rate of arrival.
func (c Counts) PPS() float64 { return float64(c.Received) / c.Window.Seconds() }

// Lost is the share of packets that did not arrive, 0 to 1.
func (c Counts) Lost() float64 {
	if c.Received >= c.Offered {
		return 0
	}
	return 1 - float64(c.Received)/float64(c.Offered)
}
