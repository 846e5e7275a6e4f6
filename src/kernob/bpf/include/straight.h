/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The short way, which most calls take: they begin with units like the latest ones, whole. These
 * are counted at once, with no unit taken down and no record made. Whatever is not as simple as
 * that goes the long way, from where the short one has left the call.
 */
#ifndef KERNOB_STRAIGHT_H
#define KERNOB_STRAIGHT_H

#include "engine.h"

/* Puts requests like the latest ones in line. Returns whether it is that simple. */
static __always_inline bool ask_again(struct work *work, struct talk *talk, struct unit *unit)
{
	__u32 tail = talk->tail;
	struct pending *last;

	if (tail - *(volatile __u32 *)&talk->head >= SLOTS || *(volatile __u32 *)&talk->early_count)
		return false;
	last = &talk->slots[tail & (SLOTS - 1)];
	last->operation = unit->operation;
	last->start = work->call.now;
	last->bytes = unit->length;
	last->body = unit->body;
	last->count = 1 + unit->again;
	last->local = unit->local;
	last->marker = 0;
	last->index = tail + 1;
	/* From here on the other direction sees it. */
	__sync_lock_test_and_set(&talk->tail, tail + 1);
	return true;
}

/* The front of the line, if it is in the connection's slots and no answer came too early. */
static __always_inline struct pending *simple_front(struct talk *talk)
{
	struct pending *first = &talk->slots[talk->head & (SLOTS - 1)];

	if (nobody_waits(talk) || *(volatile __u32 *)&talk->early_count ||
	    first->index != talk->head + 1 || !first->count)
		return 0;
	return first;
}

/* Counts plain answers, no more than the front of the line waits for. */
static __always_inline void answer_again(struct work *work, struct talk *talk,
					 struct pending *first, struct unit *unit)
{
	struct record *answer = &work->early;

	answer->first = work->call.now;
	answer->bytes = unit->length;
	answer->body = unit->body;
	answer->status = unit->status;
	answer->count = 1 + unit->again;
	count_requests(work, &talk->party, first, answer, work->call.now);
	advance(talk, first, answer->count);
}

#endif
