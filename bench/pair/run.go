package pair

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Options of Run. The zero value measures everything, in about four minutes.
type Options struct {
	// Sizes of IP packets in bytes; empty: the least, 512, and what the path carries.
	Sizes []int
	// Directions; empty: up and down.
	Directions []string
	// Flows is how many UDP ports are sent from and to, 1 to 256; 0 means 4. A flow stays on one
	// path and one core of most networks.
	Flows int
	// Streams is how many TCP connections are used together; 0 means 1.
	Streams int
	// Trial is how long each rate is tried; 0 means 1 s. TCP and round trips take five of it.
	Trial time.Duration
	// MaxRate bounds what is sent, in packets per second; 0: what the server allows.
	MaxRate float64
	// Parts to measure of Parts(); empty: all.
	Parts []string
	// Program is the version of this program, for the report.
	Program string
	// Progress is told what is done and what there is to do, in steps; nil: nobody is.
	Progress func(done, of int, what string)
}

// The parts.
const (
	PartRTT = "rtt"
	PartUDP = "udp"
	PartTCP = "tcp"
)

// Parts there are; the MTU is always found.
func Parts() []string { return []string{PartRTT, PartUDP, PartTCP} }

// normal fills in what the zero values mean.
func (o Options) normal() Options {
	if len(o.Directions) == 0 {
		o.Directions = []string{string(Up), string(Down)}
	}
	if len(o.Parts) == 0 {
		o.Parts = Parts()
	}
	if o.Flows == 0 {
		o.Flows = 4
	}
	if o.Streams == 0 {
		o.Streams = 1
	}
	if o.Trial == 0 {
		o.Trial = time.Second
	}
	if o.Progress == nil {
		o.Progress = func(int, int, string) {}
	}
	return o
}

// Validate reports all that is out of range.
func (o Options) Validate() error {
	var errs []error
	for _, s := range o.Sizes {
		if s < MinSize(false) || s > MaxSize {
			errs = append(errs, fmt.Errorf("size %d: %d to %d bytes (over IPv6 at least %d)", s, MinSize(false), MaxSize, MinSize(true)))
		}
	}
	for _, d := range o.Directions {
		if d != string(Up) && d != string(Down) {
			errs = append(errs, fmt.Errorf("direction %q: up or down", d))
		}
	}
	for _, p := range o.Parts {
		if !slices.Contains(Parts(), p) {
			errs = append(errs, fmt.Errorf("part %q: one of %v", p, Parts()))
		}
	}
	if o.Flows < 0 || o.Flows > maxFlows {
		errs = append(errs, fmt.Errorf("%d flows: 1 to %d", o.Flows, maxFlows))
	}
	if o.Streams < 0 || o.Streams > maxFlows {
		errs = append(errs, fmt.Errorf("%d tcp connections: 1 to %d", o.Streams, maxFlows))
	}
	if o.Trial != 0 && (o.Trial < minTrial || o.Trial > 10*time.Minute) {
		errs = append(errs, fmt.Errorf("trial of %v: %v to 10m", o.Trial, minTrial))
	}
	if o.MaxRate < 0 {
		errs = append(errs, fmt.Errorf("rate of %v packets per second: 0 or more", o.MaxRate))
	}
	return errors.Join(errs...)
}

// Run measures the path to a server that knows the token. An error ends it; what was measured until then is in
// the result.
func Run(ctx context.Context, address string, token Token, o Options) (_ Result, err error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	o = o.normal()
	c, err := connect(ctx, address, token, max(o.Flows, o.Streams))
	if err != nil {
		return Result{}, fmt.Errorf("connect to %s: %w", address, err)
	}
	stop := context.AfterFunc(ctx, func() { c.control.Close() })
	m := &measurement{client: c, o: o, result: Result{
		Schema: Schema, Date: time.Now(), To: c.remote.String(), Local: thisHost(o.Program), Remote: c.server, Limits: c.limits,
		Flows: o.Flows, Trial: o.Trial,
	}}
	err = m.all(ctx)
	if ctx.Err() != nil {
		err = ctx.Err() // and not that the connection was closed, which follows from it
	}
	stop()
	err = errors.Join(err, c.endpoint.close())
	c.control.Close() // the session ends with it, whatever Close says
	return m.result, err
}
