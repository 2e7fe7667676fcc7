package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/packet"
)

// Options of a Generator.
type Options struct {
	Host *netnstest.Host // default: the namespace of the thread that calls
	Link string          // the interface that packets leave by. Required.
	CPU  int             // that the generator runs on; -1: wherever the scheduler wants

	Flow   Flow    // the packets,
	Frames *Frames // or these, one after the other
	Loop   bool    // Frames: begin again after the last one
	ByTime bool    // Frames: keep their own times, not Rate, from the first frame on in each Run

	// Rate is packets per second, kept by a token bucket: 0.1 to 1e9; 0: as many as possible.
	Rate float64
	// Burst is the depth of the token bucket in packets: what may follow at once when the generator was held up.
	// Default 64.
	Burst int
	// Count ends a Run after so many packets; 0: only time does.
	Count uint64
	// Batch is how many packets the kernel makes before it delivers them, up to 256. Default 64; with a Rate 8, since a
	// packet that waits for its batch is not on its way yet, but stamped.
	Batch int
	// Payload has the whole packet written anew on every run, not only its headers and stamp: for receivers that
	// change the payload in place, as kernels that encrypt do.
	Payload bool
}

// Validate reports all problems at once.
func (o Options) Validate() error {
	var all []error
	if o.Link == "" {
		all = append(all, errors.New("generator: no link"))
	}
	if o.Frames == nil {
		all = append(all, o.Flow.Validate())
		if o.Loop || o.ByTime {
			all = append(all, errors.New("generator: Loop and ByTime are for Frames, which there are none of"))
		}
	}
	all = append(all, checkRate(o.Rate))
	if o.Batch < 0 || o.Batch > 256 {
		all = append(all, fmt.Errorf("generator: batch %d is not 0 to 256", o.Batch))
	}
	if o.Burst < 0 || o.Burst > maxBurst {
		all = append(all, fmt.Errorf("generator: burst %d is not 0 to %d", o.Burst, maxBurst))
	}
	return errors.Join(all...)
}

// checkRate: below, the time between two packets has too many bits.
func checkRate(pps float64) error {
	if pps == 0 || pps >= minRate && pps <= maxRate {
		return nil
	}
	return fmt.Errorf("generator: rate %v is not 0 or %v to %v", pps, minRate, maxRate)
}

const (
	minRate  = 0.1
	maxRate  = 1e9
	maxBurst = 1 << 20
)

// Sent is what a Run has sent.
type Sent struct {
	Packets  uint64        // given to the link
	Bytes    uint64        // whole frames, without checksum
	Refused  uint64        // of Packets: the link had no room for them
	Duration time.Duration // from the first to the last packet
	Held     uint64        // runs of the program that made no packet, since it was too early for one
}

// Rate is packets per second.
func (s Sent) Rate() float64 {
	if s.Packets < 2 || s.Duration <= 0 {
		return 0
	}
	return float64(s.Packets-1) / s.Duration.Seconds()
}

// Generator sends packets.
type Generator struct {
	options Options
	ifindex int
	program *ebpf.Program
	pace    pace
	longest int          // frame
	rewind  func() error // may be nil: before a run
	close   func() error

	mu    sync.Mutex // guards what SetRate and SetCount change
	rate  float64
	count uint64
}

// pace are the variables of bpf/pace.h.
type pace struct {
	duration, limit, stop, interval, depth *ebpf.Variable
	begin, next, finished                  *ebpf.Variable
	packets, bytes, held, first, last      *ebpf.Variable
}

// NewGenerator loads a generator. Nothing is sent before Run.
func NewGenerator(o Options) (*Generator, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	link, err := findLink(o.Host, o.Link)
	if err != nil {
		return nil, fmt.Errorf("generator: %w", err)
	}
	setDefault(&o.Burst, 64)
	g := &Generator{options: o, ifindex: link.Index, rate: o.Rate, count: o.Count}
	load := g.loadFlow
	if o.Frames != nil {
		load = g.loadFrames
	}
	if err := load(); err != nil {
		return nil, fmt.Errorf("generator on %s: %w", o.Link, err)
	}
	if most := link.MTU + packet.EthernetLen; g.longest > most { // the kernel would drop them, and count them nowhere
		return nil, errors.Join(fmt.Errorf("generator on %s: frames of %d bytes, with an mtu of %d not more than %d", o.Link, g.longest, link.MTU, most), g.Close())
	}
	return g, nil
}

