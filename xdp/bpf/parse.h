/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Reading packets: the cursor, Ethernet with VLAN tags, IPv4, IPv6, UDP. Nothing here looks into a map. */
#ifndef SLUICE_PARSE_H
#define SLUICE_PARSE_H

#include "shared.h"

/*
 * Set by Load: the program takes packets in several buffers (jumbo frames). Headers are all in the first one, but how long
 * the packet is then, only the kernel knows; asking it for each packet is not for those who need not.
 */
const volatile bool multi_buffer = false;

/*
 * The unread rest of a packet. `end` is where the bytes in memory end, `left` how many more bytes belong to the packet
 * by its headers so far: Ethernet pads short packets, so there may be more in memory. `end` alone would satisfy the
 * verifier, `left` is what keeps us from taking padding for a header.
 */
struct cursor {
	void *start;
	void *pos;
	void *end;
	__u32 left;
};

static __always_inline void *take(struct cursor *c, __u32 size)
{
	void *header = c->pos;

	barrier_var(header); /* or clang compares lengths in place of the pointers that the verifier wants compared */
	if (c->left < size || header + size > c->end)
		return NULL;
	c->pos = header + size;
	c->left -= size;
	return header;
}

/* A header says that the packet ends `size` bytes from here. */
static __always_inline bool limit(struct cursor *c, __u32 size)
{
	barrier_var(size); /* or clang, who knows that it has 16 bits, leaves out what old verifiers (6.1) need to know it */
	size &= 0xffff;
	/* With several buffers `left` has counted from the length of all of them, see whole(). */
	if (c->left < size || (!multi_buffer && c->pos + size > c->end))
		return false;
	c->left = size;
	return true;
}

/* How long a packet is at most: all its buffers, or, when it has but one, the verifier knows better. */
static __always_inline __u32 whole(struct xdp_md *ctx)
{
	return multi_buffer ? bpf_xdp_get_buff_len(ctx) : 0xffffffff;
}

static __always_inline bool is_vlan(__be16 type)
{
	return type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD);
}

static __always_inline bool is_ip(__be16 type)
{
	return type == bpf_htons(ETH_P_IP) || type == bpf_htons(ETH_P_IPV6);
}

struct frame {
	struct ethernet *ethernet;
	__be16 type;		/* of the payload: behind the tags */
	__u16 vlan, inner_vlan;	/* 0: none */
};

/* Reads up to two tags. Tags with VLAN id 0 only carry a priority and count as none (IEEE 802.1Q, 9.6). */
static __always_inline bool parse_ethernet(struct cursor *c, struct frame *frame)
{
	frame->ethernet = take(c, sizeof(struct ethernet));
	if (!frame->ethernet)
		return false;
	frame->type = frame->ethernet->type;
	frame->vlan = frame->inner_vlan = 0;

#pragma unroll
	for (int i = 0; i < 2; i++) {
		struct vlan_tag *tag;
		__u16 id;

		if (!is_vlan(frame->type))
			return true;
		tag = take(c, sizeof(*tag));
		if (!tag)
			return false;
		frame->type = tag->type;
		id = bpf_ntohs(tag->tci) & VLAN_VID_MASK;
		if (frame->vlan)
			frame->inner_vlan = id;
		else
			frame->vlan = id;
	}
	return true;
}

struct ip {
	struct address src, dst;
	__u8 tos;		/* DSCP and ECN */
	__u8 protocol;
	__u8 hop_limit;
	bool fragment;
	bool later;		/* IPv4: not the first fragment */
};

/*
 * Takes the options, and checks the header's sum: over a correct one it is 0xffff (RFC 1071). Routers must check it
 * (RFC 1812, 5.2.2).
 */
static __always_inline bool take_ip4_options(struct cursor *c, const struct ip4 *ip, __u32 size)
{
	const __u32 *word = (const void *)ip;
	__u64 sum = (__u64)word[0] + word[1] + word[2] + word[3] + word[4];

	for (__u32 taken = 0; taken < 40 && taken < size; taken += sizeof(*word)) {
		word = take(c, sizeof(*word));
		if (!word)
			return false;
		sum += *word;
	}
	sum = (sum >> 32) + (__u32)sum;
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return sum == 0xffff;
}

