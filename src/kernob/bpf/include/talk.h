/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What is known of the requests on one connection: which protocol, where each direction's stream
 * stands, and what has been asked and not been answered.
 */
#ifndef KERNOB_TALK_H
#define KERNOB_TALK_H

#include "kernel.h"
#include "series.h"
#include "unit.h"
#include <bpf/bpf_helpers.h>

/* `stage` of a connection that is not looked at any more; else it is its protocol. */
#define PLAIN 255

/* Requests of one operation that were sent together. */
struct pending {
	__u64 operation;
	__u64 start; /* when the first byte moved, monotonic, nanoseconds */
	__u64 bytes; /* of all of them, on the wire */
	__u64 body;
	__u32 count;
	__u32 local;
	__u32 index; /* its number on this connection, from 1: whose slot this is */
	__u32 marker;
};

/* An answer that was read before its request's own program has run: on another processor. */
struct early {
	__u64 first;
	__u64 last;
	__u64 bytes;
	__u64 body;
	__u32 status;
	__u32 count;
};

#define SLOTS 8
#define EARLY 4
#define EARLY_NS 100000000ULL /* older ones have no request any more */

/* One direction. */
struct stream {
	__u64 own[4]; /* its parser's */
	__u64 skip; /* bytes to pass over before the next unit */
	__u64 first; /* when the message in progress began; 0: none is */
	__u64 last; /* the latest call */
	__u64 bytes; /* of the answer in progress; of a client's direction, of what is BEFORE */
	__u64 body;
	__u64 statement; /* of the unit that ends with `skip` */
	__u32 events; /* its events, if they wait for its end */
	__u32 status;
	__u32 busy;
	__u16 stashed; /* bytes in the stash */
	__u8 lost; /* its place: until a call begins with a message */
	__u8 tries; /* since it is lost */
};

/* Whose requests these are, and the rows that the latest answer was counted in. Apart from the
 * lock, so that functions which are verified by themselves may have it. */
struct party {
	__u64 start; /* of the process */
	__u8 address[16]; /* of the peer */
	__u32 pid;
	__u16 port; /* of the serving side */
	__u8 side;
	__u8 protocol;
	__u8 shared; /* by processes: whoever is running it is */
	__u8 requests; /* enum direction: which one they come in */
	__u8 agreed; /* both directions have shown that it is this protocol */
	__u8 reserved;
	__u32 namespace;
	__u32 rows[ONE_WAY_REQUEST]; /* by enum series_kind; 0: not looked up yet */
	__u32 row_status;
	__u32 row_namespace;
	__u64 row_operation;
};

struct talk {
	struct bpf_spin_lock lock; /* of early */
	__u32 head; /* number of the oldest request without an answer */
	__u32 tail; /* of the next request */
	__u32 early_count;
	__u8 tries; /* at finding the protocol */
	__u8 last_direction;
	__u8 refused; /* protocols that it has proved not to be, by bit */
	struct pending slots[SLOTS];
	struct early early[EARLY];
	struct party party;
	struct stream streams[2]; /* by direction */
	__u64 id;
	__u64 shared[2]; /* the parsers' */
	__u64 operation; /* the latest that is known to be announced */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct talk);
} talks SEC(".maps");

/* The beginning of a message that has not arrived whole. */
struct stash {
	__u64 first; /* when its first byte moved */
	__u8 bytes[WINDOW];
};

struct stashes {
	struct stash of[2]; /* by direction */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct stashes);
} stashes SEC(".maps");

struct flight_key {
	__u64 talk; /* its id, or that of a socket for datagrams */
	__u64 id; /* number of the request, or the protocol's own id of it */
};

/* Requests without an answer that are too many for their connection's slots. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 32768);
	__type(key, struct flight_key);
	__type(value, struct pending);
} in_flight SEC(".maps");

/* A request that its answer names by an id. Or the answer, if that was read before the request's
 * own program has run. */
struct awaited {
	struct series_key key; /* the request's row if it gets no answer; the answer's status */
	__u64 start; /* when the first byte moved, monotonic, nanoseconds */
	__u64 last; /* of an answer: when it was whole; 0 for a request */
	__u64 bytes;
	__u64 body;
	__u32 reason; /* enum unpaired of an answer whose request never comes */
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 32768);
	__type(key, struct flight_key);
	__type(value, struct awaited);
} awaited SEC(".maps");

/* What a connection's statements are: prepared once, asked for often. */
struct statement_key {
	__u64 talk;
	__u64 statement;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct statement_key);
	__type(value, __u64); /* operation */
} statements SEC(".maps");

#endif
