/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the generator and the sink have in common: the stamp, which is the first of every packet's UDP payload. */
#ifndef TRAFFIC_STAMP_H
#define TRAFFIC_STAMP_H

#include "kernel.h"

#define BPF_MAP_TYPE_ARRAY 2
#define BPF_F_MMAPABLE (1U << 10)

#define STAMP_MAGIC 0x51ce
#define MAX_FLOWS 65536

/* In the machine's own byte order: generator and sink share a clock, so they share a machine. 16 bytes, so that it fits
 * into an Ethernet frame of minimum length. */
struct stamp {
	__u16 magic;
	__u16 flow;
	__u32 seq;  /* of the flow */
	__u64 time; /* CLOCK_MONOTONIC, ns; with STAMP_INDEX the frame was made in advance: its number in sent_at */
};

#define STAMP_INDEX (1ULL << 63)

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

#endif
