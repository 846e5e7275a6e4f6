/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What is known of a thread's datagrams: whom the one on its way goes to or comes from, and which
 * one it is of those of a sendmmsg or recvmmsg.
 */
#ifndef KERNOB_DATAGRAM_H
#define KERNOB_DATAGRAM_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>

struct datagram {
	__u64 socket; /* whose peer the address is, until the datagram has moved */
	__u64 moved; /* whose peer it is after that */
	__u8 address[16];
	__u16 port;
	__u16 reserved;
	__u32 count; /* of the messages at `messages`: those that have moved */
	__u64 messages;
	__u64 messages_socket;
};

/* Threads end and nobody tells, so the oldest makes room; what a row of it is used for is over in
 * microseconds. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* thread id */
	__type(value, struct datagram);
} datagrams SEC(".maps");

static __always_inline struct datagram *this_datagram(void)
{
	__u64 thread = bpf_get_current_pid_tgid();

	return bpf_map_lookup_elem(&datagrams, &thread);
}

#endif
