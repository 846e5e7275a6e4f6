/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* MySQL: the server's direction. What an answer is made of depends on what was asked. */
#ifndef KERNOB_PROTOCOL_MYSQL_SERVER_H
#define KERNOB_PROTOCOL_MYSQL_SERVER_H

#include "mysql_packet.h"

/* Passing over packets whose content says nothing; lies in text->own. */
struct mysql_passed {
	__u32 length; /* so far, maybe beyond the window */
	__u32 left; /* packets at most */
};

struct mysql_passing {
	const struct window *window;
	struct mysql_passed *passed;
	__u32 n;
	bool rows; /* then what looks like an end or an error is one */
};

static long mysql_pass_packet(__u32 i, struct mysql_passing *passing)
{
	struct mysql_passed *passed = passing->passed;
	__u32 at = passed->length, length;
	const __u8 *packet;

	if (!passed->left || at + 5 > passing->n)
		return 1;
	packet = passing->window->bytes + bounded(at, WINDOW - 1);
	length = mysql_length(packet);
	if (!length || (passing->rows && packet[4] >= 0xfe && length < MYSQL_LONGEST))
		return 1;
	passed->left--;
	passed->length = at + 4 + length;
	return 0;
}

/* Passes over up to `left` definitions or rows, at least one, as many as the window shows. Returns
 * their length, and in the upper half how many are left. Not static: verified once. */
__noinline __u64 mysql_pass_packets(const struct window *window, __u32 n, __u32 left, bool rows,
				    struct text *text)
{
	struct mysql_passing passing = {.window = window, .n = n, .rows = rows};

	if (!window || !text)
		return 0;
	passing.passed = (void *)text->own;
	passing.passed->length = 0;
	passing.passed->left = left;
	bpf_loop(WINDOW / 5 + 1, mysql_pass_packet, &passing, 0);
	return (__u64)passing.passed->left << 32 | passing.passed->length;
}

/* Returns the status flags of an OK, which come behind two numbers, and in the upper half the
 * place behind them. Not static: verified once. */
__noinline __u64 mysql_ok_flags(const struct window *window, __u32 end)
{
	__u32 at = 5;

	if (!window)
		return 0;
	at += mysql_number_size(window->bytes[at]);
	at += mysql_number_size(window->bytes[bounded(at, 31)]);
	if (at + 2 > end)
		return 0;
	return (__u64)(at + 2) << 32 | le16_at(window->bytes + bounded(at, 31));
}

/* What an OK says of the session: only a change of the database is looked for. Makes it the text
 * and returns its fingerprint, 0 if there is none. Not static: verified once. */
__noinline __u64 mysql_schema(const struct window *window, __u32 end, __u32 at, struct text *text)
{
	const __u8 *change;
	__u32 next;

	if (!window || !text)
		return 0;
	/* Behind the number of warnings: what people should read, and how long all changes are. */
	at = mysql_string_end(window, at + 2);
	if (at >= end)
		return 0;
	at += mysql_number_size(window->bytes[bounded(at, WINDOW - 1)]);
	for (int i = 0; i < 8; i++) {
		if (at + 3 > end)
			return 0;
		change = window->bytes + bounded(at, WINDOW - 1);
		next = mysql_string_end(window, at + 1);
		if (next > end || at + 3 + change[2] > end)
			return 0;
		if (change[0] == 1)
			return mysql_name(
				(const void *)(window->bytes + bounded(at + 3, WINDOW - 1)),
				change[2], text);
		at = next;
	}
	return 0;
}

/* The answer is whole. */
static __always_inline void mysql_whole(__u64 *own, struct unit *unit, __u32 status)
{
	own[MYSQL_STATE] = MYSQL_ANSWER;
	unit->events |= ANSWER;
	unit->status = status;
}

static __always_inline void mysql_error(struct parse *parse, const __u8 *p, __u32 length,
					struct unit *unit, struct text *text)
{
	__u32 code = le16_at(p + 5);

	/* MariaDB says so how far a long command has come. */
	if (length < 3 || code == 0xffff)
		return;
	if ((parse->asked & 0xff) == MYSQL_INIT_DB && parse->shared[1]) {
		/* It stays with the one before, which has been said. */
		parse->shared[1] >>= 32;
		unit->operation = parse->shared[1];
		unit->events = NAMESPACE;
		text->length = 0;
	}
	mysql_whole(parse->own, unit, code);
}

