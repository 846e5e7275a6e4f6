/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Memcached: a client's direction. */
#ifndef KERNOB_PROTOCOL_MEMCACHED_REQUEST_H
#define KERNOB_PROTOCOL_MEMCACHED_REQUEST_H

#include "memcached_shared.h"

/* Bytes before the first zero, 8 if there is none. */
static __always_inline __u32 memcached_length(__u64 name)
{
	__u64 marks = bytes_equal(name, 0);

	return marks ? lowest_marked(marks) : 8;
}

/* What kind of command a line's first word is, of which the first eight bytes are `word`. Not
 * static: verified once. */
__noinline int memcached_kind(__u64 word, __u32 length)
{
	if (memcached_length(word) != (length < 8 ? length : 8))
		return MEMCACHED_UNKNOWN; /* with zeros in it */
	switch (word) {
	case CHARACTERS('g', 'e', 't', 0, 0, 0, 0, 0):
	case CHARACTERS('g', 'e', 't', 's', 0, 0, 0, 0):
	case CHARACTERS('g', 'a', 't', 0, 0, 0, 0, 0):
	case CHARACTERS('g', 'a', 't', 's', 0, 0, 0, 0):
		return MEMCACHED_RETRIEVES;
	case CHARACTERS('s', 'e', 't', 0, 0, 0, 0, 0):
	case CHARACTERS('a', 'd', 'd', 0, 0, 0, 0, 0):
	case CHARACTERS('c', 'a', 's', 0, 0, 0, 0, 0):
	case CHARACTERS('r', 'e', 'p', 'l', 'a', 'c', 'e', 0):
	case CHARACTERS('a', 'p', 'p', 'e', 'n', 'd', 0, 0):
	case CHARACTERS('p', 'r', 'e', 'p', 'e', 'n', 'd', 0):
		return MEMCACHED_STORES;
	case CHARACTERS('m', 'g', 0, 0, 0, 0, 0, 0):
	case CHARACTERS('m', 'd', 0, 0, 0, 0, 0, 0):
	case CHARACTERS('m', 'a', 0, 0, 0, 0, 0, 0):
		return MEMCACHED_META;
	case CHARACTERS('m', 's', 0, 0, 0, 0, 0, 0):
		return MEMCACHED_META_STORES;
	case CHARACTERS('m', 'n', 0, 0, 0, 0, 0, 0):
		return MEMCACHED_META_NOOP;
	case CHARACTERS('m', 'e', 0, 0, 0, 0, 0, 0):
	case CHARACTERS('i', 'n', 'c', 'r', 0, 0, 0, 0):
	case CHARACTERS('d', 'e', 'c', 'r', 0, 0, 0, 0):
	case CHARACTERS('d', 'e', 'l', 'e', 't', 'e', 0, 0):
	case CHARACTERS('t', 'o', 'u', 'c', 'h', 0, 0, 0):
	case CHARACTERS('s', 't', 'a', 't', 's', 0, 0, 0):
	case CHARACTERS('v', 'e', 'r', 's', 'i', 'o', 'n', 0):
	case CHARACTERS('s', 'l', 'a', 'b', 's', 0, 0, 0):
	case CHARACTERS('l', 'r', 'u', 0, 0, 0, 0, 0):
		return MEMCACHED_PLAIN;
	case CHARACTERS('f', 'l', 'u', 's', 'h', '_', 'a', 'l'): /* flush_all */
	case CHARACTERS('v', 'e', 'r', 'b', 'o', 's', 'i', 't'): /* verbosity */
		return length == 9 ? MEMCACHED_PLAIN : MEMCACHED_UNKNOWN;
	case CHARACTERS('l', 'r', 'u', '_', 'c', 'r', 'a', 'w'): /* lru_crawler */
		return length == 11 ? MEMCACHED_PLAIN : MEMCACHED_UNKNOWN;
	case CHARACTERS('c', 'a', 'c', 'h', 'e', '_', 'm', 'e'): /* cache_memlimit */
		return length == 14 ? MEMCACHED_PLAIN : MEMCACHED_UNKNOWN;
	case CHARACTERS('w', 'a', 't', 'c', 'h', 0, 0, 0):
		return MEMCACHED_WATCHES;
	case CHARACTERS('q', 'u', 'i', 't', 0, 0, 0, 0):
		return MEMCACHED_QUITS;
	}
	return MEMCACHED_UNKNOWN;
}

/* Whether a client's connection begins with this kind: others' lines look like the rest. */
static __always_inline bool memcached_begins(int kind)
{
	return kind != MEMCACHED_UNKNOWN && kind != MEMCACHED_QUITS;
}

/* Whether one of a meta command's flags is q. */
__noinline int memcached_hushed(const struct window *window, __u32 n)
{
	__u32 at = 3;

	if (!window)
		return 0;
	for (int i = 0; i < 24; i++) {
		at = memcached_next(window, at, n);
		if (!at || at >= WINDOW)
			return 0;
		if (window->bytes[bounded(at, WINDOW - 1)] == 'q')
			return 1;
	}
	return 0;
}

