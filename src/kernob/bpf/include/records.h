/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * From one call to records: what was asked and what was answered in it.
 *
 * The records go to the engine when the call has been read, or when they are full: so the loop over
 * units, which the verifier looks at closest, holds nothing of it. Equal requests in a row are one
 * record with a count, and so are equal answers to requests of one run.
 */
#ifndef KERNOB_RECORDS_H
#define KERNOB_RECORDS_H

#include "call.h"
#include "operation.h"
#include "series.h"
#include "talk.h"

#define RECORDS 256
#define MOST_UNITS 65536 /* looked at in one go; the engine makes room, then it goes on */
#define MOST_AGAIN 255 /* equal units that are told as one */
#define MOST_LOST 64 /* calls that begin with no message, until the connection is let go */

struct record {
	__u64 operation;
	__u64 first; /* when its first byte moved; of an answer, too */
	__u64 bytes;
	__u64 body;
	__u64 statement;
	__u32 status;
	__u32 local;
	__u32 count;
	__u32 events; /* enum unit_event; 0 of a client's direction: more of the latest request */
	__u32 index; /* of an answer: number of the run of requests that it is for */
	__u32 reserved;
};

/* How a program's look at a call has ended. */
enum ending {
	AT_THE_END, /* all is said, but for what has to be put aside */
	NO_ROOM, /* the records are full: there is more in the call */
	NOT_READ, /* `reason` says why */
	NOT_MINE, /* the parser says so */
	OVER, /* of this connection: `reason` says why */
};

/* Whose answer is being read: a copy of what the line says, and how far this call has come. */
struct ahead {
	__u32 index; /* number of the run of requests, from 0 */
	__u32 left; /* requests of the run without an answer */
	__u32 local;
	__u32 marker;
};

struct work {
	struct call call;
	struct record records[RECORDS];
	__u32 count; /* of records */
	__u8 ending;
	__u8 reason;
	__u8 going_on; /* the block and the place in it are those of an earlier run */
	struct ahead ahead;
	struct pending front; /* for requests that are not in line */
	struct record early; /* for answers that did not come from this call */
	struct awaited awaited;
	struct party party; /* of a datagram */
	struct series_key key;
	struct text text;
};

/* One for each hook: a hook is never in two runs at once on one processor, two hooks may be. */
enum hook { HOOK_SEND, HOOK_PAGE, HOOK_RECEIVE, HOOK_CLOSE, HOOK_CLOSE_AGAIN, HOOKS };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HOOKS);
	__type(key, __u32);
	__type(value, struct work);
} works SEC(".maps");

/* What a step of the loop over units gets. */
struct step {
	struct work *work;
	struct talk *talk;
	struct stream *stream;
	__u32 asking; /* this direction is the one with the requests */
};

/* Puts what the last call has left before the bytes of this one, of which those in one piece. */
static __always_inline int begin_block(struct work *work, struct stream *stream, struct sock *sk,
				       int direction)
{
	struct stashes *both;
	__u32 count = stream->stashed;

	work->call.stashed = 0;
	if (count) {
		both = bpf_sk_storage_get(&stashes, sk, 0, 0);
		if (!both || count > WINDOW)
			return UNSEEN_MEMORY;
		bpf_probe_read_kernel(work->call.block, count, both->of[direction & 1].bytes);
		work->call.stashed = count;
		stream->stashed = 0;
	}
	return fill_first(&work->call);
}

/* The next block of the call, `beyond` bytes behind the unit at hand. Returns whether there is
 * one. */
static __noinline bool next_block(struct work *work, __u32 beyond)
{
	struct call *call;
	__u32 count;

	if (!work)
		return false;
	call = &work->call;
	count = call->at - call->stashed + beyond;
	if (count >= call->length || call->at < call->stashed)
		return false;
	pass(call, count);
	call->stashed = 0;
	work->reason = fill_first(call);
	if (work->reason != SEEN)
		work->ending = NOT_READ;
	return work->reason == SEEN;
}

/* Looks up the run of requests whose answers come next. */
static __always_inline void look_ahead(struct work *work, struct talk *talk)
{
	struct ahead *ahead = &work->ahead;
	struct flight_key key;
	struct pending *pending;

	ahead->left = 0;
	ahead->local = 0;
	if ((__s32)(*(volatile __u32 *)&talk->tail - ahead->index) <= 0)
		return;
	pending = &talk->slots[ahead->index & (SLOTS - 1)];
	if (pending->index != ahead->index + 1) {
		key.talk = talk->id;
		key.id = ahead->index + 1;
		pending = bpf_map_lookup_elem(&in_flight, &key);
		if (!pending)
			return;
	}
	ahead->left = pending->count;
	ahead->local = pending->local;
	ahead->marker = pending->marker;
}

static long pass_run(__u32 i, struct step *s)
{
	struct ahead *ahead = &s->work->ahead;

	look_ahead(s->work, s->talk);
	if (!ahead->left)
		return 1;
	ahead->left = 0;
	ahead->index++;
	return !!ahead->marker;
}

