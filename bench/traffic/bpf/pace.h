/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* When a generator sends: the token bucket, the end of a run, and what was sent. A generator runs on one thread. */
#ifndef TRAFFIC_PACE_H
#define TRAFFIC_PACE_H

#include "stamp.h"

/* Orders. User space writes them before a run; stop, at any time. */
volatile __u64 duration; /* ns */
volatile __u64 limit;	 /* no packet when `packets` has come to this */
volatile __u64 stop;	 /* no more packets */
volatile __u64 interval; /* between two packets, in 2^-16 ns; 0: none */
volatile __u64 depth;	 /* of the bucket, as time: how far behind the pace may be, in 2^-16 ns */

/* Answers. Times are CLOCK_MONOTONIC in ns, as all here. User space sets them to zero before a run. */
volatile __u64 begin;	/* of the first run of the program: what the kernel does before takes 20 ms */
volatile __u64 next;	/* when the next packet is due, in 2^-16 ns since begin */
volatile __u64 finished; /* no more packets will come */
volatile __u64 packets;
volatile __u64 bytes;
volatile __u64 held; /* runs in which it was too early for a packet */
volatile __u64 first, last;

static __always_inline bool over(__u64 now)
{
	if (!begin)
		begin = now;
	if (stop || now - begin >= duration)
		finished = 1;
	return finished;
}

/* Takes a token. Early runs are cheap, and come so close to each other (20 ns) that nothing is gained by waiting in one. */
static __always_inline bool due(__u64 now)
{
	if (interval) {
		__u64 time = (now - begin) << 16;

		if ((__s64)(time - next) < 0) {
			held++;
			return false;
		}
		if (time - next > depth)
			next = time - depth;
		next += interval;
	}
	return true;
}

static __always_inline void count(__u64 now, __u32 size)
{
	if (!first)
		first = now;
	last = now;
	bytes += size;
	if (++packets >= limit)
		finished = 1;
}

#endif
