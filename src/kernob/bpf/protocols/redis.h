/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Redis: RESP2, RESP3 and inline commands (redis.io/docs/latest/develop/reference/protocol-spec).
 *
 * A unit is an element. A command is an array of bulk strings, the first of which names it, or a
 * line; an answer is one value, and an array's elements are values, too. So both directions count
 * the elements that are still to come, whatever the depth they lie at.
 *
 * Values that nobody asked for are apart: pushes of RESP3, messages of channels, a monitor's lines.
 * SUBSCRIBE is answered by the first of its confirmations, one for each channel; the others are
 * apart. A database is known from the answer to SELECT on.
 */
#ifndef KERNOB_PROTOCOL_REDIS_H
#define KERNOB_PROTOCOL_REDIS_H

#include "../include/scan.h"

/* The words of parse.own */
enum { REDIS_LEFT, REDIS_STATUS, REDIS_FLAGS, REDIS_CONFIRMATIONS };

enum redis_flag {
	REDIS_IN_LINE = 1 << 0, /* within a line longer than the window */
	/* of a client's direction */
	REDIS_SURE = 1 << 1, /* no other protocol's lines come here */
	REDIS_MUTE = 1 << 2, /* CLIENT REPLY OFF */
	REDIS_MUTE_NEXT = 1 << 3, /* CLIENT REPLY SKIP */
	/* of a server's direction */
	REDIS_APART = 1 << 4, /* the value in progress is */
	REDIS_CONFIRMS = 1 << 5, /* the value in progress ends with the number of subscriptions */
	REDIS_SUBSCRIBED = 1 << 6, /* by RESP2: messages look like answers */
	REDIS_MONITORED = 1 << 7,
};

/* What an answer's parser must know of a request: in `local`, with an argument from bit 8 on. */
enum redis_kind {
	REDIS_PLAIN,
	REDIS_SUBSCRIBES, /* argument: how many channels, 0 if it is not known */
	REDIS_MONITORS,
	REDIS_REPLICATES,
	REDIS_SELECTS, /* argument: the database */
	REDIS_RESETS,
};

#define REDIS_MOST 0x7fffffff /* elements of an array */
#define REDIS_NAME 32 /* bytes of a command's name; what is longer is cut */

struct redis_head {
	__u8 bytes[16];
};

#define REDIS_LENGTH(number) ((number) & 31)
#define REDIS_VALUE(number) (((number) >> 5) - 1)

/*
 * The number behind a type's byte: `*12` CR LF. Returns its value plus one, shifted by five, and
 * the length of it all; 0 if it goes on behind n; -1 if it is none. Not static: verified once.
 */
__noinline __s64 redis_number(const struct redis_head *head, __u32 n)
{
	__s64 number = 0;
	bool negative = false;
	__u8 byte;

	if (!head)
		return -1;
#pragma unroll
	for (int i = 1; i < 13; i++) {
		if (i + 2u > n)
			return 0;
		byte = head->bytes[i];
		if (byte == '\r') {
			if (i == 1 || head->bytes[i + 1] != '\n')
				return -1;
			if (negative)
				number = -1;
			return (number + 1) << 5 | (i + 2);
		}
		if (i == 1 && byte == '-') {
			negative = true;
			continue;
		}
		if (byte < '0' || byte > '9')
			return -1;
		number = number * 10 + (byte - '0');
	}
	return -1;
}

/*
 * The name of a command, in capitals, into `text`; "?" if it can't be one. Returns its
 * fingerprint. Not static: verified once.
 */
__noinline __u64 redis_name(const struct bytes32 *word, __u32 length, struct text *text)
{
	__u64 hash = REDIS, name;
	__u32 left = length < REDIS_NAME ? length : REDIS_NAME;

	if (!word || !text)
		return 0;
	text->length = left;
#pragma unroll
	for (int i = 0; i < REDIS_NAME / 8; i++) {
		name = i * 8u < left ? first_bytes(word_at(word->bytes + i * 8), left - i * 8) : 0;
		if (i * 8u < left && !printable(name, left - i * 8))
			left = 0;
		name = capitals(name);
		*(unaligned_u64 *)(text->bytes + i * 8) = name;
		hash = mix(hash, name);
	}
	if (left)
		return hash;
	text->length = 1;
	text->bytes[0] = '?';
	return mix(REDIS, '?');
}