#define MOST_SKIPPED 4096 /* runs of requests that one failed before */

/* What comes next in this call answers what was asked behind the next marker. */
static __noinline int pass_marker(struct work *work, struct talk *talk)
{
	struct step step = {.work = work, .talk = talk};

	if (work && talk)
		bpf_loop(MOST_SKIPPED, pass_run, &step, 0);
	return 0;
}

static __always_inline struct record *last_record(struct work *work)
{
	return work->count ? &work->records[bounded(work->count - 1, RECORDS - 1)] : 0;
}

static __always_inline struct record *new_record(struct work *work, struct unit *unit, __u64 first)
{
	struct record *record = &work->records[bounded(work->count, RECORDS - 1)];

	work->count++;
	record->operation = unit->operation;
	record->first = first;
	record->bytes = 0;
	record->body = 0;
	record->statement = unit->statement;
	record->status = unit->status;
	record->local = unit->local;
	record->count = 0;
	record->events = unit->events;
	return record;
}

static __always_inline void note_request(struct step *s, struct unit *unit)
{
	struct work *work = s->work;
	struct stream *stream = s->stream;
	struct record *record = last_record(work);
	__u64 first;

	/* A text is kept for one operation in a call, so a new one is announced here. */
	if (unit->events & (REQUEST | REMEMBER) && !(unit->events & (MARKER | RECALL | SAME)) &&
	    s->talk->operation != unit->operation) {
		announce(unit->operation, &work->text, s->talk->party.protocol, OPERATION_TEXT);
		s->talk->operation = unit->operation;
	}
	unit->events &= ~SAME;
	if (unit->events & BEFORE) {
		if (!stream->first)
			stream->first = work->call.now;
		stream->bytes += unit->length;
		if (unit->events != BEFORE)
			new_record(work, unit, 0);
		return;
	}
	first = stream->first ? stream->first : work->call.now;
	stream->first = 0;
	if (unit->events & REQUEST) {
		if (!record || unit->events & MARKER || record->operation != unit->operation ||
		    record->first != first || record->local != unit->local ||
		    record->events != unit->events || record->statement != unit->statement ||
		    record->body || unit->body)
			record = new_record(work, unit, first);
		record->count += 1 + unit->again;
		record->bytes += stream->bytes;
		stream->bytes = 0;
	} else if (!record || unit->events) {
		record = new_record(work, unit, 0);
	}
	record->bytes += unit->length;
	record->body += unit->body;
}

/* An answer is whole: what its direction knows of it, and this unit, become a record. */
static __always_inline void note_answer(struct work *work, struct stream *stream, struct unit *unit)
{
	struct record *record = last_record(work);
	__u64 first = stream->first, bytes = unit->length, body = unit->body;

	if (first) {
		bytes += stream->bytes;
		body += stream->body;
		stream->first = 0;
		stream->bytes = 0;
		stream->body = 0;
	} else {
		first = work->call.now;
	}
	if (!record || record->status != unit->status || record->first != first ||
	    record->events != unit->events || record->statement != unit->statement ||
	    record->body || body || !work->ahead.left || record->index != work->ahead.index)
		record = new_record(work, unit, first);
	record->count += 1 + unit->again;
	record->bytes += bytes;
	record->body += body;
	record->index = work->ahead.index;
	if (work->ahead.left)
		work->ahead.left -= 1 + unit->again;
	if (!work->ahead.left)
		work->ahead.index++;
}

/* A body lasts until the connection ends. Whose it is has to be known by then: of a shared
 * connection, who reads or writes it now. */
static __always_inline void begin_rest(struct stream *stream, struct party *party, __u64 now)
{
	struct task_struct *task = bpf_get_current_task_btf();

	stream->last = now;
	if (!party->shared)
		return;
	party->start = task->group_leader->start_boottime;
	party->pid = task->tgid;
}

/* A unit of a server; `whole` if it ends within this call. */
static __always_inline void note_response(struct step *s, struct unit *unit, bool whole)
{
	struct stream *stream = s->stream;

	if (unit->events & (APART | UNTIL)) {
		if (!stream->bytes)
			stream->first = 0;
		if (unit->events & UNTIL) {
			new_record(s->work, unit, 0);
			pass_marker(s->work, s->talk);
		}
		return;
	}
	if (whole && unit->events & (ANSWER | TO_CLOSE)) {
		note_answer(s->work, stream, unit);
		return;
	}
	if (!stream->first)
		stream->first = s->work->call.now;
	stream->bytes += unit->length;
	stream->body += unit->body;
	if (!(unit->events & (ANSWER | TO_CLOSE)))
		return;
	stream->events = unit->events;
	stream->status = unit->status;
	stream->statement = unit->statement;
	if (unit->events & TO_CLOSE)
		begin_rest(stream, &s->talk->party, s->work->call.now);
}

