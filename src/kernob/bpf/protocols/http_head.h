/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Heads and chunks of HTTP/1 (RFC 9112, sections 2 to 7): where they end, and how the body does.
 */
#ifndef KERNOB_PROTOCOL_HTTP_HEAD_H
#define KERNOB_PROTOCOL_HTTP_HEAD_H

#include "../include/scan.h"

/* `local` of a request: what its answer's length depends on. */
enum { HTTP_HEAD = 1, HTTP_CONNECT = 2 };

/* The words of parse->own. HTTP_RESULT is a client's operation, a server's status. */
enum { HTTP_PLACE, HTTP_SIZE, HTTP_RESULT, HTTP_HASH };

struct http_own {
	__u64 words[4];
};

/* own[HTTP_PLACE]: where the next unit begins, and what the head has said so far */
enum {
	HTTP_START,
	HTTP_FIELDS,
	HTTP_CHUNK,
	HTTP_TRAILER,
	HTTP_PLACES = 3, /* mask */
	HTTP_MIDDLE = 1 << 2, /* of a line */
	HTTP_SIZED = 1 << 3, /* there is a Content-Length */
	HTTP_CODED = 1 << 4, /* there is a Transfer-Encoding */
	HTTP_CHUNKED = 1 << 5, /* which ends with chunked */
	HTTP_SAID = HTTP_SIZED | HTTP_CODED | HTTP_CHUNKED,
};

/*
 * What else own[HTTP_PLACE] holds where a message begins: the length of the latest head if it was
 * in one window, what it left in `local`, and how often in a row the next one was another. Clients
 * and servers repeat themselves: a head of the same bytes, by own[HTTP_HASH], is not read again.
 * The latest size and result are in their words.
 */
#define HTTP_KEPT(word) ((word) >> 16 & 0xffff)
#define HTTP_KEPT_LOCAL(word) ((word) >> 32 & 0xff)
#define HTTP_MISSES(word) ((word) >> 40)
#define HTTP_MOST_MISSES 8

#define HTTP_MOST (1ULL << 60) /* bytes of a body */

/* Letters in words of eight bytes, the first the lowest, small */
#define HTTP_SMALL 0x2020202020202020ULL
#define HTTP_CONTENT_ 0x2d746e65746e6f63ULL
#define HTTP_LENGTH 0x6874676e656cULL
#define HTTP_TRANSFER 0x726566736e617274ULL
#define HTTP__ENCODIN 0x6e69646f636e652dULL
#define HTTP_CHUNKED_ 0x64656b6e756863ULL
#define HTTP_PLAIN_SCHEME 0x2f2f3a70747468ULL
#define HTTP_TLS_SCHEME 0x2f2f3a7370747468ULL
/* As they are */
#define HTTP_VERSION_1_ 0x2e312f50545448ULL
#define HTTP_CONNECT_ 0x205443454e4e4f43ULL
#define HTTP_HEAD_ 0x2044414548ULL

/* What a head says, or what follows the last chunk. */
struct http_head {
	__u64 size;
	__u32 said;
	__u32 first; /* bytes of the first line, if it ends */
	__u32 end; /* where the empty line ends, if it does */
	__u32 rest; /* else: where the line begins that has no end */
	__u32 apart; /* the first line is no field */
	__u32 odd; /* a length that is no number */
};

struct http_lines {
	const __u8 *p;
	struct http_head *head;
	__u32 n;
	__u32 at;
	__u32 begin; /* of the line */
};

/* Which of 64 bytes are LF. Each word by itself: the compiler would mix them, and run out of
 * registers. */
static __always_inline __u64 http_ends(const __u8 *p)
{
	const __u64 ones = 0x0101010101010101ULL;
	__u64 others = 0, word;

#pragma unroll
	for (int i = 56; i >= 0; i -= 8) {
		word = word_at(p + i) ^ (ones * '\n');
		word = (((word & (ones * 0x7f)) + ones * 0x7f) | word) & (ones << 7);
		/* The highest bits of eight bytes as eight bits. */
		others = others << 8 | (word * 0x0002040810204081ULL) >> 56;
		asm volatile("" : "+r"(others));
	}
	return ~others;
}

/* The number after a colon; at least HTTP_MOST if there is none, or a larger one. */
__noinline __u64 http_number(const struct bytes64 *from)
{
	bool any = false;
	__u64 number = 0;
	__u8 byte;

	if (!from)
		return HTTP_MOST;
	for (int i = 0; i < 32; i++) {
		byte = from->bytes[i];
		if (byte >= '0' && byte <= '9') {
			number = number * 10 + (byte - '0');
			if (number >= HTTP_MOST)
				return HTTP_MOST;
			any = true;
		} else if (any) {
			return number;
		} else if (byte != ':' && byte != ' ' && byte != '\t') {
			return HTTP_MOST;
		}
	}
	return HTTP_MOST;
}

/* The length of a line without what it ends with: CR, LF, and spaces, of which a few. */
__noinline int http_trimmed(const struct window *from, __u32 begin, __u32 length)
{
	__u8 byte;

	if (!from)
		return 0;
	for (int i = 0; i < 6; i++) {
		byte = from->bytes[bounded(begin + length - 1, WINDOW - 1)];
		if (!length || (byte != '\n' && byte != '\r' && byte != ' ' && byte != '\t'))
			break;
		length--;
	}
	return length;
}

