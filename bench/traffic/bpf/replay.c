// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Sends frames that user space has made, one after the other: sealed messages, captures. Every byte on every run. */
#include "pace.h"

#define MAX_FRAME 3072

const volatile __u32 ifindex;
const volatile __u32 total;   /* frames */
const volatile __u32 longest; /* frame */
const volatile __u32 loop;    /* 1: begin again after the last one */
const volatile __u32 by_time; /* 1: keep the frames' own times */

__u64 position;
__u64 round_begin; /* by_time: when it began, in ns since begin */

/* Values are as long as the longest frame needs; user space sets their size. */
struct frame {
	__u64 at; /* ns since the first frame */
	__u32 size;
	__u32 reserved;
	__u8 data[MAX_FRAME];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct frame);
} frames SEC(".maps");

/* When each frame was sent: what is sealed cannot be stamped any more. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} sent_at SEC(".maps");

SEC("xdp")
int replay(struct xdp_md *ctx)
{
	__u64 now = bpf_ktime_get_ns(), *sent;
	struct frame *frame;
	__u32 size, i = position;

	if (over(now))
		return XDP_DROP;
	if (i >= total) {
		finished = 1; /* nothing was left by the run before */
		return XDP_DROP;
	}
	frame = bpf_map_lookup_elem(&frames, &i);
	sent = bpf_map_lookup_elem(&sent_at, &i);
	if (!frame || !sent)
		return XDP_ABORTED;
	if (by_time) {
		if (now - begin < round_begin + frame->at) {
			held++;
			return XDP_DROP;
		}
	} else if (!due(now)) {
		return XDP_DROP;
	}

	size = frame->size;
	if (size == 0 || size > longest)
		return XDP_ABORTED;
	if (size < longest && bpf_xdp_adjust_tail(ctx, size - longest))
		return XDP_ABORTED;
	if (bpf_xdp_store_bytes(ctx, 0, frame->data, size))
		return XDP_ABORTED;
	*sent = now;
	count(now, size);
	if (++i == total) {
		if (loop) {
			i = 0;
			round_begin = now - begin;
		} else {
			finished = 1;
		}
	}
	position = i;
	return bpf_redirect(ifindex, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
