package gateway

import (
	"context"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/routing"
	"github.com/sluicegw/sluice/xdp"
)

// metrics turns what the gateway counts into Prometheus' words at each scrape. It reads what workers have published and
// asks the kernel for what it counts; no worker is asked for anything.
//
// Labels have few values: workers, ports, verdicts, and the VPCs and peers of the configuration. Routes, of which there
// can be a hundred thousand, are not here but in `sluice routes`.
type metrics struct{ g *Gateway }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("sluice_"+name, help, labels, nil)
}

var (
	infoDesc     = desc("gateway_info", "Who this gateway is; always 1.", "site", "gateway", "version")
	healthDesc   = desc("gateway_problems", "How many problems `sluice status` tells of.")
	revisionDesc = desc("config_revision", "Revision of the configuration in force, 1 when the program started.")

	xdpDesc   = desc("xdp_packets_total", "Packets by the verdict of the XDP program.", "verdict")
	relayDesc = desc("relay_packets_total", "Packets by the verdict of a worker.", "worker", "verdict")
	batchDesc = desc("relay_batch_packets", "Packets that a worker took from one receive ring at once.", "worker")
	turnDesc  = desc("relay_turn_seconds", "Time from a worker's look at its rings until all that it found there was processed and given to transmit rings: the most that a packet spends in a worker. Not the time in rings.", "worker")

	vpcPacketsDesc = desc("vpc_packets_total", "Inner packets of a VPC that were sent on.", "vpc", "to")
	vpcBytesDesc   = desc("vpc_bytes_total", "Bytes of those, without anything around the inner packets.", "vpc", "to")
	vpcDroppedDesc = desc("vpc_dropped_packets_total", "Inner packets of a VPC that were dropped.", "vpc")

	peerPacketsDesc   = desc("peer_packets_total", "WireGuard messages, handshakes and keepalives included; of a peer with encryption none, inner packets.", "peer", "direction")
	peerBytesDesc     = desc("peer_bytes_total", "Bytes of those.", "peer", "direction")
	peerUpDesc        = desc("peer_up", "1 when there is a session that can send; of a peer with encryption none, when nothing is known against it.", "peer")
	peerEncryptedDesc = desc("peer_encrypted", "0 for a peer with encryption none.", "peer")
	peerHandshakeDesc = desc("peer_last_handshake_timestamp_seconds", "When the last handshake was completed; 0 if never.", "peer")
	peerLiveDesc      = desc("peer_alive", "1 when the peer answers probes, 0 when it does no more, -1 when it never has or is not probed.", "peer")
	peerRTTDesc       = desc("peer_rtt_seconds", "Round trip inside the tunnel, smoothed; 0 before the first answer.", "peer")
	peerJitterDesc    = desc("peer_rtt_jitter_seconds", "Jitter of the round trip as in RFC 3550.", "peer")
	peerLossDesc      = desc("peer_probe_loss_ratio", "Share of the last 64 probes that were not answered.", "peer")
	peerMTUDesc       = desc("peer_mtu_bytes", "The longest inner packet that is sent to the peer; 0: not known.", "peer")
	pathLiveDesc      = desc("path_alive", "1 when probes over the path are answered, 0 when they are no more, -1 when they never were. Of peers with several paths.", "peer", "path")
	pathUsedDesc      = desc("path_used", "1 for the path that everything takes.", "peer", "path")
	pathRTTDesc       = desc("path_rtt_seconds", "Round trip over the path, smoothed; 0 before the first answer.", "peer", "path")
	pathJitterDesc    = desc("path_rtt_jitter_seconds", "Jitter of the round trip as in RFC 3550.", "peer", "path")
	pathLossDesc      = desc("path_probe_loss_ratio", "Share of the last 64 probes that were not answered.", "peer", "path")
	relayedDesc       = desc("relayed_packets_total", "Sealed messages that the peer has sent to others through us, and got.", "peer", "direction")
	relayedBytesDesc  = desc("relayed_bytes_total", "Bytes of those, as packets inside its tunnel.", "peer", "direction")
	peerSessionDesc   = desc("peer_session_age_seconds", "Age of the session; 0 without one.", "peer")

	bgpUpDesc       = desc("bgp_neighbour_up", "1 when the session with the router is established.", "neighbour", "address", "vpc")
	bgpEndedDesc    = desc("bgp_sessions_ended_total", "Established sessions with the router that have ended.", "neighbour", "address", "vpc")
	bgpReceivedDesc = desc("bgp_routes_received", "Routes that the router has told us.", "neighbour", "address", "vpc")
	bgpBestDesc     = desc("bgp_routes_in_use", "Of these, those in use.", "neighbour", "address", "vpc")
	bgpRefusedDesc  = desc("bgp_routes_refused", "Of the received ones, those that were refused, by reason.", "neighbour", "address", "vpc", "reason")
	bgpStaleDesc    = desc("bgp_routes_stale", "Of the received ones, those kept while the router restarts.", "neighbour", "address", "vpc")

	portUpDesc      = desc("port_up", "1 when the port works and its link is up.", "port")
	portPacketsDesc = desc("port_packets_total", "Packets of the interface, also those that pass Sluice by.", "port", "direction")
	portBytesDesc   = desc("port_bytes_total", "Bytes of those.", "port", "direction")
	umemDesc        = desc("umem_frames", "Packet buffers of a worker.", "worker")
)