/* Whether a line is one that only Redis' clients begin with; other names are other protocols', too.
 */
static __always_inline bool redis_line(const __u8 *p, __u32 n)
{
	__u32 length = bounded(first_word((const void *)p), 63);
	__u64 word;

	if (length >= n || length > 7)
		return false;
	word = capitals(first_bytes(word_at(p), length));
	return word == CHARACTERS('P', 'I', 'N', 'G', 0, 0, 0, 0) ||
	       word == CHARACTERS('S', 'E', 'L', 'E', 'C', 'T', 0, 0) ||
	       word == CHARACTERS('M', 'O', 'N', 'I', 'T', 'O', 'R', 0) ||
	       (word == CHARACTERS('I', 'N', 'F', 'O', 0, 0, 0, 0) && p[length] != ' ');
}

static __always_inline bool redis_asks(const __u8 *p, __u32 n)
{
	__s64 number;
	__u32 head;

	if (p[0] != '*')
		return redis_line(p, n);
	number = redis_number((const void *)p, n);
	if (number <= 0 || REDIS_VALUE(number) <= 0)
		return !number;
	head = bounded(REDIS_LENGTH(number), 31);
	if (head >= n)
		return true;
	p += head;
	n -= head;
	number = redis_number((const void *)p, n);
	if (p[0] != '$' || number <= 0 || REDIS_VALUE(number) <= 0)
		return p[0] == '$' && !number;
	head = bounded(REDIS_LENGTH(number), 31);
	return head >= n || ((p[head] | 0x20) >= 'a' && (p[head] | 0x20) <= 'z');
}

static __always_inline bool redis_answers(const __u8 *p, __u32 n)
{
	switch (p[0]) {
	case '+':
#pragma unroll
		for (int i = 1; i < 8; i++) {
			if ((__u32)i >= n || (p[i] == '\r' && i > 1))
				return true;
			if (p[i] < 'A' || p[i] > 'Z')
				return false;
		}
		return false;
	case '-':
		return n < 3 || (p[1] >= 'A' && p[1] <= 'Z' && p[2] >= 'A' && p[2] <= 'Z');
	case ':':
		return n < 2 || p[1] == '-' || (p[1] >= '0' && p[1] <= '9');
	case '_':
		return n < 2 || p[1] == '\r';
	case '#':
		return n < 2 || p[1] == 't' || p[1] == 'f';
	case '$':
	case '*':
	case '%':
	case '~':
	case '>':
		return redis_number((const void *)p, n) >= 0;
	}
	return false;
}

/* What kind of command a name is. */
__noinline int redis_kind(__u64 name, __u32 length)
{
	switch (length) {
	case 4:
		if (name == CHARACTERS('S', 'Y', 'N', 'C', 0, 0, 0, 0))
			return REDIS_REPLICATES;
		break;
	case 5:
		if (name == CHARACTERS('P', 'S', 'Y', 'N', 'C', 0, 0, 0))
			return REDIS_REPLICATES;
		if (name == CHARACTERS('R', 'E', 'S', 'E', 'T', 0, 0, 0))
			return REDIS_RESETS;
		break;
	case 6:
		if (name == CHARACTERS('S', 'E', 'L', 'E', 'C', 'T', 0, 0))
			return REDIS_SELECTS;
		break;
	case 7:
		if (name == CHARACTERS('M', 'O', 'N', 'I', 'T', 'O', 'R', 0))
			return REDIS_MONITORS;
		break;
	case 9:
		if (name == CHARACTERS('S', 'U', 'B', 'S', 'C', 'R', 'I', 'B'))
			return REDIS_SUBSCRIBES;
		break;
	case 10:
		if (name == CHARACTERS('P', 'S', 'U', 'B', 'S', 'C', 'R', 'I') ||
		    name == CHARACTERS('S', 'S', 'U', 'B', 'S', 'C', 'R', 'I'))
			return REDIS_SUBSCRIBES;
		break;
	case 11:
		if (name == CHARACTERS('U', 'N', 'S', 'U', 'B', 'S', 'C', 'R'))
			return REDIS_SUBSCRIBES;
		break;
	case 12:
		if (name == CHARACTERS('P', 'U', 'N', 'S', 'U', 'B', 'S', 'C') ||
		    name == CHARACTERS('S', 'U', 'N', 'S', 'U', 'B', 'S', 'C'))
			return REDIS_SUBSCRIBES;
		break;
	}
	return REDIS_PLAIN;
}

