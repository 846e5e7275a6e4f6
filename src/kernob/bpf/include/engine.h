/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * From records to counted requests: which answer is whose.
 *
 * Requests stand in line as runs of equal ones, answers take from the front of the line. Two
 * processors may be at the two directions of a connection at the same time: the line is behind the
 * lock, everything else belongs to one direction.
 */
#ifndef KERNOB_ENGINE_H
#define KERNOB_ENGINE_H

#include "by_id.h"

static __always_inline void copy_pending(struct pending *to, struct pending *from)
{
	to->operation = from->operation;
	to->start = from->start;
	to->bytes = from->bytes;
	to->body = from->body;
	to->count = from->count;
	to->local = from->local;
	to->index = from->index;
	to->marker = from->marker;
}

/*
 * Takes up to `count` requests from the front of the line; `work` gets a copy of their run as it
 * was. Returns how many: 0 if nobody waits.
 */
static __noinline __u32 take_front(struct work *work, struct talk *talk, __u32 count)
{
	struct flight_key key = {};
	struct pending *slot;
	bool any, spilled, whole;

	if (!work || !talk)
		return 0;
	bpf_spin_lock(&talk->lock);
	any = talk->head != talk->tail;
	key.id = talk->head + 1;
	slot = &talk->slots[talk->head & (SLOTS - 1)];
	spilled = slot->index != talk->head + 1;
	if (any && !spilled) {
		copy_pending(&work->front, slot);
		if (count >= slot->count) {
			talk->head++;
		} else {
			slot->bytes -= slot->bytes / slot->count * count;
			slot->count -= count;
		}
	}
	bpf_spin_unlock(&talk->lock);
	if (!any)
		return 0;
	if (spilled) {
		key.talk = talk->id;
		slot = bpf_map_lookup_elem(&in_flight, &key);
		whole = !slot || count >= slot->count;
		if (slot) {
			copy_pending(&work->front, slot);
			slot->bytes -= slot->bytes / (slot->count | 1) * count;
			slot->count -= count;
		} else {
			/* There was no room for it. */
			work->front.count = 0;
			work->front.marker = 0;
		}
		if (whole) {
			bpf_map_delete_elem(&in_flight, &key);
			bpf_spin_lock(&talk->lock);
			talk->head++;
			bpf_spin_unlock(&talk->lock);
		}
	}
	return count < work->front.count ? count : work->front.count;
}

/* Nobody waits for these answers: their requests' own program may not have run yet. Returns
 * whether they have come this moment. */
