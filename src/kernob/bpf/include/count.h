/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * From a request and its answer to a row of the table; and what has no row, by reason.
 */
#ifndef KERNOB_COUNT_H
#define KERNOB_COUNT_H

#include "records.h"
#include "sample.h"

/* Why a request or an answer has no other half. */
enum unpaired {
	UNPAIRED_BEFORE, /* an answer to a request from before the agent */
	UNPAIRED_NO_REQUEST, /* an answer that nobody asked for */
	UNPAIRED_CLOSED, /* the connection ended first */
	UNPAIRED_SKIPPED, /* the server does not answer it, since one before it failed */
	UNPAIRED_LOST, /* the place in the stream was lost */
	UNPAIRED_FULL, /* too many without an answer */
	UNPAIRED_REASONS,
};

/* By protocol and reason. */
__u64 unpaired[PROTOCOLS][UNPAIRED_REASONS];
__u64 unseen[PROTOCOLS][UNSEEN_REASONS];

/* Requests that were sent again before there was an answer: counted once, from the first time. */
__u64 repeated[PROTOCOLS];

static __always_inline void add_unpaired(__u32 protocol, __u32 reason, __u32 count)
{
	if (protocol < PROTOCOLS && reason < UNPAIRED_REASONS)
		__sync_fetch_and_add(&unpaired[protocol][reason], count);
}

static __always_inline void count_unpaired(struct talk *talk, __u32 reason, __u32 count)
{
	add_unpaired(talk->party.protocol, reason, count);
}

static __always_inline void count_unseen(struct talk *talk, __u32 reason)
{
	__u32 protocol = talk->party.protocol;

	if (protocol < PROTOCOLS && reason < UNSEEN_REASONS)
		__sync_fetch_and_add(&unseen[protocol][reason], 1);
}

/* The key of a row, but for its operation, status and kind. */
static __always_inline void name_requests(struct series_key *key, struct party *party)
{
	struct task_struct *task;

	key->start = party->start;
	key->pid = party->pid;
	if (party->shared) {
		task = bpf_get_current_task_btf();
		/* Not one load from either of two kinds of memory, which 6.12 refuses. */
		asm volatile("" ::: "memory");
		key->start = task->group_leader->start_boottime;
		key->pid = task->tgid;
	}
	__builtin_memcpy(key->address, party->address, sizeof(key->address));
	key->side = party->side;
	key->port = party->port;
	key->protocol = party->protocol;
	key->namespace = party->namespace;
}

/* Looks up the row of `kind` for requests like `asked` with this status, and keeps its number. */
static __always_inline __u32 find_row(struct work *work, struct party *party, struct pending *asked,
				      __u32 status, __u32 kind)
{
	__u32 number;

	name_requests(&work->key, party);
	work->key.operation = asked->operation;
	work->key.status = status;
	work->key.kind = kind;
	number = find_series(&work->key);
	/* Of a shared connection, the next one may be another process's. */
	if (!party->shared)
		party->rows[kind] = number;
	return number;
}

/* The row of `kind` for requests like `asked` with this status. */
static __always_inline struct series *row_of(struct work *work, struct party *party,
					     struct pending *asked, __u32 status, __u32 kind)
{
	__u32 number = party->rows[kind];

	if (!number)
		number = find_row(work, party, asked, status, kind);
	return bpf_map_lookup_elem(&series, &number);
}

/* Forgets the rows if the latest answer was of another kind of request, or another status. */
static __always_inline void turn_to(struct party *party, __u64 operation, __u32 status)
{
	if (party->row_operation == operation && party->row_status == status &&
	    party->row_namespace == party->namespace)
		return;
	__builtin_memset(party->rows, 0, sizeof(party->rows));
	party->row_operation = operation;
	party->row_status = status;
	party->row_namespace = party->namespace;
}

static __always_inline void count_size(struct series *row, __u64 bytes)
{
	if (!row)
		return;
	__sync_fetch_and_add(&row->buckets[bounded(size_bucket(bytes), BUCKETS - 1)], 1);
	__sync_fetch_and_add(&row->sum, bytes);
}

static __always_inline void count_duration(struct series *row, __u64 ns, __u32 count)
{
	if (!row)
		return;
	__sync_fetch_and_add(&row->buckets[bounded(duration_bucket(ns), BUCKETS - 1)], count);
	__sync_fetch_and_add(&row->sum, ns * count);
}

/* Counts requests of the run `asked`: as many as have the answer `answer`, whole at `last`. */
__noinline int count_requests(struct work *work, struct party *party, struct pending *asked,
			      struct record *answer, __u64 last)
{
	struct sample *sample;
	struct series *row;
	__u64 ns, first;
	__u32 status, count, pieces;

	if (!work || !party || !asked || !answer)
		return 0;
	count = answer->count;
	status = answer->status;
	party->agreed = 1;
	ns = last > asked->start ? last - asked->start : 0;
	pieces = answer->first != last ? PIECES : WHOLE;
	turn_to(party, asked->operation, status);
	row = row_of(work, party, asked, status, pieces);
	if (!row)
		return 0;
	count_duration(row, ns, count);
	if (asked->count) {
		__sync_fetch_and_add(&row->request_bytes,
				     count == asked->count ? asked->bytes
							   : asked->bytes / asked->count * count);
	}
	__sync_fetch_and_add(&row->response_bytes, answer->bytes);
	if (pieces) {
		first = answer->first;
		count_duration(row_of(work, party, asked, status, FIRST_BYTE),
			       first > asked->start ? first - asked->start : 0, count);
	}
	if (asked->body)
		count_size(row_of(work, party, asked, status, REQUEST_BODY), asked->body);
	if (answer->body)
		count_size(row_of(work, party, asked, status, RESPONSE_BODY), answer->body);
	sample = make_sample(row, party->start, party->protocol, status, ns, last, count);
	if (!sample)
		return 0;
	name_requests(&sample->key, party);
	__builtin_memset(sample->key.reserved, 0, sizeof(sample->key.reserved));
	sample->key.operation = asked->operation;
	sample->key.status = status;
	sample->key.kind = WHOLE;
	sample->start = asked->start;
	sample->first = answer->first;
	sample->last = last;
	sample->request_bytes = asked->count ? asked->bytes / asked->count : asked->bytes;
	sample->response_bytes = count ? answer->bytes / count : 0;
	__builtin_memset(sample->reserved, 0, sizeof(sample->reserved));
	bpf_ringbuf_submit(sample, BPF_RB_NO_WAKEUP);
	return 0;
}

/* Requests that get no answer: their time is not known, that they were is. */
__noinline int count_one_way(struct work *work, struct party *party, struct record *record)
{
	struct series *row;
	__u32 number;

	if (!work || !party || !record)
		return 0;
	name_requests(&work->key, party);
	work->key.operation = record->operation;
	work->key.status = 0;
	work->key.kind = ONE_WAY_REQUEST;
	number = find_series(&work->key);
	row = bpf_map_lookup_elem(&series, &number);
	if (row) {
		__sync_fetch_and_add(&row->buckets[0], record->count);
		__sync_fetch_and_add(&row->sum, record->count);
		__sync_fetch_and_add(&row->request_bytes, record->bytes);
	}
	return 0;
}

#endif
