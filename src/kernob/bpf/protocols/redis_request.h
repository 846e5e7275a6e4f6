/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Redis: a client's direction. */
#ifndef KERNOB_PROTOCOL_REDIS_REQUEST_H
#define KERNOB_PROTOCOL_REDIS_REQUEST_H

#include "redis_shared.h"

/*
 * The name of a command, in capitals, into `text`; "?" if it can't be one. Returns its
 * fingerprint. Not static: verified once.
 */
__noinline __u64 redis_name(const struct bytes32 *word, __u32 length, struct text *text)
{
	__u64 hash = REDIS, name;
	__u32 left = length < REDIS_NAME ? length : REDIS_NAME;

	if (!word || !text)
		return 0;
	text->length = left;
#pragma unroll
	for (__u32 i = 0; i < REDIS_NAME; i += 8) {
		if (i >= left)
			break;
		name = first_bytes(word_at(word->bytes + i), left - i);
		if (!printable(name, left - i)) {
			left = 0;
			break;
		}
		name = capitals(name);
		*(unaligned_u64 *)(text->bytes + i) = name;
		hash = mix(hash, name);
	}
	if (left)
		return hash;
	text->length = 1;
	text->bytes[0] = '?';
	return mix(REDIS, '?');
}

/* Whether a line is one that only Redis' clients begin with; other names are other protocols', too.
 */
static __always_inline bool redis_line(const __u8 *p, __u32 n)
{
	__u32 length = bounded(first_word((const void *)p), 63);
	__u64 word;

	if (length >= n || length > 7)
		return false;
	word = capitals(first_bytes(word_at(p), length));
	return word == CHARACTERS('P', 'I', 'N', 'G', 0, 0, 0, 0) ||
	       word == CHARACTERS('S', 'E', 'L', 'E', 'C', 'T', 0, 0) ||
	       word == CHARACTERS('M', 'O', 'N', 'I', 'T', 'O', 'R', 0) ||
	       (word == CHARACTERS('I', 'N', 'F', 'O', 0, 0, 0, 0) && p[length] != ' ');
}

/* What kind of command a name is. */
__noinline int redis_kind(__u64 name, __u32 length)
{
	switch (length) {
	case 4:
		if (name == CHARACTERS('S', 'Y', 'N', 'C', 0, 0, 0, 0))
			return REDIS_REPLICATES;
		break;
	case 5:
		if (name == CHARACTERS('P', 'S', 'Y', 'N', 'C', 0, 0, 0))
			return REDIS_REPLICATES;
		if (name == CHARACTERS('R', 'E', 'S', 'E', 'T', 0, 0, 0))
			return REDIS_RESETS;
		break;
	case 6:
		if (name == CHARACTERS('S', 'E', 'L', 'E', 'C', 'T', 0, 0))
			return REDIS_SELECTS;
		break;
	case 7:
		if (name == CHARACTERS('M', 'O', 'N', 'I', 'T', 'O', 'R', 0))
			return REDIS_MONITORS;
		break;
	case 9:
		if (name == CHARACTERS('S', 'U', 'B', 'S', 'C', 'R', 'I', 'B'))
			return REDIS_SUBSCRIBES;
		break;
	case 10:
		if (name == CHARACTERS('P', 'S', 'U', 'B', 'S', 'C', 'R', 'I') ||
		    name == CHARACTERS('S', 'S', 'U', 'B', 'S', 'C', 'R', 'I'))
			return REDIS_SUBSCRIBES;
		break;
	case 11:
		if (name == CHARACTERS('U', 'N', 'S', 'U', 'B', 'S', 'C', 'R'))
			return REDIS_SUBSCRIBES;
		break;
	case 12:
		if (name == CHARACTERS('P', 'U', 'N', 'S', 'U', 'B', 'S', 'C') ||
		    name == CHARACTERS('S', 'U', 'N', 'S', 'U', 'B', 'S', 'C'))
			return REDIS_SUBSCRIBES;
		break;
	}
	return REDIS_PLAIN;
}

enum redis_reply { REDIS_REPLY_OTHER, REDIS_REPLY_ON, REDIS_REPLY_OFF, REDIS_REPLY_SKIP };

