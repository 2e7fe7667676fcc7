/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* WireGuard: which messages there are, and how many handshakes a source may begin. */
#ifndef SLUICE_WIREGUARD_H
#define SLUICE_WIREGUARD_H

#include "maps.h"
#include "parse.h"

/* Message types (the WireGuard paper, 5.4), as a big-endian word: the type byte, three reserved zeros. */
#define WG_INITIATION 0x01000000
#define WG_RESPONSE 0x02000000
#define WG_COOKIE 0x03000000
#define WG_TRANSPORT 0x04000000

#define WG_INITIATION_SIZE 148
#define WG_RESPONSE_SIZE 92
#define WG_COOKIE_SIZE 64
#define WG_TRANSPORT_MIN 32	/* header 16, tag 16: a keepalive */

/* Set by Load. A source may send one handshake per interval, and get ahead of that by `burst`. Interval 0: no limit. */
const volatile __u64 handshake_interval = 0; /* ns */
const volatile __u64 handshake_burst = 0;    /* ns */

/*
 * Protects the CPU from a flood of handshakes, each of which costs the relay curve arithmetic. Two processors that race
 * for one bucket may let a packet too many through; that costs less than a lock.
 */
static __always_inline bool may_handshake(struct address *src)
{
	struct bucket *bucket, fresh;
	__u64 now, full_at;

	if (!handshake_interval)
		return true;
	if (src->family == IPV6)
		src->word[2] = src->word[3] = 0; /* one host usually has a whole /64 to send from */
	now = bpf_ktime_get_ns();
	bucket = bpf_map_lookup_elem(&handshake_sources, src);
	if (!bucket) {
		fresh.full_at = now + handshake_interval;
		/* No room for a new source must not shut it out. */
		bpf_map_update_elem(&handshake_sources, src, &fresh, BPF_ANY);
		return true;
	}
	full_at = bucket->full_at > now ? bucket->full_at : now;
	if (full_at + handshake_interval > now + handshake_burst)
		return false;
	bucket->full_at = full_at + handshake_interval;
	return true;
}

/*
 * Any length from 32 on is sane for type 4: WireGuard pads to 16 bytes, but not beyond the tunnel's MTU, so that a full
 * packet of an interface with MTU 1420 is 1452 bytes long.
 */
static __always_inline enum verdict classify_wireguard(struct cursor *c, struct address *src)
{
	__u32 size = c->left;
	__be32 *type = take(c, sizeof(*type));

	if (!type)
		return DROP_BAD_WIREGUARD;
	switch (bpf_ntohl(*type)) {
	case WG_INITIATION:
		if (size == WG_INITIATION_SIZE)
			return may_handshake(src) ? DIVERT_HANDSHAKE : DROP_HANDSHAKE_RATE;
		break;
	case WG_RESPONSE:
		if (size == WG_RESPONSE_SIZE)
			return may_handshake(src) ? DIVERT_HANDSHAKE : DROP_HANDSHAKE_RATE;
		break;
	case WG_COOKIE:
		if (size == WG_COOKIE_SIZE)
			return DIVERT_HANDSHAKE;
		break;
	case WG_TRANSPORT:
		if (size >= WG_TRANSPORT_MIN)
			return DIVERT_TRANSPORT;
		break;
	}
	return DROP_BAD_WIREGUARD;
}

#endif
