package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/sluicegw/sluice/internal/netnstest"
	"golang.org/x/sys/unix"
)

// captureBuffer is what the kernel may keep for us of each link: more than a
// second of traffic, for when this process does not get to run.
const captureBuffer = 256 << 20

// capture reads all that arrives on some links of a host, and has it judged.
// Packets that the host itself sends there are not seen: on the WAN router, each
// packet of a gateway is seen once, on the link it comes in by.
type capture struct {
	taps    []*tap
	reading sync.WaitGroup
}

type tap struct {
	link  string
	file  *os.File
	raw   syscall.RawConn
	judge *judge
	err   error
}

func newCapture(host *netnstest.Host, rules wireRules, links ...string) (_ *capture, err error) {
	c := &capture{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	for _, name := range links {
		t := &tap{link: name, judge: newJudge(rules)}
		if err := host.Do(t.open); err != nil {
			return nil, fmt.Errorf("capture %s: %w", name, err)
		}
		c.taps = append(c.taps, t)
		if t.raw, err = t.file.SyscallConn(); err != nil {
			return nil, fmt.Errorf("capture %s: %w", name, err)
		}
	}
	for _, t := range c.taps {
		c.reading.Go(t.read)
	}
	return c, nil
}

// open opens a packet socket (packet(7)) in the namespace that it is called in.
func (t *tap) open() error {
	link, err := interfaceByName(t.link)
	if err != nil {
		return err
	}
	// Protocol 0: nothing arrives before bind names the link.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	t.file = os.NewFile(uintptr(fd), "capture "+t.link)
	for _, option := range []struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer},
		{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
	} {
		if err := unix.SetsockoptInt(fd, option.level, option.name, option.value); err != nil {
			return errors.Join(err, t.file.Close())
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: link}); err != nil {
		return errors.Join(err, t.file.Close())
	}
	return nil
}

func interfaceByName(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request); err != nil {
		return 0, err
	}
	return int(request.Uint32()), nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 } // every machine that this runs on is little-endian

func (t *tap) read() {
	packet := make([]byte, 65536)
	for {
		n, err := t.receive(packet, true)
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.err = fmt.Errorf("capture %s: %w", t.link, err)
			}
			return
		}
		t.judge.see(packet[:n])
	}
}

// receive reads one packet; without wait, only one that is there already.
func (t *tap) receive(packet []byte, wait bool) (n int, err error) {
	e := t.raw.Read(func(fd uintptr) bool {
		n, _, err = unix.Recvfrom(int(fd), packet, unix.MSG_DONTWAIT)
		return !wait || !errors.Is(err, unix.EAGAIN)
	})
	return n, errors.Join(e, err)
}

// finish stops the capture, and returns what was seen of all links.
func (c *capture) finish(ctx context.Context) (sight, error) {
	// What was sent just now is on its way to the sockets.
	select {
	case <-ctx.Done():
		return sight{}, ctx.Err()
	case <-time.After(50 * time.Millisecond):
	}
	for _, t := range c.taps {
		if err := t.file.SetReadDeadline(time.Unix(1, 0)); err != nil {
			return sight{}, err
		}
	}
	c.reading.Wait()
	var total sight
	packet := make([]byte, 65536)
	for _, t := range c.taps {
		if t.err != nil {
			return sight{}, t.err
		}
		if err := t.file.SetReadDeadline(time.Time{}); err != nil {
			return sight{}, err
		}
		for {
			n, err := t.receive(packet, false)
			if errors.Is(err, unix.EAGAIN) {
				break
			}
			if err != nil {
				return sight{}, err
			}
			t.judge.see(packet[:n])
		}
		lost, err := t.lost()
		if err != nil {
			return sight{}, err
		}
		total.add(t.judge.sight)
		total.Lost += lost
	}
	return total, nil
}

// lost is how many packets the kernel could not keep for us.
func (t *tap) lost() (n int, err error) {
	e := t.raw.Control(func(fd uintptr) {
		var stats *unix.TpacketStats
		if stats, err = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			n = int(stats.Drops)
		}
	})
	return n, errors.Join(e, err)
}

// close may be called twice.
func (c *capture) close() error {
	var errs []error
	for _, t := range c.taps {
		errs = append(errs, t.file.SetReadDeadline(time.Unix(1, 0)))
	}
	c.reading.Wait()
	for _, t := range c.taps {
		errs = append(errs, t.file.Close())
	}
	c.taps = nil
	return errors.Join(errs...)
}