func (g *Generator) loadFlow() error {
	flow := g.options.Flow.withDefaults()
	t := flow.tables()
	t.layout.Ifindex = uint32(g.ifindex)
	if g.options.Payload {
		t.layout.Payload = 1
	}
	spec, err := loadGenerator()
	if err != nil {
		return err
	}
	if err := errors.Join(
		spec.Variables[generatorVarConfig].Set(t.layout),
		spec.Variables[generatorVarTemplate].Set(t.template),
		spec.Variables[generatorVarSizes].Set(t.sizes),
		spec.Variables[generatorVarSchedule].Set(t.schedule),
	); err != nil {
		return err
	}
	spec.Maps[generatorMapFlows].MaxEntries = uint32(len(t.flows))
	var objs generatorObjects
	if err := spec.LoadAndAssign(&objs, nil); err != nil {
		return err
	}
	memory, err := objs.Flows.Memory()
	if err == nil {
		var table []byte
		if table, err = binary.Append(nil, binary.NativeEndian, t.flows); err == nil {
			_, err = memory.WriteAt(table, 0)
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write flows: %w", err), objs.Close())
	}
	g.program, g.longest, g.close = objs.Generate, t.longest, objs.Close
	g.pace = pace{
		duration: objs.Duration, limit: objs.Limit, stop: objs.Stop, interval: objs.Interval, depth: objs.Depth,
		begin: objs.Begin, next: objs.Next, finished: objs.Finished,
		packets: objs.Packets, bytes: objs.generatorVariables.Bytes, held: objs.Held, first: objs.First, last: objs.Last,
	}
	return nil
}

// SetRate changes the rate for the following Runs, which check it.
func (g *Generator) SetRate(pps float64) {
	g.mu.Lock()
	g.rate = pps
	g.mu.Unlock()
}

// SetCount changes the number of packets of each of the following Runs; 0: only time ends them.
func (g *Generator) SetCount(n uint64) {
	g.mu.Lock()
	g.count = n
	g.mu.Unlock()
}

// Close releases what the generator has. It must not be running.
func (g *Generator) Close() error { return g.close() }

// Run sends for a while; sequence numbers go on where the last Run ended. It returns early, without an error, when ctx
// is done or Count or the frames are used up.
func (g *Generator) Run(ctx context.Context, d time.Duration) (Sent, error) {
	if d <= 0 {
		return Sent{}, fmt.Errorf("generator on %s: run for %v", g.options.Link, d)
	}
	o, err := g.arm(d)
	if err != nil {
		return Sent{}, fmt.Errorf("generator on %s: %w", g.options.Link, err)
	}
	var before, after linkStats
	err = within(g.options.Host, func() error {
		return onCPU(g.options.CPU, func() (err error) {
			if before, err = readLink(g.ifindex); err != nil {
				return err
			}
			watch := g.watch(ctx, o.expected)
			err = g.send(ctx, o.repeat, o.batch)
			if err = errors.Join(err, watch()); err != nil {
				return err
			}
			after, err = readLink(g.ifindex)
			return err
		})
	})
	sent, e := g.Sent()
	sent.Refused = after.refused - before.refused
	err = errors.Join(err, e)
	if err == nil && after.veth && lostOnTheWay(sent, after.taken-before.taken) {
		err = ErrNotTaken
	}
	if err != nil {
		err = fmt.Errorf("generator on %s: %w", g.options.Link, err)
	}
	return sent, err
}

// ErrNotTaken: what was sent is known, but most of it has reached no other end. A gateway that is down for most of a run
// looks like that, too.
var ErrNotTaken = errors.New("the link took no packets: its other end needs an XDP program (see Pass) or GRO, and has to be up")

// lostOnTheWay: the kernel drops live frames for a veth that cannot take them, and counts them nowhere. The link has
// other packets too, and up to 256 of ours may be in its ring.
func lostOnTheWay(s Sent, taken uint64) bool {
	return s.Packets >= 1024 && s.Refused+taken < s.Packets/2
}

// orders are what a run asks of the kernel.
type orders struct {
	repeat   uint32
	batch    int
	expected time.Duration // how long it will take
}

// arm gives the program its orders for a run.
func (g *Generator) arm(d time.Duration) (orders, error) {
	g.mu.Lock()
	rate, limit := g.rate, g.count
	g.mu.Unlock()
	if err := checkRate(rate); err != nil {
		return orders{}, err
	}
	o := orders{repeat: math.MaxUint32, batch: g.options.Batch, expected: d}
	setDefault(&limit, math.MaxUint64)
	most := limit
	if f := g.options.Frames; f != nil && !g.options.Loop {
		most = min(most, uint64(f.count))
	}
	var interval, depth uint64
	switch {
	case g.options.ByTime:
		setDefault(&o.batch, 8)
		if !g.options.Loop {
			o.expected = min(d, g.options.Frames.lasts)
		}
	case rate > 0:
		interval = uint64(math.Round(1e9 / rate * (1 << 16)))
		depth = uint64(min(float64(interval)*float64(g.options.Burst), 1<<62))
		setDefault(&o.batch, 8)
		if most < math.MaxUint64 {
			o.expected = time.Duration(min(float64(d), float64(most)/rate*1e9))
		}
	default:
		setDefault(&o.batch, 64)
		o.repeat = uint32(min(most, math.MaxUint32)) // so the kernel returns by itself
	}
	if g.rewind != nil {
		if err := g.rewind(); err != nil {
			return o, err
		}
	}
	p := &g.pace
	return o, set(
		setting{p.stop, 0}, setting{p.duration, uint64(d)}, setting{p.limit, limit}, setting{p.interval, interval}, setting{p.depth, depth},
		setting{p.begin, 0}, setting{p.next, 0}, setting{p.finished, 0},
		setting{p.packets, 0}, setting{p.bytes, 0}, setting{p.held, 0}, setting{p.first, 0}, setting{p.last, 0},
	)
}

// send runs the program until it has finished. One call to the kernel should do: each takes 20 ms for itself.
func (g *Generator) send(ctx context.Context, repeat uint32, batch int) error {
	for {
		err := runLive(g.program, g.longest, repeat, batch)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("run live frames: %w", err)
		}
		if finished, err := get(g.pace.finished); err != nil || finished != 0 || ctx.Err() != nil {
			return err
		}
	}
}

