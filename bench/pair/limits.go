package pair

import (
	"errors"
	"fmt"
	"time"
)

// Limits are what a server lets its clients do, whoever they are.
type Limits struct {
	// PacketRate in packets per second, of all flows.
	PacketRate int `json:"packetRate"`
	// BitRate in bits per second of IP packets.
	BitRate int64 `json:"bitRate"`
	// Trial is the longest time that one trial sends, Session that a client stays.
	Trial   time.Duration `json:"trialNs"`
	Session time.Duration `json:"sessionNs"`
	// Flows is how many UDP ports and TCP connections a client may use.
	Flows int `json:"flows"`
}

// DefaultLimits leave a link of 10 Gb/s to the client.
func DefaultLimits() Limits {
	return Limits{PacketRate: 2_000_000, BitRate: 10e9, Trial: 30 * time.Second, Session: time.Hour, Flows: 64}
}

// Validate reports all that is out of range.
func (l Limits) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(l.PacketRate >= 1 && l.PacketRate <= 100_000_000, "packet rate limit %d: 1 to 100000000 packets per second", l.PacketRate)
	check(l.BitRate >= 1000 && l.BitRate <= 1e12, "bit rate limit %d: 1000 to 1000000000000 bits per second", l.BitRate)
	check(l.Trial >= minTrial && l.Trial <= 10*time.Minute, "trial limit %v: %v to 10m", l.Trial, minTrial)
	check(l.Session >= time.Second && l.Session <= 24*time.Hour, "session limit %v: 1s to 24h", l.Session)
	check(l.Flows >= 1 && l.Flows <= maxFlows, "flow limit %d: 1 to %d", l.Flows, maxFlows)
	return errors.Join(errs...)
}

const (
	maxFlows = 256
	// minTrial is long against what a sender's sleep is late by.
	minTrial = 20 * time.Millisecond
	// MaxSize of an IP packet: a jumbo frame's.
	MaxSize = 9216
)

// direction of a trial, seen from the client.
type direction string

// The directions.
const (
	Up   direction = "up"   // client to server
	Down direction = "down" // server to client
)

// trial asks for UDP packets at a rate for a time.
type trial struct {
	ID        uint32        `json:"id"` // in every packet
	Direction direction     `json:"direction"`
	Size      int           `json:"size"` // of the IP packet, bytes
	Rate      float64       `json:"rate"` // packets per second
	Duration  time.Duration `json:"durationNs"`
	Flows     int           `json:"flows"`
}

// validate refuses what is out of range or beyond the limits.
func (t trial) validate(l Limits, v6 bool) error {
	switch {
	case t.Direction != Up && t.Direction != Down:
		return fmt.Errorf("direction %q: up or down", printable(string(t.Direction)))
	case t.Size < MinSize(v6) || t.Size > MaxSize:
		return fmt.Errorf("packets of %d bytes: %d to %d", t.Size, MinSize(v6), MaxSize)
	case !(t.Rate > 0) || t.Rate > float64(l.PacketRate):
		return fmt.Errorf("rate of %.0f packets per second: the server allows at most %d", t.Rate, l.PacketRate)
	case t.Rate*float64(t.Size)*8 > float64(l.BitRate):
		return fmt.Errorf("rate of %.0f bits per second: the server allows at most %d", t.Rate*float64(t.Size)*8, l.BitRate)
	case t.Duration < minTrial || t.Duration > l.Trial:
		return fmt.Errorf("trial of %v: the server allows %v to %v", t.Duration, minTrial, l.Trial)
	case t.Flows < 1 || t.Flows > l.Flows:
		return fmt.Errorf("%d flows: the server allows 1 to %d", t.Flows, l.Flows)
	}
	return nil
}

// maxRate for packets of a size.
func (l Limits) maxRate(size int) float64 {
	return min(float64(l.PacketRate), float64(l.BitRate)/8/float64(size))
}

// stream asks for TCP connections that carry as much as they can.
type stream struct {
	Direction direction     `json:"direction"`
	Duration  time.Duration `json:"durationNs"`
	Streams   int           `json:"streams"`
}

func (s stream) validate(l Limits) error {
	switch {
	case s.Direction != Up && s.Direction != Down:
		return fmt.Errorf("direction %q: up or down", printable(string(s.Direction)))
	case s.Duration < minTrial || s.Duration > l.Trial:
		return fmt.Errorf("tcp for %v: the server allows %v to %v", s.Duration, minTrial, l.Trial)
	case s.Streams < 1 || s.Streams > l.Flows:
		return fmt.Errorf("%d tcp connections: the server allows 1 to %d", s.Streams, l.Flows)
	}
	return nil
}

// sent is what a sender did.
type sent struct {
	Packets  uint64        `json:"packets"`
	Bytes    uint64        `json:"bytes"`
	Duration time.Duration `json:"durationNs"`
	// Retransmitted segments, of TCP.
	Retransmitted uint64 `json:"retransmitted,omitempty"`
	// Steal is what the hypervisor took from this host meanwhile.
	Steal time.Duration `json:"stealNs,omitempty"`
}
