// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * One packet per run. The pages of live frames are used again with whatever their last receiver has left in them
 * (net/bpf/test_run.c only fills them when they are new), so every header is written on every run, from a template that
 * user space has made; what differs between flows comes ready-made from a table, what differs between sizes from another.
 */
#include "pace.h"

#define MAX_HEADER 136 /* VXLAN over IPv6, IPv6 in it: 132, in whole words */
#define MAX_SIZES 8
#define SCHEDULE 1536
#define MAX_FRAME 3072

/* Offsets in the frame. 0: there is no such field. */
struct layout {
	__u32 ifindex;
	__u32 stamp; /* where headers end */
	__u32 frame; /* length of the longest */
	__u32 flows, first_flow;
	__u32 sizes;
	__u32 schedule;
	__u32 payload; /* 1: write all bytes behind the stamp too */
	__u32 vni, src, dst, sport, outer_sport;
	__u32 ip_len, ip_sum, udp_len, udp_sum;
	__u32 outer_ip_len, outer_ip_sum, outer_udp_len;
};

/* A size: lengths in network byte order. */
struct size {
	__u32 frame;
	__u16 ip_len, udp_len, outer_ip_len, outer_udp_len;
};

/* A flow: fields in network byte order, and the sums of everything but the stamp and the lengths. */
struct flow {
	__u32 vni, src, dst;
	__u16 sport, outer_sport;
	__u32 udp_sum;
	__u16 ip_sum, outer_ip_sum;
	__u32 seq;
	__u32 reserved;
};

const volatile struct layout config;
const volatile __u64 template[MAX_HEADER / 8];
const volatile struct size sizes[MAX_SIZES];
const volatile __u8 schedule[SCHEDULE]; /* indexes of sizes, in the order in which they come */

__u32 flow_index, schedule_index;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* config.flows */
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct flow);
} flows SEC(".maps");

struct payload {
	__u8 bytes[MAX_FRAME];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct payload);
} payloads SEC(".maps");

static __always_inline __u32 next_size(void)
{
	__u32 i = schedule_index;

	if (config.sizes == 1)
		return 0;
	if (i >= config.schedule || i >= SCHEDULE)
		i = 0;
	schedule_index = i + 1;
	return schedule[i] & (MAX_SIZES - 1);
}

static __always_inline struct flow *next_flow(void)
{
	__u32 i = flow_index;

	if (i >= config.flows)
		i = 0;
	flow_index = i + 1;
	return bpf_map_lookup_elem(&flows, &i);
}

#define PUT(type, at, value) (*(type *)(data + (at)) = (value))

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	__u64 now = bpf_ktime_get_ns();
	const volatile struct size *size;
	struct stamp stamp;
	struct flow *flow;
	void *data, *end;
	__u32 frame;
	__u64 sum;

	if (over(now) || !due(now))
		return XDP_DROP;

	size = &sizes[next_size()];
	frame = size->frame;
	if (config.sizes > 1 && frame < config.frame && bpf_xdp_adjust_tail(ctx, frame - config.frame))
		return XDP_ABORTED;
	flow = next_flow();
	if (!flow)
		return XDP_ABORTED;
	if (config.payload) {
		__u32 zero = 0, behind = frame - config.stamp;
		struct payload *payload = bpf_map_lookup_elem(&payloads, &zero);

		if (!payload || behind == 0 || behind > MAX_FRAME ||
		    bpf_xdp_store_bytes(ctx, config.stamp, payload, behind))
			return XDP_ABORTED;
	}

	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + config.stamp + sizeof(stamp) > end)
		return XDP_ABORTED;
#pragma unroll
	for (__u32 i = 0; i < MAX_HEADER / 8; i++) { /* up to 7 bytes too many, which the stamp covers */
		if (i * 8 >= config.stamp)
			break;
		PUT(__u64, i * 8, template[i]);
	}

	if (config.vni)
		PUT(__u32, config.vni, flow->vni);
	PUT(__u32, config.src, flow->src);
	PUT(__u32, config.dst, flow->dst);
	PUT(__u16, config.sport, flow->sport);
	PUT(__u16, config.ip_len, size->ip_len);
	PUT(__u16, config.udp_len, size->udp_len);
	if (config.ip_sum)
		PUT(__u16, config.ip_sum, ~fold((__u64)flow->ip_sum + size->ip_len));
	if (config.outer_sport) {
		PUT(__u16, config.outer_sport, flow->outer_sport);
		PUT(__u16, config.outer_ip_len, size->outer_ip_len);
		PUT(__u16, config.outer_udp_len, size->outer_udp_len);
	}
	if (config.outer_ip_sum)
		PUT(__u16, config.outer_ip_sum, ~fold((__u64)flow->outer_ip_sum + size->outer_ip_len));

	stamp.magic = STAMP_MAGIC;
	stamp.flow = config.first_flow + flow_index - 1;
	stamp.seq = flow->seq++;
	stamp.time = now;
	*(struct stamp *)(data + config.stamp) = stamp;
	sum = (__u64)flow->udp_sum + 2 * (__u64)size->udp_len; /* in the pseudo-header too */
	sum += (__u64)stamp.magic + stamp.flow + stamp.seq + (stamp.time >> 32) + (stamp.time & 0xffffffff);
	sum = (__u16)~fold(sum);
	PUT(__u16, config.udp_sum, sum ? sum : 0xffff); /* RFC 768: zero would mean none */

	count(now, frame);
	return bpf_redirect(config.ifindex, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
