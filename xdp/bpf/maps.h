/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The maps, and the lookups in them. Go writes all but counters, hop_counts, handshake_sources and stranger_handshakes. */
#ifndef SLUICE_MAPS_H
#define SLUICE_MAPS_H

#include "shared.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VERDICTS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 2 * MAX_INTERFACES * MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * MAX_PORTS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct port_key);
	__type(value, struct port);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * MAX_LOCAL);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address);
	__type(value, __u32);
} local_addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * MAX_UDP_PORTS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct udp_port_key);
	__type(value, enum service);
} udp_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * MAX_VNIS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, enum vni_flags);
} vnis SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 2 * MAX_ROUTES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct route4_key);
	__type(value, struct route);
} routes4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 2 * MAX_ROUTES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct route6_key);
	__type(value, struct route);
} routes6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_HANDSHAKE_SOURCES);
	__type(key, struct address);
	__type(value, struct bucket);
} handshake_sources SEC(".maps");

/* One bucket per interface, by slot. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * MAX_INTERFACES);
	__type(key, __u32);
	__type(value, struct bucket);
} stranger_handshakes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * MAX_PEER_ADDRESSES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address);
	__type(value, __u32);
} peer_addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * MAX_DIRECT_PEERS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address);
	__type(value, __u32);
} direct_peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * MAX_HOPS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct hop);
} hops SEC(".maps");

/* By the key of the hop, which is in 1 to 2 * MAX_HOPS. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2 * MAX_HOPS + 1);
	__type(key, __u32);
	__type(value, struct hop_count);
} hop_counts SEC(".maps");

/* The interfaces that hops leave through, by their index. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, 2 * MAX_INTERFACES);
	__type(key, __u32);
	__type(value, __u32);
} egress SEC(".maps");

static __always_inline void count(enum verdict verdict)
{
	__u32 index = verdict;
	__u64 *counter = bpf_map_lookup_elem(&counters, &index);

	if (counter)
		(*counter)++;
}

static __always_inline bool is_local(const struct address *address)
{
	return bpf_map_lookup_elem(&local_addresses, address) != NULL;
}

/* 0: the VNI is none of ours. */
static __always_inline enum vni_flags find_vni(__u32 vni)
{
	enum vni_flags *flags = bpf_map_lookup_elem(&vnis, &vni);

	return flags ? *flags : 0;
}

/* The longest prefix wins; NULL: none. One lookup tells remote prefixes, the site's own and gateway addresses apart. */
static __always_inline const struct route *find_route(__u32 vni, const struct address *dst)
{
	if (dst->family == IPV4) {
		struct route4_key key = { 64, bpf_htonl(vni), dst->word[0] };

		return bpf_map_lookup_elem(&routes4, &key);
	} else {
		struct route6_key key = { 160, bpf_htonl(vni),
					  { dst->word[0], dst->word[1], dst->word[2], dst->word[3] } };

		return bpf_map_lookup_elem(&routes6, &key);
	}
}

static __always_inline enum destination find_destination(__u32 vni, const struct address *dst)
{
	const struct route *route = find_route(vni, dst);

	return route ? route->destination : NOWHERE;
}

#endif
