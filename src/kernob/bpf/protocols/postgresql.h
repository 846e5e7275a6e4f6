/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * PostgreSQL 3 (www.postgresql.org/docs/current/protocol.html).
 *
 * A unit is a message: a type, four bytes of length, the rest; what a connection begins with has no
 * type. A simple query is one request, however many statements it holds, and answered by
 * ReadyForQuery. In the extended protocol an Execute is one; the Parse, Bind and Describe before it
 * are of it. So what fails there is its status; where no Execute follows, nothing is a request. A
 * Sync is a marker: ReadyForQuery answers it, and drops what the server has skipped after an error.
 *
 * Statements are known by their names since their Parse. One that was prepared before the agent, or
 * whose name is longer than 63 bytes, is operation 0. The status is the first error's SQLSTATE:
 * five digits in base 36, plus one.
 */
#ifndef KERNOB_PROTOCOL_POSTGRESQL_H
#define KERNOB_PROTOCOL_POSTGRESQL_H

#include "postgresql_client.h"
#include "postgresql_server.h"

/* Whether the bytes end with a message that ends at `end`, or begin another one there. Not static:
 * verified once. */
__noinline bool postgresql_goes_on(const struct window *window, __u32 n, __u32 end, bool client)
{
	__u8 type, high;

	if (!window || end >= n)
		return true;
	end = bounded(end, WINDOW - 1);
	type = window->bytes[end];
	high = end + 1 < n ? window->bytes[end + 1] : 0;
	return !high && (client ? postgresql_is_client(type) : postgresql_is_server(type));
}

/* Whether a connection begins so. */
static __always_inline bool postgresql_is_start(const __u8 *p, __u32 n)
{
	__u32 code;

	if (n < 8)
		return (n < 2 || !p[1]) && (n < 4 || (be32_at(p) >= 8 && be32_at(p) <= 1024));
	code = be32_at(p + 4);
	if (code >= POSTGRESQL_CANCEL && code <= POSTGRESQL_GSS)
		return !p[1] && !p[2];
	/* A parameter's name follows. */
	return code >> 16 == 3 && !p[1] && p[2] < 0x28 && (n < 9 || (p[8] >= 'a' && p[8] <= 'z'));
}

/* Of a message whose `end` is known, and its first byte, if that is there. */
static __always_inline bool postgresql_is_request(const __u8 *p, __u32 end, __u8 first)
{
	switch (p[0]) {
	case 'Q':
	case 'P':
		return end >= 6 && (!first || first >= '\t');
	case 'B':
		return end >= 13;
	case 'E':
		return end >= 10 && end <= 10 + POSTGRESQL_NAME;
	case 'C':
	case 'D':
		return end >= 7 && (first == 'S' || first == 'P');
	case 'S':
		return end == 5;
	}
	return false;
}

static __always_inline bool postgresql_is_response(const __u8 *p, __u32 end, __u8 first)
{
	switch (p[0]) {
	case 'R':
		return end >= 9 && end < 4096 && !first;
	case '1':
	case '2':
	case '3':
	case 'n':
	case 's':
	case 'I':
		return end == 5;
	case 'Z':
		return end == 6 && (first == 'I' || first == 'T' || first == 'E');
	case 'C':
		return end > 7 && end < 128 && first >= 'A' && first <= 'Z';
	case 'E':
		return end > 16 && first == 'S';
	case 'T':
	case 't':
	case 'D':
		return end >= 7 && first < 7;
	}
	return false;
}

/* A stream that begins with a type is older than the agent, or has lost its place. Not static:
 * verified once. */
__noinline bool postgresql_begins(const struct window *window, __u32 n, bool client)
{
	const __u8 *p;
	__u32 end;

	if (!window)
		return false;
	p = window->bytes;
	if (client && !p[0])
		return postgresql_is_start(p, n);
	/* Of a type and a length alone, nothing more is known. */
	if (n < 5 || p[1] || (n < 6 && be32_at(p + 1) != 4))
		return !client && n == 1 && p[0] == 'N';
	end = 1 + be32_at(p + 1);
	if (!(client ? postgresql_is_request(p, end, p[5]) : postgresql_is_response(p, end, p[5])))
		return false;
	return postgresql_goes_on(window, n, end, client);
}

static __always_inline bool postgresql_asks(const __u8 *p, __u32 n)
{
	return postgresql_begins((const void *)p, n, true);
}

static __always_inline bool postgresql_answers(const __u8 *p, __u32 n)
{
	return postgresql_begins((const void *)p, n, false);
}

#endif
