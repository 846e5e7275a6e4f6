/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * From records to counted requests: which answer is whose.
 *
 * Requests stand in line as runs of equal ones, answers take from the front of the line. Two
 * processors may be at the two directions of a connection at the same time: the client's direction
 * only puts in line (`tail`), the server's only takes (`head`), and no lock is needed. The lock is
 * for the answers that come too early.
 */
#ifndef KERNOB_ENGINE_H
#define KERNOB_ENGINE_H

#include "by_id.h"
#include "count.h"

static __always_inline bool nobody_waits(struct talk *talk)
{
	return talk->head == *(volatile __u32 *)&talk->tail;
}

/* The front of the line; none if nobody waits, or if there was no room for it. */
static __always_inline struct pending *front(struct talk *talk)
{
	struct pending *slot = &talk->slots[talk->head & (SLOTS - 1)];
	struct flight_key key;

	if (slot->index == talk->head + 1)
		return slot;
	key.talk = talk->id;
	key.id = talk->head + 1;
	return bpf_map_lookup_elem(&in_flight, &key);
}

/* Takes `count` requests from the front of the line: all of its first run, if that has no more. */
static __always_inline void advance(struct talk *talk, struct pending *first, __u32 count)
{
	struct flight_key key;

	if (first && count < first->count) {
		__sync_fetch_and_add(&first->bytes, -(first->bytes / first->count * count));
		first->count -= count;
		return;
	}
	if (talk->slots[talk->head & (SLOTS - 1)].index != talk->head + 1) {
		key.talk = talk->id;
		key.id = talk->head + 1;
		bpf_map_delete_elem(&in_flight, &key);
	}
	/* The slot is free from here on. */
	__sync_lock_test_and_set(&talk->head, talk->head + 1);
}

/* Counts answers of the front of the line. Returns how many there was a request for. */
static __noinline __u32 pair(struct work *work, struct talk *talk, struct record *answer,
			     __u64 last)
{
	struct pending *first;
	__u32 count;

	if (!work || !talk || !answer || nobody_waits(talk))
		return 0;
	first = front(talk);
	count = answer->count;
	if (first && first->count) {
		if (count > first->count)
			count = first->count;
		answer->count = count;
		count_requests(work, &talk->party, first, answer, last);
	}
	advance(talk, first, count);
	return count;
}

/* Nobody waits for these answers: their requests' own program may not have run yet. */
static __noinline int keep_early(struct talk *talk, struct record *answer, __u64 now)
{
	struct early *early;
	bool kept = false;

	if (!talk || !answer)
		return 0;
	bpf_spin_lock(&talk->lock);
	if (talk->early_count < EARLY) {
		early = &talk->early[talk->early_count & (EARLY - 1)];
		early->first = answer->first;
		early->last = now;
		early->bytes = answer->bytes;
		early->body = answer->body;
		early->status = answer->status;
		early->count = answer->count;
		talk->early_count++;
		kept = true;
	}
	bpf_spin_unlock(&talk->lock);
	/* To be seen by others before the caller looks at the line again. */
	__sync_fetch_and_add(&talk->early_count, 0);
	if (!kept)
		count_unpaired(talk, UNPAIRED_NO_REQUEST, answer->count);
	return 0;
}

/* The oldest answer that came too early. Returns when, 0 if there is none. */
static __noinline __u64 next_early(struct talk *talk, struct record *answer)
{
	struct early *early;
	__u64 last = 0;

	if (!talk || !answer)
		return 0;
	bpf_spin_lock(&talk->lock);
	if (talk->early_count) {
		early = &talk->early[0];
		last = early->last;
		answer->first = early->first;
		answer->bytes = early->bytes;
		answer->body = early->body;
		answer->status = early->status;
		answer->count = early->count;
		talk->early[0] = talk->early[1];
		talk->early[1] = talk->early[2];
		talk->early[2] = talk->early[3];
		talk->early_count--;
	}
	bpf_spin_unlock(&talk->lock);
	return last;
}

/*
 * Their requests have come: both directions may have seen each other too late, so whoever is at the
 * server's next looks again. Its program alone takes from the line.
 */
static __noinline int settle_early(struct work *work, struct talk *talk)
{
	__u64 last;

	if (!work || !talk)
		return 0;
	for (int i = 0; i < EARLY; i++) {
		if (nobody_waits(talk))
			break;
		last = next_early(talk, &work->early);
		if (!last)
			break;
		pair(work, talk, &work->early, last);
	}
	return 0;
}

