/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* From gateways without encryption: Geneve with an IP packet in it, from the addresses of direct peers. */
#ifndef SLUICE_DIRECT_H
#define SLUICE_DIRECT_H

#include "maps.h"
#include "parse.h"
#include "way.h"

/*
 * The relay gets whatever is not for a hop of this site: it has the verdicts for it. forward() checks the source. The
 * VNI needs no look-up of its own: in one that is not ours no prefix contains anything.
 */
static __always_inline enum verdict classify_direct(struct cursor *c, const struct address *src, struct way *way)
{
	__u32 *peer = bpf_map_lookup_elem(&direct_peers, src);
	struct geneve *geneve;
	const struct route *route;
	void *start;
	struct ip ip;
	__u32 vni;

	if (!peer)
		return DROP_DIRECT_STRANGER;
	geneve = take(c, sizeof(*geneve));
	if (!geneve || geneve->version_words & GENEVE_VERSION || geneve->flags & GENEVE_CONTROL)
		return DROP_BAD_DIRECT;
	if (!take(c, (geneve->version_words & GENEVE_OPTION_WORDS) * 4) || !is_ip(geneve->protocol))
		return DROP_BAD_DIRECT;
	start = c->pos;
	if (!parse_ip(c, geneve->protocol, &ip))
		return DROP_BAD_DIRECT;

	vni = bpf_ntohl(geneve->vni) >> 8;
	way->peer = *peer;
	way->relay = geneve->version_words | geneve->flags;
	route = find_route(vni, &ip.dst);
	if (route && route->destination == NOWHERE && route->hop && !is_link_scope(&ip.dst))
		set_way(way, route->hop, vni, start - c->start, ip.dst.family);
	return DIVERT_DIRECT;
}

#endif
