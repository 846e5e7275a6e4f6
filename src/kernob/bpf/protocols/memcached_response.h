/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Memcached: a server's direction. */
#ifndef KERNOB_PROTOCOL_MEMCACHED_RESPONSE_H
#define KERNOB_PROTOCOL_MEMCACHED_RESPONSE_H

#include "memcached_shared.h"

/* What a line of a server's says. */
enum memcached_answer {
	MEMCACHED_NOTHING,
	MEMCACHED_DONE, /* the answer is whole; from bit 8 on its status */
	MEMCACHED_PART,
	MEMCACHED_VALUE, /* data follows: its length is the third field */
	MEMCACHED_META_VALUE, /* ... the first, and it is all */
	MEMCACHED_END, /* of values, or of other parts */
	MEMCACHED_META_END, /* nothing was found */
	MEMCACHED_NOOP_ANSWER,
};

#define MEMCACHED_SAYS(status) (MEMCACHED_DONE | (status) << 8)

__noinline int memcached_answer(__u64 word, __u32 length)
{
	__u8 first = word;

	switch (word) {
	case CHARACTERS('V', 'A', 'L', 'U', 'E', 0, 0, 0):
		return MEMCACHED_VALUE;
	case CHARACTERS('E', 'N', 'D', 0, 0, 0, 0, 0):
		return MEMCACHED_END;
	case CHARACTERS('V', 'A', 0, 0, 0, 0, 0, 0):
		return MEMCACHED_META_VALUE;
	case CHARACTERS('E', 'N', 0, 0, 0, 0, 0, 0):
		return MEMCACHED_META_END;
	case CHARACTERS('M', 'N', 0, 0, 0, 0, 0, 0):
		return MEMCACHED_NOOP_ANSWER;
	case CHARACTERS('N', 'O', 'T', '_', 'F', 'O', 'U', 'N'):
	case CHARACTERS('N', 'F', 0, 0, 0, 0, 0, 0):
		return MEMCACHED_SAYS(MEMCACHED_NOT_FOUND);
	case CHARACTERS('E', 'X', 'I', 'S', 'T', 'S', 0, 0):
	case CHARACTERS('E', 'X', 0, 0, 0, 0, 0, 0):
		return MEMCACHED_SAYS(MEMCACHED_EXISTS);
	case CHARACTERS('N', 'O', 'T', '_', 'S', 'T', 'O', 'R'):
	case CHARACTERS('N', 'S', 0, 0, 0, 0, 0, 0):
		return MEMCACHED_SAYS(MEMCACHED_NOT_STORED);
	case CHARACTERS('E', 'R', 'R', 'O', 'R', 0, 0, 0):
		return MEMCACHED_SAYS(MEMCACHED_ERROR);
	case CHARACTERS('C', 'L', 'I', 'E', 'N', 'T', '_', 'E'):
		return MEMCACHED_SAYS(MEMCACHED_CLIENT_ERROR);
	case CHARACTERS('S', 'E', 'R', 'V', 'E', 'R', '_', 'E'):
		return MEMCACHED_SAYS(MEMCACHED_SERVER_ERROR);
	case CHARACTERS('B', 'U', 'S', 'Y', 0, 0, 0, 0):
		return MEMCACHED_SAYS(MEMCACHED_BUSY);
	case CHARACTERS('S', 'T', 'A', 'T', 0, 0, 0, 0):
	case CHARACTERS('I', 'T', 'E', 'M', 0, 0, 0, 0): /* stats cachedump */
	case CHARACTERS('P', 'R', 'E', 'F', 'I', 'X', 0, 0): /* stats detail dump */
	case CHARACTERS('m', 'g', 0, 0, 0, 0, 0, 0): /* lru_crawler mgdump */
		return MEMCACHED_PART;
	}
	if (first_bytes(word, 4) == CHARACTERS('k', 'e', 'y', '=', 0, 0, 0, 0))
		return MEMCACHED_PART; /* lru_crawler metadump */
	/* STORED, DELETED, TOUCHED, OK, RESET, VERSION, HD, ME, numbers. */
	if ((first >= 'A' && first <= 'Z') || (first >= '0' && first <= '9'))
		return length ? MEMCACHED_DONE : MEMCACHED_NOTHING;
	return MEMCACHED_NOTHING;
}

