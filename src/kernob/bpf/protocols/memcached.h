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

#include "memcached_request.h"
#include "memcached_response.h"

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

#endif