enum redis_reply { REDIS_REPLY_OTHER, REDIS_REPLY_ON, REDIS_REPLY_OFF, REDIS_REPLY_SKIP };

/* What CLIENT's arguments at `p` want: REPLY ON, OFF or SKIP. -1 if they go on behind n. */
__noinline int redis_reply(const struct bytes32 *word, __u32 n)
{
	const __u64 reply = CHARACTERS('$', '5', '\r', '\n', 'R', 'E', 'P', 'L');
	__u32 count = n < 8 ? n : 8;
	const __u8 *p;

	if (!word)
		return -1;
	p = word->bytes;
	/* What is no letter stays as it is: `$` and digits are none. */
	if (capitals(first_bytes(word_at(p), count)) != first_bytes(reply, count))
		return REDIS_REPLY_OTHER;
	if (n < 17)
		return -1;
	switch (capitals(first_bytes(word_at(p + 15), 2))) {
	case 'O' | 'N' << 8:
		return REDIS_REPLY_ON;
	case 'O' | 'F' << 8:
		return REDIS_REPLY_OFF;
	case 'S' | 'K' << 8:
		return REDIS_REPLY_SKIP;
	}
	return REDIS_REPLY_OTHER;
}

/* The number of the database in SELECT's argument at `p`, plus one; 0 if it is none, -1 if it goes
 * on behind n. */
__noinline int redis_database(const struct bytes32 *word, __u32 n)
{
	__s64 number = redis_number((const void *)word, n);
	const __u8 *p;
	__u32 length;
	int database;

	if (!word)
		return 0;
	p = word->bytes;
	if (number <= 0 || REDIS_LENGTH(number) != 4)
		return number ? 0 : -1;
	length = REDIS_VALUE(number);
	if (p[0] != '$' || !length || length > 2)
		return 0;
	if (n < 4 + length)
		return -1;
	database = p[4] - '0';
	if (length == 2)
		database = database * 10 + (p[5] - '0');
	return database < 0 || database > 99 ? 0 : database + 1;
}

/* Notes a command whose name is in `text`: what it changes for others. `next` are its arguments.
 * Returns whether they have been read. */
static __always_inline bool redis_command(__u64 *own, __u32 arguments, const __u8 *next, __u32 n,
					  struct unit *unit, const struct text *text)
{
	__u64 name = *(const unaligned_u64 *)text->bytes;
	__u64 muted = own[REDIS_FLAGS] & (REDIS_MUTE | REDIS_MUTE_NEXT), mutes = muted & REDIS_MUTE;
	int kind = redis_kind(name, text->length);
	int found = 0;

	unit->events = REQUEST;
	unit->local = kind;
	if (kind == REDIS_SUBSCRIBES) {
		unit->local |= (arguments & 0xffffff) << 8;
	} else if (kind == REDIS_SELECTS) {
		found = arguments ? redis_database((const void *)next, n) : 0;
		unit->local = found > 0 ? REDIS_SELECTS | (found - 1) << 8 : REDIS_PLAIN;
	} else if (arguments == 2 && name == CHARACTERS('C', 'L', 'I', 'E', 'N', 'T', 0, 0)) {
		found = redis_reply((const void *)next, n);
		if (found == REDIS_REPLY_ON)
			muted = mutes = 0;
		if (found == REDIS_REPLY_OFF)
			muted = mutes = REDIS_MUTE;
		if (found == REDIS_REPLY_SKIP)
			muted = mutes = mutes ? mutes : REDIS_MUTE_NEXT;
	}
	if (found < 0)
		return false;
	if (muted)
		unit->events |= ONE_WAY;
	own[REDIS_FLAGS] = REDIS_SURE | mutes;
	return true;
}

/* A command that is a line. */
static __always_inline int redis_inline(struct parse *parse, const __u8 *p, __u32 n,
					struct unit *unit, struct text *text)
{
	__u64 *own = parse->own;
	__u32 length = line_length(p, n);