/* What may follow a field's name; spaces should not. */
static __always_inline bool http_name_ends(__u8 byte)
{
	return byte == ':' || byte == ' ' || byte == '\t';
}

/* A field that may say how the body ends. */
__noinline int http_field(const struct window *from, __u32 begin, __u32 length,
			  struct http_head *head)
{
	const __u8 *line;
	__u64 next;

	if (!from || !head)
		return 0;
	line = from->bytes + bounded(begin, WINDOW - 1);
	next = word_at(line + 8) | HTTP_SMALL;
	if ((word_at(line) | HTTP_SMALL) == HTTP_CONTENT_) {
		if (first_bytes(next, 6) != HTTP_LENGTH || head->said & HTTP_SIZED ||
		    !http_name_ends(line[14]))
			return 0;
		head->size =
			http_number((const void *)(from->bytes + bounded(begin + 14, WINDOW - 1)));
		head->odd |= head->size >= HTTP_MOST;
		head->said |= HTTP_SIZED;
	} else if (next == HTTP__ENCODIN && (line[16] | 0x20) == 'g' && http_name_ends(line[17])) {
		length = http_trimmed(from, begin, length);
		head->said &= ~HTTP_CHUNKED;
		head->said |= HTTP_CODED;
		if (length < 24)
			return 0;
		begin = bounded(begin + length - 7, WINDOW - 1);
		next = word_at(from->bytes + begin) | HTTP_SMALL;
		if (first_bytes(next, 7) == HTTP_CHUNKED_)
			head->said |= HTTP_CHUNKED;
	}
	return 0;
}

/* The lines that end in the next 64 bytes. */
static long http_block(__u32 i, struct http_lines *lines)
{
	struct http_head *head = lines->head;
	__u32 at = lines->at, begin = lines->begin, left = lines->n - at;
	const __u8 *p = lines->p, *from;
	__u32 end, length;
	__u64 ends, word;

	ends = http_ends(p + bounded(at, WINDOW - 64));
	if (left < 64)
		ends &= (1ULL << left) - 1;
	if (ends && !head->first) {
		head->first = at + lowest_bit(ends) + 1;
		if (head->apart) {
			begin = head->first;
			ends &= ends - 1;
		}
	}
	for (int line = 0; line <= 32 && ends; line++) {
		end = at + lowest_bit(ends) + 1;
		ends &= ends - 1;
		from = p + bounded(begin, WINDOW - 1);
		length = end - begin;
		if (length <= 2 && (length == 1 || from[0] == '\r')) {
			head->end = end;
			return 1;
		}
		word = word_at(from) | HTTP_SMALL;
		if (word == HTTP_CONTENT_ || word == HTTP_TRANSFER)
			http_field((const void *)p, begin, length, head);
		begin = end;
	}
	lines->begin = begin;
	lines->at = at + 64;
	return left <= 64;
}

/* Reads the lines that are there, up to the empty one. */
__noinline int http_read(const struct window *from, __u32 n, struct http_head *head)
{
	struct http_lines lines = {.n = n, .head = head};

	if (!from || !head || n > WINDOW)
		return 0;
	lines.p = from->bytes;
	bpf_loop(WINDOW / 64, http_block, &lines, 0);
	if (!head->end)
		head->rest = lines.begin;
	return 0;
}

/*
 * Reads a head, or what follows the last chunk. Returns the length of the unit that this is, 0 if
 * it is none yet; own[HTTP_PLACE] says where the next one begins, HTTP_START if it is after the
 * empty line.
 */
static __always_inline __u64 http_lines(struct parse *parse, struct http_head *head, const __u8 *p,
					__u32 n)
{
	__u64 *own = parse->own;
	__u32 place = own[HTTP_PLACE] & HTTP_PLACES;

	head->apart = place == HTTP_START || own[HTTP_PLACE] & HTTP_MIDDLE;
	head->said = own[HTTP_PLACE] & HTTP_SAID;
	head->size = place == HTTP_START ? 0 : own[HTTP_SIZE];
	http_read((const void *)p, n, head);
	if (head->end) {
		own[HTTP_PLACE] = HTTP_START;
		own[HTTP_SIZE] = 0;
		return head->end;
	}
	if (n < WINDOW)
		return 0;
	own[HTTP_PLACE] = (place ? place : HTTP_FIELDS) | head->said;
	own[HTTP_SIZE] = head->size;
	if (head->rest)
		return head->rest;
	own[HTTP_PLACE] |= HTTP_MIDDLE;
	return n;
}

/* The number that a chunk begins with, and in the lowest five bits how many digits it has, none
 * if that is wrong; -1 if it goes on behind n. */
