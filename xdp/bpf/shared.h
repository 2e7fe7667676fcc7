/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The contract with the Go side: verdicts, map keys and values, limits. The Go types of the structs are generated from
 * here; the Go verdicts are compared with this list by a test.
 */
#ifndef SLUICE_SHARED_H
#define SLUICE_SHARED_H

#include "kernel.h"

/*
 * What becomes of a packet: exactly one of these, and one counter each. The name in lower case is the counter's name.
 * Passed packets go on to the kernel untouched, diverted ones to the AF_XDP socket of their queue.
 */
enum verdict {
	PASS_NO_PORT,		/* no port is configured for this interface, untagged */
	PASS_UNKNOWN_VLAN,	/* tagged, and no port is configured for these tags; or more than two tags */
	PASS_BAD_ETHERNET,	/* ends inside the Ethernet header or a VLAN tag */
	PASS_NOT_IP,		/* neither IPv4 nor IPv6: ARP, LLDP, ... */
	PASS_OTHER_MAC,		/* the destination MAC is not the port's */
	PASS_BAD_IP,		/* ends inside the IP header; bad version, length or IPv4 header checksum */
	PASS_NOT_OURS,		/* not for one of our addresses, and the port does not route */
	PASS_NO_ROUTE,		/* routed: no remote prefix contains the destination */
	PASS_LINK_SCOPE,	/* routed: multicast, broadcast, loopback or link-local destination */
	PASS_FRAGMENT,		/* for one of our addresses, but a fragment: the kernel reassembles */
	PASS_OVERLAY_FRAGMENT,	/* the same, and the first one of an overlay packet, which nobody hands back to us */
	PASS_EXTENSION,		/* for one of our addresses, with an IPv6 extension header before the payload */
	PASS_LOCAL,		/* for one of our addresses, but no protocol or UDP port of ours */
	PASS_BAD_UDP,		/* ends inside the UDP header, or the UDP length does not fit */
	PASS_BAD_GENEVE,	/* ends inside the Geneve header or its options, or version is not 0 */
	PASS_GENEVE_CONTROL,	/* O bit: a control message between tunnel endpoints, never forwarded */
	PASS_BAD_VXLAN,		/* ends inside the VXLAN header, or no I flag */
	PASS_UNKNOWN_VNI,	/* the VNI is none of ours */
	PASS_INNER_VLAN,	/* the inner frame has a VLAN tag */
	PASS_INNER_OTHER,	/* the inner packet is neither IP nor ARP */
	PASS_INNER_ARP,		/* inner ARP, not to a gateway address, and no announcement that is wanted */
	PASS_BAD_INNER,		/* ends inside the inner headers, or these contradict each other */
	PASS_INNER_NO_ROUTE,	/* no remote prefix contains the inner destination: the site's own traffic */
	PASS_INNER_LINK_SCOPE,	/* inner destination is multicast, broadcast, loopback or link-local */
	PASS_NO_SOCKET,		/* would be diverted, but no socket is set for this queue */

	DIVERT_GENEVE,		/* Geneve, inner destination is remote */
	DIVERT_VXLAN,		/* VXLAN, inner destination is remote */
	DIVERT_NEIGHBOUR,	/* inner ARP or neighbour discovery for a gateway address, or a host's announcement */
	DIVERT_GATEWAY,		/* for a gateway address inside a VPC */
	DIVERT_ROUTED,		/* routed: destination is remote */
	DIVERT_HANDSHAKE,	/* WireGuard, type 1 to 3 */
	DIVERT_TRANSPORT,	/* WireGuard, type 4 */
	DIVERT_DIRECT,		/* from a direct peer, and more than the program does by itself */

	DIRECT_TO_PEER,		/* rewritten and sent on to a direct peer */
	DIRECT_TO_SITE,		/* from a direct peer: rewritten and sent on to its place at the site */

	DROP_BAD_WIREGUARD,	/* for a WireGuard port, but no WireGuard message */
	DROP_HANDSHAKE_RATE,	/* WireGuard, type 1 to 3, from a source that sends too many */
	DROP_HANDSHAKE_FLOOD,	/* WireGuard, type 1 to 3, from no known peer's address, and all such sources send too many */
	DROP_BAD_DIRECT,	/* for the port of direct peers, but no Geneve with an IP packet in it */
	DROP_DIRECT_STRANGER,	/* for the port of direct peers, from the address of none */

	VERDICTS,
	FIRST_DIVERT = DIVERT_GENEVE,
	FIRST_DIRECT = DIRECT_TO_PEER,
	FIRST_DROP = DROP_BAD_WIREGUARD,
};

