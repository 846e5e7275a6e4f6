/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Finding bytes, eight at a time: what a line ends with, mostly. */
#ifndef KERNOB_SCAN_H
#define KERNOB_SCAN_H

#include "unit.h"

struct bytes64 {
	__u8 bytes[64];
};

struct bytes32 {
	__u8 bytes[32];
};

/* All that may be read of a window. */
struct window {
	__u8 bytes[WINDOW + 64];
};

/* The highest bit of each byte of `word` that is `byte`; of the lowest such byte it is exact. */
static __always_inline __u64 bytes_equal(__u64 word, __u8 byte)
{
	const __u64 ones = 0x0101010101010101ULL;
	__u64 zero = word ^ (ones * byte);

	return (zero - ones) & ~zero & (ones << 7);
}

/* The highest bit of each byte of `word` that is no decimal digit, exactly. */
static __always_inline __u64 no_digits(__u64 word)
{
	const __u64 ones = 0x0101010101010101ULL;

	word ^= ones * '0';
	return (((word & (ones * 0x7f)) + ones * (0x80 - 10)) | word) & (ones << 7);
}

/* The highest bits of eight bytes as eight bits. */
static __always_inline __u64 gathered(__u64 marks)
{
	return ((marks >> 7) * 0x0102040810204080ULL) >> 56;
}

/* By the upper six bits of 1 << i times this constant, in which each run of six bits is unlike all
 * others (a de Bruijn sequence): i. */
#define SEQUENCE 0x03f79d71b4cb0a89ULL
static const __u8 bit_numbers[64] = {
	0,  1,  48, 2,  57, 49, 28, 3,  61, 58, 50, 42, 38, 29, 17, 4,  62, 55, 59, 36, 53, 51,
	43, 22, 45, 39, 33, 30, 24, 18, 12, 5,  63, 47, 56, 27, 60, 41, 37, 16, 54, 35, 52, 21,
	44, 32, 23, 11, 46, 26, 40, 15, 34, 20, 31, 10, 25, 14, 19, 9,  13, 8,  7,  6,
};

/* The number of the lowest bit of `bits`, of which there is one. */
static __always_inline __u32 lowest_bit(__u64 bits)
{
	return bit_numbers[((bits & -bits) * SEQUENCE) >> 58];
}

/* The number of the lowest byte that `bytes_equal` has marked. */
static __always_inline __u32 lowest_marked(__u64 marks)
{
	__u32 number = 0;

	if (!(marks & 0xffffffff)) {
		number = 4;
		marks >>= 32;
	}
	if (!(marks & 0xffff)) {
		number += 2;
		marks >>= 16;
	}
	return number + !(marks & 0xff);
}

/* Eight characters as word_at sees them. */
#define CHARACTERS(a, b, c, d, e, f, g, h)                                                         \
	((__u64)(a) | (__u64)(b) << 8 | (__u64)(c) << 16 | (__u64)(d) << 24 | (__u64)(e) << 32 |   \
	 (__u64)(f) << 40 | (__u64)(g) << 48 | (__u64)(h) << 56)

/* Keeps the first `length` bytes of a word. */
static __always_inline __u64 first_bytes(__u64 word, __u32 length)
{
	return length >= 8 ? word : word & ((1ULL << (length * 8)) - 1);
}

/* Letters as capitals, all other bytes as they are. */
static __always_inline __u64 capitals(__u64 word)
{
	const __u64 ones = 0x0101010101010101ULL;
	__u64 low = word & (ones * 0x7f);
	__u64 small = (low + ones * (0x80 - 'a')) & ~(low + ones * (0x80 - 'z' - 1)) & ~word;

	return word ^ ((small & (ones << 7)) >> 2);
}

/* Whether the first `length` bytes of a word are ASCII that shows, and no space. */
static __always_inline bool printable(__u64 word, __u32 length)
{
	const __u64 ones = 0x0101010101010101ULL;
	__u64 shown = first_bytes(word, length) | (ones * '!' & ~first_bytes(~0ULL, length));

	return !(((shown - ones * '!') | (shown + ones) | shown) & (ones << 7));
}

/* The place of the first `byte` in 64 bytes, of which `n` are valid; -1 if there is none. Not
 * static: verified once. */
__noinline int find_byte(const struct bytes64 *from, __u32 n, __u8 byte)
{
	__u64 marks;
	__u32 at;

	if (!from)
		return -1;
#pragma unroll
	for (int i = 0; i < 8; i++) {
		marks = bytes_equal(word_at(from->bytes + 8 * i), byte);
		if (marks) {
			at = 8 * i + lowest_marked(marks);
			return at < n ? (int)at : -1;
		}
	}
	return -1;
}

/* As line_length. Not static: verified once. */
__noinline __u32 line_in_window(const struct window *window, __u32 n)
{
	int at;

	if (!window)
		return 0;
	for (__u32 i = 0; i < WINDOW / 64; i++) {
		if (i * 64 >= n)
			return 0;
		at = find_byte((const void *)(window->bytes + i * 64), n - i * 64, '\n');
		if (at >= 0)
			return i * 64 + bounded(at, 63) + 1;
	}
	return 0;
}

/* The length of the line at `p` with its LF, 0 if it does not end within n. */
static __always_inline __u32 line_length(const __u8 *p, __u32 n)
{
	return bounded(line_in_window((const void *)p, n), 2 * WINDOW - 1);
}

/* The length of a line's first word: up to a space or the line's end; 32 if it is longer. Not
 * static: verified once. */
__noinline __u32 first_word(const struct bytes32 *line)
{
	__u64 word, marks;

	if (!line)
		return 0;
#pragma unroll
	for (int i = 0; i < 32; i += 8) {
		word = word_at(line->bytes + i);
		marks = bytes_equal(word, ' ') | bytes_equal(word, '\r') | bytes_equal(word, '\n');
		if (marks)
			return i + lowest_marked(marks);
	}
	return 32;
}

/* Returns where the string of up to 255 bytes at `at` ends, with the zero byte there; n if it does
 * not end before. Not static: verified once. */
__noinline __u32 string_end(const struct window *window, __u32 n, __u32 at)
{
	int zero;

	if (!window)
		return n;
	for (int i = 0; i < 4 && at < n; i++) {
		zero = find_byte((const void *)(window->bytes + bounded(at, WINDOW - 1)), n - at,
				 0);
		if (zero >= 0)
			return at + zero + 1;
		at += 64;
	}
	return n;
}

#endif
