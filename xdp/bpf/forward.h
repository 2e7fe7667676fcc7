/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Sending a packet on: the headers around the inner IP packet come off, a hop's go on, and it leaves through another
 * interface, without a socket or a process. Whatever takes more than that stays as it is, for the relay.
 */
#ifndef SLUICE_FORWARD_H
#define SLUICE_FORWARD_H

#include "maps.h"
#include "parse.h"
#include "way.h"

enum forwarded {
	UNCHANGED,		/* nothing was done: the relay's */
	SENT,
	BROKEN,			/* does not happen: the packet was changed and cannot be sent */
};

#define MIN_MSS 88		/* as in the relay: nobody takes less seriously */
#define FIRST_FLOW_PORT 0xc000	/* source ports by flow, RFC 8926 section 3.3: the dynamic ones */
#define FLOW_PORTS 0x4000

/* What is read of the inner packet before anything is changed. */
struct inner {
	struct address src;
	__u32 length;		/* of the packet */
	__u32 header;		/* of its IP header */
	__u32 flow;		/* hash */
	__u32 mss;		/* to write into a SYN's first option; 0: none */
	__wsum sum;		/* TO_VTEP6: of the whole packet, by what its own checksums say; see sum_of() */
	bool summed;		/* sum is known */
	__u8 tos;
	__u8 protocol;
	bool fragment;
};

static __always_inline __u32 fold(__u64 sum)
{
	sum = (sum >> 32) + (__u32)sum;
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return sum;
}

/* Sources that nothing may have: the relay's to count. */
static __always_inline bool is_martian(const struct address *src)
{
	__u32 first = bpf_ntohl(src->word[0]);

	if (src->family == IPV4)
		return first >> 24 == 0 || first >> 24 == 127 || first >> 24 >= 224;
	return first >> 24 == 0xff || first >> 22 == 0xfe80 >> 6 ||
	       (first == 0 && src->word[1] == 0 && src->word[2] == 0 && bpf_ntohl(src->word[3]) <= 1);
}

/* The inner packet can stay as it is (RFC 6040, figure 4), which is nearly always so. */
static __always_inline bool carries_mark(__u8 outer, __u8 inner)
{
	outer &= 3;
	inner &= 3;
	return outer == 0 || outer == 2 || outer == inner || (outer == 1 && inner != 2);
}

/* The flow's hash, in which every bit counts: multiplication carries upwards, the shifts bring it down again. */
static __always_inline __u32 mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15;
	return (hash >> 32) ^ hash;
}

/*
 * The first part of a packet that came here: classify() has seen that header and length are sound. Sums are those of
 * the bytes as they will be, with a TTL that is one less.
 */
static __always_inline bool read_ip4(void *data, void *end, const struct way *way, struct inner *inner, __wsum *pseudo)
{
	struct ip4 *ip = data + (way->at & 0x1ff);

	if ((void *)(ip + 1) > end || ip->version_words != 0x45 || ip->ttl <= 1 || !carries_mark(way->tos, ip->tos))
		return false;
	inner->src = (struct address){ IPV4, { ip->src } };
	inner->length = bpf_ntohs(ip->total);
	inner->header = sizeof(*ip);
	inner->tos = ip->tos;
	inner->protocol = ip->protocol;
	inner->fragment = ip->fragment & bpf_htons(IP4_FRAGMENT);
	inner->flow = mix((__u64)ip->src << 32 | ip->dst, ip->protocol);
	*pseudo = fold((__u64)ip->src + ip->dst + bpf_htons(ip->protocol) + bpf_htons(inner->length - sizeof(*ip)));
	return true;
}

