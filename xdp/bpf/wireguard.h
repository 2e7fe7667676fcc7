/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* WireGuard: which messages there are, and how many of a handshake may come. */
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

/*
 * Set by Load. A source may send one handshake message per interval, and get ahead of that by `burst`; all sources that
 * no peer is known to have, together, one per `strangers_interval` on each interface. Interval 0: no limit.
 */
const volatile __u64 handshake_interval = 0; /* ns */
const volatile __u64 handshake_burst = 0;    /* ns */
const volatile __u64 strangers_interval = 0; /* ns */
const volatile __u64 strangers_burst = 0;    /* ns */

/* Two processors that race for one bucket may let a packet too many through; that costs less than a lock. */
static __always_inline bool take_token(struct bucket *bucket, __u64 now, __u64 interval, __u64 burst)
{
	__u64 full_at = bucket->full_at > now ? bucket->full_at : now;

	if (full_at + interval > now + burst)
		return false;
	bucket->full_at = full_at + interval;
	return true;
}

static __always_inline bool source_may(struct address *src, __u64 now)
{
	struct bucket *bucket, fresh;

	if (!handshake_interval)
		return true;
	if (src->family == IPV6)
		src->word[2] = src->word[3] = 0; /* one host usually has a whole /64 to send from */
	bucket = bpf_map_lookup_elem(&handshake_sources, src);
	if (bucket)
		return take_token(bucket, now, handshake_interval, handshake_burst);
	fresh.full_at = now + handshake_interval;
	/* No room for a new source must not shut it out. */
	bpf_map_update_elem(&handshake_sources, src, &fresh, BPF_ANY);
	return true;
}

static __always_inline bool strangers_may(__u32 slot, __u64 now)
{
	struct bucket *bucket;

	if (!strangers_interval)
		return true;
	bucket = bpf_map_lookup_elem(&stranger_handshakes, &slot);
	return !bucket || take_token(bucket, now, strangers_interval, strangers_burst);
}

/*
 * Protects the CPU from a flood of handshakes, each of which costs the relay curve arithmetic: from one source by the
 * source's bucket, from many (or forged) ones by the interface's. The latter does not hold for the addresses that peers
 * are known to have: a flood does not shut them out. Only handshakes pay for the clock and the look-ups.
 */
static __always_inline enum verdict limit_handshake(struct address *src, __u32 slot)
{
	bool peer = bpf_map_lookup_elem(&peer_addresses, src) != NULL;
	__u64 now = bpf_ktime_get_ns();

	if (!source_may(src, now))
		return DROP_HANDSHAKE_RATE;
	return peer || strangers_may(slot, now) ? DIVERT_HANDSHAKE : DROP_HANDSHAKE_FLOOD;
}

/*
 * Any length from 32 on is sane for type 4: WireGuard pads to 16 bytes, but not beyond the tunnel's MTU, so that a full
 * packet of an interface with MTU 1420 is 1452 bytes long.
 */
static __always_inline enum verdict classify_wireguard(struct cursor *c, struct address *src, __u32 slot)
{
	__u32 size = c->left;
	__be32 *type = take(c, sizeof(*type));
	bool handshake = false;

	if (!type)
		return DROP_BAD_WIREGUARD;
	switch (bpf_ntohl(*type)) {
	case WG_INITIATION:
		handshake = size == WG_INITIATION_SIZE;
		break;
	case WG_RESPONSE:
		handshake = size == WG_RESPONSE_SIZE;
		break;
	case WG_COOKIE:
		handshake = size == WG_COOKIE_SIZE;
		break;
	case WG_TRANSPORT:
		return size >= WG_TRANSPORT_MIN ? DIVERT_TRANSPORT : DROP_BAD_WIREGUARD;
	}
	return handshake ? limit_handshake(src, slot) : DROP_BAD_WIREGUARD;
}

#endif