	unit->length = length ? length : n;
	if (own[REDIS_FLAGS] & REDIS_IN_LINE) {
		if (length)
			own[REDIS_FLAGS] &= ~(__u64)REDIS_IN_LINE;
		return TAKEN;
	}
	if (!length && n < WINDOW)
		return MORE;
	if (p[0] == '\n' || p[0] == '\r')
		return length <= 2 && own[REDIS_FLAGS] & REDIS_SURE ? TAKEN : ALIEN;
	if (!(own[REDIS_FLAGS] & REDIS_SURE) && !redis_line(p, n))
		return ALIEN;
	unit->operation = redis_name((const void *)p, first_word((const void *)p), text);
	redis_command(own, 0, p, n, unit, text);
	if (!length)
		own[REDIS_FLAGS] |= REDIS_IN_LINE;
	return TAKEN;
}

static __always_inline int redis_request(struct parse *parse, const __u8 *p, __u32 n,
					 struct unit *unit, struct text *text)
{
	__u64 *own = parse->own;
	__s64 number, elements;
	__u32 head, name, length, end;

	if (!own[REDIS_LEFT] && (p[0] != '*' || own[REDIS_FLAGS] & REDIS_IN_LINE))
		return redis_inline(parse, p, n, unit, text);
	number = redis_number((const void *)p, n);
	if (number <= 0)
		return number ? ALIEN : MORE;
	head = bounded(REDIS_LENGTH(number), 31);
	unit->length = head;
	if (own[REDIS_LEFT]) {
		if (p[0] != '$' || REDIS_VALUE(number) < 0)
			return ALIEN;
		own[REDIS_LEFT]--;
		unit->length += REDIS_VALUE(number) + 2;
		return TAKEN;
	}
	elements = REDIS_VALUE(number);
	if (elements > REDIS_MOST)
		return ALIEN;
	if (elements <= 0) /* no command: it gets no answer */
		return TAKEN;
	if (head >= n)
		return MORE;
	number = redis_number((const void *)(p + head), n - head);
	if (number <= 0)
		return number ? ALIEN : MORE;
	if (p[head] != '$' || REDIS_VALUE(number) < 0)
		return ALIEN;
	name = head + bounded(REDIS_LENGTH(number), 31);
	length = REDIS_VALUE(number) < REDIS_NAME ? REDIS_VALUE(number) : REDIS_NAME;
	end = name + length + 2;
	if (end > n)
		return MORE;
	unit->length = name + REDIS_VALUE(number) + 2;
	unit->operation = redis_name((const void *)(p + bounded(name, 63)), length, text);
	if (!redis_command(own, elements - 1, p + bounded(end, 127), n - end, unit, text))
		return MORE;
	own[REDIS_LEFT] = elements - 1;
	return TAKEN;
}

/* The first six letters of an error's kind, five bits each: ERR, WRONGT(YPE), MOVED. */
__noinline __u32 redis_error(const struct redis_head *head)
{
	__u32 status = 0;
	const __u8 *p;

	if (!head)
		return 0;
	p = head->bytes;
#pragma unroll
	for (int i = 0; i < 6; i++) {
		if (p[i] < 'A' || p[i] > 'Z')
			break;
		status |= (p[i] - 'A' + 1) << (5 * i);
	}
	return status ? status : 31;
}

#define REDIS_ALL_CHANNELS 0xffffff

enum redis_first { REDIS_FIRST_OTHER, REDIS_FIRST_MESSAGE, REDIS_FIRST_CONFIRMS };

/* What an array is that begins with this element, and from bit 2 on the element's length; -1 if
 * more has to be seen. */
__noinline int redis_first(const struct bytes32 *word, __u32 n)
{
	const __u64 message = CHARACTERS('m', 'e', 's', 's', 'a', 'g', 'e', 0);
	const __u64 subscribe = CHARACTERS('s', 'u', 'b', 's', 'c', 'r', 'i', 'b');
	__s64 number = redis_number((const void *)word, n);
	const __u8 *p;
	__u32 value, head, length;

	if (!word || word->bytes[0] != '$' || number < 0)
		return REDIS_FIRST_OTHER;
	if (!number)
		return -1;
	if (REDIS_VALUE(number) < 7 || REDIS_VALUE(number) > 12)
		return REDIS_FIRST_OTHER;
	value = REDIS_VALUE(number);
	head = REDIS_LENGTH(number);
	length = head + value + 2;
	/* And the two bytes that say whether a channel follows. */
	if (length + 2 > n)
		return -1;
	p = word->bytes + bounded(head, 7);
	if (value < 9) {
		if (first_bytes(word_at(p + bounded(value - 7, 1)), 7) != message)
			return REDIS_FIRST_OTHER;
		return length << 2 | REDIS_FIRST_MESSAGE;
	}
	if (word_at(p + bounded(value - 9, 3)) != subscribe)
		return REDIS_FIRST_OTHER;
	return length << 2 | REDIS_FIRST_CONFIRMS;
}