static __always_inline int memcached_response_packet(__u64 *own, const __u8 *p, __u32 n,
						     struct unit *unit)
{
	__u32 status, body;

	if (n < MEMCACHED_HEADER)
		return MORE;
	body = be32_at(p + 8);
	if (p[5] || body < be16_at(p + 2) + p[4] || body > MEMCACHED_MOST)
		return ALIEN;
	unit->length = MEMCACHED_HEADER + (__u64)body;
	status = be16_at(p + 6);
	if (!own[MEMCACHED_STATUS])
		own[MEMCACHED_STATUS] = status;
	/* More is to come of statistics until there is one without a name. */
	if (memcached_quiet(p[1]) || (p[1] == MEMCACHED_STAT && body && !status))
		return TAKEN;
	unit->events = ANSWER;
	unit->status = own[MEMCACHED_STATUS];
	own[MEMCACHED_STATUS] = 0;
	return TAKEN;
}

static __always_inline int memcached_response(struct parse *parse, const __u8 *p, __u32 n,
					      struct unit *unit, struct text *text)
{
	__u64 *own = parse->own, flags = own[MEMCACHED_FLAGS], status = own[MEMCACHED_STATUS];
	__u32 kind = parse->waiting ? parse->asked : MEMCACHED_UNKNOWN, length, word;
	__s64 data = 0;
	int answer;

	if (p[0] == MEMCACHED_RESPONSE && !(flags & MEMCACHED_IN_LINE))
		return memcached_response_packet(own, p, n, unit);
	length = line_length(p, n);
	if (!length && n < WINDOW && !(flags & MEMCACHED_IN_LINE))
		return MORE;
	unit->length = length ? length : n;
	if (!(flags & MEMCACHED_IN_LINE)) {
		word = bounded(first_word((const void *)p), 63);
		answer = memcached_answer(first_bytes(word_at(p), word), word);
		flags |= MEMCACHED_ANSWERS;
		switch (answer & 0xff) {
		case MEMCACHED_NOTHING:
			return ALIEN;
		case MEMCACHED_PART:
			flags &= ~(__u64)MEMCACHED_ANSWERS;
			break;
		case MEMCACHED_VALUE:
			flags &= ~(__u64)MEMCACHED_ANSWERS;
			flags |= MEMCACHED_FOUND;
			data = memcached_field(p, unit->length, 3) + 2;
			break;
		case MEMCACHED_META_VALUE:
			data = memcached_field(p, unit->length, 1) + 2;
			break;
		case MEMCACHED_END:
			if (kind == MEMCACHED_RETRIEVES && !(flags & MEMCACHED_FOUND))
				answer = MEMCACHED_SAYS(MEMCACHED_NOT_FOUND);
			flags &= ~(__u64)MEMCACHED_FOUND;
			break;
		case MEMCACHED_META_END:
			if (kind == MEMCACHED_META)
				answer = MEMCACHED_SAYS(MEMCACHED_NOT_FOUND);
			break;
		}
		if (data == 1 || (data && !length))
			return ALIEN;
		if (!status)
			status = answer >> 8;
		/* Of a quiet request before it. */
		if (kind == MEMCACHED_META_NOOP && answer != MEMCACHED_NOOP_ANSWER)
			flags &= ~(__u64)MEMCACHED_ANSWERS;
		unit->length += data;
	}
	flags &= ~(__u64)MEMCACHED_IN_LINE;
	if (!length) {
		flags |= MEMCACHED_IN_LINE;
	} else if (flags & MEMCACHED_ANSWERS) {
		unit->events = ANSWER;
		unit->status = status;
		status = 0;
		if (kind == MEMCACHED_WATCHES && !unit->status) { /* a log comes, without end */
			unit->events |= ENDS;
			unit->reason = UNSEEN_OTHER;
		}
	}
	own[MEMCACHED_FLAGS] = flags;
	own[MEMCACHED_STATUS] = status;
	return TAKEN;
}

#endif
