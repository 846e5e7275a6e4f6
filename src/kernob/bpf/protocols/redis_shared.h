/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Redis: what both directions know. */
#ifndef KERNOB_PROTOCOL_REDIS_SHARED_H
#define KERNOB_PROTOCOL_REDIS_SHARED_H

#include "../include/scan.h"

/* The words of parse.own */
enum { REDIS_LEFT, REDIS_STATUS, REDIS_FLAGS, REDIS_CONFIRMATIONS };
/* Of a client's direction: the beginning of the command before, and its fingerprint. */
enum { REDIS_KEPT = REDIS_STATUS, REDIS_KEPT_OPERATION = REDIS_CONFIRMATIONS };

enum redis_flag {
	REDIS_IN_LINE = 1 << 0, /* within a line longer than the window */
	/* of a client's direction */
	REDIS_SURE = 1 << 1, /* no other protocol's lines come here */
	REDIS_MUTE = 1 << 2, /* CLIENT REPLY OFF */
	REDIS_MUTE_NEXT = 1 << 3, /* CLIENT REPLY SKIP */
	/* of a server's direction */
	REDIS_APART = 1 << 4, /* the value in progress is */
	REDIS_CONFIRMS = 1 << 5, /* the value in progress ends with the number of subscriptions */
	REDIS_SUBSCRIBED = 1 << 6, /* by RESP2: messages look like answers */
	REDIS_MONITORED = 1 << 7,
};

/* What an answer's parser must know of a request: in `local`, with an argument from bit 8 on. */
enum redis_kind {
	REDIS_PLAIN,
	REDIS_SUBSCRIBES, /* argument: how many channels, 0 if it is not known */
	REDIS_MONITORS,
	REDIS_REPLICATES,
	REDIS_SELECTS, /* argument: the database */
	REDIS_RESETS,
};

#define REDIS_MOST 0x7fffffff /* elements of an array */
#define REDIS_NAME 32 /* bytes of a command's name; what is longer is cut */

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

/* A string of less than 1,000 bytes: the length of its head and itself; 0 if it is none. */
static __always_inline __u32 redis_short_string(const __u8 *p)
{
	__u32 length = p[1] - '0', digit;

	if (p[0] != '$' || length > 9)
		return 0;
	if (p[2] == '\r')
		return 4 + length + 2;
	digit = p[2] - '0';
	if (digit > 9)
		return 0;
	length = length * 10 + digit;
	if (p[3] == '\r')
		return 5 + length + 2;
	digit = p[3] - '0';
	if (digit > 9 || p[4] != '\r')
		return 0;
	return 6 + length * 10 + digit + 2;
}

/*
 * Many equal commands, or plain answers, in a row, as pipelines have them: each costs a few dozen
 * instructions, where a unit of its own costs hundreds. Where the loop stands is in text->own.
 */
struct redis_run {
	const __u8 *p;
	struct text *text;
	__u64 first; /* the first sixteen bytes of each command, as far as `mask` says */
	__u64 second;
	__u64 mask;
	__u32 n;
	__u32 head; /* bytes up to the first argument */
	__u32 arguments;
};

enum { REDIS_AT, REDIS_COUNT };

#endif
