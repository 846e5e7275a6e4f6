/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * DNS (RFC 1035): a message is a datagram, or a length of two bytes and a message in a stream
 * (RFC 7766, where answers come in any order).
 *
 * The operation is the question: `AAAA www.example.org`, in lower case. Bytes of a name that are
 * not printable, and dots and backslashes within a label, are written as three decimal digits
 * (`\046`, RFC 1035 5.1). A question without a usual type is `TYPE65280` (RFC 3597). Notifications
 * and updates have their own name in the place of the type. What stands behind the question, EDNS
 * too, is passed over.
 *
 * The status is the response code, or what is said in `enum dns_status`.
 */
#ifndef KERNOB_PROTOCOL_DNS_H
#define KERNOB_PROTOCOL_DNS_H

#include "../include/scan.h"

/* Beside the response codes, which have 4 bits. */
enum dns_status {
	DNS_NO_DATA = TIMED_OUT + 1, /* the name exists, but has none of this type (RFC 2308 2.2) */
	DNS_TRUNCATED, /* the answer did not fit: the client asks again, over TCP */
};

#define DNS_HEADER 12
#define DNS_NAME 255 /* its most bytes on the wire */
#define DNS_LEAST (DNS_HEADER + 1 + 4) /* of a message with a question */
#define DNS_RECORD 11 /* the least bytes of a resource record */
#define DNS_MOST_ASKED 1024 /* bytes of a first question in a stream: with EDNS and a signature */

enum { DNS_QUERY, DNS_NOTIFY = 4, DNS_UPDATE = 5 }; /* RFC 1035, RFC 1996, RFC 2136 */
enum { DNS_IXFR = 251, DNS_AXFR = 252 };

/* own[] of a server's direction: one more than the id of the latest zone transfer. */
enum { DNS_TRANSFER };

struct dns_header {
	__u32 id;
	__u32 response;
	__u32 opcode;
	__u32 authoritative;
	__u32 truncated;
	__u32 recursion; /* is available */
	__u32 reserved; /* must be zero */
	__u32 rcode;
	__u32 questions;
	__u32 answers;
	__u32 authority;
	__u32 additional;
};

/* All of a message that is ever read, and a little more. */
struct dns_bytes {
	__u8 bytes[DNS_HEADER + DNS_NAME + 33];
};

/* On its way through a name. */
struct dns_walk {
	const __u8 *p; /* the name */
	struct text *text;
	__u64 hash;
	__u32 n; /* bytes that are there */
	__u32 at;
	__u32 left; /* bytes of this label */
	int verdict;
};

static __always_inline struct dns_header dns_header_at(const __u8 *p)
{
	__u32 flags = be16_at(p + 2);

	return (struct dns_header){
		.id = be16_at(p),
		.response = flags >> 15,
		.opcode = flags >> 11 & 15,
		.authoritative = flags >> 10 & 1,
		.truncated = flags >> 9 & 1,
		.recursion = flags >> 7 & 1,
		.reserved = flags >> 6 & 1,
		.rcode = flags & 15,
		.questions = be16_at(p + 4),
		.answers = be16_at(p + 6),
		.authority = be16_at(p + 8),
		.additional = be16_at(p + 10),
	};
}

/* Whether a message of `length` bytes may have this header. */
static __always_inline bool dns_sane(const struct dns_header *header, __u32 length)
{
	__u32 records = header->answers + header->authority + header->additional;

	if (header->reserved || length < DNS_HEADER + records * DNS_RECORD)
		return false;
	if (header->opcode != DNS_QUERY && header->opcode != DNS_NOTIFY &&
	    header->opcode != DNS_UPDATE)
		return false;
	/* An error may come without its question, and so do later parts of a zone transfer. */
	if (header->response)
		return header->questions <= 1;
	if (header->questions != 1 || header->rcode || header->truncated || header->recursion)
		return false;
	/* IXFR shows what it has; EDNS and a signature are additional. */
	return header->opcode != DNS_QUERY ||
	       (!header->answers && header->authority <= 1 && header->additional <= 2);
}

/* Goes on by a label. */
static long dns_label(__u32 i, struct dns_walk *walk)
{
	__u8 length;

	if (walk->at >= walk->n)
		return 1;
	length = walk->p[bounded(walk->at, DNS_NAME)];
	walk->at += 1 + length;
	/* A question's name is whole: there is nothing before it to point to. */
	walk->verdict = length > 63 || walk->at > DNS_NAME ? ALIEN : length ? MORE : TAKEN;
	return walk->verdict != MORE;
}

