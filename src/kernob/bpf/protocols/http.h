/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * HTTP/1.0 and 1.1 (RFC 9112).
 *
 * A unit is a whole message, or its head where the body comes in chunks, and then a chunk. A head
 * that is longer than the window is several units, each of as many whole lines as there are; of a
 * line that is longer the first window is looked at. The operation is the method, the path as in
 * path.h and the version: `GET /users/{id} HTTP/1.1`. The status is the code. What counts as body
 * is what chunks hold, without their framing.
 *
 * A body of announced length counts when its head is seen. Where the first line of a request is
 * longer than the window, its version is taken for 1.1.
 */
#ifndef KERNOB_PROTOCOL_HTTP_H
#define KERNOB_PROTOCOL_HTTP_H

#include "../include/path.h"
#include "http_head.h"

/* Where a first line's version begins, 0 if there is none. `line` is its length. */
static __always_inline __u32 http_version(const __u8 *p, __u32 line)
{
	__u64 word;
	__u32 at;

	if (line < 14)
		return 0;
	at = line - 9;
	if (p[bounded(line - 2, WINDOW - 1)] == '\r')
		at--;
	at = bounded(at, WINDOW - 1);
	word = word_at(p + at);
	if (first_bytes(word, 7) != HTTP_VERSION_1_ || no_digits(word) >> 63 ||
	    p[bounded(at - 1, WINDOW - 1)] != ' ')
		return 0;
	return at;
}

/* How many bytes of a target lie before its path: scheme and authority, if it has them. */
__noinline int http_before_path(const struct bytes64 *from, __u32 n)
{
	__u64 word, slashes;
	__u32 at;

	if (!from || n < 8)
		return 0;
	word = word_at(from->bytes) | HTTP_SMALL;
	if (first_bytes(word, 7) == HTTP_PLAIN_SCHEME)
		at = 7;
	else if (word == HTTP_TLS_SCHEME)
		at = 8;
	else
		return 0;
	for (int i = 0; i < 56 / 8; i++) {
		slashes =
			bytes_equal(word_at(from->bytes + 8 + 8 * i) | 0x1010101010101010ULL, '?');
		if (i == 0 && at == 7 && (from->bytes[7] | 0x10) == '?')
			return 7;
		if (slashes) {
			at = 8 + 8 * i + (lowest_bit(slashes) >> 3);
			return at < n ? at : n;
		}
	}
	return n;
}

/* The first line of a request, of `line` bytes, 0 if it is longer than the window. */
static __always_inline int http_ask(const __u8 *p, __u32 line, struct unit *unit, struct text *text)
{
	__u64 low, high, version = HTTP_VERSION_1_ | (__u64)'1' << 56, spaces;
	__u32 to, at, end = WINDOW, before;

	low = word_at(p);
	high = word_at(p + 8);
	spaces = bytes_equal(low, ' ');
	to = 0;
	if (!spaces) {
		spaces = bytes_equal(high, ' ');
		to = 8;
	}
	if (!spaces)
		return ALIEN;
	at = to = to + (lowest_bit(spaces) >> 3) + 1;
	if (line) {
		end = bounded(http_version(p, line), WINDOW - 1);
		if (end <= at)
			return ALIEN;
		version = word_at(p + end);
		end--;
	}
	*(unaligned_u64 *)text->bytes = low;
	*(unaligned_u64 *)(text->bytes + 8) = high;
	text->bytes[bounded(to - 1, 15)] = ' ';
	if (low == HTTP_CONNECT_) {
		unit->local = HTTP_CONNECT;
	} else {
		if (first_bytes(low, 5) == HTTP_HEAD_)
			unit->local = HTTP_HEAD;
		at = bounded(at, 31);
		if (p[at] != '/') {
			before = http_before_path((const void *)(p + at), end - at);
			if (before) {
				at += before;
				text->bytes[bounded(to++, 31)] = '/';
				if (p[bounded(at, WINDOW - 1)] == '/')
					at++;
			}
		}
		to = add_path((const void *)p, at, end, text, to);
	}
	to = bounded(to, TEXT - 1);
	text->bytes[to] = ' ';
	*(unaligned_u64 *)(text->bytes + to + 1) = version;
	text->length = to + 9;
	unit->operation = mix(HTTP, http_hash((const void *)text->bytes, to + 9));
	unit->events = REQUEST;
	return TAKEN;
}

static __always_inline int http_request(struct parse *parse, const __u8 *p, __u32 n,
					struct unit *unit, struct text *text)
{
	__u64 *own = parse->own, misses = 0;
	__u32 place = own[HTTP_PLACE] & HTTP_PLACES;
	struct http_head head = {};

