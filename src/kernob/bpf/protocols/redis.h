/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Redis: RESP2, RESP3 and inline commands (redis.io/docs/latest/develop/reference/protocol-spec).
 *
 * A unit is an element. A command is an array of bulk strings, the first of which names it, or a
 * line; an answer is one value, and an array's elements are values, too. So both directions count
 * the elements that are still to come, whatever the depth they lie at.
 *
 * Values that nobody asked for are apart: pushes of RESP3, messages of channels, a monitor's lines.
 * SUBSCRIBE is answered by the first of its confirmations, one for each channel; the others are
 * apart. A database is known from the answer to SELECT on.
 */
#ifndef KERNOB_PROTOCOL_REDIS_H
#define KERNOB_PROTOCOL_REDIS_H

#include "redis_request.h"
#include "redis_response.h"

static __always_inline bool redis_asks(const __u8 *p, __u32 n)
{
	__s64 number;
	__u32 head;

	if (p[0] != '*')
		return redis_line(p, n);
	number = redis_number((const void *)p, n);
	if (number <= 0 || REDIS_VALUE(number) <= 0)
		return !number;
	head = bounded(REDIS_LENGTH(number), 31);
	if (head >= n)
		return true;
	p += head;
	n -= head;
	number = redis_number((const void *)p, n);
	if (p[0] != '$' || number <= 0 || REDIS_VALUE(number) <= 0)
		return p[0] == '$' && !number;
	head = bounded(REDIS_LENGTH(number), 31);
	return head >= n || ((p[head] | 0x20) >= 'a' && (p[head] | 0x20) <= 'z');
}

static __always_inline bool redis_answers(const __u8 *p, __u32 n)
{
	switch (p[0]) {
	case '+':
#pragma unroll
		for (int i = 1; i < 8; i++) {
			if ((__u32)i >= n || (p[i] == '\r' && i > 1))
				return true;
			if (p[i] < 'A' || p[i] > 'Z')
				return false;
		}
		return false;
	case '-':
		return n < 3 || (p[1] >= 'A' && p[1] <= 'Z' && p[2] >= 'A' && p[2] <= 'Z');
	case ':':
		return n < 2 || p[1] == '-' || (p[1] >= '0' && p[1] <= '9');
	case '_':
		return n < 2 || p[1] == '\r';
	case '#':
		return n < 2 || p[1] == 't' || p[1] == 'f';
	case '$':
	case '*':
	case '%':
	case '~':
	case '>':
		return redis_number((const void *)p, n) >= 0;
	}
	return false;
}

#endif
