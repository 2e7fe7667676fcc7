/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Where each flow is, and what its numbers say of loss, order and duplicates. */
#ifndef TRAFFIC_SEQUENCE_H
#define TRAFFIC_SEQUENCE_H

#include "counts.h"

/* How far back duplicates are known: SEEN - 1 words for sure. */
#define SEEN 16

volatile __u32 epoch; /* grows with each reset, and with it all flows begin anew */

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

/* How many words of `seen` there are from one number to another. */
static __always_inline __u32 apart(__u32 from, __u32 to)
{
	return (to / 64 - from / 64) & (~0U / 64); /* numbers wrap */
}

/*
 * Counts a sequence number of a flow. As some others of the sink this is a global function, which the verifier looks at once and not
 * again on every path to it: loading takes milliseconds instead of 200.
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

#endif
