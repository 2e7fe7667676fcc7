/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Geneve and VXLAN: the tunnel header, then whom the inner packet is for. */
#ifndef SLUICE_OVERLAY_H
#define SLUICE_OVERLAY_H

#include "maps.h"
#include "parse.h"

static __always_inline bool is_gateway(__u32 vni, const struct address *address)
{
	return find_route(vni, address) == GATEWAY;
}

static __always_inline enum verdict classify_arp(struct cursor *c, __u32 vni)
{
	struct arp *arp = take(c, sizeof(*arp));
	struct address target = { IPV4 };

	if (!arp)
		return PASS_BAD_INNER;
	if (arp->hardware != bpf_htons(1) || arp->protocol != bpf_htons(ETH_P_IP) || arp->hardware_len != 6 ||
	    arp->protocol_len != 4 || arp->operation != bpf_htons(1))
		return PASS_INNER_ARP;
	__builtin_memcpy(&target.word[0], arp->target, sizeof(arp->target));
	return is_gateway(vni, &target) ? DIVERT_NEIGHBOUR : PASS_INNER_ARP;
}

/* A valid solicitation (RFC 4861, 7.1.1) for a gateway address. Its destination is usually a multicast group. */
static __always_inline bool solicits_gateway(struct cursor *c, const struct ip *ip, __u32 vni)
{
	struct solicitation *solicitation;
	struct address target = { IPV6 };

	if (ip->dst.family != IPV6 || ip->protocol != IPPROTO_ICMPV6 || ip->hop_limit != 255)
		return false;
	solicitation = take(c, sizeof(*solicitation));
	if (!solicitation || solicitation->type != NEIGHBOUR_SOLICITATION || solicitation->code != 0)
		return false;
	__builtin_memcpy(target.word, solicitation->target, sizeof(target.word));
	return is_gateway(vni, &target);
}

/* `hit` is the verdict for packets that are bound for another site. */
static __always_inline enum verdict classify_inner_ip(struct cursor *c, __be16 type, __u32 vni, enum verdict hit)
{
	enum destination destination;
	struct ip ip;

	if (!parse_ip(c, type, &ip))
		return PASS_BAD_INNER;
	if (solicits_gateway(c, &ip, vni))
		return DIVERT_NEIGHBOUR;
	destination = find_route(vni, &ip.dst);
	if (destination == GATEWAY)
		return DIVERT_GATEWAY;
	if (is_link_scope(&ip.dst))
		return PASS_INNER_LINK_SCOPE;
	return destination == REMOTE ? hit : PASS_INNER_NO_ROUTE;
}

static __always_inline enum verdict classify_inner_frame(struct cursor *c, __u32 vni, enum verdict hit)
{
	struct ethernet *ethernet = take(c, sizeof(*ethernet));

	if (!ethernet)
		return PASS_BAD_INNER;
	if (is_vlan(ethernet->type))
		return PASS_INNER_VLAN;
	if (ethernet->type == bpf_htons(ETH_P_ARP))
		return classify_arp(c, vni);
	if (!is_ip(ethernet->type))
		return PASS_INNER_OTHER;
	return classify_inner_ip(c, ethernet->type, vni, hit);
}

/* Options are skipped, whatever they are: also critical ones are the relay's to judge (RFC 8926, 3.4 and 3.5). */
static __always_inline enum verdict classify_geneve(struct cursor *c)
{
	struct geneve *geneve = take(c, sizeof(*geneve));
	__u32 vni;

	if (!geneve || geneve->version_words & GENEVE_VERSION)
		return PASS_BAD_GENEVE;
	if (!take(c, (geneve->version_words & GENEVE_OPTION_WORDS) * 4))
		return PASS_BAD_GENEVE;
	if (geneve->flags & GENEVE_CONTROL)
		return PASS_GENEVE_CONTROL;
	vni = bpf_ntohl(geneve->vni) >> 8;
	if (!is_known_vni(vni))
		return PASS_UNKNOWN_VNI;
	if (geneve->protocol == bpf_htons(ETH_P_TEB))
		return classify_inner_frame(c, vni, DIVERT_GENEVE);
	if (!is_ip(geneve->protocol))
		return PASS_INNER_OTHER;
	return classify_inner_ip(c, geneve->protocol, vni, DIVERT_GENEVE);
}

/* All flags but I are ignored, as are the reserved fields (RFC 7348, section 5). */
static __always_inline enum verdict classify_vxlan(struct cursor *c)
{
	struct vxlan *vxlan = take(c, sizeof(*vxlan));
	__u32 vni;

	if (!vxlan || !(vxlan->flags & VXLAN_VNI_VALID))
		return PASS_BAD_VXLAN;
	vni = bpf_ntohl(vxlan->vni) >> 8;
	if (!is_known_vni(vni))
		return PASS_UNKNOWN_VNI;
	return classify_inner_frame(c, vni, DIVERT_VXLAN);
}

#endif