/*
 * Limits. The hash and trie maps are not preallocated: an entry costs memory when it is there. Their sizes are twice
 * what the Go side accepts, because a change adds the new entries before it deletes the old ones.
 */
#define MAX_INTERFACES 32
#define MAX_QUEUES 64		/* of one interface; packets of queues above are passed, PASS_NO_SOCKET */
#define MAX_PORTS 1024		/* interface and VLAN */
#define MAX_LOCAL 1024
#define MAX_UDP_PORTS 256
#define MAX_VNIS 4096
#define MAX_ROUTES 100000	/* of each address family; prefixes and gateway addresses together */
#define MAX_PEER_ADDRESSES 16384
#define MAX_DIRECT_PEERS 4096
#define MAX_HOPS 8192
#define MAX_HANDSHAKE_SOURCES 8192 /* about 700 KiB; the least recently seen is forgotten */

enum family { IPV4 = 4, IPV6 = 6 };

/* An IPv4 address is in word[0], the rest is zero. */
struct address {
	__u32 family;
	__be32 word[4];
};

struct port_key {
	__u32 ifindex;
	__u16 vlan;		/* outer VLAN id, 0: none; priority tags (id 0) do not count as tags */
	__u16 inner_vlan;
};

enum port_flags {
	PORT_OVERLAY = 1,	/* Geneve and VXLAN packets are looked into */
	PORT_ROUTED = 2,	/* plain IP packets for remote prefixes of vni are diverted */
	PORT_VIRTUAL = 4,	/* transport checksums may be unfinished */
};

struct port {
	__u32 slot;		/* of the interface in `sockets`: index = slot * MAX_QUEUES + queue */
	__u32 vni;
	enum port_flags flags;
	__u8 mac[6];
	__u8 zero[2];
};

struct udp_port_key {
	__be16 port;
	__u16 zero;
};

enum vni_flags {
	VNI_KNOWN = 1,
	VNI_LEARN = 2,		/* gratuitous ARP and unsolicited neighbour advertisements are diverted */
	VNI_BOUNCE = 4,		/* ARP requests for remote addresses are diverted */
};

enum service { GENEVE = 1, VXLAN = 2, WIREGUARD = 3, DIRECT = 4 };

/* Keys of the longest-prefix match: prefix_len counts the 32 bits of the VNI as well. */
struct route4_key {
	__u32 prefix_len;
	__be32 vni;
	__be32 addr;
};

struct route6_key {
	__u32 prefix_len;
	__be32 vni;
	__be32 addr[4];
};

enum destination {
	NOWHERE,	/* as if there were no route: what this site has, inside a shorter remote prefix */
	REMOTE = 1,	/* another site has it */
	GATEWAY = 2,	/* a host route: the relay answers for it */
	GROUP = 3,	/* multicast groups that are carried to other sites */
};

/* What the longest prefix says. */
struct route {
	enum destination destination;
	__u32 hop;		/* key of `hops`; 0: the relay's */
	__u32 peer;		/* REMOTE with a hop: the direct peer that it leads to */
};

/* What is written in front of an inner IP packet. The values are the sizes, which differ. */
enum headers {
	TO_ROUTED = 14,		/* Ethernet */
	TO_PEER4 = 50,		/* Ethernet, IPv4, UDP, Geneve */
	TO_VTEP4 = 64,		/* Ethernet, IPv4, UDP, Geneve or VXLAN, Ethernet */
	TO_PEER6 = 70,
	TO_VTEP6 = 84,
};

#define MAX_HEADERS 88		/* TO_VTEP6, to a multiple of 8 */

/* A place that packets of one VPC are sent on to. */
struct hop {
	__u8 headers[MAX_HEADERS]; /* without what differs from packet to packet: that is zero */
	__u32 ifindex;		/* key of `egress`; 0: not resolved, the relay's */
	__u32 vni;		/* of the VPC, in this site's numbering */
	__u32 mtu;		/* the longest inner packet */
	__u16 mss;		/* what a SYN may announce at most, whatever mtu says; 0: SYNs are left alone */
	__sum16 sum;		/* not folded into a checksum yet: TO_x4: of the IPv4 header; TO_VTEP6: of all under UDP's checksum */
	enum headers size;
	__u32 zero;
};

/* What was sent on to a hop and came from it: inner packets and their bytes. */
struct hop_count {
	__u64 to_packets;
	__u64 to_bytes;
	__u64 from_packets;
	__u64 from_bytes;
};

/* A token bucket, told by the time at which it will be full again (CLOCK_MONOTONIC, ns). */
struct bucket {
	__u64 full_at;
};

#endif
