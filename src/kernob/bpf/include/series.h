/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The table of series: how many requests of one operation, with one status, from one process to
 * one peer, by duration.
 *
 * A row is found by its key in a hash, and lies in an array that user space maps into its memory:
 * to read it costs no system call, and rows in which nothing happened are not looked at. User
 * space hands out the rows' numbers through a queue, and puts those back that it has folded.
 *
 * A histogram is OpenTelemetry's exponential one at scale 3: bucket i of the convention holds
 * (2^(i/8), 2^((i+1)/8)]. Counting is exact: integers only.
 *
 * The functions that are not static are verified once, by themselves, not wherever they are called.
 */
#ifndef KERNOB_SERIES_H
#define KERNOB_SERIES_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <stdbool.h>

#define BUCKETS 256
/* Bucket 0 of a row of durations is number -160: it also holds what took less than 2^-20 s. The
 * last one ends at 2^12 s, and holds what took longer. */
#define FIRST_DURATION (-160)
/* Bucket 0 of a row of sizes is number -1: one byte. */
#define FIRST_SIZE (-1)

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

static __always_inline __u32 top_bit(__u64 value)
{
	__u32 bit = 0;

	if (value >> 32) {
		value >>= 32;
		bit = 32;
	}
	if (value >> 16) {
		value >>= 16;
		bit += 16;
	}
	if (value >> 8) {
		value >>= 8;
		bit += 8;
	}
	if (value >> 4) {
		value >>= 4;
		bit += 4;
	}
	if (value >> 2) {
		value >>= 2;
		bit += 2;
	}
	return bit + (value >> 1);
}

/* The number of the bucket of a value from 1 on: -1 for 1. */
static __always_inline __s32 bucket_of(__u64 value)
{
	/* floor(2^(62 + k/8)) */
	const __u64 border[8] = {
		0x4000000000000000, 0x45cae0f1f545eb73, 0x4c1bf828c6dc54b7, 0x52ff6b54d8a89c75,
		0x5a827999fcef3242, 0x62b39508aa836d6e, 0x6ba27e656b4eb57a, 0x75606373ee921c97,
	};
	__u32 top = top_bit(value);
	__u64 mantissa = value << (63 - top) >> 1;
	__s32 number = (top << 3) - 1;

	if (mantissa > border[4]) {
		number += 5;
		number += mantissa > border[5];
		number += mantissa > border[6];
		number += mantissa > border[7];
	} else {
		number += mantissa > border[0];
		number += mantissa > border[1];
		number += mantissa > border[2];
		number += mantissa > border[3];
	}
	return number;
}

static __always_inline __u32 clamp_bucket(__s32 number, __s32 first)
{
	number -= first;
	if (number < 0)
		return 0;
	return number < BUCKETS ? number : BUCKETS - 1;
}

/* The bucket of a duration: 10^9 is no power of two, so nanoseconds become units of 2^-30 s. */
__noinline int duration_bucket(__u64 ns)
{
	__u64 units;

	/* 0.073741824 in units of 2^-32: exact to a billionth. */
	if (ns < 1ULL << 35)
		units = ns + (ns * 316718722ULL >> 32);
	else
		units = ns + ((ns >> 10) * 316718722ULL >> 22);
	return clamp_bucket(bucket_of(units ? units : 1) - (30 << 3), FIRST_DURATION);
}

__noinline int size_bucket(__u64 bytes)
{
	return clamp_bucket(bucket_of(bytes), FIRST_SIZE);
}

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