/* Writes a byte of the name, whose length is known. */
static long dns_letter(__u32 i, struct dns_walk *walk)
{
	__u8 byte = walk->p[bounded(i, DNS_NAME)];
	__u8 *out = walk->text->bytes + bounded(walk->text->length, TEXT - 1);

	if (!walk->left) {
		walk->left = byte;
		if (i) {
			walk->hash = mix(walk->hash, byte);
			*out = '.';
			walk->text->length++;
		}
		return 0;
	}
	walk->left--;
	if (byte >= 'A' && byte <= 'Z')
		byte += 'a' - 'A';
	walk->hash = mix(walk->hash, byte);
	if (byte > ' ' && byte <= '~' && byte != '.' && byte != '\\') {
		*out = byte;
		walk->text->length++;
		return 0;
	}
	out[0] = '\\';
	out[1] = '0' + byte / 100;
	out[2] = '0' + byte / 10 % 10;
	out[3] = '0' + byte % 10;
	walk->text->length += 4;
	return 0;
}

/* Up to eight letters as a word. */
static __always_inline __u64 dns_word(const char *letters, __u32 count)
{
	__u64 word = 0;

	__builtin_memcpy(&word, letters, count);
	return word;
}

#define DNS_TYPE(number, name)                                                                     \
	case number:                                                                               \
		return dns_word(#name, sizeof(#name) - 1)

/* A type's name, 0 if it is not among the usual ones (IANA's Domain Name System Parameters). Not
 * static: verified once. */
__noinline __u64 dns_type_name(__u32 type)
{
	switch (type) {
		DNS_TYPE(1, A);
		DNS_TYPE(2, NS);
		DNS_TYPE(5, CNAME);
		DNS_TYPE(6, SOA);
		DNS_TYPE(12, PTR);
		DNS_TYPE(13, HINFO);
		DNS_TYPE(15, MX);
		DNS_TYPE(16, TXT);
		DNS_TYPE(28, AAAA);
		DNS_TYPE(29, LOC);
		DNS_TYPE(33, SRV);
		DNS_TYPE(35, NAPTR);
		DNS_TYPE(39, DNAME);
		DNS_TYPE(43, DS);
		DNS_TYPE(44, SSHFP);
		DNS_TYPE(46, RRSIG);
		DNS_TYPE(47, NSEC);
		DNS_TYPE(48, DNSKEY);
		DNS_TYPE(52, TLSA);
		DNS_TYPE(59, CDS);
		DNS_TYPE(60, CDNSKEY);
		DNS_TYPE(61, OPENPGPK);
		DNS_TYPE(64, SVCB);
		DNS_TYPE(65, HTTPS);
		DNS_TYPE(99, SPF);
		DNS_TYPE(DNS_IXFR, IXFR);
		DNS_TYPE(DNS_AXFR, AXFR);
		DNS_TYPE(255, ANY);
		DNS_TYPE(256, URI);
		DNS_TYPE(257, CAA);
	}
	return 0;
}

/* Begins the text with the question's type and a space. */
static __always_inline void dns_type(struct text *text, __u32 opcode, __u32 type)
{
	__u64 word = dns_type_name(type);
	__u32 length, divisor = 10000;

	if (opcode == DNS_NOTIFY)
		word = dns_word("NOTIFY", 6);
	if (opcode == DNS_UPDATE)
		word = dns_word("UPDATE", 6);
	*(unaligned_u64 *)text->bytes = word ? word : dns_word("TYPE", 4);
	length = word ? 8 : 4;
	if (word && !(word >> 56))
		length = lowest_marked(bytes_equal(word, 0));
	for (int i = 0; !word && i < 5; i++) {
		if (type >= divisor || divisor == 1)
			text->bytes[bounded(length++, 15)] = '0' + type / divisor % 10;
		divisor /= 10;
	}
	text->bytes[bounded(length, 15)] = ' ';
	text->length = length + 1;
}

/* IN, CH, HS, NONE, ANY. */
static __always_inline bool dns_class_known(__u32 class)
{
	return class == 1 || class == 3 || class == 4 || class == 254 || class == 255;
}

/* How an answer says that it went. */
static __always_inline __u32 dns_status(const struct dns_header *header)
{
	if (header->rcode || header->opcode != DNS_QUERY)
		return header->rcode;
	if (header->truncated)
		return DNS_TRUNCATED;
	if (header->answers)
		return 0;
	/* A referral names who knows. */
	return header->authority && !header->authoritative && !header->recursion ? 0 : DNS_NO_DATA;
}

/*
 * A message of `length` bytes, `n` of which are there. Says of the unit what it is, with the id
 * and the question together as its `statement`; a response without a question is APART. Not
 * static: verified once.
 */
__noinline int dns_message(const struct dns_bytes *message, __u32 n, __u32 length,
			   struct unit *unit, struct text *text)
{
	struct dns_walk walk = {.text = text, .verdict = MORE};
	struct dns_header header;
	__u32 type, class;
	const __u8 *p;

	if (!message || !unit || !text || length < DNS_HEADER)
		return ALIEN;
	p = message->bytes;
	walk.p = p + DNS_HEADER;
	if (n < DNS_HEADER)
		return MORE;
	header = dns_header_at(p);
	if (!dns_sane(&header, length))
		return ALIEN;
	if (!header.questions) {
		unit->events = APART;
		return TAKEN;
	}
	walk.n = n - DNS_HEADER;
	bpf_loop(DNS_NAME / 2 + 1, dns_label, &walk, 0);
	if (walk.verdict == ALIEN || DNS_HEADER + walk.at + 4 > length)
		return ALIEN;
	if (walk.verdict == MORE || walk.at + 4 > walk.n)
		return MORE;
	p += DNS_HEADER + bounded(walk.at, DNS_NAME);
	type = be16_at(p);
	class = be16_at(p + 2);
	if (!type || !dns_class_known(class))
		return ALIEN;

	dns_type(text, header.opcode, type);
	walk.hash = mix(mix(mix(DNS, header.opcode), type), walk.at);
	bpf_loop(walk.at - 1, dns_letter, &walk, 0);
	if (walk.at == 1) {
		text->bytes[bounded(text->length, 15)] = '.';
		text->length++;
	}
	unit->operation = walk.hash;
	unit->statement = mix(mix(header.id, class), walk.hash);
	unit->events = REQUEST | BY_ID;
	if (header.response) {
		unit->events = ANSWER | BY_ID;
		unit->status = dns_status(&header);
	}
	unit->local = type;
	return TAKEN;
}

/* Whether a stream may begin so: a length, and as much of a header as is there. */
static __always_inline bool dns_begins(const __u8 *p, __u32 n, __u32 response, __u32 most)
{
	__u32 length = (__u32)p[0] << 8;
	struct dns_header header;

	if (length > most)
		return false;
	if (n < 2)
		return true;
	length = be16_at(p);
	if (length < DNS_LEAST || length > most)
		return false;
	if (n < 2 + 4)
		return true;
	if (p[4] >> 7 != response)
		return false;
	/* One question. */
	if ((n > 6 && p[6]) || (n > 7 && p[7] != 1))
		return false;
	if (n < 2 + DNS_HEADER)
		return true;
	header = dns_header_at(p + 2);
	return dns_sane(&header, length);
}

static __always_inline bool dns_asks(const __u8 *p, __u32 n)
{
	return dns_begins(p, n, 0, DNS_MOST_ASKED);
}

static __always_inline bool dns_answers(const __u8 *p, __u32 n)
{
	return dns_begins(p, n, 1, 0xffff);
}

/* A message behind its length. */
static __always_inline int dns_framed(const __u8 *p, __u32 n, struct unit *unit, struct text *text)
{
	__u32 length;

	if (n < 2)
		return MORE;
	length = be16_at(p);
	unit->length = 2 + length;
	return dns_message((const void *)(p + 2), n - 2, length, unit, text);
}

static __always_inline int dns_request(struct parse *parse, const __u8 *p, __u32 n,
				       struct unit *unit, struct text *text)
{
	int verdict = dns_framed(p, n, unit, text);

	if (verdict == TAKEN && !(unit->events & REQUEST))
		return ALIEN;
	unit->local = 0;
	return verdict;
}

static __always_inline int dns_response(struct parse *parse, const __u8 *p, __u32 n,
					struct unit *unit, struct text *text)
{
	int verdict = dns_framed(p, n, unit, text);
	__u32 transfer;

	if (verdict != TAKEN)
		return verdict;
	if (unit->events & REQUEST)
		return ALIEN;
	/* A zone comes in many messages: the first of them is the answer. */
	transfer = be16_at(p + 2) + 1;
	if (unit->events & ANSWER && (unit->local == DNS_AXFR || unit->local == DNS_IXFR)) {
		if (parse->own[DNS_TRANSFER] == transfer)
			unit->events = APART;
		parse->own[DNS_TRANSFER] = transfer;
	}
	unit->local = 0;
	return TAKEN;
}

#endif