	if (place == HTTP_CHUNK)
		return http_chunk((const void *)p, n, (void *)own, unit);
	if (place == HTTP_START) {
		if (http_same_request(parse, p, n, unit))
			return TAKEN;
		misses = http_misses(parse, n);
		/* Some clients put an empty line behind a body. */
		if (p[0] == '\r' || p[0] == '\n') {
			unit->length = 1;
			return TAKEN;
		}
		if (p[0] < 'A' || p[0] > 'Z')
			return ALIEN;
	}
	unit->length = http_lines(parse, &head, p, n);
	if (!unit->length)
		return MORE;
	if (head.odd || (place == HTTP_START && http_ask(p, head.first, unit, text) != TAKEN))
		return ALIEN;
	if (!head.end || place == HTTP_TRAILER)
		return TAKEN;
	if (head.said & HTTP_CHUNKED) {
		own[HTTP_PLACE] = HTTP_CHUNK;
		return TAKEN;
	}
	unit->length += head.size;
	unit->body = head.size;
	if (place == HTTP_START)
		http_keep(parse, p, head.end, unit, unit->operation, misses);
	return TAKEN;
}

/* The code of a status line, 0 if it is none. */
static __always_inline __u32 http_status(const __u8 *p)
{
	__u64 word = word_at(p), code = word_at(p + 8);

	if (first_bytes(word, 7) != HTTP_VERSION_1_ || (code & 0xff) != ' ' ||
	    (no_digits(word) >> 63) || first_bytes(no_digits(code >> 8), 3))
		return 0;
	return (p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0');
}

static __always_inline int http_response(struct parse *parse, const __u8 *p, __u32 n,
					 struct unit *unit, struct text *text)
{
	__u64 *own = parse->own, misses = 0;
	__u32 place = own[HTTP_PLACE] & HTTP_PLACES, status = own[HTTP_RESULT];
	struct http_head head = {};
	int verdict;

	if (place == HTTP_CHUNK) {
		verdict = http_chunk((const void *)p, n, (void *)own, unit);
		if (verdict == TAKEN && own[HTTP_PLACE] == HTTP_START) {
			unit->events = ANSWER;
			unit->status = status;
		}
		return verdict;
	}
	if (place == HTTP_START) {
		if (http_same_response(parse, p, n, unit))
			return TAKEN;
		misses = http_misses(parse, n);
		if (n < 12)
			return p[0] == 'H' ? MORE : ALIEN;
		status = http_status(p);
		if (status < 100)
			return ALIEN;
		own[HTTP_RESULT] = status;
	}
	unit->length = http_lines(parse, &head, p, n);
	if (!unit->length)
		return MORE;
	if (head.odd)
		return ALIEN;
	if (status < 200 && status != 101) {
		unit->events = APART;
		return TAKEN;
	}
	if (!head.end)
		return TAKEN;
	unit->status = status;
	unit->events = ANSWER;
	if (status == 101 || (parse->asked == HTTP_CONNECT && status < 300)) {
		unit->events = ANSWER | ENDS;
		unit->reason = UNSEEN_OTHER;
	} else if (place == HTTP_TRAILER || parse->asked == HTTP_HEAD || status == 204 ||
		   status == 304) {
		return TAKEN;
	} else if (head.said & HTTP_CHUNKED) {
		unit->events = 0;
		own[HTTP_PLACE] = HTTP_CHUNK;
	} else if (head.said & HTTP_SIZED && !(head.said & HTTP_CODED)) {
		unit->length += head.size;
		unit->body = head.size;
		if (place == HTTP_START && !parse->asked)
			http_keep(parse, p, head.end, unit, status, misses);
	} else {
		unit->events = TO_CLOSE;
		unit->length += HTTP_MOST;
		unit->body = HTTP_MOST;
	}
	return TAKEN;
}

/* Whether a request's first line is there, or its beginning is. Not static: verified once. */
__noinline int http_begins(const struct bytes64 *from, __u32 n)
{
	__u8 byte;

	if (!from)
		return false;
	for (__u32 i = 0; i < 17; i++) {
		if (i >= n)
			return i > 0;
		byte = from->bytes[i];
		if (byte == ' ') {
			if (i < 3 || (i == 3 && from->bytes[0] == 'P' && from->bytes[1] == 'R'))
				return false;
			if (i + 1 >= n)
				return true;
			byte = from->bytes[i + 1];
			return byte == '/' || byte == '*' || byte == '[' ||
			       ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z') ||
			       (byte >= '0' && byte <= '9');
		}
		if (byte != '-' && (byte < 'A' || byte > 'Z'))
			return false;
	}
	return false;
}

static __always_inline bool http_asks(const __u8 *p, __u32 n)
{
	__u32 line;

	if (!http_begins((const void *)p, n))
		return false;
	line = line_length(p, n);
	return !line || http_version(p, line);
}

static __always_inline bool http_answers(const __u8 *p, __u32 n)
{
	if (n < 12)
		return !first_bytes(word_at(p) ^ HTTP_VERSION_1_, n < 7 ? n : 7);
	return http_status(p) >= 100;
}

#endif