/* The message that the stream has been passing over ends with this call, or in it. */
static __always_inline void end_of_skip(struct work *work, struct stream *stream)
{
	struct unit unit = {
		.events = stream->events,
		.status = stream->status,
		.statement = stream->statement,
	};

	stream->skip = 0;
	if (!stream->events)
		return;
	stream->events = 0;
	note_answer(work, stream, &unit);
}

/* After a verdict: takes the unit down and goes to the next one. Returns 1 at the end. */
static __always_inline long go_on(struct step *s, int verdict, struct unit *unit, __u32 available)
{
	struct work *work = s->work;
	struct call *call = &work->call;
	__u32 in_block = call->filled - call->at;
	__u32 behind = call->length - (call->filled - call->stashed);
	__u64 length = unit->length;

	if (verdict == MORE && available < WINDOW)
		return !behind || !(fill_more(call) || next_block(work, 0));
	if (verdict != TAKEN || !length) {
		work->ending = NOT_MINE;
		return 1;
	}
	if (unit->events & NAMESPACE)
		announce((__u32)unit->operation, &work->text, s->talk->party.protocol,
			 NAMESPACE_TEXT);
	if (s->asking)
		note_request(s, unit);
	else
		note_response(s, unit, length <= (__u64)in_block + behind);
	if (unit->events & ENDS) {
		work->ending = OVER;
		work->reason = unit->reason;
		return 1;
	}
	if (length <= in_block) {
		call->at += length;
		length = 0;
	} else {
		length -= in_block;
		call->at = call->filled;
	}
	if (length >= behind && (length || !behind) && call->at == call->filled) {
		s->stream->skip = length - behind;
		call->length = 0;
		return 1;
	}
	if (call->at == call->filled && !next_block(work, length))
		return 1;
	if (work->count < RECORDS - 1)
		return 0;
	work->ending = NO_ROOM;
	return 1;
}

/* A stream that lost its place has it again where a call begins with a message. */
static __always_inline bool found_again(struct step *s, bool begins)
{
	struct stream *other = &s->talk->streams[s->stream == &s->talk->streams[0]];

	/* Answers of what was asked before would be taken for those of what is asked now. */
	if (begins && (s->asking || !other->lost)) {
		s->stream->lost = 0;
		s->stream->tries = 0;
		return true;
	}
	if (s->stream->tries++ >= MOST_LOST) {
		s->work->ending = OVER;
		s->work->reason = UNSEEN_OTHER;
	}
	s->work->call.at = s->work->call.filled;
	return false;
}

/* Begins the look at a call. Returns whether there is something to parse. */
static __always_inline bool open_call(struct step *s, struct sock *sk, __u32 length, int direction,
				      __u64 skip)
{
	struct stream *stream = s->stream;
	struct work *work = s->work;
	int reason;

	if (work->going_on) {
		work->going_on = 0;
		work->ending = AT_THE_END;
		return true;
	}
	work->call.now = bpf_ktime_get_ns();
	work->ahead.index = s->talk->head;
	work->ahead.left = 0;
	if (skip && skip == length) {
		work->call.filled = work->call.at = 0;
		end_of_skip(work, stream);
		return false;
	}
	reason = locate(&work->call, length);
	if (reason == SEEN && skip) {
		pass(&work->call, skip);
		end_of_skip(work, stream);
	}
	if (reason == SEEN)
		reason = begin_block(work, stream, sk, direction);
	if (reason != SEEN) {
		work->reason = reason;
		work->ending = NOT_READ;
		return false;
	}
	if (stream->lost)
		fill_more(&work->call);
	return true;
}

/* The loop over the units of one protocol. */
#define UNITS(name)                                                                                \
	static long name##_unit(__u32 i, struct step *s)                                           \
	{                                                                                          \
		struct work *work = s->work;                                                       \
		struct unit unit = {};                                                             \
		__u32 at = work->call.at, n = work->call.filled - at;                              \
		struct parse parse = {.own = s->stream->own, .shared = s->talk->shared};           \
		const __u8 *p;                                                                     \
		int verdict;                                                                       \
                                                                                                   \
		if (n > WINDOW)                                                                    \
			n = WINDOW;                                                                \
		asm volatile("" : "+r"(at));                                                       \
		if (!n || at >= BLOCK)                                                             \
			return 1;                                                                  \
		p = work->call.block + at;                                                         \
		if (s->stream->lost &&                                                             \
		    !found_again(s, s->asking ? name##_asks(p, n) : name##_answers(p, n)))         \
			return 1;                                                                  \
		if (s->asking) {                                                                   \
			parse.runs = MOST_AGAIN;                                                   \
			verdict = name##_request(&parse, p, n, &unit, &work->text);                \
		} else {                                                                           \
			if (!work->ahead.left)                                                     \
				look_ahead(work, s->talk);                                         \
			parse.waiting = work->ahead.left;                                          \
			parse.runs = parse.waiting;                                                \
			parse.asked = work->ahead.local;                                           \
			verdict = name##_response(&parse, p, n, &unit, &work->text);               \
		}                                                                                  \
		return go_on(s, verdict, &unit, n);                                                \
	}

#endif
