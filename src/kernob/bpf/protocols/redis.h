/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Redis: RESP2, RESP3 and inline commands (redis.io/docs/latest/develop/reference/protocol-spec).
 *
 * A unit is an element. A command is an array of bulk strings, the first of which names it; an
 * answer is one value, and an array's elements are values, too. So both directions count the
 * elements that are still to come, whatever the depth they lie at.
 */
#ifndef KERNOB_PROTOCOL_REDIS_H
#define KERNOB_PROTOCOL_REDIS_H

#include "../include/scan.h"

enum { REDIS_SUBSCRIBES = 1, REDIS_REPLICATES = 2 };

/* The words of parse.own */
enum { REDIS_LEFT, REDIS_STATUS, REDIS_FLAGS };

/* own[REDIS_FLAGS] of a server's direction */
enum { REDIS_SUBSCRIBED = 1, REDIS_IN_PUSH = 2 };

struct redis_head {
	__u8 bytes[16];
};

#define REDIS_LENGTH(number) ((number) & 31)
#define REDIS_VALUE(number) (((number) >> 5) - 1)

/*
 * The number behind a type's byte: `*12` CR LF. Returns its value plus one, shifted by five, and
 * the length of it all; 0 if it goes on behind n; -1 if it is none. Not static: verified once.
 */
__noinline __s64 redis_number(const struct redis_head *head, __u32 n)
{
	__s64 number = 0;
	bool negative = false;
	__u8 byte;

	if (!head)
		return -1;
#pragma unroll
	for (int i = 1; i < 13; i++) {
		if (i + 2u > n)
			return 0;
		byte = head->bytes[i];
		if (byte == '\r') {
			if (i == 1 || head->bytes[i + 1] != '\n')
				return -1;
			if (negative)
				number = -1;
			return (number + 1) << 5 | (i + 2);
		}
		if (i == 1 && byte == '-') {
			negative = true;
			continue;
		}
		if (byte < '0' || byte > '9')
			return -1;
		number = number * 10 + (byte - '0');
	}
	return -1;
}

/* Keeps the first `length` bytes of a word. */
static __always_inline __u64 first_bytes(__u64 word, __u32 length)
{
	return length >= 8 ? word : word & ((1ULL << (length * 8)) - 1);
}

/* The name of a command of up to 16 bytes, in capitals. */
static __always_inline void redis_name(const __u8 *p, __u32 length, struct unit *unit,
				       struct text *text)
{
	const __u64 capitals = 0xdfdfdfdfdfdfdfdfULL;
	__u64 low, high = 0;

	low = first_bytes(word_at(p) & capitals, length);
	if (length > 8)
		high = first_bytes(word_at(p + 8) & capitals, length - 8);
	unit->operation = mix(mix(2, low), high);
	*(__u64 *)text->bytes = low;
	*(__u64 *)(text->bytes + 8) = high;
	text->length = length < 16 ? length : 16;
}

static __always_inline bool redis_asks(const __u8 *p, __u32 n)
{
	if (p[0] != '*')
		return false;
	if (n > 1 && (p[1] < '1' || p[1] > '9'))
		return false;
	if (n > 4 && p[2] == '\r')
		return p[3] == '\n' && p[4] == '$';
	return true;
}

static __always_inline bool redis_answers(const __u8 *p, __u32 n)
{
	switch (p[0]) {
	case '+':
	case '-':
		return n < 2 || (p[1] >= 'A' && p[1] <= 'Z');
	case ':':
	case '$':
	case '*':
	case '%':
	case '~':
	case '>':
		return n < 2 || p[1] == '-' || (p[1] >= '0' && p[1] <= '9');
	}
	return false;
}

static __always_inline int redis_request(struct parse *parse, const __u8 *p, __u32 n,
					 struct unit *unit, struct text *text)
{
	__s64 number = redis_number((const void *)p, n);
	__u32 head;

	if (number <= 0)
		return number ? ALIEN : MORE;
	if (parse->own[REDIS_LEFT]) {
		if (p[0] != '$' || REDIS_VALUE(number) < 0)
			return ALIEN;
		parse->own[REDIS_LEFT]--;
		unit->length = REDIS_LENGTH(number) + REDIS_VALUE(number) + 2;
		return TAKEN;
	}
	if (p[0] != '*' || REDIS_VALUE(number) <= 0 || REDIS_VALUE(number) > 1024 * 1024)
		return ALIEN;
	parse->own[REDIS_LEFT] = REDIS_VALUE(number) - 1;
	head = bounded(REDIS_LENGTH(number), 31);
	if (head >= n)
		goto more;
	p += head;
	number = redis_number((const void *)p, n - head);
	if (!number)
		goto more;
	if (p[0] != '$' || number < 0 || REDIS_VALUE(number) <= 0 || REDIS_VALUE(number) > 64)
		return ALIEN;
	unit->length = head + REDIS_LENGTH(number) + REDIS_VALUE(number) + 2;
	if (unit->length > n)
		goto more;
	redis_name(p + bounded(REDIS_LENGTH(number), 31), REDIS_VALUE(number), unit, text);
	unit->events = REQUEST;
	return TAKEN;
more:
	parse->own[REDIS_LEFT] = 0;
	return MORE;
}

/* The first six letters of an error's kind, five bits each: ERR, WRONGT(YPE), MOVED. */
static __always_inline __u32 redis_error(const __u8 *p)
{
	__u32 status = 0;

#pragma unroll
	for (int i = 0; i < 6; i++) {
		if (p[i] < 'A' || p[i] > 'Z')
			break;
		status |= (p[i] - 'A' + 1) << (5 * i);
	}
	return status ? status : 31;
}

static __always_inline int redis_response(struct parse *parse, const __u8 *p, __u32 n,
					  struct unit *unit, struct text *text)
{
	__u64 *own = parse->own;
	__u64 left = own[REDIS_LEFT], status = own[REDIS_STATUS];
	__s64 number, value;

	if (!left) {
		left = 1;
		status = 0;
	}
	switch (p[0]) {
	case '+': /* string */
	case '-': /* error */
	case '_': /* null */
	case '#': /* boolean */
	case ',': /* double */
	case '(': /* big number */
		unit->length = line_length(p, n);
		if (!unit->length)
			return MORE;
		if (p[0] == '-' && !status)
			status = redis_error(p + 1);
		left--;
		break;
	default:
		number = redis_number((const void *)p, n);
		if (number <= 0)
			return number ? ALIEN : MORE;
		value = REDIS_VALUE(number);
		unit->length = REDIS_LENGTH(number);
		left--;
		switch (p[0]) {
		case '$': /* bulk string */
		case '!': /* bulk error */
		case '=': /* verbatim string */
			unit->length += value < 0 ? 0 : value + 2;
			break;
		case '|': /* attributes come before what they are of */
			left++;
			/* fall through */
		case '%': /* map */
			left += 2 * value;
			break;
		case '*': /* array */
		case '~': /* set */
		case '>': /* push */
			left += value < 0 ? 0 : value;
			break;
		case ':': /* integer */
			break;
		default:
			return ALIEN;
		}
	}
	own[REDIS_LEFT] = left;
	own[REDIS_STATUS] = status;
	if (!left) {
		unit->events = ANSWER;
		unit->status = status;
	}
	return TAKEN;
}

#endif
