/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* MySQL: the client's direction. A packet with the sequence 0 is a command. */
#ifndef KERNOB_PROTOCOL_MYSQL_CLIENT_H
#define KERNOB_PROTOCOL_MYSQL_CLIENT_H

#include "mysql_packet.h"

/* Where the attributes of a query are; lies in text->own. */
struct mysql_places {
	__u32 type; /* of the next one */
	__u32 value;
};

struct mysql_attributes {
	const struct window *window;
	struct mysql_places *places;
	__u32 n;
	__u32 count;
};

/* Two bytes of type, and a name. */
static long mysql_pass_type(__u32 i, struct mysql_attributes *attributes)
{
	struct mysql_places *places = attributes->places;

	if (i >= attributes->count || places->type >= attributes->n)
		return 1;
	places->type = mysql_string_end(attributes->window, places->type + 2);
	return 0;
}

static __always_inline __u32 mysql_value_end(const struct window *window, __u8 type, __u32 at)
{
	switch (type) {
	case 1: /* TINY */
		return at + 1;
	case 2: /* SHORT */
	case 13: /* YEAR */
		return at + 2;
	case 3: /* LONG */
	case 4: /* FLOAT */
	case 9: /* INT24 */
		return at + 4;
	case 5: /* DOUBLE */
	case 8: /* LONGLONG */
		return at + 8;
	case 6: /* NULL */
		return at;
	}
	return mysql_string_end(window, at);
}

static long mysql_pass_value(__u32 i, struct mysql_attributes *attributes)
{
	const struct window *window = attributes->window;
	struct mysql_places *places = attributes->places;
	__u8 type = window->bytes[bounded(places->type, WINDOW - 1)];

	if (i >= attributes->count || places->value >= attributes->n)
		return 1;
	places->type = mysql_string_end(window, places->type + 2);
	/* Behind the two counts, a bit says that there is no value. */
	if (!(window->bytes[7 + bounded(i >> 3, 31)] >> (i & 7) & 1))
		places->value = mysql_value_end(window, type, places->value);
	return 0;
}

/*
 * Where the statement of a QUERY begins. Drivers of MySQL 8 may put attributes before it: how many
 * there are, and how many sets of them: always one. No statement has a byte 1 there. Not static:
 * verified once.
 */
__noinline __u32 mysql_statement(const struct window *window, __u32 n, struct text *text)
{
	struct mysql_attributes attributes = {.window = window, .n = n};
	struct mysql_places *places;
	__u32 types;

	if (!window || !text || n < 7 || window->bytes[6] != 1 || window->bytes[5] >= 0xfb)
		return 5;
	attributes.count = window->bytes[5];
	if (!attributes.count)
		return 7;
	places = attributes.places = (void *)text->own;
	types = 7 + (attributes.count + 7) / 8 + 1;
	places->type = types;
	bpf_loop(256, mysql_pass_type, &attributes, 0);
	places->value = places->type;
	places->type = types;
	bpf_loop(256, mysql_pass_value, &attributes, 0);
	return places->value < WINDOW ? places->value : WINDOW;
}

/* The statement that lies from `from` to `to`, behind what the text holds already. */
static __always_inline __u64 mysql_sql(const struct parse *parse, const __u8 *p, __u32 n,
				       __u32 from, __u64 to, struct text *text)
{
	__u32 escapes = parse->shared[0] & MYSQL_PLAIN_STRINGS ? 0 : SQL_BACKSLASH;

	if (!(parse->shared[0] & MYSQL_MODE_KNOWN))
		escapes = SQL_UNSURE;
	if (to > n)
		to = n;
	if (to > from + MYSQL_TEXT)
		to = from + MYSQL_TEXT;
	sql_normalize((const void *)p, from, to, text, SQL_MYSQL | escapes);
	return text_fingerprint(text, MYSQL);
}