static __always_inline void remember(struct talk *talk, __u64 statement, __u64 operation)
{
	struct statement_key key = {.talk = talk->id, .statement = statement};

	bpf_map_update_elem(&statements, &key, &operation, BPF_ANY);
}

static __always_inline __u64 recall(struct talk *talk, __u64 statement)
{
	struct statement_key key = {.talk = talk->id, .statement = statement};
	__u64 *operation = bpf_map_lookup_elem(&statements, &key);

	return operation ? *operation : 0;
}

/* The statement that the front of the line has prepared. */
static __always_inline void remember_prepared(struct talk *talk, __u64 statement)
{
	struct pending *first = front(talk);

	if (first)
		remember(talk, statement, recall(talk, first->local));
}

static __always_inline void take_answer(struct work *work, struct talk *talk, struct record *answer)
{
	__u32 count = answer->count, paired;

	if (*(volatile __u32 *)&talk->early_count)
		settle_early(work, talk);
	if (nobody_waits(talk)) {
		if (!talk->tail && !talk->party.agreed) {
			count_unpaired(talk, UNPAIRED_BEFORE, count);
			return;
		}
		keep_early(talk, answer, work->call.now);
		if (!nobody_waits(talk))
			settle_early(work, talk);
		return;
	}
	if (answer->events & PREPARED)
		remember_prepared(talk, answer->statement);
	paired = pair(work, talk, answer, work->call.now);
	if (paired < count)
		count_unpaired(talk, UNPAIRED_NO_REQUEST, count - paired);
}

struct dropping {
	struct talk *talk;
	__u32 count;
};

/* Takes the front of the line away. Returns whether there was one; `dropping` counts it. */
static __always_inline bool drop_run(struct dropping *dropping, bool *marker)
{
	struct talk *talk = dropping->talk;
	struct pending *first;

	if (nobody_waits(talk))
		return false;
	first = front(talk);
	*marker = first && first->marker;
	if (first && !first->marker)
		dropping->count += first->count;
	advance(talk, 0, 0);
	return true;
}

static long drop_any(__u32 i, struct dropping *dropping)
{
	bool marker;

	return !drop_run(dropping, &marker);
}

static long drop_until_marker(__u32 i, struct dropping *dropping)
{
	bool marker;

	return !drop_run(dropping, &marker) || marker;
}

#define MOST_IN_LINE 65536

/* Nobody will get an answer who stands in line. */
static __noinline int drop_line(struct work *work, struct talk *talk, __u32 reason)
{
	struct dropping dropping = {.talk = talk};

	if (!work || !talk)
		return 0;
	bpf_loop(MOST_IN_LINE, drop_any, &dropping, 0);
	bpf_spin_lock(&talk->lock);
	talk->early_count = 0;
	bpf_spin_unlock(&talk->lock);
	count_unpaired(talk, reason, dropping.count);
	return 0;
}

/* An answer that lasts until the connection ends: it does. */
static __always_inline void end_answer(struct work *work, struct talk *talk, struct stream *stream)
{
	struct record *answer = &work->early;

	if (!(stream->events & TO_CLOSE))
		return;
	answer->first = stream->first;
	answer->bytes = stream->bytes - stream->skip;
	answer->body = stream->body - stream->skip;
	answer->status = stream->status;
	answer->count = 1;
	talk->party.shared = 0; /* whoever began it: this may run in anybody's name */
	if (!pair(work, talk, answer, stream->last))
		count_unpaired(talk, UNPAIRED_BEFORE, 1);
}

/* The connection is gone. */
static __always_inline void end_talk(struct work *work, struct talk *talk)
{
	settle_early(work, talk);
	end_answer(work, talk, &talk->streams[0]);
	end_answer(work, talk, &talk->streams[1]);
	drop_line(work, talk, UNPAIRED_CLOSED);
}

/* Answers of this request that came before it, if nobody stands before it in line: of those who
 * do, they are the server's program's. */
