/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The table of series: how many requests of one operation, with one status, from one process to
 * one peer, by duration.
 *
 * A row is found by its key in a hash, and lies in an array that user space maps into its memory:
 * to read it costs no system call, and rows in which nothing happened are not looked at. User
 * space hands out the rows' numbers through a queue, and puts those back that it has folded.
 *
 * The functions that are not static are verified once, by themselves, not wherever they are called.
 */
#ifndef KERNOB_SERIES_H
#define KERNOB_SERIES_H

#include "histogram.h"
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <stdbool.h>

enum series_kind {
	WHOLE, /* durations of requests whose answer came in one piece: its first byte is its last
		*/
	PIECES, /* durations of the others */
	FIRST_BYTE, /* and their time to the first byte */
	REQUEST_BODY, /* sizes, of those that have a body */
	RESPONSE_BODY,
	ONE_WAY_REQUEST, /* how many, in bucket 0 and in the sum: they have no duration */
	UNANSWERED, /* likewise: for so long that no answer is waited for any more */
};

struct series_key {
	__u64 start; /* of the process */
	__u64 operation; /* fingerprint; 0: any, of a process that has too many */
	__u8 address[16]; /* of the peer, as in struct flow_key */
	__u32 pid;
	__u32 status; /* the protocol's */
	__u32 namespace; /* a hash of it; 0: none known */
	__u16 port; /* of the serving side */
	__u8 side;
	__u8 protocol;
	__u8 kind;
	__u8 reserved[7];
};

struct series {
	__u64 sum; /* nanoseconds, or bytes of bodies; every change shows here */
	__u64 request_bytes; /* on the wire */
	__u64 response_bytes;
	__u64 slowest; /* sample of this window, nanoseconds; user space sets it to 0 */
	__u32 since; /* requests since the latest sample */
	__u32 fair; /* when that was */
	__u32 buckets[BUCKETS]; /* modulo 2^32 */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct series_key);
	__type(value, __u32);
} series_index SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct series);
} series SEC(".maps");

/* Numbers of rows that nobody uses. Row 0 is not among them: it takes what finds no other. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 16384);
	__type(value, __u32);
} series_free SEC(".maps");

/* How many rows each process has made, by its start time. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u32);
} series_made SEC(".maps");

const volatile __u32 series_per_process = 2048;

/* Rows that have been made: user space looks for new ones when it changes. */
__u64 series_taken;
/* Requests whose operation had no row left in their process: counted there as operation 0. */
__u64 operations_overflowed;
/* Requests that the table had no row for: counted in row 0. */
__u64 series_overflowed;

/* A row for `key`: made if there is none and there is room. */
__noinline int find_series(struct series_key *wanted)
{
	__u32 zero = 0, *found, *made, row;
	struct series_key key;

	if (!wanted)
		return 0;
	/* On the stack: memory of a caller is no key for a map before 6.2. */
	key = *wanted;
	found = bpf_map_lookup_elem(&series_index, &key);
	if (found)
		return *found;
	made = bpf_map_lookup_elem(&series_made, &key.start);
	if (!made) {
		bpf_map_update_elem(&series_made, &key.start, &zero, BPF_NOEXIST);
		made = bpf_map_lookup_elem(&series_made, &key.start);
	}
	if (key.operation && (!made || *made >= series_per_process)) {
		__sync_fetch_and_add(&operations_overflowed, 1);
		key.operation = 0;
		key.namespace = 0;
		found = bpf_map_lookup_elem(&series_index, &key);
		if (found)
			return *found;
	}
	if (bpf_map_pop_elem(&series_free, &row)) {
		__sync_fetch_and_add(&series_overflowed, 1);
		return 0;
	}
	if (bpf_map_update_elem(&series_index, &key, &row, BPF_NOEXIST)) {
		/* Made by somebody else at this moment, or the hash is full. */
		bpf_map_push_elem(&series_free, &row, 0);
		found = bpf_map_lookup_elem(&series_index, &key);
		if (!found)
			__sync_fetch_and_add(&series_overflowed, 1);
		return found ? *found : 0;
	}
	if (made)
		__sync_fetch_and_add(made, 1);
	__sync_fetch_and_add(&series_taken, 1);
	return row;
}

#endif