static __always_inline bool read_ip6(void *data, void *end, const struct way *way, struct inner *inner, __wsum *pseudo)
{
	struct ip6 *ip = data + (way->at & 0x1ff);
	const __be32 *a, *b;
	__u64 sum = 0;

	if ((void *)(ip + 1) > end || ip->hop_limit <= 1 || ip->next == IPPROTO_FRAGMENT || is_extension_header(ip->next))
		return false;
	inner->tos = bpf_ntohl(ip->version_flow) >> 20;
	if (!carries_mark(way->tos, inner->tos))
		return false;
	a = ip->src;
	b = ip->dst;
	inner->src = (struct address){ IPV6, { a[0], a[1], a[2], a[3] } };
	inner->length = sizeof(*ip) + bpf_ntohs(ip->payload);
	inner->header = sizeof(*ip);
	inner->protocol = ip->next;
	inner->fragment = false;
	inner->flow = mix(mix((__u64)a[0] << 32 | a[1], (__u64)a[2] << 32 | a[3]),
			  mix((__u64)b[0] << 32 | b[1], (__u64)b[2] << 32 | b[3]) + ((__u64)ip->next << 32));
	sum = (__u64)a[0] + a[1] + a[2] + a[3] + b[0] + b[1] + b[2] + b[3];
	*pseudo = fold(sum + bpf_htons(ip->next) + ip->payload);
	inner->sum = fold((__u64)ip->version_flow + ip->payload + bpf_htons(ip->next << 8 | (ip->hop_limit - 1)) + sum);
	return true;
}

/* The checksum field holds the bare sum of the pseudo-header: a network card should have done the rest. */
static __always_inline bool is_unfinished(const struct way *way, __sum16 check, __wsum pseudo)
{
	return way->virtual && check == (__sum16)pseudo;
}

/* The MSS that a SYN may announce, from here to the hop and back; false: not to be found out here. */
static __always_inline bool limit_mss(struct inner *inner, const struct hop *hop, const struct route *back)
{
	const struct hop *from = bpf_map_lookup_elem(&hops, &back->hop);
	__u32 mss;

	if (!from || !from->ifindex)
		return false;
	if (!hop->mss || !from->mss)
		return true;
	mss = (hop->mtu < from->mtu ? hop->mtu : from->mtu) - inner->header - sizeof(struct tcp);
	mss = mss < hop->mss ? mss : hop->mss;
	mss = mss < from->mss ? mss : from->mss;
	/* Of a negative one, too: it is below MIN_MSS as a signed number only. */
	inner->mss = (__s32)mss < MIN_MSS ? MIN_MSS : mss;
	return true;
}

/*
 * Ports, checksums, and the MSS. All hosts of today announce it in the first option. Of a packet whose transport has a
 * checksum over everything, the sum is known without reading it: together with the pseudo-header it is 0xffff, unless
 * the packet is broken, and then so will be the outer checksum.
 */
static __always_inline bool read_transport(void *data, void *end, const struct way *way, struct inner *inner,
					   __wsum pseudo, const struct hop *hop, const struct route *back)
{
	void *transport = data + (way->at & 0x1ff) + (inner->header & 0x3f);
	struct tcp *tcp = transport;
	struct udp *udp = transport;
	__be16 *option = transport + sizeof(*tcp);

	if (inner->fragment)
		return inner->protocol != IPPROTO_TCP; /* may hide a SYN */
	switch (inner->protocol) {
	case IPPROTO_TCP:
		if ((void *)(tcp + 1) > end || inner->length < inner->header + sizeof(*tcp) ||
		    is_unfinished(way, tcp->check, pseudo))
			return false;
		inner->flow = mix(inner->flow, *(__be32 *)transport);
		inner->summed = true;
		if (!(tcp->flags & TCP_SYN))
			return true;
		if (!limit_mss(inner, hop, back))
			return false;
		if (tcp->words >> 4 <= 5)
			inner->mss = 0;
		if (!inner->mss)
			return true;
		if ((void *)(option + 2) > end || inner->length < inner->header + sizeof(*tcp) + 4 ||
		    option[0] != bpf_htons(TCP_MSS))
			return false;
		if (bpf_ntohs(option[1]) <= inner->mss)
			inner->mss = 0;
		return true;
	case IPPROTO_UDP:
		if ((void *)(udp + 1) > end || inner->length < inner->header + sizeof(*udp) ||
		    is_unfinished(way, udp->check, pseudo))
			return false;
		inner->flow = mix(inner->flow, *(__be32 *)transport);
		inner->summed = udp->check && udp->length == bpf_htons(inner->length - inner->header);
		return true;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		inner->summed = inner->length >= inner->header + 8 &&
				(inner->protocol == IPPROTO_ICMP) == (inner->src.family == IPV4);
	}
	return true;
}

