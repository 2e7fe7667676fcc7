package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/sluicegw/sluice/internal/netnstest"
)

// What two gateways at a site are for: flows go through both, and on when one of them is drained, or killed.

const (
	// learning is how long routers may take until they know the way.
	learning = 20 * time.Second
	// streamPort is where streams go, streamRate how many packets per millisecond have been sent.
	streamPort, streamRate = 7778, 2
	// streamTime is how long streams go on after something has happened.
	streamTime = 700 * time.Millisecond
	// maxLoss is what a killed gateway may cost at most, of one second's packets of a stream: a busy machine notices
	// late. The table shows what it was.
	maxLoss = time.Second
)

// checkFirst: with routers the sites have to learn of each other first; without, the first packet waits for the handshake.
func (d *demo) checkFirst(ctx context.Context) {
	if !d.lab.routers {
		d.checkFirstPacket(ctx)
		return
	}
	from, to := d.lab.sites[0].host, d.lab.sites[1].host
	began := time.Now()
	err := d.until(ctx, func() error {
		return first(
			func() error { return netnstest.Ping(ctx, from.host, to.addrs[0], d.ping()) },
			func() error { return netnstest.Ping(ctx, from.host, to.addrs[1], d.ping()) })
	})
	d.record("cross", "routers and gateways have learned by BGP where the hosts are", fmt.Sprintf("FRR at oslo, BIRD at bergen, EVPN between the sites; answered after %.1f s", time.Since(began).Seconds()), err)
}

// until tries something until it works.
func (d *demo) until(ctx context.Context, f func() error) error {
	for deadline := time.Now().Add(learning); ; {
		err := f()
		if err == nil || time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (d *demo) survival() []func(context.Context) {
	if !d.lab.routers {
		return nil
	}
	return []func(context.Context){d.checkBalance, d.checkDrain, d.checkKill}
}

// stream sends both ways between the hosts, IPv4 one way and IPv6 the other, does something meanwhile, and counts.
func (d *demo) stream(f func() error) (sent, lost int, err error) {
	oslo, bergen := d.lab.sites[0].host, d.lab.sites[1].host
	var running []*netnstest.Stream
	for _, c := range []struct {
		from, to *endpoint
		family   int
	}{{oslo, bergen, 0}, {bergen, oslo, 1}} {
		s, err := netnstest.StartStream(c.from.host, c.to.host, netip.AddrPortFrom(c.to.addrs[c.family], streamPort), streamRate)
		if err != nil {
			for _, s := range running {
				s.End()
			}
			return 0, 0, err
		}
		running = append(running, s)
	}
	err = f()
	time.Sleep(streamTime)
	for _, s := range running {
		n, missing := s.End()
		sent, lost = sent+n, lost+missing
	}
	return sent, lost, err
}

// checkBalance: both gateways of a site carry flows, and nothing is lost.
func (d *demo) checkBalance(ctx context.Context) {
	detail := ""
	err := d.until(ctx, func() error {
		var before, after [4]uint64
		read := func(out *[4]uint64) (err error) {
			for i, g := range d.lab.gateways() {
				counters, failed := g.counters(ctx)
				out[i], err = counters["relay/to_peer"], errors.Join(err, failed)
			}
			return err
		}
		if err := read(&before); err != nil {
			return err
		}
		sent, lost, err := d.stream(func() error { return nil })
		if err := errors.Join(err, read(&after)); err != nil {
			return err
		}
		if lost > 0 {
			return fmt.Errorf("%d of %d packets lost", lost, sent)
		}
		var shares []string
		for i, g := range d.lab.gateways() {
			n := after[i] - before[i]
			if n < uint64(sent)/20 {
				return fmt.Errorf("gateway %s carried %d of %d packets", g.name, n, sent)
			}
			shares = append(shares, fmt.Sprintf("%s %d", g.name, n))
		}
		detail = fmt.Sprintf("none of %d packets lost; to the other site through %s", sent, strings.Join(shares, ", "))
		return nil
	})
	d.record("survive", "flows of the hosts are shared by both gateways of a site", detail, err)
}

// checkDrain: a gateway is taken out of use under traffic.
func (d *demo) checkDrain(ctx context.Context) {
	g := d.lab.sites[1].second
	g.gone = true
	sent, lost, err := d.stream(func() error {
		if out, err := g.cli(ctx, "drain"); err != nil {
			return fmt.Errorf("sluice drain: %w: %s", err, out)
		}
		return g.stop()
	})
	if err == nil && lost > 0 {
		err = fmt.Errorf("%d of %d packets lost", lost, sent)
	}
	d.record("survive", g.name+" is drained and stopped under traffic", fmt.Sprintf("none of %d packets lost", sent), err)
}

// checkKill: a gateway dies under traffic.
func (d *demo) checkKill(ctx context.Context) {
	g := d.lab.sites[0].second
	g.gone = true
	sent, lost, err := d.stream(func() error {
		time.Sleep(streamTime)
		if err := g.command.Process.Kill(); err != nil {
			return err
		}
		<-g.command.Done()
		return nil
	})
	const perSecond = 2 * streamRate * 1000 // both ways
	took := time.Duration(lost) * time.Second / perSecond
	if err == nil && took > maxLoss {
		err = fmt.Errorf("%d of %d packets lost", lost, sent)
	}
	d.record("survive", g.name+" is killed (SIGKILL) under traffic", fmt.Sprintf("%d of %d packets lost, as many as are sent in %v", lost, sent, took.Round(time.Millisecond)), err)
	err = d.until(ctx, func() error {
		sent, lost, err := d.stream(func() error { return nil })
		if err == nil && lost > 0 {
			err = fmt.Errorf("%d of %d packets lost", lost, sent)
		}
		return err
	})
	d.record("survive", "one gateway at each site carries everything", "no packet lost", err)
}
