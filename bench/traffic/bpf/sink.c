// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The end of the path: finds the stamp behind Ethernet, VLAN tag, IP, UDP and up to one VXLAN or Geneve header, judges
 * the packet, and drops it. What has no stamp and is not sealed is the kernel's: ARP, neighbour discovery, handshakes.
 */
#include "sequence.h"

#define PORT_VXLAN 4789
#define PORT_GENEVE 6081
#define WIREGUARD_DATA 4
#define WIREGUARD_OVERHEAD 32

#define CHUNK 512 /* what bpf_csum_diff takes before Linux 6.13 */
#define MAX_SEGMENT 4096

const volatile __be16 wireguard_port;
const volatile __u32 sum_every; /* 0: never */

volatile __u64 last_any; /* when a packet came last, on any CPU */

/* A generator's: when it sent its frames, where these could not be stamped. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} sent_at SEC(".maps");

/* Scratch for computing sums. */
struct segment {
	__u8 bytes[MAX_SEGMENT + CHUNK];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct segment);
} segments SEC(".maps");

struct cursor {
	void *pos, *end;
};

static __always_inline void *take(struct cursor *c, __u32 size)
{
	void *header = c->pos;

	barrier_var(header); /* or clang compares lengths in place of the pointers that the verifier wants compared */
	if (header + size > c->end)
		return NULL;
	c->pos = header + size;
	return header;
}

/* What is known of a packet when its stamp or seal is found. */
struct packet {
	void *ip;
	struct udp *udp;
	__u32 ip_len; /* of the innermost IP packet */
	__u32 pseudo; /* sum of the addresses and the protocol */
	bool bad_sum;
	bool bad_length;
};

static __always_inline __u64 sum_words(const void *at, int words)
{
	const __u32 *word = at;
	__u64 sum = 0;

#pragma unroll
	for (int i = 0; i < words; i++)
		sum += word[i];
	return sum;
}

/* Reads IP and UDP. False: something else, such as a fragment, or options, which nobody here makes. */
static __always_inline bool read_udp(struct cursor *c, __be16 type, struct packet *p)
{
	__u32 left = c->end - c->pos, length;

	if (type == bpf_htons(ETH_P_IP)) {
		struct ip4 *ip = take(c, sizeof(*ip));

		if (!ip || ip->version_words != 0x45 || ip->protocol != IPPROTO_UDP || ip->fragment & bpf_htons(IP4_FRAGMENT))
			return false;
		length = bpf_ntohs(ip->total);
		p->ip = ip;
		p->bad_sum |= fold(sum_words(ip, 5)) != 0xffff;
		p->pseudo = fold(sum_words(&ip->src, 2) + bpf_htons(IPPROTO_UDP));
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		struct ip6 *ip = take(c, sizeof(*ip));

		if (!ip || ip->next != IPPROTO_UDP)
			return false;
		length = bpf_ntohs(ip->payload) + sizeof(*ip);
		p->ip = ip;
		p->pseudo = fold(sum_words(&ip->src, 8) + bpf_htons(IPPROTO_UDP));
	} else {
		return false;
	}
	p->ip_len = length;
	p->udp = take(c, sizeof(struct udp));
	if (!p->udp)
		return false;
	p->bad_length |= length > left || bpf_ntohs(p->udp->length) != length - ((void *)p->udp - p->ip);
	return true;
}

/* Reads Ethernet and at most one tag. */
static __always_inline bool read_ethernet(struct cursor *c, __be16 *type)
{
	struct ethernet *ethernet = take(c, sizeof(*ethernet));

	if (!ethernet)
		return false;
	*type = ethernet->type;
	if (*type == bpf_htons(ETH_P_8021Q)) {
		struct vlan_tag *tag = take(c, sizeof(*tag));

		if (!tag)
			return false;
		*type = tag->type;
	}
	return true;
}

/* Reads an overlay's header. False: there is none. */
static __always_inline bool read_overlay(struct cursor *c, struct packet *p, __be16 *type)
{
	if (p->udp->dst == bpf_htons(PORT_VXLAN)) {
		return take(c, sizeof(struct vxlan)) && read_ethernet(c, type);
	} else if (p->udp->dst == bpf_htons(PORT_GENEVE)) {
		struct geneve *geneve = take(c, sizeof(*geneve));

		if (!geneve || !take(c, (geneve->version_words & GENEVE_OPTION_WORDS) * 4))
			return false;
		*type = geneve->protocol;
		return *type != bpf_htons(ETH_P_TEB) || read_ethernet(c, type);
	}
	return false;
}

