// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The end of the path: finds the stamp behind Ethernet, VLAN tag, IP, UDP and up to one VXLAN or Geneve header, judges
 * the packet, and drops it. What has no stamp and is not sealed is the kernel's: ARP, neighbour discovery, handshakes.
 */
#include "stamp.h"

#define PORT_VXLAN 4789
#define PORT_GENEVE 6081
#define WIREGUARD_DATA 4
#define WIREGUARD_OVERHEAD 32

/* The histogram: histogram.go has the same numbers. */
#define SUB_BITS 5
#define MAX_EXP 35
#define BUCKETS ((MAX_EXP - SUB_BITS + 2) << SUB_BITS)

/* How far back duplicates are known: SEEN - 1 words for sure. */
#define SEEN 16

#define CHUNK 512 /* what bpf_csum_diff takes before Linux 6.13 */
#define MAX_SEGMENT 4096

const volatile __be16 wireguard_port;
const volatile __u32 sum_every; /* 0: never */

volatile __u32 epoch; /* grows with each reset, and with it all flows begin anew */
volatile __u64 last_any;

struct counts {
	__u64 packets, bytes, inner_bytes, sealed;
	__u64 gaps, missing, reordered, duplicates, late;
	__u64 summed, bad_sums, malformed, passed;
	__u64 first, last, silence;
	__u64 latencies, latency_sum, latency_min, latency_max;
	__u64 sample;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counts);
} counters SEC(".maps");

struct histogram {
	__u64 bucket[BUCKETS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct histogram);
} latencies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} sent_at SEC(".maps");

struct segment {
	__u8 bytes[MAX_SEGMENT + CHUNK];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct segment);
} segments SEC(".maps");

struct bpf_spin_lock {
	__u32 val;
};

/* Where a flow is. Its packets may come on two CPUs, hence the lock. */
struct sequence {
	struct bpf_spin_lock lock;
	__u32 epoch;
	__u32 next;
	__u32 reserved;
	__u64 seen[SEEN]; /* bit n mod 64 of word n / 64 mod SEEN: n was seen */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_FLOWS);
	__type(key, __u32);
	__type(value, struct sequence);
} sequences SEC(".maps");

static __always_inline struct counts *counters_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&counters, &zero);
}

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

/* How many words of `seen` there are from one number to another. */
static __always_inline __u32 apart(__u32 from, __u32 to)
{
	return (to / 64 - from / 64) & (~0U / 64); /* numbers wrap */
}

/*
 * Counts a sequence number of a flow. This and what follows are global functions, which the verifier looks at once and not
 * again on every path to them: loading takes milliseconds instead of 200.
 */
__attribute__((noinline)) int follow(__u32 flow, __u32 seq)
{
	struct counts *n = counters_here();
	__u32 gap = 0, now = epoch, key = flow & (MAX_FLOWS - 1), word = (seq / 64) % SEEN;
	__u64 bit = 1ULL << (seq % 64);
	bool duplicate = false, late = false;
	struct sequence *s = bpf_map_lookup_elem(&sequences, &key);
	__s32 ahead;

	if (!s || !n)
		return 0;
	bpf_spin_lock(&s->lock);
	if (s->epoch != now) {
		s->epoch = now;
		s->next = seq;
#pragma unroll
		for (int i = 0; i < SEEN; i++)
			s->seen[i] = 0;
	}
	ahead = seq - s->next;
	if (ahead >= 0) {
		__u32 words = apart(s->next - 1, seq);

		gap = ahead;
		if (words >= SEEN) {
#pragma unroll
			for (int i = 0; i < SEEN; i++)
				s->seen[i] = 0;
		} else if (words) {
			for (__u32 i = 0; i < SEEN; i++) {
				if (i >= words)
					break;
				s->seen[(word - i) % SEEN] = 0;
			}
		}
		s->seen[word] |= bit;
		s->next = seq + 1;
	} else if (apart(seq, s->next - 1) >= SEEN) {
		late = true;
	} else {
		duplicate = s->seen[word] & bit;
		s->seen[word] |= bit;
	}
	bpf_spin_unlock(&s->lock);

	if (ahead > 0) {
		n->gaps++;
		n->missing += gap;
	} else if (ahead < 0) {
		if (late) {
			n->late++;
		} else if (duplicate) {
			n->duplicates++;
		} else {
			n->reordered++;
			n->missing--; /* per CPU it may wrap; the sum is right */
		}
	}
	return 0;
}

__attribute__((noinline)) int note_latency(__u64 latency)
{
	struct counts *n = counters_here();
	__u32 zero = 0, exp = 0, i;
	struct histogram *h = bpf_map_lookup_elem(&latencies, &zero);
	__u64 v = latency;

	if (!h || !n)
		return 0;
	if ((__s64)latency < 0)
		latency = v = 0;
#pragma unroll
	for (int shift = 32; shift; shift /= 2) {
		if (v >> shift) {
			v >>= shift;
			exp += shift;
		}
	}
	if (latency < 1 << SUB_BITS)
		i = latency;
	else if (exp > MAX_EXP)
		i = BUCKETS - 1;
	else
		i = ((exp - SUB_BITS) << SUB_BITS) + (__u32)(latency >> ((exp - SUB_BITS) & 63));
	if (i >= BUCKETS)
		return 0;
	h->bucket[i]++;
	if (!n->latencies || latency < n->latency_min)
		n->latency_min = latency;
	if (latency > n->latency_max)
		n->latency_max = latency;
	n->latencies++;
	n->latency_sum += latency;
	return 0;
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
