/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * A TCP connection's own counters, in socket storage: whose they are, how they drain into the
 * table of flows, and what the read position shows that no hook does.
 *
 * Any processor may be at any of these at the same time. Each byte is moved by an atomic
 * exchange, so it is counted once; flags are set before what depends on them is looked at again.
 */
#ifndef KERNOB_CONNECTION_H
#define KERNOB_CONNECTION_H

#include <bpf/bpf_endian.h>
#include <stdbool.h>

#include "flow.h"

enum { NOW = 1, NO_MORE = 2 };

struct connection {
	struct flow_key key; /* the row to drain into, once it is `named` */
	__u64 process; /* start time of the process that it is of, whatever row that found */
	__u64 owner; /* start time of the process that counts here; 0: nobody may */
	__u64 bytes[2]; /* by direction, since the last drain */
	__u64 operations[2];
	__u64 read_to; /* position at the last drain, and what hooks have shown since elsewhere */
	__u64 unhooked; /* bytes read that no hook has shown (yet): splice, or a read in progress */
	__u32 first; /* sequence number at position 0 */
	__u32 draining; /* a drain is under way */
	__u32 claimed; /* somebody is giving it its key, or has */
	__u32 named; /* a process is known, and key is valid */
	__u32 closed;
	__u32 last; /* the drain at the close, or at the end, is still to be done */
	__u32 counted; /* in its row's connections: not yet, NOW, or NO_MORE */
	__u32 established; /* and read_to is valid */
	__u8 side;
	__u8 older; /* than the agent */
	__u8 shared; /* more than one process uses it: nobody owns it any more */
	__u8 stage; /* what looks at its requests: see chain.h */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct connection);
} connections SEC(".maps");

/* Connections that got no storage: out of memory, or a socket already going away. */
__u64 connections_dropped;
static __always_inline void peer_address(struct sock *sk, __u8 address[16])
{
	if (sk->__sk_common.skc_family == AF_INET) {
		set_ipv4(address, sk->__sk_common.skc_daddr);
	} else {
		bpf_core_read(address, 16, &sk->__sk_common.skc_v6_daddr);
	}
}

static __always_inline void name_connection(struct connection *c, struct sock *sk,
					    struct process_key *process, struct flow_key *key)
{
	key->start = process->start;
	key->pid = process->pid;
	key->transport = IPPROTO_TCP;
	key->side = c->side;
	key->port =
		c->side == SERVER ? sk->__sk_common.skc_num : bpf_ntohs(sk->__sk_common.skc_dport);
	peer_address(sk, key->address);
}

/*
 * How much of the stream the application has taken: what copied_seq says, in 64 bits, which it
 * shares with what has arrived, since less than 2^31 is waiting. The end of the stream takes a
 * sequence number, too.
 */
static __always_inline __u64 read_position(struct connection *c, struct sock *sk)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	__u64 arrived;
	__u32 taken;

	if (!tcp)
		return 0;
	taken = tcp->copied_seq;
	if ((sk->__sk_common.skc_flags & (1UL << SOCK_DONE_BIT)) && taken == tcp->rcv_nxt)
		taken--;
	arrived = tcp->bytes_received;
	return arrived + (__s32)(taken - c->first - (__u32)arrived);
}

static __always_inline void start_position(struct connection *c, struct sock *sk)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	if (tcp)
		c->first = tcp->rcv_nxt - (__u32)tcp->bytes_received;
	c->read_to = read_position(c, sk);
}

/* Something between TCP and the application, as TLS in the kernel: its bytes are not TCP's. */
static __always_inline bool is_layered(struct sock *sk)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	return tcp && tcp->inet_conn.icsk_ulp_ops;
}

/* One of the connections that MPTCP's own socket, which the hooks see, is made of. */
static __always_inline bool is_subflow(struct sock *sk)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	return tcp && bpf_core_field_exists(tcp->is_mptcp) && tcp->is_mptcp;
}

static __always_inline void add(struct flow *row, int direction, __u64 bytes, __u64 operations)
{
	if (row) {
		__sync_fetch_and_add(&row->bytes[direction & 1], bytes);
		__sync_fetch_and_add(&row->operations[direction & 1], operations);
	} else {
		__sync_fetch_and_add(&bytes_lost[direction & 1], bytes);
	}
}

static __always_inline __u64 take(__u64 *counter)
{
	return *(volatile __u64 *)counter ? __sync_lock_test_and_set(counter, 0) : 0;
}

