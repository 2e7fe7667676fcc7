package gateway

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluicegw/sluice/afxdp"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/xdp"
)

// Counters implements api.Backend.
func (g *Gateway) Counters(_ context.Context, r *sluicev1.CountersRequest) (*sluicev1.CountersResponse, error) {
	response := &sluicev1.CountersResponse{Time: timestamppb.Now()}
	for _, part := range []struct {
		name string
		read func() ([]*sluicev1.Counter, error)
	}{
		{"xdp", g.xdpCounters},
		{"afxdp", g.socketCounters},
		{"relay", g.relayCounters},
		{"socket", g.listenCounters},
		{"wireguard", g.wireguardCounters},
		{"neigh", g.neighCounters},
		{"hosts", g.hostCounters},
	} {
		if r.GetComponent() != "" && r.GetComponent() != part.name {
			continue
		}
		counters, err := part.read()
		if err != nil {
			return nil, err
		}
		for _, c := range counters {
			c.Component = part.name
		}
		response.Counters = append(response.Counters, counters...)
	}
	return response, nil
}

func packets(name string, value uint64, why string, drop bool) *sluicev1.Counter {
	return &sluicev1.Counter{Name: name, Value: value, Unit: sluicev1.CounterUnit_COUNTER_UNIT_PACKETS, Explanation: why, Drop: drop}
}

func (g *Gateway) xdpCounters() ([]*sluicev1.Counter, error) {
	values, err := g.program.Counters()
	if err != nil {
		return nil, err
	}
	var out []*sluicev1.Counter
	for i, value := range values {
		v := xdp.Verdict(i)
		out = append(out, packets(v.String(), value, v.Explain(), v.Drop()))
	}
	return out, nil
}

func (g *Gateway) relayCounters() ([]*sluicev1.Counter, error) {
	var out []*sluicev1.Counter
	for worker := range g.relay.Workers() {
		c := g.relay.WorkerCounters(worker)
		number := uint32(worker)
		add := func(counter *sluicev1.Counter) {
			counter.Worker = &number
			out = append(out, counter)
		}
		for _, v := range relay.Verdicts() {
			add(packets(v.String(), c.Verdicts[v], v.Explain(), !v.Good()))
		}
		add(packets("received", c.Received, "packets taken from receive rings", false))
		add(packets("arrived", c.Arrived, "datagrams for the WireGuard port that came by way of the kernel (component socket)", false))
		add(packets("injected", c.Injected, "datagrams taken from the WireGuard engine", false))
		add(&sluicev1.Counter{Name: "untold", Value: c.Untold, Unit: sluicev1.CounterUnit_COUNTER_UNIT_EVENTS, Explanation: "hosts seen in a new place that the learner had no room for at once"})
		add(packets("made", c.Made, "answers and ICMP errors made by the worker", false))
		add(packets("outer_cut", c.Cut, "IPv6 packets of at most 1280 bytes that did not fit the tunnel whole: their messages were sent in outer fragments", false))
		add(packets("mss_clamped", c.Clamped, "TCP SYN and SYN-ACK packets whose segment size was lowered to fit the path", false))
		add(&sluicev1.Counter{Name: "parked", Value: c.Parked, Unit: sluicev1.CounterUnit_COUNTER_UNIT_GAUGE, Explanation: "packets that wait for a session or a neighbour now"})
		add(&sluicev1.Counter{Name: "free_frames", Value: c.Free, Unit: sluicev1.CounterUnit_COUNTER_UNIT_GAUGE, Explanation: "packet buffers in the worker's pool after its last batch; the others are at its ports"})
		add(&sluicev1.Counter{Name: "kick_errors", Value: c.KickErrors, Unit: sluicev1.CounterUnit_COUNTER_UNIT_EVENTS, Explanation: "times a port refused to send: its link is down or gone"})
		add(&sluicev1.Counter{Name: "batches", Value: c.Batches, Unit: sluicev1.CounterUnit_COUNTER_UNIT_EVENTS, Explanation: "batches that held at least one packet"})
		add(&sluicev1.Counter{Name: "sleeps", Value: c.Sleeps, Unit: sluicev1.CounterUnit_COUNTER_UNIT_EVENTS, Explanation: "times the worker slept for want of work"})
	}
	out = append(out, packets("mailbox_full", g.lostSend.Load(), "datagrams of the WireGuard engine that no worker had room for", true))
	return out, nil
}