/* Computes the UDP checksum. 0: it is wrong. The segment is copied, since the verifier knows no packet pointers with a
 * length that varies. */
__attribute__((noinline)) int sum_is_right(struct xdp_md *ctx, __u32 pseudo, __u32 offset, __u32 length)
{
	__u64 sum = (__u64)pseudo + bpf_htons(length);
	__u32 zero = 0;
	struct segment *segment = bpf_map_lookup_elem(&segments, &zero);

	if (!segment || length < sizeof(struct udp) || length > MAX_SEGMENT - 4)
		return 0;
	if (bpf_xdp_load_bytes(ctx, offset, segment->bytes, length))
		return 0;
	*(__u32 *)(segment->bytes + length) = 0; /* to a multiple of 4 */
	for (__u32 i = 0; i < MAX_SEGMENT / CHUNK; i++) {
		__u32 at = i * CHUNK, n;

		if (at >= length)
			break;
		n = (length - at + 3) & ~3;
		if (n > CHUNK)
			n = CHUNK;
		sum += (__u32)bpf_csum_diff(NULL, 0, (void *)segment->bytes + at, n, 0);
	}
	return fold(sum) == 0xffff;
}

static __always_inline void arrive(struct counts *n, __u64 now, __u32 frame, __u32 inner)
{
	__u64 before = last_any;

	n->packets++;
	n->bytes += frame;
	n->inner_bytes += inner;
	if (!n->first)
		n->first = now;
	n->last = now;
	last_any = now;
	if (before && (__s64)(now - before) > (__s64)n->silence)
		n->silence = now - before;
}

SEC("xdp")
int sink(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct cursor c;
	struct packet p = {};
	struct counts *n;
	struct stamp *stamp;
	__u32 frame;
	__u64 now, sent;
	__be16 type;

	barrier_var(data); /* or clang, who knows that they have 32 bits, spills them as such */
	barrier_var(end);
	frame = end - data;
	c = (struct cursor){data, end};
	n = counters_here();
	if (!n)
		return XDP_ABORTED;
	if (!read_ethernet(&c, &type) || !read_udp(&c, type, &p))
		goto pass;
	if (read_overlay(&c, &p, &type) && !read_udp(&c, type, &p))
		goto pass;

	if (p.udp->dst == wireguard_port) {
		struct { __u32 type, receiver; __u64 counter; } *message = take(&c, 16);

		if (!message || message->type != WIREGUARD_DATA ||
		    bpf_ntohs(p.udp->length) <= sizeof(struct udp) + WIREGUARD_OVERHEAD) /* keepalive: for who shook hands */
			goto pass;
		arrive(n, bpf_ktime_get_ns(), frame, bpf_ntohs(p.udp->length) - sizeof(struct udp) - WIREGUARD_OVERHEAD);
		n->sealed++;
		n->bad_sums += p.bad_sum;
		n->malformed += p.bad_length;
		follow(message->receiver, message->counter);
		return XDP_DROP;
	}

	stamp = take(&c, sizeof(*stamp));
	if (!stamp || stamp->magic != STAMP_MAGIC)
		goto pass;
	now = bpf_ktime_get_ns();
	arrive(n, now, frame, p.ip_len);
	n->malformed += p.bad_length;
	sent = stamp->time;
	if (sent & STAMP_INDEX) {
		__u32 key = sent;
		__u64 *time = bpf_map_lookup_elem(&sent_at, &key);

		sent = time ? *time : 0;
	}
	if (sent)
		note_latency(now - sent);
	if (sum_every && p.udp->check && !p.bad_length && n->sample++ % sum_every == 0) {
		n->summed++;
		p.bad_sum |= !sum_is_right(ctx, p.pseudo, (void *)p.udp - data, bpf_ntohs(p.udp->length));
	}
	n->bad_sums += p.bad_sum;
	follow(stamp->flow, stamp->seq);
	return XDP_DROP;
pass:
	n->passed++;
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
