/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Requests and answers that belong together by an id, in whatever order they come.
 *
 * Whoever comes first waits in a map for the other one; what waits for too long is swept out.
 */
#ifndef KERNOB_BY_ID_H
#define KERNOB_BY_ID_H

#include "count.h"

static __always_inline void add_repeated(__u32 protocol, __u32 count)
{
	if (protocol < PROTOCOLS)
		__sync_fetch_and_add(&repeated[protocol], count);
}

static __always_inline void wait_for_answer(struct awaited *request, struct party *party,
					    struct record *record)
{
	name_requests(&request->key, party);
	request->key.operation = record->operation;
	request->key.status = TIMED_OUT;
	request->key.kind = UNANSWERED;
	request->start = record->first;
	request->last = 0;
	request->bytes = record->bytes;
	request->body = record->body;
}

/* A request. */
static __noinline int ask_by_id(struct work *work, struct party *party, __u64 talk,
				struct record *record)
{
	struct flight_key key = {.talk = talk};
	struct record answer = {.count = 1};
	struct awaited *found;
	__u64 last;

	if (!work || !party || !record)
		return 0;
	key.id = record->statement;
	wait_for_answer(&work->awaited, party, record);
	if (!bpf_map_update_elem(&awaited, &key, &work->awaited, BPF_NOEXIST)) {
		if (record->count > 1)
			add_repeated(party->protocol, record->count - 1);
		return 0;
	}
	found = bpf_map_lookup_elem(&awaited, &key);
	if (!found) {
		add_unpaired(party->protocol, UNPAIRED_FULL, record->count);
		return 0;
	}
	last = found->last;
	if (!last) {
		add_repeated(party->protocol, record->count);
		return 0;
	}
	answer.first = found->start;
	answer.bytes = found->bytes;
	answer.body = found->body;
	answer.status = found->key.status;
	if (work->call.now > last + EARLY_NS) {
		/* Nobody's answer, it proves. */
		add_unpaired(party->protocol, found->reason, 1);
		bpf_map_update_elem(&awaited, &key, &work->awaited, BPF_EXIST);
		return 0;
	}
	bpf_map_delete_elem(&awaited, &key);
	work->front.operation = record->operation;
	work->front.start = record->first;
	work->front.bytes = record->bytes;
	work->front.body = record->body;
	work->front.count = 1;
	count_requests(work, party, &work->front, &answer, last);
	return 0;
}

/* Nobody waits for this answer: its request's own program may not have run yet. Returns whether it
 * has at this moment. */
static __always_inline bool keep_by_id(struct work *work, struct party *party,
				       struct flight_key *key, struct record *record)
{
	struct awaited *answer = &work->awaited, *found;

	answer->key.protocol = party->protocol;
	answer->key.status = record->status;
	answer->start = record->first;
	answer->last = work->call.now;
	answer->bytes = record->bytes;
	answer->body = record->body;
	answer->reason = party->agreed ? UNPAIRED_NO_REQUEST : UNPAIRED_BEFORE;
	if (!bpf_map_update_elem(&awaited, key, answer, BPF_NOEXIST))
		return false;
	found = bpf_map_lookup_elem(&awaited, key);
	if (found && !found->last)
		return true;
	add_unpaired(party->protocol, answer->reason, record->count);
	return false;
}

/* An answer. */
static __noinline int answer_by_id(struct work *work, struct party *party, __u64 talk,
				   struct record *record)
{
	struct flight_key key = {.talk = talk};
	struct awaited *found;

	if (!work || !party || !record)
		return 0;
	key.id = record->statement;
	found = bpf_map_lookup_elem(&awaited, &key);
	if ((!found || found->last) && !keep_by_id(work, party, &key, record))
		return 0;
	found = bpf_map_lookup_elem(&awaited, &key);
	if (!found)
		return 0;
	work->front.operation = found->key.operation;
	work->front.start = found->start;
	work->front.bytes = found->bytes;
	work->front.body = found->body;
	work->front.count = 1;
	/* An answer that comes twice at the same moment. */
	if (bpf_map_delete_elem(&awaited, &key))
		add_unpaired(party->protocol, UNPAIRED_NO_REQUEST, 1);
	else
		count_requests(work, party, &work->front, record, work->call.now);
	return 0;
}

#endif