static __always_inline bool parse_ip4(struct cursor *c, struct ip *out)
{
	struct ip4 *ip = take(c, sizeof(*ip));
	__u32 header, total;

	if (!ip || ip->version_words >> 4 != 4)
		return false;
	header = (ip->version_words & 0xf) * 4;
	total = bpf_ntohs(ip->total);
	if (header < sizeof(*ip) || total < header || !limit(c, total - sizeof(*ip)))
		return false;
	if (!take_ip4_options(c, ip, header - sizeof(*ip)))
		return false;

	out->src = (struct address){ IPV4, { ip->src } };
	out->dst = (struct address){ IPV4, { ip->dst } };
	out->tos = ip->tos;
	out->protocol = ip->protocol;
	out->hop_limit = ip->ttl;
	out->fragment = ip->fragment & bpf_htons(IP4_FRAGMENT);
	out->later = ip->fragment & bpf_htons(IP4_OFFSET);
	return true;
}

static __always_inline bool parse_ip6(struct cursor *c, struct ip *out)
{
	struct ip6 *ip = take(c, sizeof(*ip));

	if (!ip || bpf_ntohl(ip->version_flow) >> 28 != 6 || !limit(c, bpf_ntohs(ip->payload)))
		return false;

	out->src = (struct address){ IPV6, { ip->src[0], ip->src[1], ip->src[2], ip->src[3] } };
	out->dst = (struct address){ IPV6, { ip->dst[0], ip->dst[1], ip->dst[2], ip->dst[3] } };
	out->tos = bpf_ntohl(ip->version_flow) >> 20;
	out->protocol = ip->next;
	out->hop_limit = ip->hop_limit;
	out->fragment = ip->next == IPPROTO_FRAGMENT;
	out->later = false;
	return true;
}

/* False: not a whole IP packet. Reads IPv4 options, but not IPv6 extension headers. */
static __always_inline bool parse_ip(struct cursor *c, __be16 type, struct ip *out)
{
	return type == bpf_htons(ETH_P_IP) ? parse_ip4(c, out) : parse_ip6(c, out);
}

/* An IPv6 extension header, of those that stand between the IPv6 header and a payload in clear (IANA's registry). */
static __always_inline bool is_extension_header(__u8 protocol)
{
	switch (protocol) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_AH:
	case IPPROTO_DSTOPTS:
	case IPPROTO_MOBILITY:
	case IPPROTO_HIP:
	case IPPROTO_SHIM6:
		return true;
	}
	return false;
}

static __always_inline bool is_extension(const struct ip *ip)
{
	return ip->dst.family == IPV6 && is_extension_header(ip->protocol);
}

/*
 * Destinations that no router forwards: this network, loopback, link-local, multicast, broadcast, unspecified, and
 * IPv4 addresses in IPv6 packets (::ffff:0:0/96, RFC 4291 section 2.5.5.2).
 */
static __always_inline bool is_link_scope(const struct address *dst)
{
	__u32 first = bpf_ntohl(dst->word[0]);

	if (dst->family == IPV4)
		return first >> 24 == 0 || first >> 24 == 127 || first >> 16 == 0xa9fe || first >> 28 == 0xe ||
		       first == 0xffffffff;
	return first >> 24 == 0xff || first >> 22 == 0xfe80 >> 6 ||
	       (first == 0 && dst->word[1] == 0 && dst->word[2] == 0 && bpf_ntohl(dst->word[3]) <= 1) ||
	       (first == 0 && dst->word[1] == 0 && dst->word[2] == bpf_htonl(0xffff));
}

/* The UDP checksum is not verified: virtual links leave it unfinished, and WireGuard and the relay have better means. */
static __always_inline struct udp *parse_udp(struct cursor *c)
{
	struct udp *udp = take(c, sizeof(*udp));
	__u32 length;

	if (!udp)
		return NULL;
	length = bpf_ntohs(udp->length);
	if (length < sizeof(*udp) || !limit(c, length - sizeof(*udp)))
		return NULL;
	return udp;
}

#endif