/* The route back must lead to where the packet comes from: to this site, or to the peer that sent it. */
static __always_inline const struct route *find_back(const struct way *way, const struct address *src)
{
	const struct route *back = find_route(way->vni, src);

	if (!back || is_martian(src))
		return NULL;
	if (way->peer)
		return back->destination == REMOTE && back->peer == way->peer ? back : NULL;
	return back->destination == NOWHERE ? back : NULL;
}

static __always_inline void copy(void *to, const void *from, const __u32 size)
{
	__u32 at = 0;

#pragma unroll
	for (; at + 8 <= size; at += 8)
		*(__u64 *)(to + at) = *(__u64 *)(from + at);
	if (size & 4) {
		*(__u32 *)(to + at) = *(__u32 *)(from + at);
		at += 4;
	}
	if (size & 2)
		*(__u16 *)(to + at) = *(__u16 *)(from + at);
}

/* The headers, `size` bytes, with the EtherType of the inner packet at `type_at`. */
static __always_inline bool put_headers(void *data, void *end, const struct hop *hop, const struct inner *inner,
					const enum headers size, const __u32 type_at)
{
	__be16 type = inner->src.family == IPV4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	struct ip4 *ip4 = data + sizeof(struct ethernet);
	struct ip6 *ip6 = data + sizeof(struct ethernet);
	bool six = size == TO_PEER6 || size == TO_VTEP6;
	struct udp *udp = six ? (void *)(ip6 + 1) : (void *)(ip4 + 1);
	__u16 length = size - sizeof(struct ethernet) + inner->length;

	if (data + size > end)
		return false;
	copy(data, hop->headers, size);
	*(__be16 *)(data + type_at) = type;
	if (size == TO_ROUTED)
		return true;
	udp->src = bpf_htons(FIRST_FLOW_PORT + ((inner->flow ^ inner->flow >> 16) & (FLOW_PORTS - 1)));
	if (!six) {
		udp->length = bpf_htons(length - sizeof(*ip4));
		ip4->tos = inner->tos;
		ip4->total = bpf_htons(length);
		ip4->check = ~fold((__u64)hop->sum + bpf_htons(inner->tos) + ip4->total);
		return true;
	}
	udp->length = bpf_htons(length - sizeof(*ip6));
	ip6->version_flow = bpf_htonl(6u << 28 | (__u32)inner->tos << 20 | (inner->flow & 0xfffff));
	ip6->payload = udp->length;
	if (size == TO_VTEP6) { /* kernels refuse zero unless told otherwise; the length is in the pseudo-header as well */
		udp->check = ~fold((__u64)hop->sum + udp->src + 2 * (__u32)udp->length + type + inner->sum);
		if (!udp->check)
			udp->check = 0xffff;
	}
	return true;
}

static __always_inline bool put(void *data, void *end, const struct hop *hop, const struct inner *inner)
{
	switch (hop->size) {
	case TO_ROUTED:
		return put_headers(data, end, hop, inner, TO_ROUTED, TO_ROUTED - 2);
	case TO_PEER4:
		return put_headers(data, end, hop, inner, TO_PEER4, TO_PEER4 - 6);
	case TO_VTEP4:
		return put_headers(data, end, hop, inner, TO_VTEP4, TO_VTEP4 - 2);
	case TO_PEER6:
		return put_headers(data, end, hop, inner, TO_PEER6, TO_PEER6 - 6);
	case TO_VTEP6:
		return put_headers(data, end, hop, inner, TO_VTEP6, TO_VTEP6 - 2);
	}
	return false;
}