// watch takes care that the program, which runs on this thread, is interrupted when it has finished or ctx is done. The
// function that it returns waits until that is no more to be feared.
func (g *Generator) watch(ctx context.Context, expected time.Duration) (end func() error) {
	thread, done, ended := unix.Gettid(), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- func() error {
			// It is asked seldom before the end is near: asking takes a CPU's time.
			timer := time.NewTimer(expected)
			defer timer.Stop()
			for {
				select {
				case <-done:
					return nil
				case <-ctx.Done():
					if err := set(setting{g.pace.stop, 1}); err != nil {
						return err
					}
				case <-timer.C:
				}
				finished, err := get(g.pace.finished)
				if err != nil {
					return err
				}
				if finished != 0 || ctx.Err() != nil {
					if err := interrupt(thread); err != nil {
						return err
					}
				}
				select {
				case <-done:
					return nil
				case <-time.After(time.Millisecond):
				}
				timer.Reset(0)
			}
		}()
	}()
	return func() error {
		close(done)
		return <-ended
	}
}

// Sent reads what was sent since the last Run began, while it runs too; then without Refused.
func (g *Generator) Sent() (Sent, error) {
	var values [5]uint64
	for i, v := range []*ebpf.Variable{g.pace.packets, g.pace.bytes, g.pace.held, g.pace.first, g.pace.last} {
		var err error
		if values[i], err = get(v); err != nil {
			return Sent{}, err
		}
	}
	return Sent{Packets: values[0], Bytes: values[1], Held: values[2], Duration: time.Duration(values[4] - values[3])}, nil
}

// setting is a variable and its new value.
type setting struct {
	variable *ebpf.Variable
	value    uint64
}

func set(all ...setting) error {
	for _, s := range all {
		if err := s.variable.Set(s.value); err != nil {
			return fmt.Errorf("set %v: %w", s.variable, err)
		}
	}
	return nil
}

func get(v *ebpf.Variable) (n uint64, err error) {
	if err := v.Get(&n); err != nil {
		return 0, fmt.Errorf("read %v: %w", v, err)
	}
	return n, nil
}