func (g *Gateway) wireguardCounters() ([]*sluicev1.Counter, error) {
	c := g.device.Counters()
	return []*sluicev1.Counter{
		packets("initiations", c.Initiations, "handshake initiations accepted", false),
		packets("responses", c.Responses, "handshake responses accepted", false),
		packets("cookies", c.Cookies, "cookie replies accepted", false),
		packets("sent", c.Sent, "handshake messages, cookies and keepalives sent", false),
		packets("cookie_replies", c.CookieReplies, "under load, answered with a cookie instead", false),
		packets("queue_full", c.QueueFull, "handshake messages that came faster than the engine takes them", true),
		packets("malformed", c.Malformed, "handshake messages of a wrong type or length", true),
		packets("bad_mac1", c.BadMAC1, "handshake messages that are not for our key", true),
		packets("rate_limited", c.RateLimited, "under load, too many from one source", true),
		packets("invalid", c.Invalid, "handshake messages that fail authentication or answer no handshake of ours", true),
		packets("unknown_peer", c.UnknownPeer, "initiations of a peer that is not configured", true),
		packets("replayed_initiation", c.ReplayedInitiations, "initiations that were seen before or come too soon", true),
	}, nil
}

func (g *Gateway) neighCounters() ([]*sluicev1.Counter, error) {
	return []*sluicev1.Counter{{
		Name: "entries", Value: uint64(g.kernel.Table().Len()), Unit: sluicev1.CounterUnit_COUNTER_UNIT_GAUGE,
		Explanation: "destinations whose next hop is kept up to date",
	}}, nil
}

// socketCounters are the kernel's own, per port and worker.
func (g *Gateway) socketCounters() ([]*sluicev1.Counter, error) {
	g.portsMu.RLock()
	defer g.portsMu.RUnlock()
	var out []*sluicev1.Counter
	for _, p := range g.view.Load().ports {
		if p.port == nil || p.port.closed {
			continue
		}
		for worker, socket := range p.port.sockets {
			stats, err := socket.Stats()
			if err != nil {
				return nil, err
			}
			number := uint32(worker)
			for _, c := range statsCounters(stats) {
				c.Worker, c.Port = &number, p.cfg.Name
				out = append(out, c)
			}
		}
	}
	return out, nil
}

func statsCounters(s afxdp.Stats) []*sluicev1.Counter {
	events := func(name string, value uint64, why string) *sluicev1.Counter {
		return &sluicev1.Counter{Name: name, Value: value, Unit: sluicev1.CounterUnit_COUNTER_UNIT_EVENTS, Explanation: why}
	}
	return []*sluicev1.Counter{
		packets("rx_no_frame", s.RxNoFrame, "dropped by the kernel: no frame to receive into, or longer than a frame", true),
		packets("rx_ring_full", s.RxRingFull, "dropped by the kernel: the worker is behind", true),
		events("fill_ring_empty", s.FillRingEmpty, "times the kernel wanted a frame and there was none"),
		packets("fill_invalid", s.FillInvalid, "frames that the kernel refused to receive into", false),
		packets("tx_invalid", s.TxInvalid, "descriptors that the kernel refused to send", true),
		events("tx_ring_empty", s.TxRingEmpty, "times the kernel looked for more to send and there was nothing"),
		events("kicks", s.Kicks, "system calls to send"),
		events("wakes", s.Wakes, "system calls to receive"),
		events("tx_again", s.TxAgain, "system calls that left packets to send: no room further on"),
		packets("tx_dropped", s.TxDropped, "dropped by the interface on sending", true),
		events("tx_no_buffers", s.TxNoBuffers, "system calls that left packets to send: no memory in the kernel"),
		packets("tx_refused", s.TxRefused, "descriptors that could not be sent", true),
	}
}