static __noinline int take_early(struct work *work, struct talk *talk, struct record *asked)
{
	struct record *answer;
	__u64 last;

	if (!work || !talk || !asked)
		return 0;
	answer = &work->early;
	for (int i = 0; i < EARLY && asked->count && nobody_waits(talk); i++) {
		last = next_early(talk, answer);
		if (!last)
			break;
		/* The answer may be the later one, by as much as this program was late. */
		if (work->call.now > last + EARLY_NS || asked->events & MARKER) {
			count_unpaired(talk, UNPAIRED_NO_REQUEST, answer->count);
			continue;
		}
		if (answer->count > asked->count)
			answer->count = asked->count;
		work->front.operation = asked->operation;
		work->front.start = asked->first;
		work->front.bytes = asked->bytes;
		work->front.body = asked->body;
		work->front.count = asked->count;
		count_requests(work, &talk->party, &work->front, answer, last);
		asked->count -= answer->count;
	}
	return 0;
}

static __always_inline void to_pending(struct pending *pending, struct record *record, __u32 index)
{
	pending->operation = record->operation;
	pending->start = record->first;
	pending->bytes = record->bytes;
	pending->body = record->body;
	pending->count = record->count;
	pending->local = record->local;
	pending->marker = record->events & MARKER;
	pending->index = index;
}

/* Puts a run of requests in line. */
static __always_inline void put_in_line(struct work *work, struct talk *talk, struct record *record)
{
	struct flight_key key;
	__u32 tail = talk->tail;

	if (tail - *(volatile __u32 *)&talk->head < SLOTS) {
		to_pending(&talk->slots[tail & (SLOTS - 1)], record, tail + 1);
	} else {
		key.talk = talk->id;
		key.id = tail + 1;
		to_pending(&work->front, record, tail + 1);
		if (bpf_map_update_elem(&in_flight, &key, &work->front, BPF_ANY))
			count_unpaired(talk, UNPAIRED_FULL, record->count);
	}
	/* From here on the other direction sees it. */
	__sync_lock_test_and_set(&talk->tail, tail + 1);
}

/* More of the latest request, which is in line already, if it still is. */
static __always_inline void more_of_request(struct talk *talk, struct record *record)
{
	struct flight_key key;
	struct pending *last;

	if (*(volatile __u32 *)&talk->head == talk->tail)
		return;
	last = &talk->slots[(talk->tail - 1) & (SLOTS - 1)];
	if (last->index != talk->tail) {
		key.talk = talk->id;
		key.id = talk->tail;
		last = bpf_map_lookup_elem(&in_flight, &key);
		if (!last)
			return;
	}
	__sync_fetch_and_add(&last->bytes, record->bytes);
	__sync_fetch_and_add(&last->body, record->body);
}

/* Nobody up to the next marker gets another answer. */
static __noinline int skip_to_marker(struct talk *talk)
{
	struct dropping dropping = {.talk = talk};

	if (!talk)
		return 0;
	bpf_loop(MOST_SKIPPED, drop_until_marker, &dropping, 0);
	count_unpaired(talk, UNPAIRED_SKIPPED, dropping.count);
	talk->party.agreed = 1;
	return 0;
}

static __always_inline void take_request(struct work *work, struct talk *talk,
					 struct record *record)
{
	__u32 events = record->events;

	if (events & RECALL)
		record->operation = recall(talk, record->statement);
	if (events & REMEMBER)
		remember(talk, record->statement, record->operation);
	if (events & ONE_WAY) {
		count_one_way(work, &talk->party, record);
		return;
	}
	if (*(volatile __u32 *)&talk->early_count)
		take_early(work, talk, record);
	if (record->count)
		put_in_line(work, talk, record);
}

/* Does what a record says. */
static __noinline int apply(struct work *work, struct talk *talk, struct record *record)
{
	__u32 events;

	if (!work || !talk || !record)
		return 0;
	events = record->events;
	if (events & BY_ID) {
		if (events & ANSWER)
			answer_by_id(work, &talk->party, talk->id, record);
		else
			ask_by_id(work, &talk->party, talk->id, record);
	} else if (events & ANSWER) {
		take_answer(work, talk, record);
	} else if (events & REQUEST) {
		take_request(work, talk, record);
	} else if (events & UNTIL) {
		skip_to_marker(talk);
	} else {
		if (events & REMEMBER)
			remember(talk, record->statement,
				 events & RECALL ? recall(talk, record->operation)
						 : record->operation);
		more_of_request(talk, record);
	}
	if (events & NAMESPACE)
		talk->party.namespace = record->operation;
	return 0;
}

struct applying {
	struct work *work;
	struct talk *talk;
};

static long apply_one(__u32 i, struct applying *context)
{
	struct work *work = context->work;

	apply(work, context->talk, &work->records[bounded(i, RECORDS - 1)]);
	return 0;
}

#endif
