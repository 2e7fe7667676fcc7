package xdp

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// Program is the loaded eBPF program with its maps. Its methods may be called from any goroutine.
type Program struct {
	mu          sync.Mutex
	objs        bpfObjects
	id          ebpf.ProgramID
	tables      *tables
	sockets     *sockets
	hops        *hopSlots
	pins        *pins // nil: nothing is pinned
	attachments map[int]*Attachment
	closed      bool
}

// Load loads the program and creates its maps, always new ones: an upgrade fills them first, and then Attach switches
// over to program and maps in one step. Nothing is attached yet, and until SetState every packet passes.
//
// It needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, and CAP_SYS_ADMIN when it has to mount a bpffs.
func Load(o Options) (*Program, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("xdp options: %w", err)
	}
	// Since Linux 5.11 eBPF memory is accounted to the cgroup and the limit does not matter; without CAP_SYS_RESOURCE
	// it cannot be raised. So this error only counts, as the likely cause, when loading fails too.
	limitErr := rlimit.RemoveMemlock()

	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("read xdp object: %w", err)
	}
	if err := o.limitHandshakes(spec); err != nil {
		return nil, fmt.Errorf("set handshake limit: %w", err)
	}
	if o.MultiBuffer {
		spec.Programs[bpfProgSluice].Flags |= unix.BPF_F_XDP_HAS_FRAGS
		if err := spec.Variables[bpfVarMultiBuffer].Set(true); err != nil {
			return nil, fmt.Errorf("set multi-buffer: %w", err)
		}
	}
	p := &Program{attachments: make(map[int]*Attachment)}
	if err := spec.LoadAndAssign(&p.objs, nil); err != nil {
		return nil, fmt.Errorf("load xdp program: %w", explainLoad(err, limitErr))
	}
	if err := p.identify(); err != nil {
		return nil, errors.Join(fmt.Errorf("read xdp program: %w", err), p.objs.Close())
	}
	p.tables = newTables(&p.objs.bpfMaps)
	p.sockets = newSockets(p.objs.Sockets)
	p.hops = newHopSlots()

	if o.PinPath != "" {
		if p.pins, err = openPins(o.PinPath); err == nil {
			err = p.pins.replaceMaps(&p.objs.bpfMaps)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("pin maps in %s: %w", o.PinPath, err), p.Close())
		}
	}
	return p, nil
}

// identify learns the id by which links name the program.
func (p *Program) identify() error {
	info, err := p.objs.Sluice.Info()
	if err != nil {
		return err
	}
	id, ok := info.ID()
	if !ok {
		return errors.New("the kernel tells no id (needs Linux 4.13)")
	}
	p.id = id
	return nil
}

func explainLoad(err, limitErr error) error {
	switch {
	case limitErr != nil && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOMEM)):
		return fmt.Errorf("%w (raise RLIMIT_MEMLOCK to unlimited, it could not be done here: %w)", err, limitErr)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w (the verifier refuses the program; without CAP_PERFMON it always does)", err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w (needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN)", err)
	}
	return err
}

// SetState makes the program decide by s: applies only what differs, and adds before it deletes. After an error the
// program has a part of the change; SetState with the same or another State completes or corrects it.
func (p *Program) SetState(s State) error {
	if err := s.Validate(); err != nil {
		return fmt.Errorf("xdp state: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// Slots first, for the ports name them; they are given up last, when no port names them any more.
	p.sockets.addInterfaces(s.Ports)
	hops, fresh := p.hops.assign(s.Hops, p.tables.hops.have)
	if err := errors.Join(p.clearCounts(fresh), p.setEgress(s)); err != nil {
		return fmt.Errorf("apply xdp state: %w", err)
	}
	if err := p.tables.apply(s.contents(p.sockets.slots, hops)); err != nil {
		return fmt.Errorf("apply xdp state: %w", err)
	}
	if err := p.trimEgress(s); err != nil {
		return fmt.Errorf("apply xdp state: %w", err)
	}
	if err := p.sockets.keepInterfaces(s.Ports); err != nil {
		return fmt.Errorf("apply xdp state: %w", err)
	}
	return nil
}

// SetSocket gives the packets of a queue to the AF_XDP socket fd, which must be bound to that interface and queue. The
// interface must be in the State. Closing the socket clears it, too.
func (p *Program) SetSocket(ifindex, queue, fd int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.sockets.set(ifindex, queue, fd); err != nil {
		return fmt.Errorf("set socket of ifindex %d queue %d: %w", ifindex, queue, err)
	}
	return nil
}

// ClearSocket lets the packets of a queue pass to the kernel again. It is no error if there is no socket.
func (p *Program) ClearSocket(ifindex, queue int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.sockets.clear(ifindex, queue); err != nil {
		return fmt.Errorf("clear socket of ifindex %d queue %d: %w", ifindex, queue, err)
	}
	return nil
}

// Counters reads one number per verdict. Packets that come meanwhile may or may not be in it.
func (p *Program) Counters() (Counters, error) {
	var c Counters
	var perCPU []uint64
	for v := range c {
		if err := p.objs.Counters.Lookup(uint32(v), &perCPU); err != nil {
			return Counters{}, fmt.Errorf("read counter %s: %w", Verdict(v), err)
		}
		for _, n := range perCPU {
			c[v] += n
		}
	}
	return c, nil
}

// Close detaches the program everywhere, removes its pins and frees it. What another process has taken over by now stays
// as it is. Closing twice is no error.
func (p *Program) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	var errs []error
	for _, a := range p.attachments {
		errs = append(errs, a.detach())
	}
	if p.pins != nil {
		errs = append(errs, p.pins.remove(&p.objs.bpfMaps))
	}
	return errors.Join(append(errs, p.objs.Close())...)
}

// Handover closes everything like Close, but leaves the pins: the program stays attached and passes what it would
// divert as soon as the sockets are closed, until another process's Attach replaces it. Without PinPath it is Close.
func (p *Program) Handover() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	var errs []error
	for _, a := range p.attachments {
		errs = append(errs, a.link.Close())
	}
	return errors.Join(append(errs, p.objs.Close())...)
}
