/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The table of flows: what one process has moved to and from one peer.
 *
 * Rows only grow, and nothing in the kernel removes them. User space removes those of a process
 * that has ended once none of its connections is left: from then on nobody can add to them.
 */
#ifndef KERNOB_FLOW_H
#define KERNOB_FLOW_H

#include "process.h"

enum direction {
	TRANSMIT = 0,
	RECEIVE = 1,
};

enum side {
	CLIENT = 1,
	SERVER = 2,
};

/* The peer's address is an IPv6 one; IPv4 is mapped into it (::ffff:a.b.c.d). The unspecified
 * address of its family stands for many peers; a key of zeros for what found no row. */
struct flow_key {
	__u64 start; /* the process: see struct process_key */
	__u8 address[16];
	__u32 pid;
	__u16 port; /* of the serving side, host order */
	__u8 transport; /* IPPROTO_TCP, IPPROTO_UDP */
	__u8 side;
};

struct flow {
	__u64 bytes[2]; /* by direction */
	__u64 operations[2];
	__s64 connections; /* open now */
	__u64 peers; /* in a row of many peers: how many rows of single ones it stands beside */
};

/* How many peers of one process get a row each: of one port it serves, and that it calls. */
const volatile __u32 peers_per_server = 64;
const volatile __u32 peers_per_client = 1024;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps");

/* Rows that the table had no room for; what they would have counted is in the row of zeros. */
__u64 flows_overflowed;
/* Bytes that not even the row of zeros took: only possible if user space has not made it. */
__u64 bytes_lost[2];

static __always_inline bool is_ipv4_mapped(const struct in6_addr *address)
{
	return !address->in6_u.u6_addr32[0] && !address->in6_u.u6_addr32[1] &&
	       address->in6_u.u6_addr32[2] == bpf_htonl(0xffff);
}

static __always_inline void set_ipv4(__u8 address[16], __be32 ipv4)
{
	__u32 *word = (__u32 *)address;

	word[0] = 0;
	word[1] = 0;
	word[2] = bpf_htonl(0xffff);
	word[3] = ipv4;
}

static __always_inline struct flow *find_or_make(struct flow_key *key)
{
	struct flow *row = bpf_map_lookup_elem(&flows, key);
	struct flow empty = {};

	if (row)
		return row;
	bpf_map_update_elem(&flows, key, &empty, BPF_NOEXIST);
	return bpf_map_lookup_elem(&flows, key);
}

/*
 * The row of `key`. A peer too many, or a full table, changes the key to that of a row which
 * stands for many; the caller keeps the changed key.
 */
static __noinline struct flow *flow_row(struct flow_key *key)
{
	struct flow_key many;
	struct flow *row, *all;
	__u64 limit;

	if (!key)
		return 0;
	row = bpf_map_lookup_elem(&flows, key);
	if (row)
		return row;

	many = *key;
	if (((__u32 *)key->address)[2] == bpf_htonl(0xffff))
		set_ipv4(many.address, 0);
	else
		__builtin_memset(many.address, 0, sizeof(many.address));
	limit = peers_per_server;
	if (key->side == CLIENT) {
		limit = peers_per_client;
		many.port = 0;
	}
	all = find_or_make(&many);
	if (all && __sync_fetch_and_add(&all->peers, 1) < limit) {
		row = find_or_make(key);
		if (row)
			return row;
	}
	if (all) {
		__sync_fetch_and_sub(&all->peers, 1);
		*key = many;
		return all;
	}
	__sync_fetch_and_add(&flows_overflowed, 1);
	__builtin_memset(key, 0, sizeof(*key));
	return bpf_map_lookup_elem(&flows, key);
}

#endif