/*
 * Whether the read position means anything. It does after TCP's close, too: what had arrived by
 * then can still be read. But to disconnect throws that away, and moves the position over it.
 */
static __always_inline bool position_holds(struct connection *c, struct sock *sk)
{
	return !c->closed || (sk->sk_shutdown == SHUTDOWN_MASK && sk->__sk_common.skc_dport);
}

/*
 * What the storage's owner has received since the last drain.
 *
 * Bytes read by splice pass no hook; the read position shows them. It also shows bytes of a
 * read that is still in progress, and these come again through the hook: `unhooked` is what was
 * counted ahead, to be paid back. Where several processes read, those bytes may be anybody's, so
 * the position waits for the end.
 */
static __always_inline __u64 take_received(struct connection *c, struct sock *sk)
{
	bool last = *(volatile __u32 *)&c->last && __sync_lock_test_and_set(&c->last, 0);
	__u64 received = take(&c->bytes[RECEIVE]), ahead = c->unhooked;
	__u64 position;
	__s64 unhooked;

	if (c->established && !is_layered(sk) && (last || (!c->shared && position_holds(c, sk)))) {
		position = read_position(c, sk);
		unhooked = ahead + position - c->read_to - received;
		if (unhooked < 0) {
			/* An urgent byte, read before the position has passed it: it will. Where a
			 * connection is older than the agent it is a read that had begun before. */
			if (!c->older)
				position -= unhooked;
			unhooked = 0;
		}
		c->read_to = position;
		c->unhooked = unhooked;
		return received + unhooked - ahead;
	}
	if (ahead > received)
		ahead = received;
	c->unhooked -= ahead;
	__sync_fetch_and_add(&c->read_to, received - ahead);
	return received - ahead;
}

/* Moves what the storage has counted into its row. */
static __noinline int drain(struct connection *c, struct sock *sk)
{
	struct flow_key key;
	struct flow *row;

	if (!c || !sk)
		return 0;
	for (int i = 0; i < 4; i++) {
		if (!c->named)
			return 0;
		if (__sync_lock_test_and_set(&c->draining, 1))
			return 0; /* whoever drains looks again before it leaves */
		key = c->key;
		row = bpf_map_lookup_elem(&flows, &key);
		add(row, RECEIVE, take_received(c, sk), take(&c->operations[RECEIVE]));
		add(row, TRANSMIT, take(&c->bytes[TRANSMIT]), take(&c->operations[TRANSMIT]));
		__sync_lock_test_and_set(&c->draining, 0);

		/* While it has an owner there will be another drain. */
		if (c->owner ||
		    (!c->bytes[TRANSMIT] && !c->bytes[RECEIVE] && !*(volatile __u32 *)&c->last))
			return 0;
	}
	return 0;
}

/* The row counts it from now on, and no more: each once, whoever comes first. */
static __always_inline void count_connection(struct connection *c, struct flow *row)
{
	if (row && __sync_val_compare_and_swap(&c->counted, 0, NOW) == 0)
		__sync_fetch_and_add(&row->connections, 1);
}

static __always_inline void uncount_connection(struct connection *c)
{
	struct flow_key key = c->key;
	struct flow *row = bpf_map_lookup_elem(&flows, &key);

	if (__sync_lock_test_and_set(&c->counted, NO_MORE) == NOW && row)
		__sync_fetch_and_sub(&row->connections, 1);
}

/* Gives the connection to `process`, and its row a connection. */
static __noinline int own(struct connection *c, struct sock *sk, struct process_key *process)
{
	struct flow_key key = {};
	struct flow *row;

	if (!c || !sk || !process || c->named || __sync_lock_test_and_set(&c->claimed, 1))
		return 0;
	name_connection(c, sk, process, &key);
	row = flow_row(&key);
	c->key = key;
	c->process = process->start;
	__sync_lock_test_and_set(&c->named, 1);
	if (c->established)
		count_connection(c, row);
	__sync_lock_test_and_set(&c->owner, process->start);
	/* Closed or shared at this very moment, and without an owner: so it stays. */
	if (*(volatile __u32 *)&c->closed || *(volatile __u8 *)&c->shared)
		*(volatile __u64 *)&c->owner = 0;
	return 0;
}

static __always_inline struct connection *make_connection(struct sock *sk, __u8 side)
{
	struct connection *c;

	c = bpf_sk_storage_get(&connections, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!c) {
		__sync_fetch_and_add(&connections_dropped, 1);
		return 0;
	}
	c->side = side;
	start_position(c, sk);
	return c;
}

#endif