static __noinline bool keep_early(struct talk *talk, struct record *answer, __u64 now)
{
	struct early *early;
	bool kept = false, asked;

	if (!talk || !answer)
		return false;
	bpf_spin_lock(&talk->lock);
	asked = talk->head != talk->tail;
	if (!asked && talk->early_count < EARLY) {
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
	if (!kept && !asked)
		count_unpaired(talk, UNPAIRED_NO_REQUEST, answer->count);
	return asked;
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

static __always_inline void take_answer(struct work *work, struct talk *talk, struct record *answer)
{
	__u32 taken = take_front(work, talk, answer->count);

	if (!taken) {
		if (!talk->tail && !talk->party.agreed) {
			count_unpaired(talk, UNPAIRED_BEFORE, answer->count);
			return;
		}
		if (!keep_early(talk, answer, work->call.now))
			return;
		taken = take_front(work, talk, answer->count);
		if (!taken)
			return;
	}
	if (answer->events & PREPARED)
		remember(talk, answer->statement, recall(talk, work->front.local));
	count_requests(work, &talk->party, answer, taken, work->call.now);
	if (taken < answer->count)
		count_unpaired(talk, UNPAIRED_NO_REQUEST, answer->count - taken);
}

struct dropping {
	struct work *work;
	struct talk *talk;
	__u32 count;
};

static long drop_run(__u32 i, struct dropping *dropping)
{
	struct talk *talk = dropping->talk;
	__u32 taken;

	if (*(volatile __u32 *)&talk->head == *(volatile __u32 *)&talk->tail)
		return 1;
	taken = take_front(dropping->work, talk, 0x7fffffff);
	if (!dropping->work->front.marker)
		dropping->count += taken;
	return 0;
}

#define MOST_IN_LINE 65536

/* Nobody will get an answer who stands in line. */
static __noinline int drop_line(struct work *work, struct talk *talk, __u32 reason)
{
	struct dropping dropping = {.work = work, .talk = talk};

	if (!work || !talk)
		return 0;
	bpf_loop(MOST_IN_LINE, drop_run, &dropping, 0);
	bpf_spin_lock(&talk->lock);
	talk->head = talk->tail;
	talk->early_count = 0;
	bpf_spin_unlock(&talk->lock);
	count_unpaired(talk, reason, dropping.count);
	return 0;
}

/* An answer that lasts until the connection ends: it does. */
static __always_inline void end_answer(struct work *work, struct talk *talk, struct stream *stream)
{
	struct record answer = {};

	if (!(stream->events & TO_CLOSE))
		return;
	answer.first = stream->first;
	answer.bytes = stream->bytes - stream->skip;
	answer.body = stream->body - stream->skip;
	answer.status = stream->status;
	answer.count = 1;
	talk->party.shared = 0; /* whoever began it: this may run in anybody's name */
	if (take_front(work, talk, 1))
		count_requests(work, &talk->party, &answer, 1, stream->last);
	else
		count_unpaired(talk, UNPAIRED_BEFORE, 1);
}

/* The connection is gone. */
static __always_inline void end_talk(struct work *work, struct talk *talk)
{
	end_answer(work, talk, &talk->streams[0]);
	end_answer(work, talk, &talk->streams[1]);
	drop_line(work, talk, UNPAIRED_CLOSED);
}

static long drop_one(__u32 i, struct dropping *dropping)
{
	struct work *work = dropping->work;
	__u32 taken = take_front(work, dropping->talk, 0x7fffffff);

	if (!taken)
		return 1;
	if (work->front.marker)
		return 1;
	count_unpaired(dropping->talk, UNPAIRED_SKIPPED, taken);
	return 0;
}

/* Answers of this request that came before it. Returns whether there were some. */
static __always_inline bool take_early(struct work *work, struct talk *talk, struct record *asked)
{
	struct record answer = {};
	struct early *early;
	__u64 last = 0;
	__u32 count;
	bool any = false;

	bpf_spin_lock(&talk->lock);
	if (talk->early_count) {
		early = &talk->early[0];
		last = early->last;
		answer.first = early->first;
		answer.bytes = early->bytes;
		answer.body = early->body;
		answer.status = early->status;
		answer.count = early->count;
		talk->early[0] = talk->early[1];
		talk->early[1] = talk->early[2];
		talk->early[2] = talk->early[3];
		talk->early_count--;
		any = true;
	}
	bpf_spin_unlock(&talk->lock);
	if (!any)
		return false;
	if (work->call.now - last > EARLY_NS || asked->events & MARKER) {
		count_unpaired(talk, UNPAIRED_NO_REQUEST, answer.count);
		return true;
	}
	count = answer.count < asked->count ? answer.count : asked->count;
	work->front.operation = asked->operation;
	work->front.start = asked->first;
	work->front.bytes = asked->bytes;
	work->front.body = asked->body;
	work->front.count = asked->count;
	count_requests(work, &talk->party, &answer, count, last);
	asked->count -= count;
	return true;
}

/* Puts a run of requests in line. */
static __noinline int put_in_line(struct work *work, struct talk *talk, struct record *record)
{
	struct flight_key key = {};
	struct pending *slot;
	bool in_line = false;

	if (!work || !talk || !record)
		return 0;
	bpf_spin_lock(&talk->lock);
	key.id = talk->tail + 1;
	if (talk->tail - talk->head < SLOTS) {
		slot = &talk->slots[talk->tail & (SLOTS - 1)];
		slot->operation = record->operation;
		slot->start = record->first;
		slot->bytes = record->bytes;
		slot->body = record->body;
		slot->count = record->count;
		slot->local = record->local;
		slot->marker = record->events & MARKER;
		slot->index = talk->tail + 1;
		talk->tail++;
		in_line = true;
	}
	bpf_spin_unlock(&talk->lock);
	if (in_line)
		return 0;
	key.talk = talk->id;
	work->asked.operation = record->operation;
	work->asked.start = record->first;
	work->asked.bytes = record->bytes;
	work->asked.body = record->body;
	work->asked.count = record->count;
	work->asked.local = record->local;
	work->asked.marker = record->events & MARKER;
	work->asked.index = key.id;
	if (bpf_map_update_elem(&in_flight, &key, &work->asked, BPF_ANY))
		count_unpaired(talk, UNPAIRED_FULL, record->count);
	bpf_spin_lock(&talk->lock);
	talk->tail++;
	bpf_spin_unlock(&talk->lock);
	return 0;
}

/* More of the latest request, which is in line already. */
static __always_inline void more_of_request(struct talk *talk, struct record *record)
{
	struct flight_key key = {};
	struct pending *slot;
	bool spilled;

	bpf_spin_lock(&talk->lock);
	key.id = talk->tail;
	slot = &talk->slots[(talk->tail - 1) & (SLOTS - 1)];
	spilled = slot->index != talk->tail;
	if (talk->tail != talk->head && !spilled) {
		slot->bytes += record->bytes;
		slot->body += record->body;
	}
	bpf_spin_unlock(&talk->lock);
	if (!spilled)
		return;
	key.talk = talk->id;
	slot = bpf_map_lookup_elem(&in_flight, &key);
	if (slot) {
		slot->bytes += record->bytes;
		slot->body += record->body;
	}
}

static long apply(__u32 i, struct dropping *context)
{
	struct work *work = context->work;
	struct talk *talk = context->talk;
	struct record *record = &work->records[bounded(i, RECORDS - 1)];
	__u32 events = record->events;

	if (events & BY_ID) {
		if (events & ANSWER)
			answer_by_id(work, &talk->party, talk->id, record);
		else
			ask_by_id(work, &talk->party, talk->id, record);
	} else if (events & ANSWER) {
		take_answer(work, talk, record);
	} else if (events & REQUEST) {
		if (events & RECALL)
			record->operation = recall(talk, record->statement);
		if (events & REMEMBER)
			remember(talk, record->statement, record->operation);
		if (events & ONE_WAY) {
			count_one_way(work, &talk->party, record);
			return 0;
		}
		for (int early = 0; early < EARLY && record->count; early++) {
			if (!*(volatile __u8 *)&talk->early_count ||
			    !take_early(work, talk, record))
				break;
		}
		if (record->count)
			put_in_line(work, talk, record);
	} else if (events & UNTIL) {
		bpf_loop(4096, drop_one, context, 0);
		talk->party.agreed = 1;
	} else if (events & REMEMBER) {
		remember(talk, record->statement, record->operation);
		more_of_request(talk, record);
	} else {
		more_of_request(talk, record);
	}
	if (events & NAMESPACE)
		talk->party.namespace = record->operation;
	return 0;
}

/* What the hooks have shown of this connection so far can't be put in place any more. */
static __noinline int lose(struct work *work, struct talk *talk)
{
	struct stream *stream;

	if (!work || !talk)
		return 0;
	/* If it never was this protocol, these were no requests. */
	drop_line(work, talk, talk->party.agreed ? UNPAIRED_LOST : UNPAIRED_REASONS);
	for (int i = 0; i < 2; i++) {
		stream = &talk->streams[i];
		stream->lost = 1;
		stream->stashed = 0;
		stream->skip = 0;
		stream->first = 0;
		stream->bytes = 0;
		stream->body = 0;
		stream->events = 0;
		__builtin_memset(stream->own, 0, sizeof(stream->own));
	}
	return 0;
}

/* Keeps the beginning of a message for the next call. */
static __noinline int put_aside(struct work *work, struct talk *talk, struct sock *sk,
				int direction)
{
	struct stream *stream;
	struct stashes *both;
	__u32 at, count;

	if (!work || !talk || !sk)
		return 0;
	stream = &talk->streams[direction & 1];
	at = work->call.at;
	count = work->call.filled - at;
	both = bpf_sk_storage_get(&stashes, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!both) {
		count_unseen(talk, UNSEEN_MEMORY);
		return lose(work, talk);
	}
	asm volatile("" : "+r"(at), "+r"(count));
	if (count > WINDOW || at >= BLOCK)
		return 0;
	bpf_probe_read_kernel(both->of[direction & 1].bytes, count, work->call.block + at);
	stream->stashed = count;
	if (!stream->first)
		stream->first = work->call.now;
	return 0;
}

#endif
