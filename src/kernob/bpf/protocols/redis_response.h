/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Redis: a server's direction. */
#ifndef KERNOB_PROTOCOL_REDIS_RESPONSE_H
#define KERNOB_PROTOCOL_REDIS_RESPONSE_H

#include "redis_shared.h"

/* The first six letters of an error's kind, five bits each: ERR, WRONGT(YPE), MOVED. */
__noinline __u32 redis_error(const struct redis_head *head)
{
	__u32 status = 0;
	const __u8 *p;

	if (!head)
		return 0;
	p = head->bytes;
#pragma unroll
	for (int i = 0; i < 6; i++) {
		if (p[i] < 'A' || p[i] > 'Z')
			break;
		status |= (p[i] - 'A' + 1) << (5 * i);
	}
	return status ? status : 31;
}

#define REDIS_ALL_CHANNELS 0xffffff

enum redis_first { REDIS_FIRST_OTHER, REDIS_FIRST_MESSAGE, REDIS_FIRST_CONFIRMS };

/* What an array is that begins with this element, and from bit 2 on the element's length; -1 if
 * more has to be seen. */
__noinline int redis_first(const struct bytes32 *word, __u32 n)
{
	const __u64 message = CHARACTERS('m', 'e', 's', 's', 'a', 'g', 'e', 0);
	const __u64 subscribe = CHARACTERS('s', 'u', 'b', 's', 'c', 'r', 'i', 'b');
	__s64 number = redis_number((const void *)word, n);
	const __u8 *p;
	__u32 value, head, length;

	if (!word || word->bytes[0] != '$' || number < 0)
		return REDIS_FIRST_OTHER;
	if (!number)
		return -1;
	if (REDIS_VALUE(number) < 7 || REDIS_VALUE(number) > 12)
		return REDIS_FIRST_OTHER;
	value = REDIS_VALUE(number);
	head = REDIS_LENGTH(number);
	length = head + value + 2;
	/* And the two bytes that say whether a channel follows. */
	if (length + 2 > n)
		return -1;
	p = word->bytes + bounded(head, 7);
	if (value < 9) {
		if (first_bytes(word_at(p + bounded(value - 7, 1)), 7) != message)
			return REDIS_FIRST_OTHER;
		return length << 2 | REDIS_FIRST_MESSAGE;
	}
	if (word_at(p + bounded(value - 9, 3)) != subscribe)
		return REDIS_FIRST_OTHER;
	return length << 2 | REDIS_FIRST_CONFIRMS;
}

/* Whether a confirmation is the answer to the oldest request. `kind` is that of the name, `nothing`
 * says that it is of no channel. */
static __always_inline bool redis_confirmation(struct parse *parse, __u32 kind, bool nothing)
{
	__u64 *own = parse->own;
	__u32 left = own[REDIS_CONFIRMATIONS] & REDIS_ALL_CHANNELS;

	if (left && own[REDIS_CONFIRMATIONS] >> 24 == kind && !nothing) {
		if (left != REDIS_ALL_CHANNELS)
			own[REDIS_CONFIRMATIONS]--;
		return false;
	}
	own[REDIS_CONFIRMATIONS] = 0;
	if (!parse->waiting)
		return true;
	if ((parse->asked & 0xff) != REDIS_SUBSCRIBES)
		return false;
	left = parse->asked >> 8 ? (parse->asked >> 8) - 1 : REDIS_ALL_CHANNELS;
	if (left && !nothing)
		own[REDIS_CONFIRMATIONS] = (__u64)kind << 24 | left;
	return true;
}

/*
 * An array or a push at the top that may be something nobody asked for; its head is `head` bytes.
 * Returns how many bytes its first element has if that is taken with it, -1 if more has to be seen.
 */
