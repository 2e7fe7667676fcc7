package gateway

import (
	"errors"
	"fmt"

	"github.com/sluicegw/sluice/afxdp"
	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/xdp"
)

// port is a configured port that works: its interface exists, a socket is bound to each worker's queue, and the XDP
// program is attached.
type port struct {
	cfg        config.Port
	ifindex    uint32
	attachment *xdp.Attachment
	sockets    []*afxdp.Socket // by worker
	closed     bool            // under Gateway.portsMu: the sockets must not be asked any more
}

// zeroCopy says whether every queue got it.
func (p *port) zeroCopy() bool {
	for _, s := range p.sockets {
		if !s.ZeroCopy() {
			return false
		}
	}
	return true
}

// reconcilePorts closes the ports that are no longer wanted or whose interface is gone, and opens those that are
// wanted and can be. What cannot be opened is a problem of that port, tried again at the next change; the others run.
// The XDP state must hold the ports already.
func (g *Gateway) reconcilePorts(cfg *config.Config, links *neigh.Links) {
	wanted := make(map[string]config.Port, len(cfg.Ports))
	for _, p := range cfg.Ports {
		wanted[p.Name] = p
	}
	for name, p := range g.ports {
		link := links.LinkByName(name)
		if want, ok := wanted[name]; ok && want == p.cfg && link != nil && link.Ifindex == p.ifindex {
			continue
		}
		delete(g.ports, name)
		if err := g.closePort(p); err != nil {
			g.log.Warn("close port", "port", name, "error", err)
		}
	}
	g.portProblems = make(map[string]string)
	for name, want := range wanted {
		if g.ports[name] != nil {
			continue
		}
		link := links.LinkByName(name)
		if link == nil {
			g.portProblems[name] = "there is no such interface"
			continue
		}
		p, err := g.openPort(want, link)
		if err != nil {
			g.portProblems[name] = err.Error()
			g.log.Error("open port", "port", name, "error", err)
			continue
		}
		g.ports[name] = p
		g.log.Info("port open", "port", name, "mode", p.attachment.Mode().String(), "zero_copy", p.zeroCopy())
		if err := p.attachment.NativeError(); err != nil {
			g.log.Warn("port runs in generic mode", "port", name, "error", err)
		}
	}
}

// openPort binds the sockets before it attaches the program: until then every packet goes to the kernel, as before.
func (g *Gateway) openPort(want config.Port, link *neigh.Link) (_ *port, err error) {
	if err := unfit(link); err != nil {
		return nil, err
	}
	if link.RxQueues < len(g.umems) {
		return nil, fmt.Errorf("has %d receive queues for %d workers (ethtool -L %s combined %d, or fewer workers)",
			link.RxQueues, len(g.umems), link.Name, len(g.umems))
	}
	if limit := g.memory.maxMTU(); link.MTU > limit {
		return nil, fmt.Errorf("its MTU %d is more than %d, the most that the packet memory made at the start takes (lower it, or restart)",
			link.MTU, limit)
	}
	p := &port{cfg: want, ifindex: link.Ifindex}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.closePort(p))
		}
	}()
	for worker := range g.umems {
		socket, err := g.openSocket(worker, want, link)
		if err != nil {
			return nil, err
		}
		p.sockets = append(p.sockets, socket)
	}
	if err := g.setQueues(p); err != nil {
		return nil, err
	}
	for queue, socket := range p.sockets {
		if err := g.program.SetSocket(int(p.ifindex), queue, socket.FD()); err != nil {
			return nil, err
		}
	}
	p.attachment, err = g.program.Attach(int(link.Ifindex), attachMode(want.Mode))
	return p, err
}

// openSocket opens a socket where its worker runs, as the worker owns the packet memory.
func (g *Gateway) openSocket(worker int, want config.Port, link *neigh.Link) (socket *afxdp.Socket, err error) {
	ring := g.cfg.AFXDP.RingSize
	options := afxdp.SocketOptions{
		Ifindex: int(link.Ifindex), Queue: worker, Mode: socketMode(want.ZeroCopy),
		RxSize: ring, TxSize: ring, FillSize: ring, CompletionSize: ring,
		MultiBuffer: g.memory.inPieces(link.MTU),
		BusyPoll:    g.cfg.AFXDP.BusyPoll, BusyPollBudget: g.cfg.AFXDP.BusyPollBudget,
	}
	g.relay.Do(worker, func() { socket, err = afxdp.Open(g.umems[worker], options) })
	return socket, err
}

// closePort detaches first: from then on the kernel gets the packets and the queues run dry.
func (g *Gateway) closePort(p *port) error {
	g.portsMu.Lock()
	defer g.portsMu.Unlock()
	p.closed = true
	var errs []error
	if p.attachment != nil {
		errs = append(errs, p.attachment.Close())
	}
	for queue := range p.sockets {
		errs = append(errs, g.program.ClearSocket(int(p.ifindex), queue))
	}
	errs = append(errs, g.setQueues(nil))
	for worker, socket := range p.sockets { // those that no worker was given; the others are closed already
		g.relay.Do(worker, func() { errs = append(errs, socket.Close()) })
	}
	return errors.Join(errs...)
}

// setQueues gives each worker its queue of every open port, and of one that is being opened.
func (g *Gateway) setQueues(opening *port) error {
	var errs []error
	for worker := range g.umems {
		var queues []relay.PortQueue
		for _, p := range g.ports {
			queues = append(queues, relay.PortQueue{Ifindex: p.ifindex, Queue: p.sockets[worker]})
		}
		if opening != nil {
			queues = append(queues, relay.PortQueue{Ifindex: opening.ifindex, Queue: opening.sockets[worker]})
		}
		if g.tun.open() {
			queues = append(queues, relay.PortQueue{Ifindex: g.tun.port.Ifindex(), Queue: g.tun.port.Queue(worker)})
		}
		errs = append(errs, g.relay.SetQueues(worker, queues))
	}
	return errors.Join(errs...)
}

func attachMode(m config.PortMode) xdp.Mode {
	switch m {
	case config.ModeNative:
		return xdp.Native
	case config.ModeGeneric:
		return xdp.Generic
	default:
		return xdp.Auto
	}
}

func socketMode(z config.ZeroCopy) afxdp.Mode {
	switch z {
	case config.ZeroCopyOn:
		return afxdp.ZeroCopy
	case config.ZeroCopyOff:
		return afxdp.Copy
	default:
		return afxdp.Auto
	}
}