/* Whether a confirmation is the answer to the oldest request. `kind` is that of the name, `nothing`
 * says that it is of no channel. */
static __always_inline bool redis_confirmation(struct parse *parse, __u32 kind, bool nothing)
{
	__u64 *own = parse->own;
	__u32 left = own[REDIS_CONFIRMATIONS] & REDIS_ALL_CHANNELS;

	if (left && own[REDIS_CONFIRMATIONS] >> 24 == kind && !nothing) {
		if (left != REDIS_ALL_CHANNELS)
			own[REDIS_CONFIRMATIONS]--;
		return false;
	}
	own[REDIS_CONFIRMATIONS] = 0;
	if (!parse->waiting)
		return true;
	if ((parse->asked & 0xff) != REDIS_SUBSCRIBES)
		return false;
	left = parse->asked >> 8 ? (parse->asked >> 8) - 1 : REDIS_ALL_CHANNELS;
	if (left && !nothing)
		own[REDIS_CONFIRMATIONS] = (__u64)kind << 24 | left;
	return true;
}

/*
 * An array or a push at the top that may be something nobody asked for; its head is `head` bytes.
 * Returns how many bytes its first element has if that is taken with it, -1 if more has to be seen.
 */
static __always_inline int redis_unasked(struct parse *parse, const __u8 *p, __u32 n, __u32 head,
					 __u64 *flags)
{
	bool push = p[0] == '>';
	__u32 length;
	int first;

	if (head >= n)
		return -1;
	p += bounded(head, 31);
	first = redis_first((const void *)p, n - head);
	if (first < 0)
		return -1;
	if (first == REDIS_FIRST_OTHER) {
		*flags |= push ? REDIS_APART : 0;
		return 0;
	}
	length = first >> 2;
	if ((first & 3) == REDIS_FIRST_MESSAGE) {
		*flags |= REDIS_APART;
		return length;
	}
	p += bounded(length, 63);
	*flags |= REDIS_CONFIRMS | (push ? 0 : REDIS_SUBSCRIBED);
	if (!redis_confirmation(parse, length, p[0] == '_' || p[1] == '-'))
		*flags |= REDIS_APART;
	return length;
}

/* An answer is whole; it begins with `type`, `letter` unless it is not in sight any more. */
static __always_inline void redis_answer(struct parse *parse, __u8 type, __u8 letter,
					 struct unit *unit, struct text *text)
{
	__u32 kind = parse->waiting ? parse->asked & 0xff : REDIS_PLAIN;
	__u32 database = parse->asked >> 8, digits = 0;

	unit->events = ANSWER;
	unit->status = parse->own[REDIS_STATUS];
	if (kind == REDIS_PLAIN || type != '+')
		return;
	if (kind == REDIS_MONITORS)
		parse->own[REDIS_FLAGS] |= REDIS_MONITORED;
	if (kind == REDIS_RESETS)
		parse->own[REDIS_FLAGS] = 0;
	if (kind == REDIS_REPLICATES) {
		unit->events |= ENDS;
		unit->reason = UNSEEN_OTHER;
	}
	/* Not if it is QUEUED. */
	if (letter == 'Q' || (kind != REDIS_SELECTS && kind != REDIS_RESETS))
		return;
	if (database > 9)
		text->bytes[digits++] = '0' + database / 10;
	text->bytes[digits++] = '0' + database % 10;
	text->length = digits;
	unit->events |= NAMESPACE;
	unit->operation = mix(mix(REDIS, NAMESPACE), database);
}