/* An OK, an EOF, or an error: the end of a result. */
static __always_inline int mysql_end(struct parse *parse, const __u8 *p, __u32 n, __u32 length,
				     struct unit *unit, struct text *text)
{
	__u32 end = 4 + length, flags, database;
	__u64 *own = parse->own, ok;

	if (n < WINDOW && n < end)
		return MORE;
	if (end > n)
		end = n;
	if (p[4] == 0xff) {
		mysql_error(parse, p, length, unit, text);
		return TAKEN;
	}
	if (p[4] == 0xfe && length < 7) {
		flags = length >= 5 ? le16_at(p + 7) : 0;
		if (own[MYSQL_STATE] == MYSQL_FIRST_ROW && !(flags & MYSQL_CURSOR)) {
			own[MYSQL_STATE] = MYSQL_ROW;
			return TAKEN;
		}
	} else {
		ok = mysql_ok_flags((const void *)p, end);
		flags = ok;
		database = 0;
		if (flags & MYSQL_STATE_CHANGED)
			database = mysql_schema((const void *)p, end, ok >> 32, text);
		if (database)
			mysql_set_database(parse, database, unit);
	}
	parse->shared[0] &= ~MYSQL_PLAIN_STRINGS;
	parse->shared[0] |= MYSQL_MODE_KNOWN | (flags & MYSQL_NO_ESCAPES ? MYSQL_PLAIN_STRINGS : 0);
	if (flags & MYSQL_MORE_RESULTS)
		own[MYSQL_STATE] = MYSQL_RESULT;
	else
		mysql_whole(own, unit, 0);
	return TAKEN;
}

/* A statement is prepared: its number, and how many packets come behind. */
static __always_inline int mysql_prepared(struct parse *parse, const __u8 *p, __u32 n, __u32 length,
					  struct unit *unit)
{
	__u64 *own = parse->own;
	__u32 columns, parameters, left;

	if (n < WINDOW && n < 4 + length)
		return MORE;
	if (length < 12)
		return ALIEN;
	columns = le16_at(p + 9);
	parameters = le16_at(p + 11);
	left = columns + parameters;
	if (length > 12 && !p[16])
		left = 0;
	else if (parse->shared[0] & MYSQL_KNOWN && !(parse->shared[0] & MYSQL_DEPRECATE_EOF))
		left += !!columns + !!parameters;
	own[MYSQL_STATEMENT] = mysql_number(le32_at(p + 5));
	own[MYSQL_LEFT] = left;
	own[MYSQL_STATE] = MYSQL_PREPARED;
	if (!left) {
		unit->statement = own[MYSQL_STATEMENT];
		unit->events = PREPARED;
		mysql_whole(own, unit, 0);
	}
	return TAKEN;
}

/* The number of a result's columns. */
static __always_inline int mysql_columns(__u64 *own, const __u8 *p, __u32 n, __u32 length)
{
	__u32 size = mysql_number_size(p[4]), columns;

	if (p[4] > 0xfc || length > 4)
		return ALIEN;
	if (n < 4 + length)
		return MORE;
	columns = p[4] == 0xfc ? le16_at(p + 5) : p[4];
	/* Both sides may have agreed that definitions are not always sent. */
	if (length > size && !p[4 + size])
		columns = 0;
	own[MYSQL_LEFT] = columns;
	own[MYSQL_STATE] = columns ? MYSQL_DEFINITIONS : MYSQL_FIRST_ROW;
	return TAKEN;
}

/* Definitions and rows, as many as the window shows. */
static __always_inline void mysql_pass(__u64 *own, const __u8 *p, __u32 n, struct unit *unit,
				       struct text *text)
{
	bool rows = own[MYSQL_STATE] == MYSQL_ROW;
	__u64 passed;

	passed =
		mysql_pass_packets((const void *)p, n, rows ? WINDOW : own[MYSQL_LEFT], rows, text);
	unit->length = (__u32)passed;
	/* Only a row can be so long; the window ends within it, so it is the last one. */
	if (unit->length >= 4 + MYSQL_LONGEST)
		own[MYSQL_FLAGS] |= MYSQL_CONTINUES;
	if (rows)
		return;
	own[MYSQL_LEFT] = passed >> 32;
	if (own[MYSQL_LEFT])
		return;
	if (own[MYSQL_STATE] == MYSQL_DEFINITIONS) {
		own[MYSQL_STATE] = MYSQL_FIRST_ROW;
		return;
	}
	unit->statement = own[MYSQL_STATEMENT];
	unit->events = PREPARED;
	mysql_whole(own, unit, 0);
}

