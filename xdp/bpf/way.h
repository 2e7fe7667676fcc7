/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What classify() finds out for forward(). */
#ifndef SLUICE_WAY_H
#define SLUICE_WAY_H

#include "shared.h"

struct way {
	__u32 hop;		/* key of `hops`; 0: the packet is not for forward() */
	__u32 vni;
	__u32 peer;		/* the direct peer that sent it; 0: it comes from the site */
	__u16 at;		/* where the inner IP header is */
	__u8 family;		/* of the inner packet */
	__u8 tos;		/* DSCP and ECN of the header around it, if there is one */
	bool virtual;		/* its transport checksum may be unfinished */
	__u8 relay;		/* not zero: the tunnel header says more than forward() understands */
	__u8 zero[2];
};

static __always_inline void set_way(struct way *way, __u32 hop, __u32 vni, __u16 at, enum family family)
{
	way->hop = hop;
	way->vni = vni;
	way->at = at;
	way->family = family;
}

#endif