/* The value at `p`, without the elements that it holds: these are added to `left`. */
static __always_inline int redis_value(const __u8 *p, __u32 n, struct unit *unit, __u64 *left,
				       __u64 *status)
{
	__s64 number = redis_number((const void *)p, n);
	__u64 value = REDIS_VALUE(number) < 0 ? 0 : REDIS_VALUE(number);

	if (number <= 0)
		return number ? ALIEN : MORE;
	unit->length = REDIS_LENGTH(number);
	switch (p[0]) {
	case '$': /* bulk string */
	case '!': /* bulk error */
	case '=': /* verbatim string */
		if (REDIS_VALUE(number) >= 0)
			unit->length += value + 2;
		if (p[0] != '!')
			return TAKEN;
		if (n < unit->length && n < 32)
			return MORE;
		if (!*status)
			*status =
				redis_error((const void *)(p + bounded(REDIS_LENGTH(number), 31)));
		return TAKEN;
	case '*': /* array */
	case '~': /* set */
	case '>': /* push */
		*left += value;
		break;
	case '%': /* map */
		*left += 2 * value;
		break;
	case '|': /* attributes come before what they are of */
		*left += 2 * value + 1;
		break;
	default:
		return ALIEN;
	}
	return value > REDIS_MOST || *left > REDIS_MOST * 64ULL ? ALIEN : TAKEN;
}

/* Whether a value of this type is a line. */
static __always_inline bool redis_simple(__u8 type)
{
	switch (type) {
	case '+': /* string */
	case '-': /* error */
	case ':': /* integer */
	case '_': /* null */
	case '#': /* boolean */
	case ',': /* double */
	case '(': /* big number */
		return true;
	}
	return false;
}

static __always_inline int redis_response(struct parse *parse, const __u8 *p, __u32 n,
					  struct unit *unit, struct text *text)
{
	__u64 *own = parse->own;
	__u64 left = own[REDIS_LEFT], status = own[REDIS_STATUS], flags = own[REDIS_FLAGS];
	bool within = flags & REDIS_IN_LINE, top = !left && !within;
	__u32 kind = parse->waiting ? parse->asked & 0xff : REDIS_PLAIN;
	__u8 type = within ? 0 : p[0];
	int taken;

	if (top) {
		if (kind == REDIS_REPLICATES && (type == '\n' || type == '$')) {
			/* A sign of life, or the data; behind them come the other side's commands.
			 */
			unit->length = 1;
			unit->events = type == '\n' ? APART : ANSWER | ENDS;
			unit->reason = UNSEEN_OTHER;
			return TAKEN;
		}
		flags &= ~(__u64)(REDIS_APART | REDIS_CONFIRMS);
		status = 0;
		left = 1;
	}
	if (within || redis_simple(type)) {
		unit->length = line_length(p, n);
		if (!unit->length && n < WINDOW && !within)
			return MORE;
		left -= !within;
		flags &= ~(__u64)REDIS_IN_LINE;
		if (!unit->length) {
			unit->length = n;
			flags |= REDIS_IN_LINE;
		}
		if (type == '-' && !status)
			status = redis_error((const void *)(p + 1));
		if (top && type == '+' && p[1] >= '0' && p[1] <= '9' &&
		    (flags & REDIS_MONITORED || !parse->waiting))
			flags |= REDIS_APART;
		if (!left && flags & REDIS_CONFIRMS && type == ':' && p[1] == '0')
			flags &= ~(__u64)REDIS_SUBSCRIBED;
	} else {
		left--;
		taken = redis_value(p, n, unit, &left, &status);
		if (taken != TAKEN)
			return taken;
		if (top && left &&
		    (type == '>' || (type == '*' && (flags & REDIS_SUBSCRIBED || !parse->waiting ||
						     kind == REDIS_SUBSCRIBES)))) {
			taken = redis_unasked(parse, p, n, unit->length, &flags);
			if (taken < 0)
				return MORE;
			unit->length += taken;
			left -= taken > 0;
		}
	}
	own[REDIS_LEFT] = left;
	own[REDIS_STATUS] = status;
	own[REDIS_FLAGS] = flags;
	if (flags & REDIS_APART)
		unit->events = APART;
	else if (!left && !(flags & REDIS_IN_LINE))
		redis_answer(parse, type, p[1], unit, text);
	return TAKEN;
}

#endif
