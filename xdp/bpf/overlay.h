/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Geneve and VXLAN from the site: the tunnel header, then whom the inner packet is for. */
#ifndef SLUICE_OVERLAY_H
#define SLUICE_OVERLAY_H

#include "maps.h"
#include "parse.h"
#include "way.h"

static __always_inline bool is_gateway(__u32 vni, const struct address *address)
{
	return find_destination(vni, address) == GATEWAY;
}

/* What the VNI of a packet is, whether its hosts' announcements are wanted, and their questions for remote addresses. */
struct vpc {
	__u32 vni;
	bool learn;
	bool bounce;
};

static __always_inline enum verdict classify_arp(struct cursor *c, const struct vpc *vpc)
{
	struct arp *arp = take(c, sizeof(*arp));
	struct address target = { IPV4 };
	enum destination destination;
	__be32 sender;

	if (!arp)
		return PASS_BAD_INNER;
	if (arp->hardware != bpf_htons(1) || arp->protocol != bpf_htons(ETH_P_IP) || arp->hardware_len != 6 ||
	    arp->protocol_len != 4 || (arp->operation != bpf_htons(1) && arp->operation != bpf_htons(2)))
		return PASS_INNER_ARP;
	__builtin_memcpy(&target.word[0], arp->target, sizeof(arp->target));
	__builtin_memcpy(&sender, arp->sender, sizeof(sender));
	if (vpc->learn && sender == target.word[0]) /* gratuitous, as request or as reply (RFC 5227, section 3) */
		return DIVERT_NEIGHBOUR;
	destination = find_destination(vpc->vni, &target);
	if (destination == GATEWAY)
		return DIVERT_NEIGHBOUR;
	if (vpc->bounce && destination == REMOTE && arp->operation == bpf_htons(1))
		return DIVERT_NEIGHBOUR;
	return PASS_INNER_ARP;
}

static __always_inline bool is_all_nodes(const struct address *dst)
{
	return dst->word[0] == bpf_htonl(0xff020000) && !dst->word[1] && !dst->word[2] && dst->word[3] == bpf_htonl(1);
}

/*
 * A valid solicitation (RFC 4861, 7.1.1) for a gateway address; its destination is usually a multicast group. Or a valid
 * advertisement (7.1.2): an answer to a gateway address, or unsolicited, to all nodes.
 */
static __always_inline bool is_neighbour(struct cursor *c, const struct ip *ip, const struct vpc *vpc)
{
	struct solicitation *message;
	struct address target = { IPV6 };

	if (ip->dst.family != IPV6 || ip->protocol != IPPROTO_ICMPV6 || ip->hop_limit != 255)
		return false;
	message = take(c, sizeof(*message));
	if (!message || message->code != 0)
		return false;
	if (message->type == NEIGHBOUR_ADVERTISEMENT)
		return (vpc->learn && is_all_nodes(&ip->dst)) || is_gateway(vpc->vni, &ip->dst);
	if (message->type != NEIGHBOUR_SOLICITATION)
		return false;
	__builtin_memcpy(target.word, message->target, sizeof(target.word));
	return is_gateway(vpc->vni, &target);
}

/* `hit` is the verdict for packets that are bound for another site. */
static __always_inline enum verdict classify_inner_ip(struct cursor *c, __be16 type, const struct vpc *vpc,
						      enum verdict hit, struct way *way)
{
	enum destination destination;
	const struct route *route;
	void *start = c->pos;
	struct ip ip;

	if (!parse_ip(c, type, &ip))
		return PASS_BAD_INNER;
	if (is_neighbour(c, &ip, vpc))
		return DIVERT_NEIGHBOUR;
	route = find_route(vpc->vni, &ip.dst);
	destination = route ? route->destination : NOWHERE;
	if (destination == GATEWAY)
		return DIVERT_GATEWAY;
	if (destination == GROUP)
		return hit;
	if (is_link_scope(&ip.dst))
		return PASS_INNER_LINK_SCOPE;
	if (destination != REMOTE)
		return PASS_INNER_NO_ROUTE;
	if (route->hop)
		set_way(way, route->hop, vpc->vni, start - c->start, ip.dst.family);
	return hit;
}

static __always_inline enum verdict classify_inner_frame(struct cursor *c, const struct vpc *vpc, enum verdict hit,
							 struct way *way)
{
	struct ethernet *ethernet = take(c, sizeof(*ethernet));

	if (!ethernet)
		return PASS_BAD_INNER;
	if (is_vlan(ethernet->type))
		return PASS_INNER_VLAN;
	if (ethernet->type == bpf_htons(ETH_P_ARP))
		return classify_arp(c, vpc);
	if (!is_ip(ethernet->type))
		return PASS_INNER_OTHER;
	return classify_inner_ip(c, ethernet->type, vpc, hit, way);
}

/* Reads the 24 bits of a tunnel header; false: none of ours. */
static __always_inline bool find_vpc(struct vpc *vpc, __be32 header)
{
	enum vni_flags flags;

	vpc->vni = bpf_ntohl(header) >> 8;
	flags = find_vni(vpc->vni);
	vpc->learn = flags & VNI_LEARN;
	vpc->bounce = flags & VNI_BOUNCE;
	return flags;
}

/* Options are skipped, whatever they are: also critical ones are the relay's to judge (RFC 8926, 3.4 and 3.5). */
static __always_inline enum verdict classify_geneve(struct cursor *c, struct way *way)
{
	struct geneve *geneve = take(c, sizeof(*geneve));
	struct vpc vpc;

	if (!geneve || geneve->version_words & GENEVE_VERSION)
		return PASS_BAD_GENEVE;
	if (!take(c, (geneve->version_words & GENEVE_OPTION_WORDS) * 4))
		return PASS_BAD_GENEVE;
	if (geneve->flags & GENEVE_CONTROL)
		return PASS_GENEVE_CONTROL;
	if (!find_vpc(&vpc, geneve->vni))
		return PASS_UNKNOWN_VNI;
	way->relay = geneve->version_words | geneve->flags;
	if (geneve->protocol == bpf_htons(ETH_P_TEB))
		return classify_inner_frame(c, &vpc, DIVERT_GENEVE, way);
	if (!is_ip(geneve->protocol))
		return PASS_INNER_OTHER;
	return classify_inner_ip(c, geneve->protocol, &vpc, DIVERT_GENEVE, way);
}

/* All flags but I are ignored, as are the reserved fields (RFC 7348, section 5). */
static __always_inline enum verdict classify_vxlan(struct cursor *c, struct way *way)
{
	struct vxlan *vxlan = take(c, sizeof(*vxlan));
	struct vpc vpc;

	if (!vxlan || !(vxlan->flags & VXLAN_VNI_VALID))
		return PASS_BAD_VXLAN;
	if (!find_vpc(&vpc, vxlan->vni))
		return PASS_UNKNOWN_VNI;
	return classify_inner_frame(c, &vpc, DIVERT_VXLAN, way);
}

#endif