/* What the commands that have no statement are called. */
static __always_inline __u64 mysql_command_name(__u32 command, struct text *text)
{
	const __u8 *name = mysql_names[bounded(command, 31)];
	__u64 zeros, *words = (void *)text->bytes;

	words[0] = word_at(name);
	words[1] = word_at(name + 8);
	words[2] = 0;
	zeros = bytes_equal(words[1], 0);
	text->length = 8 + (zeros ? lowest_marked(zeros) : 8);
	if (!words[1])
		text->length = lowest_marked(bytes_equal(words[0], 0) | 1ULL << 63);
	return text_fingerprint(text, MYSQL);
}

/*
 * A name, the proof that it is theirs, and a database: how a login and a change of the user begin.
 * `counted` says that the proof's length comes before it. Makes the database the text and returns
 * its fingerprint, 0 if there is none. Not static: verified once.
 */
__noinline __u64 mysql_login(const struct window *window, __u32 n, __u32 at, bool counted,
			     struct text *text)
{
	__u32 end;

	if (!window || !text)
		return 0;
	at = string_end(window, n, at);
	if (at >= n)
		return 0;
	at = counted ? mysql_string_end(window, at) : string_end(window, n, at);
	if (at >= n)
		return 0;
	end = string_end(window, n, at);
	if (end - at < 2)
		return 0;
	return mysql_name((const void *)(window->bytes + bounded(at, WINDOW - 1)), end - at - 1,
			  text);
}

/* The client has answered the greeting: what both sides can do holds from now on. */
static __always_inline void mysql_handshake(struct parse *parse, const __u8 *p, __u32 n,
					    __u32 length, struct unit *unit, struct text *text)
{
	__u32 both = le32_at(p + 4) & (__u32)parse->shared[0], database;

	if (length < 32 || !(both & MYSQL_PROTOCOL_41))
		return;
	if (length == 32) {
		unit->events = ENDS;
		unit->reason = UNSEEN_ENCRYPTED;
		return;
	}
	parse->shared[0] = (parse->shared[0] & ~0xffffffffULL) | both | MYSQL_KNOWN;
	if (both & MYSQL_COMPRESSES) {
		unit->events = ENDS;
		unit->reason = UNSEEN_COMPRESSED;
		return;
	}
	if (!(both & MYSQL_WITH_DATABASE))
		return;
	database = mysql_login((const void *)p, n < 4 + length ? n : 4 + length, 36,
			       both & MYSQL_LENGTH_OF_AUTH, text);
	if (database)
		mysql_set_database(parse, database, unit);
}

/* A packet that is no command. */
static __always_inline int mysql_other(struct parse *parse, const __u8 *p, __u32 n, __u32 length,
				       struct unit *unit, struct text *text)
{
	__u64 *own = parse->own;

	if (own[MYSQL_FLAGS] & MYSQL_CONTINUES)
		goto passed;
	if (parse->shared[0] & MYSQL_FILE) {
		own[MYSQL_FLAGS] |= MYSQL_IN_FILE;
		if (!length) {
			own[MYSQL_FLAGS] &= ~MYSQL_IN_FILE;
			parse->shared[0] &= ~MYSQL_FILE;
		}
		goto passed;
	}
	if (own[MYSQL_FLAGS] & MYSQL_LOGGING_IN)
		goto passed;
	if (n < WINDOW && n < 4 + length)
		return MORE;
	if (!(parse->shared[0] & MYSQL_HANDSHAKE)) {
		if (n < 36 || !mysql_is_login(p, length))
			return ALIEN;
		/* The greeting came before the agent: what it offered is not known. */
		parse->shared[0] = MYSQL_HANDSHAKE | 0xffffffff;
	}
	own[MYSQL_FLAGS] |= MYSQL_LOGGING_IN;
	mysql_handshake(parse, p, n, length, unit, text);
passed:
	if (length == MYSQL_LONGEST)
		own[MYSQL_FLAGS] |= MYSQL_CONTINUES;
	else
		own[MYSQL_FLAGS] &= ~MYSQL_CONTINUES;
	return TAKEN;
}

