package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// PeerOptions of a Peer.
type PeerOptions struct {
	Host       *netnstest.Host
	Local      netip.AddrPort // ours, where a socket is bound
	Remote     netip.AddrPort // the gateway's
	PrivateKey wireguard.PrivateKey
	PublicKey  wireguard.PublicKey    // of the gateway
	Preshared  wireguard.PresharedKey // default: none
}

// Peer is the other gateway of a gateway under test: it shakes hands over a socket and seals packets in advance. It
// answers handshakes until it is closed, and opens nothing.
type Peer struct {
	options PeerOptions
	socket  *net.UDPConn
	device  *wireguard.Device
	peer    *wireguard.Peer
	cancel  context.CancelFunc
	ended   chan error
	refused atomic.Pointer[error] // what the socket said last
}

// NewPeer shakes hands with the gateway; that has to be done before ctx is.
func NewPeer(ctx context.Context, o PeerOptions) (*Peer, error) {
	p := &Peer{options: o, ended: make(chan error, 2)}
	err := within(o.Host, func() (err error) {
		p.socket, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(o.Local))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("peer at %v: %w", o.Local, err)
	}
	p.device, err = wireguard.New(wireguard.Options{PrivateKey: o.PrivateKey, Send: func(d wireguard.Datagram) {
		if _, err := p.socket.WriteToUDPAddrPort(d.Data, d.Remote); err != nil {
			p.refused.Store(&err)
		}
	}})
	if err == nil {
		p.peer, err = p.device.SetPeer(wireguard.PeerConfig{
			PublicKey: o.PublicKey, PresharedKey: o.Preshared, Endpoint: wireguard.Endpoint{Remote: o.Remote},
		})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("peer at %v: %w", o.Local, err), p.socket.Close())
	}
	run, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go func() { p.ended <- p.device.Run(run) }()
	go func() { p.ended <- p.receive() }()
	if err := p.shake(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("peer at %v: handshake with %v: %w", o.Local, o.Remote, err), p.Close())
	}
	return p, nil
}

// receive hands messages to the device until the socket is closed.
func (p *Peer) receive() error {
	buffer := make([]byte, 1<<16)
	batch, one := p.device.NewBatch(), make([]wireguard.Packet, 1)
	for {
		n, from, err := p.socket.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil { // such as an ICMP error: the gateway is not there yet
			p.refused.Store(&err)
			continue
		}
		e := wireguard.Endpoint{Remote: netip.AddrPortFrom(from.Addr().Unmap(), from.Port())}
		if !p.device.Receive(buffer[:n], e) {
			batch.Locate = wireguard.AllFrom(e)
			one[0] = wireguard.Packet{Buf: buffer[:n]}
			batch.Open(one, p.device.Clock()) // keepalives keep the timers quiet
		}
	}
}

// shake asks for a session and confirms it with a keepalive.
func (p *Peer) shake(ctx context.Context) error {
	frame := make([]byte, wireguard.HeaderSize, 128)
	batch, one := p.device.NewBatch(), make([]wireguard.Packet, 1)
	for {
		one[0] = wireguard.Packet{Buf: frame, Peer: p.peer}
		batch.Seal(one, p.device.Clock())
		switch one[0].Result {
		case wireguard.OK:
			_, err := p.socket.WriteToUDPAddrPort(one[0].Buf, p.options.Remote)
			return err
		case wireguard.NoSession:
		default:
			return fmt.Errorf("seal: %v", one[0].Result)
		}
		select {
		case <-ctx.Done():
			if refused := p.refused.Load(); refused != nil {
				return errors.Join(context.Cause(ctx), *refused)
			}
			return context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
}

// SealOptions say what to seal.
type SealOptions struct {
	Flow           Flow    // of which the IP packet is sealed: Plain (without its Ethernet header) or GeneveIP
	SrcMAC, DstMAC [6]byte // of the frames
	Count          int     // how many messages
}

// Seal seals packets with the session as it is now: each has a nonce of its own and is accepted once, in this order, as long
// as the session lives (180 s). A frame takes its length plus 24 bytes of memory. The send times of the frames are known to a Sink
// that gets them as SinkOptions.Sent.
func (p *Peer) Seal(o SealOptions) (*Frames, error) {
	flow := o.Flow.withDefaults()
	if err := errors.Join(flow.problems()...); err != nil {
		return nil, err
	}
	if flow.Format != Plain && flow.Format != GeneveIP {
		return nil, fmt.Errorf("seal %v: not an ip packet", flow.Format)
	}
	at := flow.offsets()
	ip, longest := packet.EthernetLen, 0 // what is sealed begins behind the Ethernet header
	for _, s := range flow.Sizes {
		longest = max(longest, at.ip+s.Size-ip)
	}
	header := packet.EthernetLen + ipLen(p.options.Local.Addr()) + packet.UDPLen
	frames, err := newFrames(o.Count, header+longest+wireguard.Overhead)
	if err != nil {
		return nil, fmt.Errorf("seal %v: %w", flow.Format, err)
	}
	var (
		schedule  = flow.schedule()
		mixes     = max(1, scheduleLen-scheduleLen%flow.weights())
		sequences = make([]uint32, flow.Flows)
		batch     = p.device.NewBatch()
		packets   = make([]wireguard.Packet, wireguard.BatchSize)
		buffers   = make([][]byte, wireguard.BatchSize)
	)
	for i := range buffers {
		buffers[i] = make([]byte, header+maxFrame+wireguard.Overhead+wireguard.MaxPadding)
	}
	for done := 0; done < o.Count; {
		n := min(len(packets), o.Count-done)
		for i := range n {
			number := done + i
			which := number % flow.Flows
			size := flow.Sizes[schedule[number%mixes]].Size
			plain := flow.frame(stamp{flow: uint16(flow.First + which), seq: sequences[which], time: stampIndex | uint64(number)}, size)[ip:]
			sequences[which]++
			buf := buffers[i][header:]
			copy(buf[wireguard.HeaderSize:], plain)
			packets[i] = wireguard.Packet{Buf: buf[:wireguard.HeaderSize+len(plain)], Peer: p.peer, MaxLen: longest}
		}
		batch.Seal(packets[:n], p.device.Clock())
		for i := range n {
			if packets[i].Result != wireguard.OK {
				return nil, errors.Join(fmt.Errorf("seal message %d: %v", done+i, packets[i].Result), frames.Close())
			}
			frame := buffers[i][:header+len(packets[i].Buf)]
			p.putHeaders(frame, o)
			if err := frames.put(done+i, Frame{Data: frame}); err != nil {
				return nil, errors.Join(err, frames.Close())
			}
		}
		done += n
	}
	return frames, nil
}

// putHeaders writes what stands before a message.
func (p *Peer) putHeaders(frame []byte, o SealOptions) {
	l := Layer{
		Src: p.options.Local.Addr(), Dst: p.options.Remote.Addr(),
		SrcPort: p.options.Local.Port(), DstPort: p.options.Remote.Port(),
	}
	packet.PutEthernet(frame, o.DstMAC, o.SrcMAC, etherType(l.Src))
	l.put(frame[packet.EthernetLen:])
	if l.Src.Is6() { // RFC 8200 section 8.1 wants a sum
		packet.PutTransportChecksum(frame[packet.EthernetLen:], packet.IPv6Len, packet.ProtoUDP)
	}
}

// Close ends the peer.
func (p *Peer) Close() error {
	p.cancel()
	err := p.socket.Close()
	return errors.Join(err, <-p.ended, <-p.ended)
}
