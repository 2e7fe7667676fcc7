package xdp

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Mode is how the program is attached to an interface.
type Mode uint8

const (
	Auto    Mode = iota // native, or generic where that is not possible
	Native              // in the driver, before the kernel allocates anything for the packet
	Generic             // in the network stack, any interface; slow
)

// String is the mode's name as in the configuration file.
func (m Mode) String() string {
	switch m {
	case Auto:
		return "auto"
	case Native:
		return "native"
	case Generic:
		return "generic"
	}
	return "unknown"
}

// Attachment is the program on one interface.
type Attachment struct {
	program *Program
	ifindex int
	name    string
	link    link.Link
	mode    Mode
	native  error
	pin     string // path, empty: not pinned
}

// Attach puts the program on an interface of the calling thread's network namespace. Where a link for it is pinned, from
// a process before this one, Attach replaces the program on that link: no packet goes by without one or the other. The
// earlier process may still run; it can do no harm to what it has lost.
func (p *Program) Attach(ifindex int, mode Mode) (*Attachment, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, err := net.InterfaceByIndex(ifindex)
	if err != nil {
		return nil, fmt.Errorf("attach ifindex %d: find interface: %w", ifindex, err)
	}
	name := i.Name
	if p.closed {
		return nil, fmt.Errorf("attach %s: program is closed", name)
	}
	if p.attachments[ifindex] != nil {
		return nil, fmt.Errorf("attach %s: already attached", name)
	}
	a := &Attachment{program: p, ifindex: ifindex, name: name}
	if err := a.attach(mode); err != nil {
		return nil, fmt.Errorf("attach %s: %w", name, err)
	}
	p.attachments[ifindex] = a
	return a, nil
}

func (a *Attachment) attach(mode Mode) error {
	taken, err := a.takeOver(mode)
	if taken || err != nil {
		return err
	}
	switch mode {
	case Native, Generic:
		err = a.attachNew(mode)
	case Auto:
		if a.native = a.attachNew(Native); a.native != nil {
			if err = a.attachNew(Generic); err != nil {
				err = errors.Join(a.native, err)
			}
		}
	default:
		err = fmt.Errorf("mode %d is none", mode)
	}
	return err
}

func (a *Attachment) attachNew(mode Mode) error {
	flags := link.XDPDriverMode
	if mode == Generic {
		flags = link.XDPGenericMode
	}
	l, err := link.AttachXDP(link.XDPOptions{Program: a.program.objs.Sluice, Interface: a.ifindex, Flags: flags})
	if err != nil {
		return fmt.Errorf("%s mode: %w%s", mode, err, hint(err, mode))
	}
	if a.program.pins != nil {
		a.pin = a.program.pins.link(a.ifindex, mode)
		if err := l.Pin(a.pin); err != nil {
			return errors.Join(fmt.Errorf("pin link at %s: %w", a.pin, err), l.Close())
		}
	}
	a.link, a.mode = l, mode
	return nil
}

// hint says what an error of the kernel means here. bpf_link has no way to pass the driver's own words.
func hint(err error, mode Mode) string {
	switch {
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return " (another XDP program is on the interface)"
	case errors.Is(err, unix.EPERM):
		return " (needs CAP_BPF and CAP_NET_ADMIN)"
	case mode != Native:
		return ""
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, ebpf.ErrNotSupported):
		return " (the driver has no native XDP)"
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE), errors.Is(err, unix.E2BIG), errors.Is(err, unix.ENOMEM):
		return " (the driver refuses: usually the MTU does not fit a page, LRO is on, or there are too few queues; see dmesg)"
	}
	return ""
}

// takeOver looks for a pinned link. One in a mode that is not asked for, or whose interface is gone, is removed.
func (a *Attachment) takeOver(mode Mode) (bool, error) {
	if a.program.pins == nil {
		return false, nil
	}
	for _, pinned := range []Mode{Native, Generic} {
		path := a.program.pins.link(a.ifindex, pinned)
		l, err := link.LoadPinnedLink(path, nil)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("open pinned link %s: %w", path, err)
		}
		if mode == Auto || mode == pinned {
			err = l.Update(a.program.objs.Sluice)
			if err == nil {
				a.link, a.mode, a.pin = l, pinned, path
				return true, nil
			}
			if !errors.Is(err, unix.ENOLINK) { // the interface is gone, and its index is another's now
				return false, errors.Join(fmt.Errorf("replace the program on pinned link %s: %w", path, err), l.Close())
			}
		}
		if err := detachPinned(l); err != nil {
			return false, fmt.Errorf("remove pinned link %s: %w", path, err)
		}
	}
	return false, nil
}

// detachPinned detaches explicitly: up to Linux 6.6 a link that is only unpinned and closed goes some time later.
func detachPinned(l link.Link) error {
	return errors.Join(l.Detach(), l.Unpin(), l.Close())
}

// Prune detaches the pinned links of an earlier process that this Program has not taken over: those of interfaces that are
// no ports any more. Call it when everything is attached that should be.
func (p *Program) Prune() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pins == nil || p.closed {
		return nil
	}
	var ours []string
	for _, a := range p.attachments {
		ours = append(ours, a.pin)
	}
	paths, err := p.pins.links()
	if err != nil {
		return fmt.Errorf("list pinned links: %w", err)
	}
	var errs []error
	for _, path := range paths {
		if !slices.Contains(ours, path) {
			errs = append(errs, removePinned(path))
		}
	}
	return errors.Join(errs...)
}

func removePinned(path string) error {
	l, err := link.LoadPinnedLink(path, nil)
	if err == nil {
		err = detachPinned(l)
	}
	if err != nil {
		return fmt.Errorf("remove pinned link %s: %w", path, err)
	}
	return nil
}

// Mode is the mode got: Native or Generic.
func (a *Attachment) Mode() Mode { return a.mode }

// NativeError says why native mode was not possible, when Auto fell back to Generic; else nil.
func (a *Attachment) NativeError() error { return a.native }

// Close detaches the program from the interface and removes its pin, unless another process has taken over the link.
// Closing twice, or after the Program, is no error.
func (a *Attachment) Close() error {
	a.program.mu.Lock()
	defer a.program.mu.Unlock()
	if a.program.attachments[a.ifindex] != a || a.program.closed {
		return nil
	}
	delete(a.program.attachments, a.ifindex)
	return a.detach()
}

func (a *Attachment) detach() error {
	err := a.detachLink()
	if err != nil {
		return fmt.Errorf("detach %s: %w", a.name, err)
	}
	return nil
}

func (a *Attachment) detachLink() error {
	if a.pin == "" {
		return a.link.Close()
	}
	info, err := a.link.Info()
	if err != nil {
		return errors.Join(err, a.link.Close())
	}
	if info.Program != a.program.id {
		return a.link.Close() // taken over
	}
	return detachPinned(a.link)
}
