package relay

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/sluicegw/sluice/relay/wireguard"
)

// golden runs a case whose input is in a capture and holds what comes out
// against another one. On the WAN side a capture holds what is inside of
// WireGuard.
func golden(t *testing.T, name string, build [][]byte, inType, wantType layers.LinkType, run func(in [][]byte) [][]byte) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		in, want := filepath.Join("testdata", name+".in.pcap"), filepath.Join("testdata", name+".want.pcap")
		if *update {
			writeCapture(t, in, inType, build)
		}
		got := run(readCapture(t, in))
		if *update {
			writeCapture(t, want, wantType, got)
		}
		compare(t, wantType, got, readCapture(t, want))
	})
}

// outThrough and inThrough take packets across gateway 1.
func (p *pair) outThrough(t *testing.T, port uint32, in [][]byte) [][]byte {
	for _, b := range in {
		p.a.queues[0][port].Inject(b)
	}
	p.a.turn()
	return p.plainOf(t)
}

func (p *pair) inThrough(t *testing.T, port uint32, in [][]byte) [][]byte {
	p.sealTo(t, in...)
	p.a.turn()
	return p.a.got(port)
}

func TestGoldenMSS(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	for _, v := range []vpcName{defaultVPC, red} {
		for _, place := range []int{atVXLAN4, atGeneve6, atRouted} {
			for _, version := range []int{4, 6} {
				here, there := v.host(1, place, version), v.host(2, place, version)
				port, syn := fromHost(v, 1, place, synPacket(here, there, false, version == 6, 8960))
				_, synAck := fromHost(v, 1, place, synPacket(here, there, true, false, 8960))
				in := [][]byte{synPacket(there, here, false, version == 6, 8960), synPacket(there, here, true, false, 8960)}
				if v != defaultVPC {
					for i := range in {
						in[i] = tunnelled(v.vni(1), etherTypeOfPacket(in[i]), in[i])
					}
				}
				name := fmt.Sprintf("%v-%s-inner%d", v, [...]string{atVXLAN4: "vxlan4", atRouted: "routed", atGeneve6: "geneve6"}[place], version)
				golden(t, "mss-out-"+name, [][]byte{syn, synAck}, layers.LinkTypeEthernet, layers.LinkTypeRaw, func(in [][]byte) [][]byte { return p.outThrough(t, port, in) })
				golden(t, "mss-in-"+name, in, layers.LinkTypeRaw, layers.LinkTypeEthernet, func(in [][]byte) [][]byte { return p.inThrough(t, port, in) })
			}
		}
	}
}

// What every IPv6 link carries (1280 bytes) over a tunnel that takes less: the message leaves in pieces, which joined holds
// against the path and puts together; and one that the WAN has cut comes in by way of the kernel.
func TestGoldenPieces(t *testing.T) {
	const mtu = 1064
	for _, outer := range []int{4, 6} {
		p := newPair(t, gatewayOptions{outer: outer})
		p.connect(t)
		p.a.relay.SetPeerMTUs([]int{mtu})
		for _, v := range []vpcName{defaultVPC, red} {
			here, there, data := v.host(1, atRouted, 6), v.host(2, atRouted, 6), bytes.Repeat([]byte("in piece"), 154)
			_, frame := fromHost(v, 1, atRouted, udpPacket(here, there, 64, 0, 1, 2, data))
			back := udpPacket(there, here, 64, 0, 2, 1, data)
			if v != defaultVPC {
				back = tunnelled(v.vni(1), etherTypeOfPacket(back), back)
			}
			name := fmt.Sprintf("%v-outer%d", v, outer)
			golden(t, "pieces-out-"+name, [][]byte{frame}, layers.LinkTypeEthernet, layers.LinkTypeRaw, func(in [][]byte) [][]byte {
				p.a.queues[0][v.routedPort()].Inject(in[0])
				p.a.turn()
				frames := p.a.got(wanPort)
				if len(frames) != 2 {
					t.Fatalf("%d pieces", len(frames))
				}
				plain, result := p.plain(p.b.device.NewBatch(), joined(t, frames, mtu+32+28+20*(outer/6)))
				if result != wireguard.OK {
					t.Fatal(result)
				}
				return [][]byte{plain}
			})
			golden(t, "pieces-in-"+name, [][]byte{back}, layers.LinkTypeRaw, layers.LinkTypeEthernet, func(in [][]byte) [][]byte {
				if !p.a.relay.Arrive(arrival(outer, p.sealed(t, in[0]))) {
					t.Fatal("no room")
				}
				p.a.turn()
				return p.a.got(v.routedPort())
			})
		}
	}
}