/* What a command is about, behind the command itself. */
static __always_inline int mysql_rest(struct parse *parse, const __u8 *p, __u32 n,
				      struct unit *unit, struct text *text)
{
	__u64 *own = parse->own;
	__u32 length = own[MYSQL_REST], database;

	if (n < WINDOW && n < length)
		return MORE;
	own[MYSQL_REST] = 0;
	unit->length = length;
	switch (own[MYSQL_OF]) {
	case MYSQL_PREPARE:
		unit->events = REMEMBER;
		unit->statement = own[MYSQL_LAST];
		text->length = 0;
		unit->operation = mysql_sql(parse, p, n, 0, length, text);
		break;
	case MYSQL_INIT_DB:
		mysql_set_database(parse, mysql_name((const void *)p, length, text), unit);
		break;
	default: /* MYSQL_CHANGE_USER */
		database = mysql_login((const void *)p, n < length ? n : length, 0, true, text);
		if (database)
			mysql_set_database(parse, database, unit);
	}
	return TAKEN;
}

static __always_inline int mysql_request(struct parse *parse, const __u8 *p, __u32 n,
					 struct unit *unit, struct text *text)
{
	__u64 *own = parse->own;
	__u32 length, command, at;

	if (own[MYSQL_REST])
		return mysql_rest(parse, p, n, unit, text);
	if (n < 4)
		return MORE;
	length = mysql_length(p);
	unit->length = 4 + length;
	if (p[3] || own[MYSQL_FLAGS] & (MYSQL_CONTINUES | MYSQL_IN_FILE))
		return mysql_other(parse, p, n, length, unit, text);
	if (!length)
		return ALIEN;
	if (n < WINDOW && n < unit->length)
		return MORE;
	command = p[4];
	unit->events = REQUEST;
	unit->local = command;
	switch (command) {
	case MYSQL_QUIT:
	case MYSQL_CLOSE:
	case MYSQL_SEND_LONG_DATA:
		unit->events = 0;
		break;
	case MYSQL_QUERY:
		at = mysql_statement((const void *)p, n < unit->length ? n : unit->length, text);
		text->length = 0;
		unit->operation = mysql_sql(parse, p, n, at, unit->length, text);
		break;
	case MYSQL_PREPARE:
		own[MYSQL_LAST] = (__u32)((own[MYSQL_LAST] >> 8) + 1) << 8 | command;
		unit->local = own[MYSQL_LAST];
		*(__u64 *)text->bytes = 0x2045524150455250; /* "PREPARE " */
		text->length = 8;
		unit->operation = mysql_sql(parse, p, n, 5, unit->length, text);
		break;
	case MYSQL_EXECUTE:
	case MYSQL_BULK_EXECUTE:
		if (length < 5)
			return ALIEN;
		unit->events = REQUEST | RECALL;
		unit->statement = le32_at(p + 5) == 0xffffffff ? own[MYSQL_LAST]
							       : mysql_number(le32_at(p + 5));
		break;
	case MYSQL_BINLOG_DUMP:
	case MYSQL_BINLOG_DUMP_GTID:
	case MYSQL_TABLE_DUMP:
		unit->events = ENDS;
		unit->reason = UNSEEN_OTHER;
		break;
	default:
		if (command > 31 || !mysql_names[bounded(command, 31)][0])
			return ALIEN;
		unit->operation = mysql_command_name(command, text);
	}
	own[MYSQL_FLAGS] = command == MYSQL_CHANGE_USER ? MYSQL_LOGGING_IN : 0;
	if (length == MYSQL_LONGEST)
		own[MYSQL_FLAGS] |= MYSQL_CONTINUES;
	parse->shared[0] &= ~(MYSQL_HANDSHAKE | MYSQL_FILE);
	if (length > 1 && (command == MYSQL_PREPARE || command == MYSQL_INIT_DB ||
			   command == MYSQL_CHANGE_USER)) {
		own[MYSQL_REST] = length - 1;
		own[MYSQL_OF] = command;
		unit->length = 5;
	}
	return TAKEN;
}

#endif
