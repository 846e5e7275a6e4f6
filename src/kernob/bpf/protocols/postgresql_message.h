/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* PostgreSQL: what both directions know. */
#ifndef KERNOB_PROTOCOL_POSTGRESQL_MESSAGE_H
#define KERNOB_PROTOCOL_POSTGRESQL_MESSAGE_H

#include "../include/scan.h"
#include "../include/sql.h"

#define POSTGRESQL_LONGEST 0x3fffffff /* bytes of a message: MaxAllocSize */

/* `local` of a request: what ends its answer */
enum {
	POSTGRESQL_SYNC, /* a MARKER: ReadyForQuery */
	POSTGRESQL_EXECUTE, /* CommandComplete, and the like */
	POSTGRESQL_SIMPLE, /* ReadyForQuery, behind any number of results */
};

/* The words of parse.shared */
enum {
	POSTGRESQL_STATE, /* its flags */
	POSTGRESQL_IGNORED, /* Syncs sent into a COPY, which the server does not answer */
};

/* shared[POSTGRESQL_STATE] */
enum {
	POSTGRESQL_ENCRYPTING = 1, /* the client has asked for it: the answer is one byte */
	POSTGRESQL_BACKSLASH = 2, /* standard_conforming_strings is off */
};

/* A set of capital or of small letters, by bit. */
#define POSTGRESQL_LETTER(letter) (1U << ((letter) & 31))

static __always_inline bool postgresql_is_client(__u8 type)
{
	const __u32 capitals = POSTGRESQL_LETTER('B') | POSTGRESQL_LETTER('C') |
			       POSTGRESQL_LETTER('D') | POSTGRESQL_LETTER('E') |
			       POSTGRESQL_LETTER('F') | POSTGRESQL_LETTER('H') |
			       POSTGRESQL_LETTER('P') | POSTGRESQL_LETTER('Q') |
			       POSTGRESQL_LETTER('S') | POSTGRESQL_LETTER('X');
	const __u32 small = POSTGRESQL_LETTER('c') | POSTGRESQL_LETTER('d') |
			    POSTGRESQL_LETTER('f') | POSTGRESQL_LETTER('p');

	if (type >> 5 == 2)
		return capitals >> (type & 31) & 1;
	return type >> 5 == 3 && (small >> (type & 31) & 1);
}

static __always_inline bool postgresql_is_server(__u8 type)
{
	const __u32 capitals =
		POSTGRESQL_LETTER('A') | POSTGRESQL_LETTER('C') | POSTGRESQL_LETTER('D') |
		POSTGRESQL_LETTER('E') | POSTGRESQL_LETTER('G') | POSTGRESQL_LETTER('H') |
		POSTGRESQL_LETTER('I') | POSTGRESQL_LETTER('K') | POSTGRESQL_LETTER('N') |
		POSTGRESQL_LETTER('R') | POSTGRESQL_LETTER('S') | POSTGRESQL_LETTER('T') |
		POSTGRESQL_LETTER('V') | POSTGRESQL_LETTER('W') | POSTGRESQL_LETTER('Z');
	const __u32 small = POSTGRESQL_LETTER('c') | POSTGRESQL_LETTER('d') |
			    POSTGRESQL_LETTER('n') | POSTGRESQL_LETTER('s') |
			    POSTGRESQL_LETTER('t') | POSTGRESQL_LETTER('v');

	if (type >> 5 == 2)
		return capitals >> (type & 31) & 1;
	if (type >> 5 == 3)
		return small >> (type & 31) & 1;
	return type >= '1' && type <= '3';
}

#endif
