/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the sink counts, and how long packets took. */
#ifndef TRAFFIC_COUNTS_H
#define TRAFFIC_COUNTS_H

#include "stamp.h"

/* The histogram: histogram.go has the same numbers. */
#define SUB_BITS 5
#define MAX_EXP 35
#define BUCKETS ((MAX_EXP - SUB_BITS + 2) << SUB_BITS)

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

static __always_inline struct counts *counters_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&counters, &zero);
}

/* A global function, as in sequence.h. */
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

#endif