/* Writes the MSS; the inner packet's own sum stays what it is, as the checksum makes up for it (RFC 1624). */
static __always_inline bool clamp(void *packet, void *end, const struct inner *inner)
{
	struct tcp *tcp = packet + (inner->header & 0x3f);
	__be16 *option = (void *)(tcp + 1), mss = bpf_htons(inner->mss);

	if ((void *)(option + 2) > end)
		return false;
	tcp->check = ~fold((__u64)(__u16)~tcp->check + (__u16)~option[1] + mss);
	option[1] = mss;
	return true;
}

/* One hop less. The TTL is the high byte of its word, so the IPv4 checksum grows by 0x0100 (RFC 1141). */
static __always_inline bool decrement(void *packet, void *end, const struct inner *inner)
{
	struct ip4 *ip4 = packet;
	struct ip6 *ip6 = packet;
	__u32 sum;

	if (inner->src.family == IPV6) {
		if ((void *)(ip6 + 1) > end)
			return false;
		ip6->hop_limit--;
		return true;
	}
	if ((void *)(ip4 + 1) > end)
		return false;
	ip4->ttl--;
	sum = ip4->check + bpf_htons(0x0100);
	ip4->check = sum + (sum >> 16);
	return true;
}

static __always_inline void count_hops(__u32 to, __u32 from, __u32 bytes)
{
	struct hop_count *counts = bpf_map_lookup_elem(&hop_counts, &to);

	if (counts) {
		counts->to_packets++;
		counts->to_bytes += bytes;
	}
	counts = bpf_map_lookup_elem(&hop_counts, &from);
	if (counts) {
		counts->from_packets++;
		counts->from_bytes += bytes;
	}
}

/*
 * The interface is asked before the packet is touched: without it the relay gets what came. This and forward() are global
 * functions, so that the verifier looks at each of them once, and not behind every way that leads there.
 */
__noinline int rewrite(struct xdp_md *ctx, const struct hop *hop, const struct inner *inner, __u32 at)
{
	void *data, *end;
	__s64 padding;
	__u32 size;

	if (!hop || !inner)
		return UNCHANGED;
	at &= 0x1ff;
	size = hop->size & 0x7f;
	if (bpf_redirect_map(&egress, hop->ifindex, XDP_PASS) != XDP_REDIRECT)
		return UNCHANGED;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	padding = end - data;
	barrier_var(padding); /* or clang subtracts halves of pointers */
	padding -= at + inner->length;
	if (padding > 0 && bpf_xdp_adjust_tail(ctx, -padding))
		return UNCHANGED;
	if (bpf_xdp_adjust_head(ctx, (__s32)at - (__s32)size))
		return UNCHANGED;

	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (!put(data, end, hop, inner) || !decrement(data + size, end, inner) ||
	    (inner->mss && !clamp(data + size, end, inner)))
		return BROKEN;
	return SENT;
}

__noinline int forward(struct xdp_md *ctx, const struct way *way)
{
	struct inner inner = {};
	const struct route *back;
	const struct hop *hop;
	void *data, *end;
	__wsum pseudo = 0;
	int forwarded;

	if (!way)
		return UNCHANGED;
	hop = bpf_map_lookup_elem(&hops, &way->hop);
	if (!hop || !hop->ifindex || hop->vni != way->vni)
		return UNCHANGED;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (multi_buffer && bpf_xdp_get_buff_len(ctx) != (__u64)(end - data))
		return UNCHANGED; /* many drivers send no packets of several buffers for others */
	if (way->family == IPV4 ? !read_ip4(data, end, way, &inner, &pseudo) : !read_ip6(data, end, way, &inner, &pseudo))
		return UNCHANGED;
	back = find_back(way, &inner.src);
	if (!back || inner.length > hop->mtu || !read_transport(data, end, way, &inner, pseudo, hop, back))
		return UNCHANGED;
	if (hop->size == TO_VTEP6) {
		if (!inner.summed)
			return UNCHANGED;
		if (inner.protocol != IPPROTO_ICMP)
			inner.sum += (__u16)~pseudo;
	}
	forwarded = rewrite(ctx, hop, &inner, way->at);
	if (forwarded == SENT)
		count_hops(way->hop, back->hop, inner.length);
	return forwarded;
}

#endif
