// Package xdp is the eBPF program that picks out, on a gateway's NICs, exactly the packets that the relay handles, and
// the loader that attaches it and tells it what to look for. All other packets go on to the kernel, untouched. What
// travels between gateways without encryption (direct peers) the program forwards by itself.
//
// It is not the relay: it holds no state of a flow, makes no packet, and of what it forwards it changes nothing but what
// every router does, and the MSS. What it picks out goes to the AF_XDP socket of the NIC's queue, which others open
// (package afxdp); without a socket, or when the process has died, such packets pass to the kernel like the rest.
//
// # Verdicts
//
// Each packet gets exactly one [Verdict], by the first line below that holds, and one per-CPU counter of that name.
// Pass leaves it to the kernel, divert gives it to the socket, direct sends it on, drop ends it.
//
//	the Ethernet frame
//	  ends inside the header or a VLAN tag                         pass_bad_ethernet
//	  more than two tags, or no Port for (interface, tags)         pass_unknown_vlan
//	  no tag, and no Port for the interface                        pass_no_port
//	  neither IPv4 nor IPv6                                        pass_not_ip
//	  the destination is not the Port's MAC                        pass_other_mac
//	  the IP header is cut off, contradicts itself, or its
//	  checksum is wrong                                            pass_bad_ip
//	to one of Local
//	  the first fragment of a UDP datagram to an overlay's port    pass_overlay_fragment
//	  any other fragment (the kernel reassembles)                  pass_fragment
//	  an IPv6 extension header comes before the payload            pass_extension
//	  not UDP, or no UDP port of ours, or an overlay's UDP port
//	  where Port.Overlay is not set                                pass_local
//	  the UDP header is cut off or contradicts the IP header       pass_bad_udp
//	  WireGuard: the type is not 1 to 4, a reserved byte is not
//	  zero, or the length is not that of the type                  drop_bad_wireguard
//	  WireGuard type 1 to 3, above the rate of the source          drop_handshake_rate
//	  the same, from none of Peers, and above the rate of all
//	  such sources of the interface together                       drop_handshake_flood
//	  WireGuard type 1 to 3                                        divert_handshake
//	  WireGuard type 4                                             divert_transport
//	  Direct: the source is none of DirectPeers                    drop_direct_stranger
//	  Direct: Geneve is cut off, not version 0 or a control
//	  message, or its payload is no sound IP packet                drop_bad_direct
//	  Direct: other packets                                        divert_direct
//	  Geneve: cut off in header or options, or not version 0       pass_bad_geneve
//	  Geneve: a control message (O bit)                            pass_geneve_control
//	  VXLAN: cut off, or without I flag                            pass_bad_vxlan
//	  the VNI is not one of VNIs                                   pass_unknown_vni
//	  inner frame with a VLAN tag                                  pass_inner_vlan
//	  inner packet is neither IP nor (in Ethernet) ARP             pass_inner_other
//	  inner headers are cut off or contradict each other           pass_bad_inner
//	  inner ARP request or reply to one of Gateways, a valid
//	  neighbour solicitation for one, a valid advertisement to one divert_neighbour
//	  of a VNI of Learn: gratuitous ARP, valid advertisement to
//	  all nodes                                                    divert_neighbour
//	  of a VNI of Bounce: ARP request for a remote address         divert_neighbour
//	  other inner ARP                                              pass_inner_arp
//	  inner destination is one of Gateways                         divert_gateway
//	  inner destination is multicast, broadcast, loopback,
//	  link-local                                                   pass_inner_link_scope
//	  inner destination is remote                                  divert_geneve, divert_vxlan
//	  inner destination is not: the site's own traffic             pass_inner_no_route
//	to another address
//	  Port.Routed is not set                                       pass_not_ours
//	  one of Gateways of Port.VNI                                  divert_gateway
//	  multicast, broadcast, loopback, link-local                   pass_link_scope
//	  remote; any TTL, fragments too                               divert_routed
//	  not remote                                                   pass_no_route
//	instead of divert_geneve, divert_vxlan, divert_routed
//	  the prefix has a Hop, and the packet asks for nothing else   direct_to_peer
//	instead of divert_direct
//	  the same, and the destination is the site's                  direct_to_site
//	and instead of any divert
//	  no socket for the queue                                      pass_no_socket
//
// An address is remote if the longest prefix of its VNI that contains it is in Remote and not in Site. The VNI is that of
// the packet, or Port.VNI where the packet has none.
//
// IPv4 options are read over; Geneve options of any length and kind, critical ones too, are left to the relay. The
// checksums of UDP and of what is in it are not looked at: virtual links leave them unfinished.
//
// # Direct peers
//
// Between gateways that are told to use no encryption packets travel, on a link that is trusted, as
//
//	Ethernet, IPv4 or IPv6, UDP, Geneve, IP
//
// The UDP destination port is one of its own, 51821 unless configured otherwise; the source port (49152 to 65535) and, over
// IPv6, the flow label are a hash of the inner flow. Geneve (RFC 8926) has version 0, no flags, the EtherType of the inner
// packet (0x0800 or 0x86dd: no inner Ethernet), and the VNI in the receiver's numbering; the default VPC is VNI 0. Options
// that a packet came with are carried on, as inside WireGuard: such packets are the relay's, in both directions. The
// outer TTL is 64, IPv4 has DF and identification 0, DSCP and ECN are copied from the inner packet (RFC 6040). The
// outer UDP checksum is zero, over IPv6 too (RFC 6935 and 6936: both ends are gateways of ours, and take it on this port
// from addresses of direct peers only; a wrong VNI or inner address does not pass the check of the source). Nothing is
// padded.
//
// # What the program forwards
//
// A packet of a prefix with a Hop is forwarded by the program, if
//
//   - the hop is resolved, and its interface is there;
//   - the inner packet has no IP options and no IPv6 extension header, a TTL above 1, and is at most Hop.MTU long;
//   - its source is one that the packet may have: in a prefix of Site for what comes from the site, in a prefix of Remote
//     with a hop to the sender for what comes from a direct peer, and never loopback, multicast, link-local or a gateway's;
//   - its destination is the site's, for what comes from a direct peer;
//   - the header around it has no Geneve option and no congestion mark that the inner packet has not (RFC 6040);
//   - it came whole in one buffer, and not over a virtual link with its TCP or UDP checksum unfinished (Port.Virtual);
//   - a SYN announces its MSS in the first option, or has none, and the source has a resolved hop as well: the MSS is
//     lowered to what MTU and MaxMSS of both hops allow; fragments of TCP, which could hide a SYN, are not forwarded;
//   - for a VTEP over IPv6 it has a TCP, UDP or ICMP checksum over everything, from which the outer one is computed.
//
// All others are the relay's, and come to it as they were. (One exception nobody can see: padding behind the inner packet
// may be gone.) VPCs whose packets need more than this, like access lists, limits or translation, have no hops.
//
// Where the program is attached in native mode, a hop's interface must be able to send what it is given (ndo_xdp_xmit), or
// the kernel drops it, and counts it nowhere here. NIC drivers with native XDP can. A veth can if its far end has an XDP
// program or GRO: ethtool -K far gro on.
//
// The link is trusted as a switch in a rack is: whoever can send from a peer's address on it can send into the VPCs that the
// peer may send into.
//
// # Use
//
// Memory: SetState copies what it needs, the caller keeps its slices. All methods may be called from any goroutine;
// Attach looks for the interface in the network namespace of the calling thread.
//
//	p, err := xdp.Load(xdp.Options{PinPath: "/sys/fs/bpf/sluice"})
//	if err != nil { ... }
//	defer p.Close()
//	err = p.SetState(xdp.State{
//		Ports:     []xdp.Port{{Ifindex: 2, MAC: mac, Overlay: true}},
//		Local:     []netip.Addr{netip.MustParseAddr("192.0.2.1")},
//		VXLAN:     []uint16{xdp.DefaultVXLANPort},
//		WireGuard: []uint16{51820},
//		VNIs:      []uint32{100},
//		Remote:    []xdp.Prefix{{VNI: 100, Prefix: netip.MustParsePrefix("10.2.0.0/16")}},
//	})
//	err = p.SetSocket(2, 0, socket.FD())
//	a, err := p.Attach(2, xdp.Auto) // a.Mode() says which mode it became, a.NativeError() why
//
// Direct traffic needs no process: after Handover, or a crash, with PinPath, the program goes on forwarding by the last
// State; only what is the relay's passes to the kernel. RemovePins ends that
// from outside.
//
// An upgrade without a gap: the new process loads, sets state and sockets and attaches with the same PinPath, which
// replaces the program on the pinned links; then the old one closes, which does not touch what was taken over. Where the
// old one has to end first, it ends with Handover: the program stays attached, and what it would divert passes to the
// kernel until the new one is there. After a crash it is the same. Prune detaches from interfaces that are no ports any
// more.
//
// It runs on Linux 5.15 and later, little-endian. It needs CAP_BPF, CAP_PERFMON (the verifier allows pointers into
// packets to be compared and kept only with it) and CAP_NET_ADMIN.
package xdp