/* What CLIENT's arguments at `p` want: REPLY ON, OFF or SKIP. -1 if they go on behind n. */
__noinline int redis_reply(const struct bytes32 *word, __u32 n)
{
	const __u64 reply = CHARACTERS('$', '5', '\r', '\n', 'R', 'E', 'P', 'L');
	__u32 count = n < 8 ? n : 8;
	const __u8 *p;

	if (!word)
		return -1;
	p = word->bytes;
	/* What is no letter stays as it is: `$` and digits are none. */
	if (capitals(first_bytes(word_at(p), count)) != first_bytes(reply, count))
		return REDIS_REPLY_OTHER;
	if (n < 17)
		return -1;
	switch (capitals(first_bytes(word_at(p + 15), 2))) {
	case 'O' | 'N' << 8:
		return REDIS_REPLY_ON;
	case 'O' | 'F' << 8:
		return REDIS_REPLY_OFF;
	case 'S' | 'K' << 8:
		return REDIS_REPLY_SKIP;
	}
	return REDIS_REPLY_OTHER;
}

/* The number of the database in SELECT's argument at `p`, plus one; 0 if it is none, -1 if it goes
 * on behind n. */
__noinline int redis_database(const struct bytes32 *word, __u32 n)
{
	__s64 number = redis_number((const void *)word, n);
	const __u8 *p;
	__u32 length;
	int database;

	if (!word)
		return 0;
	p = word->bytes;
	if (number <= 0 || REDIS_LENGTH(number) != 4)
		return number ? 0 : -1;
	length = REDIS_VALUE(number);
	if (p[0] != '$' || !length || length > 2)
		return 0;
	if (n < 4 + length)
		return -1;
	database = p[4] - '0';
	if (length == 2)
		database = database * 10 + (p[5] - '0');
	return database < 0 || database > 99 ? 0 : database + 1;
}

/* Notes a command whose name is in `text`: what it changes for others. `next` are its arguments.
 * Returns whether they have been read. */
static __always_inline bool redis_command(__u64 *own, __u32 arguments, const __u8 *next, __u32 n,
					  struct unit *unit, const struct text *text)
{
	__u64 name = *(const unaligned_u64 *)text->bytes;
	__u64 muted = own[REDIS_FLAGS] & (REDIS_MUTE | REDIS_MUTE_NEXT), mutes = muted & REDIS_MUTE;
	int kind = redis_kind(name, text->length);
	int found = 0;

	unit->events = REQUEST;
	unit->local = kind;
	if (kind == REDIS_SUBSCRIBES) {
		unit->local |= (arguments & 0xffffff) << 8;
	} else if (kind == REDIS_SELECTS) {
		found = arguments ? redis_database((const void *)next, n) : 0;
		unit->local = found > 0 ? REDIS_SELECTS | (found - 1) << 8 : REDIS_PLAIN;
	} else if (arguments == 2 && name == CHARACTERS('C', 'L', 'I', 'E', 'N', 'T', 0, 0)) {
		found = redis_reply((const void *)next, n);
		if (found == REDIS_REPLY_ON)
			muted = mutes = 0;
		if (found == REDIS_REPLY_OFF)
			muted = mutes = REDIS_MUTE;
		if (found == REDIS_REPLY_SKIP)
			muted = mutes = mutes ? mutes : REDIS_MUTE_NEXT;
	}
	if (found < 0)
		return false;
	if (muted)
		unit->events |= ONE_WAY;
	own[REDIS_FLAGS] = REDIS_SURE | mutes;
	return true;
}

/* A command that is a line. */
static __always_inline int redis_inline(struct parse *parse, const __u8 *p, __u32 n,
					struct unit *unit, struct text *text)
{
	__u64 *own = parse->own;
	__u32 length = line_length(p, n);

	unit->length = length ? length : n;
	if (own[REDIS_FLAGS] & REDIS_IN_LINE) {
		if (length)
			own[REDIS_FLAGS] &= ~(__u64)REDIS_IN_LINE;
		return TAKEN;
	}
	if (!length && n < WINDOW)
		return MORE;
	if (p[0] == '\n' || p[0] == '\r')
		return length <= 2 && own[REDIS_FLAGS] & REDIS_SURE ? TAKEN : ALIEN;
	if (!(own[REDIS_FLAGS] & REDIS_SURE) && !redis_line(p, n))
		return ALIEN;
	unit->operation = redis_name((const void *)p, first_word((const void *)p), text);
	redis_command(own, 0, p, n, unit, text);
	if (!length)
		own[REDIS_FLAGS] |= REDIS_IN_LINE;
	return TAKEN;
}

#define REDIS_KEPT_NAME 6 /* letters of a command that is remembered */
#define REDIS_KEPT_ARGUMENTS 3

static long redis_same_command(__u32 i, struct redis_run *run)
{
	__u64 *own = run->text->own;
	__u32 at = bounded(own[REDIS_AT], WINDOW - 1), length;
	const __u8 *p = run->p + at;

	if (word_at(p) != run->first || (word_at(p + 8) & run->mask) != run->second)
		return 1;
	at += run->head;
#pragma unroll
	for (__u32 argument = 0; argument < REDIS_KEPT_ARGUMENTS; argument++) {
		if (argument >= run->arguments)
			break;
		length = redis_short_string(run->p + bounded(at, WINDOW - 1));
		at += length;
		if (!length || at > run->n)
			return 1;
	}
	own[REDIS_AT] = at;
	own[REDIS_COUNT]++;
	return at + 24 > run->n;
}

