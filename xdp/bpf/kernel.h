/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The little that the program needs of the kernel's interface and of the protocols: types, the XDP context, map types,
 * protocol headers. Written down here instead of included, so that the object does not depend on which kernel headers
 * the building machine has.
 */
#ifndef SLUICE_KERNEL_H
#define SLUICE_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;
typedef __u16 __sum16;
typedef _Bool bool;

#define true 1
#define false 0
#define NULL ((void *)0)

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

/* What a program returns, and what it is given (Linux uapi, bpf.h). */
enum xdp_action { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT };

struct xdp_md {
	__u32 data;
	__u32 data_end;
	__u32 data_meta;
	__u32 ingress_ifindex;
	__u32 rx_queue_index;
	__u32 egress_ifindex;
};

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_LPM_TRIE = 11,
	BPF_MAP_TYPE_XSKMAP = 17,
	BPF_MAP_TYPE_DEVMAP_HASH = 25,
};

#define BPF_ANY 0
#define BPF_F_NO_PREALLOC 1

/* Ethernet, IEEE 802.3 and 802.1Q. */
#define ETH_P_IP 0x0800
#define ETH_P_ARP 0x0806
#define ETH_P_8021Q 0x8100
#define ETH_P_IPV6 0x86dd
#define ETH_P_8021AD 0x88a8
#define ETH_P_TEB 0x6558 /* Ethernet as the payload of Geneve */
#define VLAN_VID_MASK 0x0fff

struct ethernet {
	__u8 dst[6];
	__u8 src[6];
	__be16 type;
};

struct vlan_tag {
	__be16 tci;
	__be16 type;
};

/* ARP for IPv4 over Ethernet, RFC 826. Packed: the addresses are not aligned. */
struct arp {
	__be16 hardware; /* 1: Ethernet */
	__be16 protocol;
	__u8 hardware_len;
	__u8 protocol_len;
	__be16 operation; /* 1: request */
	__u8 sender_mac[6];
	__u8 sender[4];
	__u8 target_mac[6];
	__u8 target[4];
};

/* IPv4, RFC 791; IPv6, RFC 8200. */
#define IPPROTO_HOPOPTS 0
#define IPPROTO_ICMP 1
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_ROUTING 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_AH 51
#define IPPROTO_ICMPV6 58
#define IPPROTO_DSTOPTS 60
#define IPPROTO_MOBILITY 135
#define IPPROTO_HIP 139
#define IPPROTO_SHIM6 140
#define IP4_FRAGMENT 0x3fff /* more fragments, or an offset */
#define IP4_OFFSET 0x1fff
#define IP6_OFFSET 0xfff8

struct ip4 {
	__u8 version_words; /* 4 bits version, 4 bits header length in 32-bit words */
	__u8 tos;
	__be16 total;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__sum16 check;
	__be32 src;
	__be32 dst;
};

/* The fragment header, RFC 8200 section 4.5. */
struct ip6_fragment {
	__u8 next;
	__u8 zero;
	__be16 offset; /* 13 bits, 2 reserved, more fragments */
	__be32 identification;
};

struct ip6 {
	__be32 version_flow; /* 4 bits version */
	__be16 payload;
	__u8 next;
	__u8 hop_limit;
	__be32 src[4];
	__be32 dst[4];
};

/* Neighbour solicitation, RFC 4861 section 4.3. */
#define NEIGHBOUR_SOLICITATION 135
#define NEIGHBOUR_ADVERTISEMENT 136	/* section 4.4, laid out the same */

struct solicitation {
	__u8 type;
	__u8 code;
	__sum16 check;
	__be32 reserved;
	__be32 target[4];
};

struct udp {
	__be16 src;
	__be16 dst;
	__be16 length;
	__sum16 check;
};

/* TCP, RFC 9293 section 3.1. */
#define TCP_SYN 0x02
#define TCP_MSS 0x0204 /* option of kind 2, 4 bytes long */

struct tcp {
	__be16 src;
	__be16 dst;
	__be32 seq;
	__be32 ack;
	__u8 words;		/* length of the header in 32-bit words: the high four bits */
	__u8 flags;
	__be16 window;
	__sum16 check;
	__be16 urgent;
};

/* Geneve, RFC 8926 section 3.4. */
#define GENEVE_VERSION 0xc0
#define GENEVE_OPTION_WORDS 0x3f
#define GENEVE_CONTROL 0x80

struct geneve {
	__u8 version_words; /* 2 bits version, 6 bits length of the options in 32-bit words */
	__u8 flags;
	__be16 protocol;
	__be32 vni; /* 24 bits, then 8 reserved */
};

/* VXLAN, RFC 7348 section 5. */
#define VXLAN_VNI_VALID 0x08

struct vxlan {
	__u8 flags;
	__u8 reserved[3];
	__be32 vni; /* 24 bits, then 8 reserved */
};

#endif