/* What the server says until it has let the client in. */
static __always_inline int mysql_welcome(struct parse *parse, const __u8 *p, __u32 n, __u32 length,
					 struct unit *unit)
{
	__u32 at;

	unit->events = APART;
	if (p[3]) {
		if (p[4] == 0 || p[4] == 0xff)
			parse->shared[0] &= ~MYSQL_HANDSHAKE;
		return TAKEN;
	}
	if (n < WINDOW && n < 4 + length)
		return MORE;
	if (n > 4 + length)
		n = 4 + length;
	at = string_end((const void *)p, n, 5);
	if (p[4] != 10 || at + 20 > n)
		return ALIEN;
	/* The version; the thread, a salt, a zero; two bytes, three others, the upper two bytes. */
	at = bounded(at + 13, WINDOW - 1);
	parse->shared[0] = MYSQL_HANDSHAKE | le16_at(p + at) | le16_at(p + at + 5) << 16;
	return TAKEN;
}

/* The first packet of an answer, or of a further result in it. */
static __always_inline int mysql_begin(struct parse *parse, const __u8 *p, __u32 n, __u32 length,
				       struct unit *unit, struct text *text)
{
	__u32 command = parse->asked & 0xff;
	__u64 *own = parse->own;

	if (own[MYSQL_STATE] == MYSQL_ANSWER && !parse->waiting && p[3] != 1) {
		unit->events = APART;
		return TAKEN;
	}
	if (p[4] == 0xff)
		return mysql_end(parse, p, n, length, unit, text);
	switch (command) {
	case MYSQL_STATISTICS:
		mysql_whole(own, unit, 0);
		return TAKEN;
	case MYSQL_PREPARE:
		return p[4] ? ALIEN : mysql_prepared(parse, p, n, length, unit);
	case MYSQL_CHANGE_USER:
		if (p[4])
			return TAKEN;
		break;
	case MYSQL_FETCH:
	case MYSQL_FIELD_LIST:
		if (p[4] == 0xfe)
			break;
		own[MYSQL_STATE] = MYSQL_ROW;
		mysql_pass(own, p, n, unit, text);
		return TAKEN;
	}
	if (p[4] == 0 || p[4] == 0xfe)
		return mysql_end(parse, p, n, length, unit, text);
	if (command < 32 && mysql_names[bounded(command, 31)][0] && command != MYSQL_PROCESS_INFO)
		return ALIEN;
	if (p[4] == 0xfb) {
		parse->shared[0] |= MYSQL_FILE;
		own[MYSQL_STATE] = MYSQL_RESULT;
		return TAKEN;
	}
	return mysql_columns(own, p, n, length);
}

static __always_inline int mysql_response(struct parse *parse, const __u8 *p, __u32 n,
					  struct unit *unit, struct text *text)
{
	__u64 *own = parse->own;
	__u32 length;

	if (n < 4)
		return MORE;
	length = mysql_length(p);
	unit->length = 4 + length;
	if (own[MYSQL_FLAGS] & MYSQL_CONTINUES) {
		if (length < MYSQL_LONGEST)
			own[MYSQL_FLAGS] &= ~MYSQL_CONTINUES;
		return TAKEN;
	}
	if (!length)
		return ALIEN;
	if (n < 5)
		return MORE;
	if (parse->shared[0] & MYSQL_HANDSHAKE || (!p[3] && own[MYSQL_STATE] == MYSQL_ANSWER))
		return mysql_welcome(parse, p, n, length, unit);
	switch (own[MYSQL_STATE]) {
	case MYSQL_ANSWER:
	case MYSQL_RESULT:
		return mysql_begin(parse, p, n, length, unit, text);
	case MYSQL_FIRST_ROW:
		if (p[4] >= 0xfe && length < MYSQL_LONGEST)
			return mysql_end(parse, p, n, length, unit, text);
		own[MYSQL_STATE] = MYSQL_ROW;
		break;
	case MYSQL_ROW:
		if (p[4] >= 0xfe && length < MYSQL_LONGEST)
			return mysql_end(parse, p, n, length, unit, text);
		break;
	}
	mysql_pass(own, p, n, unit, text);
	return TAKEN;
}

#endif
