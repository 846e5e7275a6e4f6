/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Finding bytes, eight at a time: what a line ends with, mostly. */
#ifndef KERNOB_SCAN_H
#define KERNOB_SCAN_H

#include "unit.h"

struct bytes64 {
	__u8 bytes[64];
};

/* The highest bit of each byte of `word` that is `byte`; of the lowest such byte it is exact. */
static __always_inline __u64 bytes_equal(__u64 word, __u8 byte)
{
	const __u64 ones = 0x0101010101010101ULL;
	__u64 zero = word ^ (ones * byte);

	return (zero - ones) & ~zero & (ones << 7);
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

/* The place of the first LF in 64 bytes, of which `n` are valid; -1 if there is none. Not static:
 * verified once. */
__noinline int find_newline(const struct bytes64 *from, __u32 n)
{
	__u64 marks;
	__u32 at;

	if (!from)
		return -1;
#pragma unroll
	for (int i = 0; i < 8; i++) {
		marks = bytes_equal(word_at(from->bytes + 8 * i), '\n');
		if (marks) {
			at = 8 * i + lowest_marked(marks);
			return at < n ? (int)at : -1;
		}
	}
	return -1;
}

/* The length of the line at `p` with its LF, 0 if it does not end within n. */
static __always_inline __u32 line_length(const __u8 *p, __u32 n)
{
	int at;

	for (__u32 i = 0; i < WINDOW / 64; i++) {
		if (i * 64 >= n)
			return 0;
		at = find_newline((const void *)(p + i * 64), n - i * 64);
		if (at >= 0)
			return i * 64 + bounded(at, 63) + 1;
	}
	return 0;
}

#endif