// Describe implements prometheus.Collector. What the parts count beside verdicts is not listed: it is as in
// `sluice counters`.
func (metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{infoDesc, healthDesc, revisionDesc, xdpDesc, relayDesc, batchDesc, turnDesc,
		vpcPacketsDesc, vpcBytesDesc, vpcDroppedDesc, peerPacketsDesc, peerBytesDesc, peerUpDesc, peerEncryptedDesc, peerHandshakeDesc, peerLiveDesc, peerRTTDesc, peerJitterDesc, peerLossDesc, peerMTUDesc, peerSessionDesc,
		pathLiveDesc, pathUsedDesc, pathRTTDesc, pathJitterDesc, pathLossDesc, relayedDesc, relayedBytesDesc,
		bgpUpDesc, bgpEndedDesc, bgpReceivedDesc, bgpBestDesc, bgpRefusedDesc, bgpStaleDesc,
		portUpDesc, portPacketsDesc, portBytesDesc, umemDesc} {
		out <- d
	}
	for _, d := range clusterDescs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m metrics) Collect(out chan<- prometheus.Metric) {
	c := collection{out}
	ctx := context.Background()
	if status, err := m.g.Status(ctx, &sluicev1.StatusRequest{}); err != nil {
		out <- prometheus.NewInvalidMetric(infoDesc, err)
	} else {
		c.status(status)
	}
	if counters, err := m.g.Counters(ctx, &sluicev1.CountersRequest{}); err != nil {
		out <- prometheus.NewInvalidMetric(relayDesc, err)
	} else {
		c.counters(counters.GetCounters())
	}
	c.vpcs(m.g)
	c.bgp(m.g.bgp.router.Status(ctx, false).Neighbours)
	c.cluster(m.g.clusterStatus(), m.g.view.Load().cfg.Gateway)
	c.workers(m.g)
}

// collection is one scrape.
type collection struct{ out chan<- prometheus.Metric }

