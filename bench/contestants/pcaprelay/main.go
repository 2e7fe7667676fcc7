// Pcaprelay is a gateway as they were built on packet capture: one process, one goroutine, a ring
// of AF_PACKET per port (as libpcap has it), every packet decoded into layers, given new outer
// headers, serialised into a new buffer and written with a system call. It has the functions of
// Fornax's inter-cluster gateway, not its code: the overlay packet travels between the gateways as it
// is, with other addresses and port 2615; nothing is encrypted, checked or translated.
//
//	pcaprelay -site site0 -site-src 02:..,192.168.1.1 -site-dst 02:..,192.168.1.10 -pod 02:.. \
//	          -wan wan0 -wan-src 02:..,198.51.100.1 -wan-dst 02:..,198.51.100.2
//
// It writes "ready" when it relays, and ends with a signal.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

const (
	overlayPort = 4789
	relayPort   = 2615 // between the gateways, as Fornax has it
)

// address is an end of the outer headers.
type address struct {
	mac net.HardwareAddr
	ip  net.IP
}

func (a *address) String() string { return fmt.Sprint(a.mac, ",", a.ip) }

// Set parses MAC,IP.
func (a *address) Set(text string) error {
	mac, ip, ok := strings.Cut(text, ",")
	if !ok {
		return errors.New("want MAC,IP")
	}
	var err error
	if a.mac, err = net.ParseMAC(mac); err != nil {
		return err
	}
	if a.ip = net.ParseIP(ip).To4(); a.ip == nil {
		return fmt.Errorf("%q is no IPv4 address", ip)
	}
	return nil
}

// side is a port with what goes out of it.
type side struct {
	name     string
	src, dst address
	port     layers.UDPPort   // destination of what comes in and goes out
	pod      net.HardwareAddr // inner destination of what goes out; nil: as it is
	ring     *ring
}

func main() {
	fmt.Fprintln(os.Stderr, "pcaprelay:", relay())
	os.Exit(1)
}

// relay relays until something fails.
func relay() error {
	site, wan := &side{port: overlayPort}, &side{port: relayPort}
	flag.StringVar(&site.name, "site", "", "interface of the site")
	flag.Var(&site.src, "site-src", "MAC,IP of the gateway at the site")
	flag.Var(&site.dst, "site-dst", "MAC,IP of the node at the site")
	pod := flag.String("pod", "", "MAC of the pod at the site")
	flag.StringVar(&wan.name, "wan", "", "interface of the WAN")
	flag.Var(&wan.src, "wan-src", "MAC,IP of the gateway on the WAN")
	flag.Var(&wan.dst, "wan-dst", "MAC,IP of the other gateway")
	flag.Parse()
	var err error
	if site.pod, err = net.ParseMAC(*pod); err != nil {
		return err
	}
	for _, s := range []*side{site, wan} {
		if s.ring, err = openRing(s.name); err != nil {
			return fmt.Errorf("open %s: %w", s.name, err)
		}
	}
	fmt.Println("ready")
	fds := []unix.PollFd{{Fd: int32(site.ring.fd), Events: unix.POLLIN}, {Fd: int32(wan.ring.fd), Events: unix.POLLIN}}
	for {
		if err := site.ring.read(func(p []byte) error { return forward(p, site, wan) }); err != nil {
			return err
		}
		if err := wan.ring.read(func(p []byte) error { return forward(p, wan, site) }); err != nil {
			return err
		}
		if site.ring.empty() && wan.ring.empty() {
			if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
				return err
			}
			for _, fd := range fds {
				if fd.Revents&unix.POLLERR == 0 {
					continue
				}
				// The port went down. Reading the error clears it; the ring goes on when it is up.
				if _, err := unix.GetsockoptInt(int(fd.Fd), unix.SOL_SOCKET, unix.SO_ERROR); err != nil {
					return err
				}
			}
		}
	}
}

// forward takes a packet apart and puts it together again.
func forward(data []byte, in, out *side) error {
	packet := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.NoCopy)
	udp, ok := packet.Layer(layers.LayerTypeUDP).(*layers.UDP)
	if !ok || udp.DstPort != in.port {
		return nil
	}
	ip, ok := packet.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	if !ok || !ip.DstIP.Equal(in.src.ip) || len(udp.Payload) < 8+14 {
		return nil
	}
	payload := gopacket.Payload(udp.Payload)
	if out.pod != nil {
		copy(payload[8:], out.pod) // behind the VXLAN header: the inner destination
	}
	buffer := gopacket.NewSerializeBuffer()
	newUDP := &layers.UDP{SrcPort: udp.SrcPort, DstPort: out.port}
	if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: out.src.mac, DstMAC: out.dst.mac, EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, TTL: ip.TTL, Id: ip.Id, Protocol: layers.IPProtocolUDP, SrcIP: out.src.ip, DstIP: out.dst.ip},
		zeroSum{newUDP}, payload); err != nil {
		return fmt.Errorf("serialise: %w", err)
	}
	return out.ring.write(buffer.Bytes())
}

// zeroSum writes UDP without a checksum, as overlays do (RFC 7348 section 5).
type zeroSum struct{ *layers.UDP }

// SerializeTo serialises the header; it has no network layer to compute a sum with.
func (z zeroSum) SerializeTo(b gopacket.SerializeBuffer, o gopacket.SerializeOptions) error {
	o.ComputeChecksums = false
	return z.UDP.SerializeTo(b, o)
}
