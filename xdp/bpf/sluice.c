// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The program on a gateway's ports. It picks out the packets that the relay handles and leaves all others to the kernel,
 * untouched: overlay packets bound for another site, plain IP packets bound for another site, WireGuard. What travels
 * between direct peers it sends on by itself.
 * Each packet gets exactly one verdict (shared.h), reached by the first test that settles it.
 */
#include "kernel.h"
#include "shared.h"
#include "maps.h"
#include "parse.h"
#include "overlay.h"
#include "wireguard.h"
#include "direct.h"
#include "forward.h"

static __always_inline bool is_ours(const struct port *port, const struct ethernet *ethernet)
{
	const __u16 *a = (const void *)port->mac, *b = (const void *)ethernet->dst;

	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]));
}

/*
 * A fragment for one of our outer addresses goes to the kernel in any case: the packet may be for somebody else on this
 * host. Only the first one has ports; one of an overlay packet is counted apart, as nodes must not send such.
 */
static __always_inline enum verdict classify_fragment(struct cursor *c, const struct port *port, const struct ip *ip)
{
	struct udp_port_key key = {};
	__u8 protocol = ip->protocol;
	enum service *service;
	struct udp *udp;

	if (ip->dst.family == IPV6) {
		struct ip6_fragment *header = take(c, sizeof(*header));

		if (!header || header->offset & bpf_htons(IP6_OFFSET))
			return PASS_FRAGMENT;
		protocol = header->next;
	}
	if (ip->later || protocol != IPPROTO_UDP || !(port->flags & PORT_OVERLAY))
		return PASS_FRAGMENT;
	udp = take(c, sizeof(*udp));
	if (!udp)
		return PASS_FRAGMENT;
	key.port = udp->dst;
	service = bpf_map_lookup_elem(&udp_ports, &key);
	return service && (*service == GENEVE || *service == VXLAN) ? PASS_OVERLAY_FRAGMENT : PASS_FRAGMENT;
}

/* For one of our outer addresses. */
static __always_inline enum verdict classify_local(struct cursor *c, const struct port *port, struct ip *ip, struct way *way)
{
	struct udp_port_key key = {};
	enum service *service;
	struct udp *udp;

	if (ip->fragment)
		return classify_fragment(c, port, ip);
	if (is_extension(ip))
		return PASS_EXTENSION;
	if (ip->protocol != IPPROTO_UDP)
		return PASS_LOCAL;
	udp = parse_udp(c);
	if (!udp)
		return PASS_BAD_UDP;
	key.port = udp->dst;
	service = bpf_map_lookup_elem(&udp_ports, &key);
	if (!service)
		return PASS_LOCAL;
	if (*service == WIREGUARD)
		return classify_wireguard(c, &ip->src, port->slot);
	way->tos = ip->tos;
	if (*service == DIRECT)
		return classify_direct(c, &ip->src, way);
	if (!(port->flags & PORT_OVERLAY))
		return PASS_LOCAL;
	return *service == GENEVE ? classify_geneve(c, way) : classify_vxlan(c, way);
}

/* Not for us: to be routed. Fragments, options and extension headers do not matter, nor does the TTL: the relay answers. */
static __always_inline enum verdict classify_routed(const struct cursor *c, const void *start, const struct port *port,
						    const struct ip *ip, struct way *way)
{
	enum destination destination;
	const struct route *route;

	if (!(port->flags & PORT_ROUTED))
		return PASS_NOT_OURS;
	route = find_route(port->vni, &ip->dst);
	destination = route ? route->destination : NOWHERE;
	if (destination == GATEWAY)
		return DIVERT_GATEWAY;
	if (destination == GROUP)
		return DIVERT_ROUTED;
	if (is_link_scope(&ip->dst))
		return PASS_LINK_SCOPE;
	if (destination != REMOTE)
		return PASS_NO_ROUTE;
	if (route->hop)
		set_way(way, route->hop, port->vni, start - c->start, ip->dst.family);
	return DIVERT_ROUTED;
}

/* For another MAC: only what is sent to a multicast group on a routed port may be of interest. */
static __always_inline enum verdict classify_group(struct cursor *c, const struct port *port, const struct frame *frame)
{
	struct ip ip;

	if (!(frame->ethernet->dst[0] & 1) || !(port->flags & PORT_ROUTED) || !parse_ip(c, frame->type, &ip))
		return PASS_OTHER_MAC;
	return find_destination(port->vni, &ip.dst) == GROUP ? DIVERT_ROUTED : PASS_OTHER_MAC;
}

static __always_inline enum verdict classify(struct xdp_md *ctx, __u32 *slot, struct way *way)
{
	void *data = (void *)(long)ctx->data;
	struct cursor c = { data, data, (void *)(long)ctx->data_end, whole(ctx) };
	struct port_key key = { ctx->ingress_ifindex };
	struct frame frame;
	struct port *port;
	struct ip ip;
	void *start;

	if (!parse_ethernet(&c, &frame))
		return PASS_BAD_ETHERNET;
	if (is_vlan(frame.type))
		return PASS_UNKNOWN_VLAN;
	key.vlan = frame.vlan;
	key.inner_vlan = frame.inner_vlan;
	port = bpf_map_lookup_elem(&ports, &key);
	if (!port)
		return frame.vlan ? PASS_UNKNOWN_VLAN : PASS_NO_PORT;
	*slot = port->slot;
	way->virtual = port->flags & PORT_VIRTUAL;

	if (!is_ip(frame.type))
		return PASS_NOT_IP;
	if (!is_ours(port, frame.ethernet))
		return classify_group(&c, port, &frame);
	start = c.pos;
	if (!parse_ip(&c, frame.type, &ip))
		return PASS_BAD_IP;
	return is_local(&ip.dst) ? classify_local(&c, port, &ip, way) : classify_routed(&c, start, port, &ip, way);
}

/* Not inlined: this is what brings enum verdict into the object's type information, where the Go test reads it. */
static __noinline int act(struct xdp_md *ctx, enum verdict verdict, __u32 slot)
{
	__u32 queue = ctx->rx_queue_index;
	int action = XDP_PASS;

	if (verdict >= FIRST_DROP) {
		action = XDP_DROP;
	} else if (verdict >= FIRST_DIVERT) {
		/* The flags are what to do when there is no socket (Linux 5.3). */
		if (queue < MAX_QUEUES)
			action = bpf_redirect_map(&sockets, slot * MAX_QUEUES + queue, XDP_PASS);
		if (action != XDP_REDIRECT)
			verdict = PASS_NO_SOCKET;
	}
	count(verdict);
	return action;
}

SEC("xdp")
int sluice(struct xdp_md *ctx)
{
	__u32 slot = 0;
	struct way way = {};
	enum verdict verdict = classify(ctx, &slot, &way);

	if (way.hop && !way.relay) {
		switch (forward(ctx, &way)) {
		case SENT:
			count(way.peer ? DIRECT_TO_SITE : DIRECT_TO_PEER);
			return XDP_REDIRECT;
		case BROKEN:
			verdict = DROP_BAD_DIRECT;
		}
	}
	return act(ctx, verdict, slot);
}

char _license[] SEC("license") = "Dual BSD/GPL";
