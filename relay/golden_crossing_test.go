package relay

import (
	"bytes"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/gopacket/gopacket/layers"
)

// Cases that have an answer or several packets in either direction: what enters gateway 1, from its site (frames) or from
// the peer (what is inside of WireGuard), and all that leaves it towards both.

type crossing struct {
	name     string
	change   func(*testing.T, *pair) // what is different from newPair; nil: nothing
	fromPeer bool
	kernel   bool // fromPeer: in fragments, by way of the kernel
	place    int  // otherwise: where the packets come from
	packets  [][]byte
}

// run puts the packets in and returns what leaves towards the site, port by port, and to the peer.
func (c *crossing) run(t *testing.T, p *pair, in [][]byte) (site, wan [][]byte) {
	for _, b := range in {
		switch {
		case c.kernel:
			if !p.a.relay.Arrive(arrival(4, p.sealed(t, b))) {
				t.Fatal("no room")
			}
		case c.fromPeer:
			p.sealTo(t, b)
		case c.place == atRouted:
			p.a.queues[0][redPort].Inject(b)
		default:
			p.a.queues[0][sitePort].Inject(b)
		}
		p.a.turn()
	}
	return append(p.a.got(sitePort), p.a.got(redPort)...), p.plainOf(t)
}

// enter is how packets of VPC red get to gateway 1.
func (c *crossing) enter() (in [][]byte, link layers.LinkType) {
	for _, b := range c.packets {
		if c.fromPeer {
			in = append(in, tunnelled(red.vni(1), etherTypeOfPacket(b), b))
		} else {
			_, frame := fromHost(red, 1, c.place, b)
			in = append(in, frame)
		}
	}
	if c.fromPeer {
		return in, layers.LinkTypeRaw
	}
	return in, layers.LinkTypeEthernet
}

func crossings() (cases []crossing) {
	groups := func(t *testing.T, p *pair) { p.groups(t) }
	limit := func(_ *testing.T, p *pair) { // 32 at once; the default class leaves 8 of them
		p.a.withVPC(red, func(v *VPC) { v.Limits = Limits{FromSite: Limit{Packets: 1}, ToSite: Limit{Packets: 1}} })
	}
	for _, version := range []int{4, 6} {
		host := func(site int) func(tos byte, ttl byte, payload int) []byte {
			return func(tos byte, ttl byte, payload int) []byte {
				return udpPacket(red.host(site, atRouted, version), red.host(3-site, atRouted, version), ttl, tos, 5004, 5005, bytes.Repeat([]byte{0x5a}, payload))
			}
		}
		here, there := host(1), host(2)
		add := func(name string, c crossing) {
			c.name = fmt.Sprintf("%s%d", name, version)
			cases = append(cases, c)
		}
		add("mtu-out-too-big", crossing{place: atRouted, packets: [][]byte{here(0, 64, 1405-8-20*version/4), here(0, 64, 1440)}})
		add("mtu-in-too-big", crossing{fromPeer: true, kernel: true, packets: [][]byte{there(0, 64, 3000)}})
		if version == 4 {
			add("mtu-out-cut", crossing{place: atVXLAN4, packets: [][]byte{mayCut(here(0, 64, 1470))}, change: func(_ *testing.T, p *pair) {
				p.a.withVPC(red, func(v *VPC) { v.Sources = SourceOff })
			}})
			add("mtu-in-cut", crossing{fromPeer: true, kernel: true, packets: [][]byte{mayCut(there(0, 64, 5000))}})
		}
		add("reassembled-in-", crossing{fromPeer: true, kernel: true, packets: goldenInner(red, 2, atRouted, version)})
		add("manners-in-ttl", crossing{fromPeer: true, packets: [][]byte{there(0, 1, 10), there(0, 2, 10)}})
		add("manners-in-to-gateway", crossing{fromPeer: true, packets: [][]byte{
			echoPacket(red.host(2, atRouted, version), red.gateways(1)[version/6], 1, 2, []byte("ping")),
			udpPacket(red.host(2, atRouted, version), red.gateways(1)[version/6], 64, 0, 5, 33434, nil)}})
		add("manners-in-no-host", crossing{fromPeer: true, packets: [][]byte{ // a prefix of the site that nobody has
			udpPacket(red.host(2, atRouted, version), map[int]netip.Addr{4: addr("10.1.99.1"), 6: addr("fd10:1:99::1")}[version], 64, 0, 5, 6, nil)}})
		add("multicast-out", crossing{place: atRouted, change: groups, packets: [][]byte{udpPacket(red.host(1, atRouted, version), group(version), 9, 0, 5000, 5001, []byte("to all"))}})
		add("multicast-in", crossing{fromPeer: true, change: groups, packets: [][]byte{udpPacket(red.host(2, atRouted, version), group(version), 9, 0, 5000, 5001, []byte("to all"))}})
		var many, manyBack [][]byte
		for i := range 40 { // every fifth is of the highest class
			tos := byte(0)
			if i%5 == 0 {
				tos = 46 << 2
			}
			many, manyBack = append(many, here(tos, 64, i)), append(manyBack, there(tos, 64, i))
		}
		add("limit-out", crossing{place: atRouted, change: limit, packets: many})
		add("limit-in", crossing{fromPeer: true, change: limit, packets: manyBack})
	}
	return cases
}

func TestGoldenCrossings(t *testing.T) {
	for _, c := range crossings() {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, gatewayOptions{})
			p.connect(t)
			if c.change != nil {
				c.change(t, p)
			}
			built, link := c.enter()
			in := filepath.Join("testdata", c.name+".in.pcap")
			if *update {
				writeCapture(t, in, link, built)
			}
			site, wan := c.run(t, p, readCapture(t, in))
			pinned(t, c.name+".site", layers.LinkTypeEthernet, site)
			pinned(t, c.name+".wan", layers.LinkTypeRaw, wan)
			if len(site)+len(wan) == 0 {
				t.Error("nothing came out")
			}
		})
	}
}

// pinned holds what came out against the capture of that name.
func pinned(t *testing.T, name string, link layers.LinkType, got [][]byte) {
	t.Helper()
	want := filepath.Join("testdata", name+".want.pcap")
	if *update {
		writeCapture(t, want, link, got)
	}
	same(t, link, got, readCapture(t, want))
}

// What asks for a gateway address inside an overlay, and the answer.
func TestGoldenQuestionsForTheGateway(t *testing.T) {
	for place, label := range map[int]string{atVXLAN4: "vxlan4", atGeneve6: "geneve6"} {
		for name, frame := range map[string][]byte{
			"gateway-arp": overlayFrame(red, 1, place, layers.EthernetTypeARP, arpRequest(red.host(1, place, 4), red.gateways(1)[0])),
			"gateway-nd":  overlayFrame(red, 1, place, layers.EthernetTypeIPv6, solicitation(red.host(1, place, 6), red.gateways(1)[1])),
		} {
			t.Run(name+"-"+label, func(t *testing.T) {
				p := newPair(t, gatewayOptions{})
				p.connect(t)
				goldenExchange(t, p, name+"-"+label, [][]byte{frame}, redPort)
			})
		}
	}
}