/* Whether a line of `length` bytes ends with `noreply`. */
static __always_inline bool memcached_noreply(const __u8 *p, __u32 length)
{
	const __u64 noreply = CHARACTERS(' ', 'n', 'o', 'r', 'e', 'p', 'l', 'y');
	__u32 end = bounded(length - 1, WINDOW - 1); /* of the LF */

	if (end < 10)
		return false;
	if (p[end - 1] == '\r')
		end--;
	return word_at(p + bounded(end - 8, WINDOW - 1)) == noreply;
}

static __always_inline void memcached_name(__u64 low, __u64 high, __u32 length, struct unit *unit,
					   struct text *text)
{
	*(unaligned_u64 *)text->bytes = low;
	*(unaligned_u64 *)(text->bytes + 8) = high;
	text->length = length;
	unit->operation = mix(mix(MEMCACHED, low), high);
}

static __always_inline int memcached_packet(__u64 *own, const __u8 *p, __u32 n, struct unit *unit,
					    struct text *text)
{
	const __u8 *name;
	__u32 opcode;
	__u64 low, high;

	if (n < MEMCACHED_HEADER)
		return MORE;
	opcode = p[1];
	unit->length = MEMCACHED_HEADER + (__u64)be32_at(p + 8);
	if (p[5] || be32_at(p + 8) < be16_at(p + 2) + p[4] || be32_at(p + 8) > MEMCACHED_MOST)
		return ALIEN;
	own[MEMCACHED_FLAGS] = MEMCACHED_SURE;
	name = (const void *)
		memcached_opcodes[bounded(opcode < MEMCACHED_OPCODES ? opcode : 0x1f, 63)];
	low = word_at(name);
	high = word_at(name + 8);
	memcached_name(low, high, high ? 8 + memcached_length(high) : memcached_length(low), unit,
		       text);
	unit->events = REQUEST | (memcached_quiet(opcode) ? ONE_WAY : 0);
	return TAKEN;
}

/* A line of which the LF is the last byte, or more than a window of it. */
static __always_inline int memcached_line(__u64 *own, const __u8 *p, __u32 n, __u32 length,
					  struct unit *unit, struct text *text)
{
	__u32 word = bounded(first_word((const void *)p), 63);
	__u64 low = first_bytes(word_at(p), word), high = 0;
	int kind = memcached_kind(low, word);
	__s64 data = -1;

	if (word > 8)
		high = first_bytes(word_at(p + 8), word - 8);
	if (!(own[MEMCACHED_FLAGS] & MEMCACHED_SURE) && !memcached_begins(kind))
		return ALIEN;
	unit->length = length;
	unit->events = REQUEST;
	unit->local = kind;
	switch (kind) {
	case MEMCACHED_UNKNOWN: /* may be data that was longer than announced: nothing of it */
		word = 1;
		low = '?';
		high = 0;
		break;
	case MEMCACHED_STORES:
		data = memcached_field(p, length, 4);
		/* fall through */
	case MEMCACHED_PLAIN:
		if (memcached_noreply(p, length))
			unit->events |= ONE_WAY;
		break;
	case MEMCACHED_META_STORES:
		data = memcached_field(p, length, 2);
		/* fall through */
	case MEMCACHED_META:
		if (memcached_hushed((const void *)p, length))
			unit->events |= ONE_WAY;
		break;
	case MEMCACHED_QUITS:
		unit->events |= ONE_WAY;
		break;
	}
	if (data >= 0)
		unit->length += data + 2;
	else if ((kind == MEMCACHED_STORES || kind == MEMCACHED_META_STORES) &&
		 !(own[MEMCACHED_FLAGS] & MEMCACHED_SURE))
		return ALIEN;
	memcached_name(low, high, word, unit, text);
	own[MEMCACHED_FLAGS] |= MEMCACHED_SURE;
	return TAKEN;
}

static __always_inline int memcached_request(struct parse *parse, const __u8 *p, __u32 n,
					     struct unit *unit, struct text *text)
{
	__u64 *own = parse->own;
	__u32 length;

	if (p[0] == MEMCACHED_REQUEST && !(own[MEMCACHED_FLAGS] & MEMCACHED_IN_LINE))
		return memcached_packet(own, p, n, unit, text);
	length = line_length(p, n);
	if (own[MEMCACHED_FLAGS] & MEMCACHED_IN_LINE) {
		unit->length = length ? length : n;
		if (length)
			own[MEMCACHED_FLAGS] &= ~(__u64)MEMCACHED_IN_LINE;
		return TAKEN;
	}
	if (!length && n < WINDOW)
		return MORE;
	if (memcached_line(own, p, n, length ? length : n, unit, text) != TAKEN)
		return ALIEN;
	if (!length)
		own[MEMCACHED_FLAGS] |= MEMCACHED_IN_LINE;
	return TAKEN;
}

#endif
