/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Memcached: what both directions know. */
#ifndef KERNOB_PROTOCOL_MEMCACHED_SHARED_H
#define KERNOB_PROTOCOL_MEMCACHED_SHARED_H

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

#endif
