package relay

import (
	"reflect"
	"strings"
	"testing"
)

func traceText(t Trace) string {
	var b strings.Builder
	for _, s := range t.Steps {
		b.WriteString(s.Stage + ": " + s.Text + "\n")
	}
	return b.String()
}

func TestATraceTellsThePacketsWay(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	site, wan := red.host(1, atVXLAN4, 4), red.host(2, atVXLAN4, 4)
	_, frame := fromHost(red, 1, atVXLAN4, udpPacket(site, wan, 64, 0, 1000, 2000, []byte("hello")))
	_, noRoute := fromHost(red, 1, atVXLAN4, udpPacket(site, addr("203.0.113.1"), 64, 0, 1, 2, nil))
	for _, c := range []struct {
		name     string
		in       TraceInput
		verdicts []Verdict
		says     []string
		sent     []uint32
	}{
		{"from the site to the peer", TraceInput{Ifindex: sitePort, Frame: frame}, []Verdict{ToPeer}, []string{
			"receive: ", "on port port2", "inner: " + site.String() + " > " + wan.String() + ", protocol 17, 33 bytes, TTL 64, from the site, VPC red",
			"lookup: VPC red: " + wan.String() + " takes the route 10.2.0.0/16 to peer peer",
			"encap: peer peer: through port port4 to 198.51.100.2; up to 1472 bytes fit",
			"encap: in Geneve with VNI 200, as the peer calls VPC red; the inner packet may have 1404 bytes, it has 33",
			"seal: the session with peer peer is", "send: ", "out of port port4", "verdict: to_peer: sealed and sent to a peer",
		}, []uint32{wanPort}},
		{"from the peer to the site", TraceInput{Inner: udpPacket(wan, site, 64, 0, 1, 2, nil), VNI: red.vni(1), Peer: 0}, []Verdict{ToSite}, []string{
			"from peer peer, VPC red", "takes the route 10.1.1.0/24 to vxlan attachment on port port2, VTEP 192.168.1.11",
			"deliver: VTEP: through port port2 to 192.168.1.11", "verdict: to_site",
		}, []uint32{sitePort}},
		{"no route, and the error goes back", TraceInput{Ifindex: sitePort, Frame: noRoute}, []Verdict{NoRoute, Originated}, []string{
			"lookup: VPC red has no route to 203.0.113.1", "verdict: no_route", "verdict: originated",
		}, []uint32{sitePort}},
		{"a source that the peer may not have", TraceInput{Inner: udpPacket(site, wan, 64, 0, 1, 2, nil), VNI: red.vni(1)}, []Verdict{SourceNotAllowed}, nil, nil},
		{"a VPC that does not exist", TraceInput{Inner: udpPacket(wan, site, 64, 0, 1, 2, nil), VNI: 77}, []Verdict{UnknownVNI}, nil, nil},
		{"junk", TraceInput{Ifindex: sitePort, Frame: []byte{1, 2, 3}}, []Verdict{ShortFrame}, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			counters, status := p.a.relay.Counters(), p.a.peer.Status()
			got, err := p.a.relay.Trace(c.in)
			check(t, err)
			if !reflect.DeepEqual(got.Verdicts, c.verdicts) {
				t.Errorf("verdicts %v, want %v\n%s", got.Verdicts, c.verdicts, traceText(got))
			}
			text := traceText(got)
			for _, s := range c.says {
				if !strings.Contains(text, s) {
					t.Errorf("%q is not in:\n%s", s, text)
				}
			}
			var sent []uint32
			for _, s := range got.Sent {
				sent = append(sent, s.Ifindex)
			}
			if !reflect.DeepEqual(sent, c.sent) {
				t.Errorf("sent through %v, want %v", sent, c.sent)
			}
			after := p.a.peer.Status()
			if !reflect.DeepEqual(p.a.relay.Counters(), counters) || after.TxPackets != status.TxPackets || after.RxPackets != status.RxPackets || len(p.a.got(wanPort)) != 0 {
				t.Error("the live relay counts or sends what was traced")
			}
		})
	}
	for _, in := range []TraceInput{{Ifindex: 99, Frame: frame}, {Inner: frame, Peer: 7}, {Ifindex: sitePort}, {Peer: 0}, {Ifindex: sitePort, Frame: make([]byte, 5000)}} {
		if _, err := p.a.relay.Trace(in); err == nil {
			t.Errorf("%d bytes on %d were traced", len(in.Frame), in.Ifindex)
		}
	}
}

// TestATraceIsWhatTheWorkerDoes: what a trace says would be delivered is byte for byte what a worker delivers.
func TestATraceIsWhatTheWorkerDoes(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	for _, version := range []int{4, 6} {
		for place := atVXLAN4; place < places; place++ {
			inner := udpPacket(red.host(2, place, version), red.host(1, place, version), 64, 0, 1, 2, []byte("x"))
			trace, err := p.a.relay.Trace(TraceInput{Inner: inner, VNI: red.vni(1)})
			check(t, err)
			port, frame := fromHost(red, 2, place, inner)
			p.b.queues[0][port].Inject(frame)
			p.settle()
			out := uint32(sitePort)
			if place == atRouted {
				out = redPort
			}
			got := p.a.got(out)
			if len(trace.Sent) != 1 || len(got) != 1 {
				t.Fatalf("IPv%d at %s: %d traced, %d delivered", version, placeName(place), len(trace.Sent), len(got))
			}
			want := trace.Sent[0].Data
			ttl := len(want) - len(inner) + 8 // the sender has lowered it once already: and the sum of IPv4
			if version == 6 {
				ttl--
			}
			if len(got[0]) != len(want) || string(got[0][len(want)-9:]) != string(want[len(want)-9:]) || got[0][ttl] != want[ttl]-1 {
				t.Errorf("IPv%d at %s:\n got %x\nwant %x", version, placeName(place), got[0], want)
			}
		}
	}
}
