/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Memcached: text and meta commands (doc/protocol.txt of 1.6), and the binary protocol
 * (docs.memcached.org/protocols/binary).
 *
 * A unit is a line with the data that it announces, or a packet. Requests that are only answered
 * if there is something to say (meta commands with the flag q, binary ones that end with Q) are one
 * way. What is said of them belongs to the answer of the request that ends such a batch (mn, noop),
 * and so does the first failure's status.
 */
#ifndef KERNOB_PROTOCOL_MEMCACHED_H
#define KERNOB_PROTOCOL_MEMCACHED_H

#include "../include/scan.h"

/* The words of parse.own */
enum { MEMCACHED_FLAGS, MEMCACHED_STATUS };

enum memcached_flag {
	MEMCACHED_IN_LINE = 1 << 0, /* within a line longer than the window */
	MEMCACHED_ANSWERS = 1 << 1, /* which is an answer */
	MEMCACHED_FOUND = 1 << 2, /* a value of the answer in progress */
	MEMCACHED_SURE = 1 << 3, /* of a client's direction: no other protocol's lines come here */
};

/* As in the binary protocol, whatever the answer's form. */
enum memcached_status {
	MEMCACHED_NOT_FOUND = 0x01,
	MEMCACHED_EXISTS = 0x02,
	MEMCACHED_CLIENT_ERROR = 0x04,
	MEMCACHED_NOT_STORED = 0x05,
	MEMCACHED_ERROR = 0x81, /* unknown command */
	MEMCACHED_SERVER_ERROR = 0x84,
	MEMCACHED_BUSY = 0x85,
};

/* How a command is read; the answer's parser knows it by `local`. */
enum memcached_kind {
	MEMCACHED_UNKNOWN,
	MEMCACHED_PLAIN,
	MEMCACHED_RETRIEVES,
	MEMCACHED_STORES,
	MEMCACHED_META,
	MEMCACHED_META_STORES,
	MEMCACHED_META_NOOP,
	MEMCACHED_WATCHES,
	MEMCACHED_QUITS,
};

#define MEMCACHED_HEADER 24
#define MEMCACHED_REQUEST 0x80
#define MEMCACHED_RESPONSE 0x81
#define MEMCACHED_STAT 0x10
#define MEMCACHED_MOST 0x7fffffff /* bytes of a value */

/* The binary protocol's commands; where text has the same one, by its name. */
#define MEMCACHED_OPCODES 0x26
static const char memcached_opcodes[64][16] = {
	"get",        "set",       "add",
	"replace",    "delete",    "incr",
	"decr",       "quit",      "flush_all",
	"getq",       "noop",      "version",
	"getk",       "getkq",     "append",
	"prepend",    "stats",     "setq",
	"addq",       "replaceq",  "deleteq",
	"incrq",      "decrq",     "quitq",
	"flush_allq", "appendq",   "prependq",
	"verbosity",  "touch",     "gat",
	"gatq",       "?",         "sasl_list_mechs",
	"sasl_auth",  "sasl_step", "gatk",
	"gatkq",      "?",
};
/* Which of them are quiet, by bit. */
#define MEMCACHED_QUIET                                                                            \
	(1ULL << 0x09 | 1ULL << 0x0d | 0x7fULL << 0x11 | 7ULL << 0x18 | 1ULL << 0x1e | 1ULL << 0x24)

static __always_inline bool memcached_quiet(__u32 opcode)
{
	return opcode < MEMCACHED_OPCODES && MEMCACHED_QUIET >> opcode & 1;
}

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

/* The place behind the next space from `at` on, 0 if there is none within n. */
__noinline __u32 memcached_next(const struct window *window, __u32 at, __u32 n)
{
	int found;

	if (!window)
		return 0;
	for (int i = 0; i < 5; i++, at += 64) { /* keys have 250 bytes */
		if (at >= n || at >= WINDOW)
			return 0;
		found = find_byte((const void *)(window->bytes + bounded(at, WINDOW - 1)), n - at,
				  ' ');
		if (found >= 0)
			return at + found + 1;
	}
	return 0;
}

/* The number at `at` of a line, -1 if there is none. */
__noinline __s64 memcached_number(const struct window *window, __u32 at)
{
	const __u8 *p;
	__s64 number = 0;

	if (!window || at >= WINDOW)
		return -1;
	p = window->bytes + bounded(at, WINDOW - 1);
	for (int i = 0; i < 11; i++) {
		if (p[i] < '0' || p[i] > '9')
			return i && number <= MEMCACHED_MOST && p[i] <= ' ' ? number : -1;
		number = number * 10 + (p[i] - '0');
	}
	return -1;
}