func (c collection) counter(d *prometheus.Desc, v uint64, labels ...string) {
	c.out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func (c collection) gauge(d *prometheus.Desc, v float64, labels ...string) {
	c.out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (c collection) status(s *sluicev1.StatusResponse) {
	c.gauge(infoDesc, 1, s.GetSite(), s.GetGateway(), s.GetVersion())
	c.gauge(healthDesc, float64(len(s.GetProblems())))
	c.gauge(revisionDesc, float64(s.GetConfig().GetRevision()))
	for _, p := range s.GetPorts() {
		c.gauge(portUpDesc, one(p.GetProblem() == "" && p.GetXdpMode() != "" && p.GetLinkUp()), p.GetName())
		c.counter(portPacketsDesc, p.GetRxPackets(), p.GetName(), "rx")
		c.counter(portPacketsDesc, p.GetTxPackets(), p.GetName(), "tx")
		c.counter(portBytesDesc, p.GetRxBytes(), p.GetName(), "rx")
		c.counter(portBytesDesc, p.GetTxBytes(), p.GetName(), "tx")
	}
	for _, p := range s.GetPeers() {
		c.counter(peerPacketsDesc, p.GetRxPackets(), p.GetName(), "rx")
		c.counter(peerPacketsDesc, p.GetTxPackets(), p.GetName(), "tx")
		c.counter(peerBytesDesc, p.GetRxBytes(), p.GetName(), "rx")
		c.counter(peerBytesDesc, p.GetTxBytes(), p.GetName(), "tx")
		clear := p.GetState() == sluicev1.PeerState_PEER_STATE_UNENCRYPTED
		c.gauge(peerUpDesc, one(p.GetState() == sluicev1.PeerState_PEER_STATE_UP || clear && p.GetProblem() == ""), p.GetName())
		c.gauge(peerEncryptedDesc, one(!clear), p.GetName())
		handshake := 0.0
		if t := p.GetLastHandshake(); t != nil {
			handshake = float64(t.AsTime().UnixMilli()) / 1000
		}
		c.gauge(peerHandshakeDesc, handshake, p.GetName())
		c.liveness(p.GetLiveness(), peerLiveDescs, p.GetName())
		for _, path := range p.GetPaths() {
			c.liveness(path.GetLiveness(), pathLiveDescs, p.GetName(), path.GetName())
			c.gauge(pathUsedDesc, one(path.GetUsed()), p.GetName(), path.GetName())
		}
		if r := p.GetRelayed(); r != nil {
			c.counter(relayedDesc, r.GetSentPackets(), p.GetName(), "sent")
			c.counter(relayedDesc, r.GetReceivedPackets(), p.GetName(), "received")
			c.counter(relayedBytesDesc, r.GetSentBytes(), p.GetName(), "sent")
			c.counter(relayedBytesDesc, r.GetReceivedBytes(), p.GetName(), "received")
		}
		c.gauge(peerMTUDesc, float64(p.GetMtu()), p.GetName())
		c.gauge(peerSessionDesc, p.GetSessionAge().AsDuration().Seconds(), p.GetName())
	}
}

// liveDescs are what the probes of something tell: whether it is alive, round trip, jitter and loss.
type liveDescs struct{ alive, rtt, jitter, loss *prometheus.Desc }

var (
	peerLiveDescs = liveDescs{peerLiveDesc, peerRTTDesc, peerJitterDesc, peerLossDesc}
	pathLiveDescs = liveDescs{pathLiveDesc, pathRTTDesc, pathJitterDesc, pathLossDesc}
)

func (c collection) liveness(l *sluicev1.Liveness, d liveDescs, labels ...string) {
	alive := -1.0
	switch l.GetState() {
	case sluicev1.LiveState_LIVE_STATE_UP:
		alive = 1
	case sluicev1.LiveState_LIVE_STATE_DOWN:
		alive = 0
	}
	c.gauge(d.alive, alive, labels...)
	c.gauge(d.rtt, l.GetRtt().AsDuration().Seconds(), labels...)
	c.gauge(d.jitter, l.GetJitter().AsDuration().Seconds(), labels...)
	c.gauge(d.loss, float64(l.GetLost())/float64(max(l.GetProbes(), 1)), labels...)
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// counters has a label for verdicts, and a metric of its own for any other counter.
func (c collection) counters(all []*sluicev1.Counter) {
	for _, n := range all {
		worker := ""
		if n.Worker != nil {
			worker = strconv.Itoa(int(n.GetWorker()))
		}
		switch {
		case n.GetComponent() == "xdp" && xdpVerdicts[n.GetName()]:
			c.counter(xdpDesc, n.GetValue(), n.GetName())
		case n.GetComponent() == "relay" && relayVerdicts[n.GetName()]:
			c.counter(relayDesc, n.GetValue(), worker, n.GetName())
		default:
			c.other(n, worker)
		}
	}
}

// other names a counter as the convention wants: the unit, and _total unless it can fall.
func (c collection) other(n *sluicev1.Counter, worker string) {
	name, kind := n.GetComponent()+"_"+n.GetName(), prometheus.CounterValue
	switch n.GetUnit() {
	case sluicev1.CounterUnit_COUNTER_UNIT_GAUGE:
		kind = prometheus.GaugeValue
	case sluicev1.CounterUnit_COUNTER_UNIT_PACKETS:
		name += "_packets_total"
	case sluicev1.CounterUnit_COUNTER_UNIT_BYTES:
		name += "_bytes_total"
	default:
		name += "_total"
	}
	var labels, values []string
	if n.GetPort() != "" {
		labels, values = append(labels, "port"), append(values, n.GetPort())
	}
	if worker != "" {
		labels, values = append(labels, "worker"), append(values, worker)
	}
	c.out <- prometheus.MustNewConstMetric(desc(name, n.GetExplanation(), labels...), kind, float64(n.GetValue()), values...)
}

var relayVerdicts, xdpVerdicts = func() (map[string]bool, map[string]bool) {
	r, x := make(map[string]bool), make(map[string]bool)
	for _, v := range relay.Verdicts() {
		r[v.String()] = true
	}
	for v := range xdp.NumVerdicts {
		x[xdp.Verdict(v).String()] = true
	}
	return r, x
}()

func (c collection) vpcs(g *Gateway) {
	counted, forwarded := g.relay.Counters().VPCs, g.forwarded()
	for _, vpc := range g.view.Load().cfg.VPCs {
		n := vpcCounters(counted, vpc.VNI)
		forwarded.addTo(&n)
		c.counter(vpcPacketsDesc, n.ToPeers, vpc.Name, "peers")
		c.counter(vpcPacketsDesc, n.ToSite, vpc.Name, "site")
		c.counter(vpcBytesDesc, n.ToPeersBytes, vpc.Name, "peers")
		c.counter(vpcBytesDesc, n.ToSiteBytes, vpc.Name, "site")
		c.counter(vpcDroppedDesc, n.Dropped, vpc.Name)
	}
}

func (c collection) workers(g *Gateway) {
	for i := range g.relay.Workers() {
		worker := strconv.Itoa(i)
		d := g.relay.Distributions(i)
		c.histogram(batchDesc, &d.BatchSizes, 1, 0, 6, worker)
		c.histogram(turnDesc, &d.Turns, 1e-9, 8, 22, worker) // 256 ns to 4 ms
		c.gauge(umemDesc, float64(g.umems[i].Frames()), worker)
	}
}

// histogram shows the buckets numbered first to last; what is above is in +Inf alone.
func (c collection) histogram(d *prometheus.Desc, h *relay.Histogram, unit float64, first, last int, labels ...string) {
	buckets, count := make(map[float64]uint64), uint64(0)
	for i, n := range h.Buckets {
		count += n
		if i >= first && i <= last {
			buckets[float64(h.Bound(i))*unit] = count
		}
	}
	c.out <- prometheus.MustNewConstHistogram(d, count, float64(h.Sum)*unit, buckets, labels...)
}

func (c collection) bgp(neighbours []routing.NeighbourStatus) {
	for i := range neighbours {
		n := &neighbours[i]
		labels := []string{n.Name, neighbourAddress(n), n.VPC}
		c.gauge(bgpUpDesc, one(n.State == routing.Established), labels...)
		c.counter(bgpEndedDesc, n.Ended, labels...)
		c.gauge(bgpReceivedDesc, float64(n.Received), labels...)
		c.gauge(bgpBestDesc, float64(n.Best), labels...)
		c.gauge(bgpStaleDesc, float64(n.Stale), labels...)
		for reason, count := range n.Refused {
			c.gauge(bgpRefusedDesc, float64(count), append(slices.Clip(labels), reason)...)
		}
	}
}
