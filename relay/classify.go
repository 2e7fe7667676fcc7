package relay

import (
	"net/netip"

	"github.com/sluicegw/sluice/afxdp"
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// descContinued is XDP_PKT_CONTD: the packet goes on in the next descriptor.
const descContinued = 1 << 0

// take wraps a received descriptor.
func (w *worker) take(f *frame, d afxdp.Desc, slot int) {
	base := w.umem.FrameBase(d.Addr)
	chunk := w.umem.Frame(d.Addr)
	off := int(d.Addr - base)
	f.reset(chunk, base, off, min(int(d.Len), len(chunk)-off), slot)
}

// classify looks at the outside of a received packet and sends it down one of
// three ways: an attachment's traffic goes to decap or straight to inner, a
// tunnel's is collected for Open, and anything else ends here.
func (w *worker) classify(f *frame) {
	q := &w.queues[f.slot]
	if q.port < 0 {
		if q.port == kernelPort {
			w.fromHost(f)
			return
		}
		w.drop(f, NotServed)
		return
	}
	port := &w.state.ports[q.port]
	b := f.data()
	eth, bad := packet.ParseEthernet(b)
	switch {
	case bad != packet.Fine:
		w.drop(f, ShortFrame)
		return
	case eth.VLAN != 0:
		w.drop(f, Tagged)
		return
	}
	ip := &f.ip // until decap finds an inner one
	switch eth.Type {
	case packet.TypeIPv4:
		bad = ip.Parse4(b[eth.Len:])
	case packet.TypeIPv6:
		bad = ip.Parse6(b[eth.Len:])
	default:
		w.drop(f, NotIP)
		return
	}
	if bad != packet.Fine {
		w.drop(f, outerProblem(bad))
		return
	}
	b = b[eth.Len : eth.Len+ip.Len]
	if !w.state.local.hasDst(ip.Version, b) {
		w.routedIn(f, port, eth.Len)
		return
	}
	switch {
	case ip.Fragment:
		w.drop(f, OuterFragment)
		return
	case ip.Proto != packet.ProtoUDP:
		w.drop(f, NotServed)
		return
	}
	udp, bad := packet.ParseUDP(b[ip.HeaderLen:])
	if bad != packet.Fine {
		w.drop(f, BadUDP)
		return
	}
	f.tos = ip.TOS
	outer := f.off + eth.Len // of the outer IP header
	f.off = outer + ip.HeaderLen + packet.UDPLen
	f.end = outer + ip.HeaderLen + udp.Len
	if udp.Dst == w.state.wireguard && udp.Dst != 0 {
		w.wireguardIn(f, b, udp.Src)
		return
	}
	for i := range port.overlays {
		if port.overlays[i].udp == udp.Dst {
			w.decap(f, port.overlays[i], outer)
			return
		}
	}
	if udp.Dst == w.state.direct && udp.Dst != 0 {
		w.directIn(f, b)
		return
	}
	w.drop(f, NotServed)
}

func outerProblem(bad packet.Problem) Verdict {
	if bad == packet.BadChecksum {
		return OuterChecksum
	}
	return BadOuterIP
}

// routedIn takes a packet that is not for us: a routed attachment's, if the
// port is one.
func (w *worker) routedIn(f *frame, port *portState, l2 int) {
	if port.routed < 0 {
		w.drop(f, NotOurs)
		return
	}
	f.vpc = port.routed
	f.off += l2
	f.end = f.off + f.ip.Len
	w.inner(f)
}

// wireguardIn tells data from handshakes (the first byte is the type, the next
// three are reserved and zero).
func (w *worker) wireguardIn(f *frame, outer []byte, srcPort uint16) {
	message := f.data()
	if len(message) < 4 || message[1]|message[2]|message[3] != 0 {
		w.drop(f, BadWireGuard)
		return
	}
	switch message[0] {
	case 4:
		w.opening = append(w.opening, f)
		w.openPackets = w.openPackets[:len(w.opening)]
		w.openPackets[len(w.opening)-1].Buf = message // in place: it is a large struct
	case 1, 2, 3:
		if len(message) != handshakeLen[message[0]] {
			w.drop(f, BadWireGuard)
			return
		}
		from := wireguard.Endpoint{Remote: netip.AddrPortFrom(f.ip.Src(outer), srcPort), Local: f.ip.Dst(outer), Ifindex: w.queues[f.slot].ifindex}
		if !w.device.Receive(message, from) {
			w.drop(f, HandshakeBusy)
			return
		}
		w.drop(f, Handshake)
	default:
		w.drop(f, BadWireGuard)
	}
}

// handshakeLen are the lengths of initiation, response and cookie reply
// (WireGuard whitepaper, section 5.4).
var handshakeLen = [4]int{1: 148, 2: 92, 3: 64}