/* The number that comes after `spaces` spaces. */
static __always_inline __s64 memcached_field(const __u8 *p, __u32 n, __u32 spaces)
{
	__u32 at = 0;

	for (__u32 i = 0; i < spaces; i++) {
		at = memcached_next((const void *)p, at, n);
		if (!at)
			return -1;
	}
	return memcached_number((const void *)p, at);
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

/* What commands begin with: each is a first word, or the first bytes of a longer one. */
static const __u64 memcached_words[] = {
	CHARACTERS('g', 'e', 't', 's', 0, 0, 0, 0),
	CHARACTERS('s', 'e', 't', 0, 0, 0, 0, 0),
	CHARACTERS('a', 'd', 'd', 0, 0, 0, 0, 0),
	CHARACTERS('m', 'g', 0, 0, 0, 0, 0, 0),
	CHARACTERS('m', 's', 0, 0, 0, 0, 0, 0),
	CHARACTERS('m', 'd', 0, 0, 0, 0, 0, 0),
	CHARACTERS('m', 'a', 0, 0, 0, 0, 0, 0),
	CHARACTERS('m', 'n', 0, 0, 0, 0, 0, 0),
	CHARACTERS('m', 'e', 0, 0, 0, 0, 0, 0),
	CHARACTERS('g', 'a', 't', 's', 0, 0, 0, 0),
	CHARACTERS('c', 'a', 's', 0, 0, 0, 0, 0),
	CHARACTERS('i', 'n', 'c', 'r', 0, 0, 0, 0),
	CHARACTERS('d', 'e', 'c', 'r', 0, 0, 0, 0),
	CHARACTERS('t', 'o', 'u', 'c', 'h', 0, 0, 0),
	CHARACTERS('s', 't', 'a', 't', 's', 0, 0, 0),
	CHARACTERS('d', 'e', 'l', 'e', 't', 'e', 0, 0),
	CHARACTERS('a', 'p', 'p', 'e', 'n', 'd', 0, 0),
	CHARACTERS('p', 'r', 'e', 'p', 'e', 'n', 'd', 0),
	CHARACTERS('r', 'e', 'p', 'l', 'a', 'c', 'e', 0),
	CHARACTERS('v', 'e', 'r', 's', 'i', 'o', 'n', 0),
	CHARACTERS('f', 'l', 'u', 's', 'h', '_', 'a', 'l'),
};

/* Whether all that is there of a word may become a command. Not static: verified once. */
__noinline int memcached_may_be(__u64 word, __u32 n)
{
	/* Unrolled, all comparisons would come first: too many paths for 6.1's verifier. */
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < sizeof(memcached_words) / sizeof(*memcached_words); i++) {
		if (first_bytes(memcached_words[i], n) == word)
			return 1;
	}
	return 0;
}

static __always_inline bool memcached_asks(const __u8 *p, __u32 n)
{
	__u32 length;
	int kind;

	if (p[0] == MEMCACHED_REQUEST)
		return (n < 2 || p[1] < MEMCACHED_OPCODES) && (n < 6 || !p[5]) &&
		       (n < 12 || be32_at(p + 8) >= be16_at(p + 2) + p[4]);
	length = bounded(first_word((const void *)p), 63);
	if (length >= n)
		return memcached_may_be(first_bytes(word_at(p), n), n);
	kind = memcached_kind(first_bytes(word_at(p), length), length);
	if (!memcached_begins(kind))
		return false;
	/* beanstalkd's `delete 1` and `touch 1`. */
	return !(kind == MEMCACHED_PLAIN && n > length + 1 && p[length] == ' ' &&
		 (p[0] == 'd' || p[0] == 't') && p[length + 1] >= '0' && p[length + 1] <= '9');
}

static __always_inline bool memcached_answers(const __u8 *p, __u32 n)
{
	__u64 word = first_bytes(word_at(p), n < 8 ? n : 8);

	if (p[0] == MEMCACHED_RESPONSE)
		return (n < 2 || p[1] < MEMCACHED_OPCODES) && (n < 6 || !p[5]) &&
		       (n < 12 || be32_at(p + 8) >= be16_at(p + 2) + p[4]);
	return word == CHARACTERS('S', 'T', 'O', 'R', 'E', 'D', '\r', '\n') ||
	       first_bytes(word, 5) == CHARACTERS('E', 'N', 'D', '\r', '\n', 0, 0, 0) ||
	       first_bytes(word, 6) == CHARACTERS('V', 'A', 'L', 'U', 'E', ' ', 0, 0) ||
	       first_bytes(word, 4) == CHARACTERS('H', 'D', '\r', '\n', 0, 0, 0, 0) ||
	       first_bytes(word, 4) == CHARACTERS('E', 'N', '\r', '\n', 0, 0, 0, 0);
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
	}
	own[MEMCACHED_FLAGS] = flags;
	own[MEMCACHED_STATUS] = status;
	return TAKEN;
}

#endif
