package tun

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	wgtun "golang.zx2c4.com/wireguard/tun"

	"github.com/sluicegw/sluice/afxdp"
)

// devicePath is where the kernel makes TUN devices.
const devicePath = "/dev/net/tun"

// Options of Open. All are required.
type Options struct {
	// Name of the device.
	Name string
	// MTU of the device. A packet of this length must fit into one frame.
	MTU int
	// UMEMs, one for each worker: queue i belongs to UMEMs[i]. Worker 0 gets what the
	// kernel sends; all may send to it.
	UMEMs []*afxdp.UMEM
	// Notify is called when the kernel has sent something.
	Notify func()
}

// Port is a TUN device with a queue for every worker.
type Port struct {
	name    string
	ifindex uint32
	device  wgtun.Device
	queues  []*Queue
	notify  func()
	done    chan struct{}
	running sync.WaitGroup
	failed  atomic.Pointer[error]
	refused atomic.Uint64 // writes that the kernel refused
	unread  atomic.Uint64 // reads that made no sense or too many packets
}

// Open makes the device, down and without addresses.
func Open(o Options) (*Port, error) {
	room := o.UMEMs[0].FrameSize() - afxdp.KernelHeadroom - sealingRoom
	if o.MTU > room {
		return nil, fmt.Errorf("make tun device %s: MTU %d is more than a frame takes (%d)", o.Name, o.MTU, room)
	}
	device, err := create(o.Name)
	if err != nil {
		return nil, err
	}
	link, err := netlink.LinkByName(o.Name)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make tun device %s: %w", o.Name, err), device.Close())
	}
	return start(o.Name, uint32(link.Attrs().Index), device, o), nil
}

// start makes the queues of a device and runs what reads and writes it.
func start(name string, ifindex uint32, device wgtun.Device, o Options) *Port {
	p := &Port{name: name, ifindex: ifindex, device: device, notify: o.Notify, done: make(chan struct{})}
	for i, umem := range o.UMEMs {
		// To the kernel goes whatever a peer sends, from a path with another MTU perhaps.
		q := &Queue{umem: umem, out: newRing(writeRoom + max(umem.FrameSize(), longest))}
		if i == 0 {
			q.in = newRing(umem.FrameSize())
		}
		p.queues = append(p.queues, q)
	}
	p.running.Go(p.read)
	for _, q := range p.queues {
		p.running.Go(func() { p.write(q) })
	}
	return p
}

const (
	// sealingRoom is what sealing adds behind a packet at most: padding and tag.
	sealingRoom = 32
	// longest packet that is taken to the kernel, where frames are smaller: what fits
	// the usual path with its MTU of 1500.
	longest = 2048
)

// create makes a TUN device with virtio headers, which exists for as long as its
// descriptor is open. Not by the library's CreateTUN: that runs two goroutines
// for each device that watch what we do not ask for.
func create(name string) (wgtun.Device, error) {
	fd, err := unix.Open(devicePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV):
		return nil, fmt.Errorf("make tun device %s: open %s: %w (load the kernel's module tun)", name, devicePath, err)
	case err != nil:
		return nil, fmt.Errorf("make tun device %s: open %s: %w", name, devicePath, err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		// Without IFF_TUN_EXCL an existing device of the name would be taken over.
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		switch {
		case errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EINVAL):
			err = fmt.Errorf("%w (is there another interface of that name?)", err)
		case errors.Is(err, unix.EPERM):
			err = fmt.Errorf("%w (CAP_NET_ADMIN is needed)", err)
		}
		return nil, errors.Join(fmt.Errorf("make tun device %s: %w", name, err), unix.Close(fd))
	}
	device, _, err := wgtun.CreateUnmonitoredTUNFromFD(fd)
	if err != nil { // the descriptor belongs to a file of the library's already, which closes it
		return nil, fmt.Errorf("make tun device %s: %w", name, err)
	}
	return device, nil
}

// Name and Ifindex of the device.
func (p *Port) Name() string    { return p.name }
func (p *Port) Ifindex() uint32 { return p.ifindex }

// Queue is that of a worker.
func (p *Port) Queue(worker int) *Queue { return p.queues[worker] }

// Err says why the port is of no use any more: somebody has deleted the device.
// nil: it works.
func (p *Port) Err() error {
	if err := p.failed.Load(); err != nil {
		return *err
	}
	_, err := p.link()
	return err
}

// Lost is how often something was lost here: writes that the kernel refused and
// packets that were too long for it, and reads that could not be used.
func (p *Port) Lost() (toKernel, fromKernel uint64) {
	toKernel, fromKernel = p.refused.Load(), p.unread.Load()
	for _, q := range p.queues {
		toKernel += q.lost.Load()
	}
	return toKernel, fromKernel
}

// Close removes the device, after the relay has let go of the queues, and waits
// for the goroutines.
func (p *Port) Close() error {
	close(p.done)
	err := p.device.Close()
	p.running.Wait()
	return err
}

// read takes what the kernel sends until the device is gone.
func (p *Port) read() {
	r := p.queues[0].in
	bufs, sizes := make([][]byte, batchSize), make([]int, batchSize)
	for r.wait(func() bool { return r.free() >= batchSize }, p.done) {
		for i := range bufs {
			bufs[i] = r.slots[at(&r.tail, i)]
		}
		n, err := p.device.Read(bufs, sizes, 0)
		var system *fs.PathError
		switch {
		case err == nil:
		case errors.Is(err, os.ErrClosed) || errors.As(err, &system):
			select {
			case <-p.done:
			default:
				err = fmt.Errorf("tun device %s is gone: %w", p.name, err)
				p.failed.Store(&err)
				p.notify()
			}
			return
		default: // a header that makes no sense, or a segment of too many packets
			p.unread.Add(1)
		}
		for i := range n {
			r.sizes[at(&r.tail, i)] = sizes[i]
		}
		if n > 0 {
			r.put(n)
			p.notify()
		}
	}
}

// write gives the kernel what a worker has sent.
func (p *Port) write(q *Queue) {
	r := q.out
	bufs := make([][]byte, 0, batchSize)
	for r.wait(func() bool { return r.used() > 0 }, p.done) {
		bufs = bufs[:0]
		for i := range min(r.used(), batchSize) {
			slot := at(&r.head, i)
			bufs = append(bufs, r.slots[slot][:writeRoom+r.sizes[slot]])
		}
		if _, err := p.device.Write(bufs, writeRoom); err != nil {
			p.refused.Add(1)
		}
		r.took(len(bufs))
	}
}