static __always_inline int redis_unasked(struct parse *parse, const __u8 *p, __u32 n, __u32 head,
					 __u64 *flags)
{
	bool push = p[0] == '>';
	__u32 length;
	int first;

	if (head >= n)
		return -1;
	p += bounded(head, 31);
	first = redis_first((const void *)p, n - head);
	if (first < 0)
		return -1;
	if (first == REDIS_FIRST_OTHER) {
		*flags |= push ? REDIS_APART : 0;
		return 0;
	}
	length = first >> 2;
	if ((first & 3) == REDIS_FIRST_MESSAGE) {
		*flags |= REDIS_APART;
		return length;
	}
	p += bounded(length, 63);
	*flags |= REDIS_CONFIRMS | (push ? 0 : REDIS_SUBSCRIBED);
	if (!redis_confirmation(parse, length, p[0] == '_' || p[1] == '-'))
		*flags |= REDIS_APART;
	return length;
}

/* An answer is whole; it begins with `type`, `letter` unless it is not in sight any more. */
static __always_inline void redis_answer(struct parse *parse, __u8 type, __u8 letter,
					 struct unit *unit, struct text *text)
{
	__u32 kind = parse->waiting ? parse->asked & 0xff : REDIS_PLAIN;
	__u32 database = parse->asked >> 8, digits = 0;

	unit->events = ANSWER;
	unit->status = parse->own[REDIS_STATUS];
	if (kind == REDIS_PLAIN || type != '+')
		return;
	if (kind == REDIS_MONITORS)
		parse->own[REDIS_FLAGS] |= REDIS_MONITORED;
	if (kind == REDIS_RESETS)
		parse->own[REDIS_FLAGS] = 0;
	if (kind == REDIS_REPLICATES) {
		unit->events |= ENDS;
		unit->reason = UNSEEN_OTHER;
	}
	/* Not if it is QUEUED. */
	if (letter == 'Q' || (kind != REDIS_SELECTS && kind != REDIS_RESETS))
		return;
	if (database > 9)
		text->bytes[digits++] = '0' + database / 10;
	text->bytes[digits++] = '0' + database % 10;
	text->length = digits;
	unit->events |= NAMESPACE;
	unit->operation = mix(mix(REDIS, NAMESPACE), database);
}

/* The value at `p`, without the elements that it holds: these are added to `left`. */
static __always_inline int redis_value(const __u8 *p, __u32 n, struct unit *unit, __u64 *left,
				       __u64 *status)
{
	__s64 number = redis_number((const void *)p, n);
	__u64 value = REDIS_VALUE(number) < 0 ? 0 : REDIS_VALUE(number);

	if (number <= 0)
		return number ? ALIEN : MORE;
	unit->length = REDIS_LENGTH(number);
	switch (p[0]) {
	case '$': /* bulk string */
	case '!': /* bulk error */
	case '=': /* verbatim string */
		if (REDIS_VALUE(number) >= 0)
			unit->length += value + 2;
		if (p[0] != '!')
			return TAKEN;
		if (n < unit->length && n < 32)
			return MORE;
		if (!*status)
			*status =
				redis_error((const void *)(p + bounded(REDIS_LENGTH(number), 31)));
		return TAKEN;
	case '*': /* array */
	case '~': /* set */
	case '>': /* push */
		*left += value;
		break;
	case '%': /* map */
		*left += 2 * value;
		break;
	case '|': /* attributes come before what they are of */
		*left += 2 * value + 1;
		break;
	default:
		return ALIEN;
	}
	return value > REDIS_MOST || *left > REDIS_MOST * 64ULL ? ALIEN : TAKEN;
}

/* Whether a value of this type is a line. */
static __always_inline bool redis_simple(__u8 type)
{
	switch (type) {
	case '+': /* string */
	case '-': /* error */
	case ':': /* integer */
	case '_': /* null */
	case '#': /* boolean */
	case ',': /* double */
	case '(': /* big number */
		return true;
	}
	return false;
}

static long redis_plain_answer(__u32 i, struct redis_run *run)
{
	__u64 *own = run->text->own;
	__u32 at = bounded(own[REDIS_AT], WINDOW - 1), length = 0;
	const __u8 *p = run->p + at;

	switch (p[0]) {
	case '$':
		length = p[1] == '-' ? 5 : redis_short_string(p);
		break;
	case '+':
		if (first_bytes(word_at(p), 5) == CHARACTERS('+', 'O', 'K', '\r', '\n', 0, 0, 0))
			length = 5;
		break;
	case ':':
		if (p[2] == '\r')
			length = 4;
		else if (p[3] == '\r')
			length = 5;
		break;
	}
	if (!length || at + length > run->n)
		return 1;
	own[REDIS_AT] = at + length;
	own[REDIS_COUNT]++;
	return at + length == run->n;
}

