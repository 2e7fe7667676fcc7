/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The maps, and the lookups in them. Go writes all of them but counters, handshake_sources and stranger_handshakes. */
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
	__type(value, enum destination);
} routes4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 2 * MAX_ROUTES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct route6_key);
	__type(value, enum destination);
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

/* One lookup tells remote prefixes, the site's own and gateway addresses apart: the longest prefix wins. */
static __always_inline enum destination find_route(__u32 vni, const struct address *dst)
{
	enum destination *destination;

	if (dst->family == IPV4) {
		struct route4_key key = { 64, bpf_htonl(vni), dst->word[0] };

		destination = bpf_map_lookup_elem(&routes4, &key);
	} else {
		struct route6_key key = { 160, bpf_htonl(vni),
					  { dst->word[0], dst->word[1], dst->word[2], dst->word[3] } };

		destination = bpf_map_lookup_elem(&routes6, &key);
	}
	return destination ? *destination : NOWHERE;
}

#endif