__noinline __s64 http_chunk_size(const struct bytes64 *from, __u32 n)
{
	__u64 size = 0;
	__u8 byte;

	if (!from)
		return 0;
	for (__u32 i = 0; i < 15; i++) {
		if (i >= n)
			return -1;
		byte = from->bytes[i];
		if (byte >= '0' && byte <= '9')
			byte -= '0';
		else if ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'f')
			byte = (byte | 0x20) - 'a' + 10;
		else
			return size << 5 | i;
		size = size << 4 | byte;
	}
	return 0;
}

/* A chunk; the last one, which has no bytes, with the empty line if that follows it. Sets the place
 * to HTTP_START if the body has ended. */
__noinline int http_chunk(const struct window *from, __u32 n, struct http_own *of,
			  struct unit *unit)
{
	const __u8 *p;
	__u64 *own, size;
	__s64 number;
	__u32 line;

	if (!from || !of || !unit)
		return ALIEN;
	p = from->bytes;
	own = of->words;
	size = own[HTTP_SIZE];
	if (!(own[HTTP_PLACE] & HTTP_MIDDLE)) {
		number = http_chunk_size((const void *)p, n);
		if (number < 0)
			return MORE;
		if (!(number & 31))
			return ALIEN;
		size = (__u64)number >> 5;
	}
	line = line_length(p, n);
	if (!line) {
		if (n < WINDOW)
			return MORE;
		own[HTTP_PLACE] = HTTP_CHUNK | HTTP_MIDDLE;
		own[HTTP_SIZE] = size;
		unit->length = n;
		return TAKEN;
	}
	own[HTTP_SIZE] = 0;
	if (size) {
		own[HTTP_PLACE] = HTTP_CHUNK;
		unit->length = line + size + 2;
		unit->body = size;
		return TAKEN;
	}
	unit->length = line;
	own[HTTP_PLACE] = HTTP_TRAILER;
	p += bounded(line, WINDOW);
	if (line + 2 <= n && p[0] == '\r' && p[1] == '\n') {
		unit->length += 2;
		own[HTTP_PLACE] = HTTP_START;
	}
	return TAKEN;
}

/* A hash of the first bytes of a window, of which there are eight at least. Not static: verified
 * once. */
__noinline __u64 http_hash(const struct window *from, __u32 length)
{
	__u64 hash = length;
	const __u8 *p;
	__u32 i;

	if (!from || length > WINDOW || length < 8)
		return 0;
	p = from->bytes;
	for (i = 0; i + 32 <= length && i < WINDOW; i += 32, p += 32) {
		hash = mix(hash, word_at(p));
		hash = mix(hash, word_at(p + 8));
		hash = mix(hash, word_at(p + 16));
		hash = mix(hash, word_at(p + 24));
	}
	for (; i + 8 <= length && i < WINDOW; i += 8, p += 8)
		hash = mix(hash, word_at(p));
	/* The last eight: some of them for a second time. */
	return mix(hash, word_at(from->bytes + bounded(length - 8, WINDOW - 1)));
}

/* Whether a message begins with the latest head. If so, says of the unit what that said. */
static __always_inline bool http_repeats(struct parse *parse, const __u8 *p, __u32 n,
					 struct unit *unit)
{
	__u64 *own = parse->own, place = own[HTTP_PLACE];
	__u32 length = HTTP_KEPT(place);

	if (!length || length > n || place & HTTP_PLACES ||
	    http_hash((const void *)p, length) != own[HTTP_HASH])
		return false;
	if (HTTP_MISSES(place))
		own[HTTP_PLACE] = place & ((1ULL << 40) - 1);
	unit->length = length + own[HTTP_SIZE];
	unit->body = own[HTTP_SIZE];
	return true;
}

static __always_inline bool http_same_request(struct parse *parse, const __u8 *p, __u32 n,
					      struct unit *unit)
{
	if (!http_repeats(parse, p, n, unit))
		return false;
	unit->local = HTTP_KEPT_LOCAL(parse->own[HTTP_PLACE]);
	unit->operation = parse->own[HTTP_RESULT];
	unit->events = REQUEST | SAME;
	return true;
}

static __always_inline bool http_same_response(struct parse *parse, const __u8 *p, __u32 n,
					       struct unit *unit)
{
	if (parse->asked || !http_repeats(parse, p, n, unit))
		return false;
	unit->status = parse->own[HTTP_RESULT];
	unit->events = ANSWER;
	return true;
}

/* How often in a row the next head was another than the one that is kept, with this one. */
static __always_inline __u64 http_misses(struct parse *parse, __u32 n)
{
	__u64 place = parse->own[HTTP_PLACE];

	return HTTP_MISSES(place) + (HTTP_KEPT(place) && HTTP_KEPT(place) <= n);
}

/* Keeps a head of `length` bytes, unless those before it were kept in vain. */
static __always_inline void http_keep(struct parse *parse, const __u8 *p, __u32 length,
				      struct unit *unit, __u64 result, __u64 misses)
{
	__u64 *own = parse->own;

	own[HTTP_PLACE] = misses << 40;
	if (misses >= HTTP_MOST_MISSES)
		return;
	own[HTTP_PLACE] |= (__u64)unit->local << 32 | length << 16;
	own[HTTP_SIZE] = unit->body;
	own[HTTP_RESULT] = result;
	own[HTTP_HASH] = http_hash((const void *)p, length);
}

#endif