/* Answers that say that all is well, whole and in the window. Returns whether there are some. */
static __always_inline bool redis_plain_answers(struct parse *parse, const __u8 *p, __u32 n,
						struct unit *unit, struct text *text)
{
	struct redis_run run;
	__u64 *own = parse->own;

	if (own[REDIS_LEFT] || own[REDIS_FLAGS] || !parse->runs ||
	    (parse->waiting && (parse->asked & 0xff) != REDIS_PLAIN))
		return false;
	run.p = p;
	run.text = text;
	run.n = n;
	text->own[REDIS_AT] = 0;
	text->own[REDIS_COUNT] = 0;
	if (!redis_plain_answer(0, &run))
		bpf_loop(parse->runs - 1, redis_plain_answer, &run, 0);
	if (!text->own[REDIS_COUNT])
		return false;
	unit->length = text->own[REDIS_AT];
	unit->again = text->own[REDIS_COUNT] - 1;
	unit->events = ANSWER;
	return true;
}

static __always_inline int redis_response(struct parse *parse, const __u8 *p, __u32 n,
					  struct unit *unit, struct text *text)
{
	__u64 *own = parse->own;
	__u64 left = own[REDIS_LEFT], status = own[REDIS_STATUS], flags = own[REDIS_FLAGS];
	bool within = flags & REDIS_IN_LINE, top = !left && !within;
	__u32 kind = parse->waiting ? parse->asked & 0xff : REDIS_PLAIN;
	__u8 type = within ? 0 : p[0];
	int taken;

	if (redis_plain_answers(parse, p, n, unit, text))
		return TAKEN;
	if (top) {
		if (kind == REDIS_REPLICATES && (type == '\n' || type == '$')) {
			/* A sign of life, or the data; behind them come the other side's commands.
			 */
			unit->length = 1;
			unit->events = type == '\n' ? APART : ANSWER | ENDS;
			unit->reason = UNSEEN_OTHER;
			return TAKEN;
		}
		flags &= ~(__u64)(REDIS_APART | REDIS_CONFIRMS);
		status = 0;
		left = 1;
	}
	if (within || redis_simple(type)) {
		unit->length = line_length(p, n);
		if (!unit->length && n < WINDOW && !within)
			return MORE;
		left -= !within;
		flags &= ~(__u64)REDIS_IN_LINE;
		if (!unit->length) {
			unit->length = n;
			flags |= REDIS_IN_LINE;
		}
		if (type == '-' && !status)
			status = redis_error((const void *)(p + 1));
		if (top && type == '+' && p[1] >= '0' && p[1] <= '9' &&
		    (flags & REDIS_MONITORED || !parse->waiting))
			flags |= REDIS_APART;
		if (!left && flags & REDIS_CONFIRMS && type == ':' && p[1] == '0')
			flags &= ~(__u64)REDIS_SUBSCRIBED;
	} else {
		left--;
		taken = redis_value(p, n, unit, &left, &status);
		if (taken != TAKEN)
			return taken;
		if (top && left &&
		    (type == '>' || (type == '*' && (flags & REDIS_SUBSCRIBED || !parse->waiting ||
						     kind == REDIS_SUBSCRIBES)))) {
			taken = redis_unasked(parse, p, n, unit->length, &flags);
			if (taken < 0)
				return MORE;
			unit->length += taken;
			left -= taken > 0;
		}
	}
	own[REDIS_LEFT] = left;
	own[REDIS_STATUS] = status;
	own[REDIS_FLAGS] = flags;
	if (flags & REDIS_APART)
		unit->events = APART;
	else if (!left && !(flags & REDIS_IN_LINE))
		redis_answer(parse, type, p[1], unit, text);
	return TAKEN;
}

#endif