/* Commands like the one before, whole and in the window. Returns whether there are some. */
static __always_inline bool redis_same_commands(struct parse *parse, const __u8 *p, __u32 n,
						struct unit *unit, struct text *text)
{
	struct redis_run run;
	__u64 *own = parse->own;
	__u32 name = (p[5] - '0') & 7;

	if (n < 24 || !own[REDIS_KEPT] || own[REDIS_LEFT] || !parse->runs)
		return false;
	run.p = p;
	run.text = text;
	run.n = n;
	run.first = word_at(p);
	run.mask = first_bytes(~0ULL, name + 2);
	run.second = word_at(p + 8) & run.mask;
	if (mix(run.first, run.second) != own[REDIS_KEPT])
		return false;
	run.head = 8 + name + 2;
	run.arguments = p[1] - '1';
	text->own[REDIS_AT] = 0;
	text->own[REDIS_COUNT] = 0;
	/* Most often there is one. */
	if (!redis_same_command(0, &run))
		bpf_loop(parse->runs - 1, redis_same_command, &run, 0);
	if (!text->own[REDIS_COUNT])
		return false;
	unit->length = text->own[REDIS_AT];
	unit->again = text->own[REDIS_COUNT] - 1;
	unit->operation = own[REDIS_KEPT_OPERATION];
	unit->events = REQUEST | SAME;
	return true;
}

/* Remembers a command that changes nothing for others. `name` is where its name begins. */
static __always_inline void redis_keep(struct parse *parse, const __u8 *p, __u32 name, __u32 length,
				       __s64 elements, const struct unit *unit)
{
	__u64 *own = parse->own;

	own[REDIS_KEPT] = 0;
	if (name != 8 || length > REDIS_KEPT_NAME || elements > 1 + REDIS_KEPT_ARGUMENTS ||
	    unit->local != REDIS_PLAIN || unit->events != REQUEST)
		return;
	/* What has a say in whether there are answers. */
	if (capitals(first_bytes(word_at(p + 8), length)) ==
	    CHARACTERS('C', 'L', 'I', 'E', 'N', 'T', 0, 0))
		return;
	own[REDIS_KEPT] = mix(word_at(p), word_at(p + 8) & first_bytes(~0ULL, length + 2));
	own[REDIS_KEPT_OPERATION] = unit->operation;
}

static __always_inline int redis_request(struct parse *parse, const __u8 *p, __u32 n,
					 struct unit *unit, struct text *text)
{
	__u64 *own = parse->own;
	__s64 number, elements;
	__u32 head, name, length, end;

	if (redis_same_commands(parse, p, n, unit, text))
		return TAKEN;
	if (!own[REDIS_LEFT] && (p[0] != '*' || own[REDIS_FLAGS] & REDIS_IN_LINE))
		return redis_inline(parse, p, n, unit, text);
	number = redis_number((const void *)p, n);
	if (number <= 0)
		return number ? ALIEN : MORE;
	head = bounded(REDIS_LENGTH(number), 31);
	unit->length = head;
	if (own[REDIS_LEFT]) {
		if (p[0] != '$' || REDIS_VALUE(number) < 0)
			return ALIEN;
		own[REDIS_LEFT]--;
		unit->length += REDIS_VALUE(number) + 2;
		return TAKEN;
	}
	elements = REDIS_VALUE(number);
	if (elements > REDIS_MOST)
		return ALIEN;
	if (elements <= 0) /* no command: it gets no answer */
		return TAKEN;
	if (head >= n)
		return MORE;
	number = redis_number((const void *)(p + head), n - head);
	if (number <= 0)
		return number ? ALIEN : MORE;
	if (p[head] != '$' || REDIS_VALUE(number) < 0)
		return ALIEN;
	name = head + bounded(REDIS_LENGTH(number), 31);
	length = REDIS_VALUE(number) < REDIS_NAME ? REDIS_VALUE(number) : REDIS_NAME;
	end = name + length + 2;
	if (end > n)
		return MORE;
	unit->length = name + REDIS_VALUE(number) + 2;
	unit->operation = redis_name((const void *)(p + bounded(name, 63)), length, text);
	if (!redis_command(own, elements - 1, p + bounded(end, 127), n - end, unit, text))
		return MORE;
	own[REDIS_LEFT] = elements - 1;
	redis_keep(parse, p, name, length, elements, unit);
	return TAKEN;
}

#endif
