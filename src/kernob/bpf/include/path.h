/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * A URL's path as an operation: what differs from one resource to the next is run together.
 *
 * A segment that is a number, eight or more hexadecimal digits of which one is decimal, or a UUID,
 * becomes `{id}`. In other segments each run of digits becomes `0`, but not in a version (`v1`) nor
 * in a percent-encoded byte. The query is cut off, and so is what lies beyond the last segment
 * that ends within 256 bytes.
 */
#ifndef KERNOB_PATH_H
#define KERNOB_PATH_H

#include "scan.h"

#define PATH 256

struct url_path {
	const __u8 *p;
	struct text *text;
	__u32 at;
	__u32 end;
	__u32 to; /* where in the text the next byte goes */
	__u32 begin; /* of the segment, in the text */
	bool digits; /* of the segment: it has some */
	bool others; /* other bytes than digits */
	bool cut;
};

struct segment {
	__u8 *text;
	__u32 at;
	__u32 begin;
	__u32 end;
	__u32 to;
	__u64 odd; /* by place: no hexadecimal digit */
	__u32 escaped; /* bytes that a percent sign goes with */
	bool run; /* of digits */
};

/* The highest bit of each byte that is neither a digit nor a letter up to F. */
static __always_inline __u64 no_hexadecimals(__u64 word)
{
	const __u64 ones = 0x0101010101010101ULL;
	__u64 small = (word & (ones * 0x7f)) | (ones * 0x20);
	__u64 letters = (small + ones * (0x80 - 'a')) & ~(small + ones * (0x7f - 'f'));

	return no_digits(word) & (~letters | word);
}

static long look_at_segment(__u32 i, struct segment *segment)
{
	__u32 at = segment->at, length = segment->end - at, place = at - segment->begin;
	__u64 odd = no_hexadecimals(word_at(segment->text + bounded(at, TEXT - 1)));

	odd = first_bytes(odd, length);
	if (odd)
		segment->odd |= place < 64 ? gathered(odd) << place : 1ULL << 63;
	segment->at = at + 8;
	return length <= 8;
}

static long run_digits_together(__u32 i, struct segment *segment)
{
	__u8 byte = segment->text[bounded(segment->begin + i, TEXT - 1)];
	bool digit = byte >= '0' && byte <= '9';

	if (segment->escaped) {
		segment->escaped--;
		digit = false;
	} else if (byte == '%') {
		segment->escaped = 2;
	}
	if (digit && segment->run)
		return 0;
	segment->run = digit;
	segment->text[bounded(segment->to, TEXT - 1)] = digit ? '0' : byte;
	segment->to++;
	return 0;
}

#define UUID_LENGTH 36
#define UUID_DASHES (1ULL << 8 | 1ULL << 13 | 1ULL << 18 | 1ULL << 23)

/* A segment that has digits and other bytes. Returns its new end in the text; its begin if it is
 * an id. Not static: verified once. */
__noinline int change_segment(struct text *text, __u32 begin, __u32 end)
{
	struct segment segment = {.at = begin, .begin = begin, .end = end, .to = begin};
	__u32 length = end - begin;
	__u8 *first;

	if (!text || begin > TEXT - 64 || end > TEXT || begin >= end)
		return end;
	segment.text = text->bytes;
	first = text->bytes + bounded(begin, TEXT - 1);
	if ((first[0] | 0x20) == 'v' && length <= 4 &&
	    !first_bytes(no_digits(word_at(first + 1)), length - 1))
		return end;
	if (length >= 8) {
		bpf_loop(TEXT / 8, look_at_segment, &segment, 0);
		if (!segment.odd)
			return begin;
		if (length == UUID_LENGTH && segment.odd == UUID_DASHES && first[8] == '-' &&
		    first[13] == '-' && first[18] == '-' && first[23] == '-')
			return begin;
	}
	bpf_loop(bounded(length, TEXT - 1), run_digits_together, &segment, 0);
	return segment.to;
}

/* Takes up to eight bytes, as far as they are of one segment. */
static long take_path(__u32 i, struct url_path *path)
{
	__u32 at = path->at, to = path->to, left = path->end - at, length = 8;
	__u64 word = word_at(path->p + bounded(at, WINDOW - 1));
	__u64 stops = bytes_equal(word | 0x1010101010101010ULL, '?'); /* or a slash */
	__u64 others = no_digits(word), taken;

	if (stops)
		length = lowest_bit(stops) >> 3;
	if (length > left)
		length = left;
	taken = first_bytes(0x8080808080808080ULL, length);
	path->digits |= (~others & taken) != 0;
	path->others |= (others & taken) != 0;
	*(unaligned_u64 *)(path->text->bytes + bounded(to, TEXT - 1)) = word;
	at += length;
	to += length;
	if (length == 8 && at != path->end) {
		path->at = at;
		path->to = to;
		return 0;
	}
	if (at == path->end && path->cut) {
		to = path->begin;
	} else if (path->digits) {
		if (path->others)
			to = change_segment(path->text, path->begin, to);
		else
			to = path->begin;
		if (to == path->begin) {
			*(unaligned_u32 *)(path->text->bytes + bounded(to, TEXT - 1)) = 0x7d64697b;
			to += 4;
		}
	}
	path->to = to;
	if (at == path->end || path->p[bounded(at, WINDOW - 1)] == '?')
		return 1;
	path->text->bytes[bounded(to, TEXT - 1)] = '/';
	path->at = at + 1;
	path->to = to + 1;
	path->begin = to + 1;
	path->digits = false;
	path->others = false;
	return path->at == path->end;
}

/* Puts the path that goes from `at` to `end` into the text, from `to` on. Returns where it ends
 * there. Not static: verified once. */
__noinline int add_path(const struct window *from, __u32 at, __u32 end, struct text *text, __u32 to)
{
	struct url_path path = {.text = text, .end = end, .to = to, .begin = to};

	if (!from || !text || at >= end)
		return to;
	path.p = from->bytes;
	path.at = at;
	if (end - at > PATH) {
		path.end = at + PATH;
		path.cut = true;
	}
	bpf_loop(PATH + 1, take_path, &path, 0);
	return path.to;
}

#endif
