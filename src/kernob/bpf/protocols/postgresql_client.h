/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* PostgreSQL: the client's direction. */
#ifndef KERNOB_PROTOCOL_POSTGRESQL_CLIENT_H
#define KERNOB_PROTOCOL_POSTGRESQL_CLIENT_H

#include "postgresql_message.h"

#define POSTGRESQL_TEXT 944 /* bytes of a statement that are looked at, whatever it comes in */
#define POSTGRESQL_NAME 64 /* bytes of a statement's or portal's name, with its zero */

/* The words of parse.own */
enum {
	POSTGRESQL_UNNAMED, /* the statement that the unnamed portal is of */
	POSTGRESQL_SYNCS, /* sent since the latest Execute */
};

/* What the names of statements and of portals are mixed with. */
enum { POSTGRESQL_STATEMENT = 1, POSTGRESQL_PORTAL = 2 };

/* What is sent in the place of a version (src/include/libpq/pqcomm.h). */
enum {
	POSTGRESQL_CANCEL = 80877102,
	POSTGRESQL_SSL = 80877103,
	POSTGRESQL_GSS = 80877104,
};

#define POSTGRESQL_LONGEST_STARTUP 10000

/* Where a search among a StartupMessage's parameters stands; lies in text->own. */
struct postgresql_parameters {
	__u32 at;
	__u32 database; /* 0: not found */
	__u32 user;
	__u32 end; /* of the message, or of what the window shows of it */
};

struct postgresql_startup {
	const struct window *window;
	struct postgresql_parameters *parameters;
};

/* One parameter: a name and a value, each with its zero. */
static long postgresql_parameter(__u32 i, struct postgresql_startup *s)
{
	struct postgresql_parameters *parameters = s->parameters;
	__u32 end = parameters->end, at = parameters->at, value;
	const __u8 *name = s->window->bytes + bounded(at, WINDOW - 1);

	if (at >= end || !name[0])
		return 1;
	value = string_end(s->window, end, at);
	if (word_at(name) == CHARACTERS('d', 'a', 't', 'a', 'b', 'a', 's', 'e') && !name[8])
		parameters->database = value;
	else if (le32_at(name) == 0x72657375 && !name[4]) /* "user" */
		parameters->user = value;
	parameters->at = string_end(s->window, end, value);
	return 0;
}

/* The name of the database in a StartupMessage of `n` bytes becomes the text. Returns its
 * fingerprint, 0 if there is none. Not static: verified once. */
__noinline __u32 postgresql_database(const struct window *window, __u32 n, struct text *text)
{
	struct postgresql_startup startup = {.window = window};
	struct postgresql_parameters *parameters;
	const __u8 *name;
	__u32 at, length;

	if (!window || !text || n < 9)
		return 0;
	parameters = startup.parameters = (void *)text->own;
	parameters->at = 8;
	parameters->database = 0;
	parameters->user = 0;
	parameters->end = n;
	bpf_loop(64, postgresql_parameter, &startup, 0);
	/* Who names none is about the one called as the user is. */
	at = parameters->database ? parameters->database : parameters->user;
	length = string_end(window, n, at) - at;
	if (!at || at >= n || length < 2 || length > POSTGRESQL_NAME)
		return 0;
	name = window->bytes + bounded(at, WINDOW - 1);
#pragma unroll
	for (int i = 0; i < POSTGRESQL_NAME; i += 8)
		*(unaligned_u64 *)(text->bytes + i) = word_at(name + i);
	text->length = length - 1;
	return text_fingerprint(text, POSTGRESQL);
}

/* A number for a name of `length` bytes; 0 if it is too long. Not static: verified once. */
__noinline __u64 postgresql_name(const struct bytes64 *name, __u32 length, __u32 kind)
{
	__u64 hash = mix(kind, length);

	if (!name || length >= POSTGRESQL_NAME)
		return 0;
#pragma unroll
	for (__u32 i = 0; i < POSTGRESQL_NAME; i += 8) {
		if (length > i)
			hash = mix(hash, first_bytes(word_at(name->bytes + i), length - i));
	}
	return hash;
}

/* The bytes of the name at `at`, without its zero; POSTGRESQL_NAME if it is too long. */
static __always_inline __u32 postgresql_name_length(const __u8 *p, __u32 at, __u32 n)
{
	int zero = find_byte((const void *)(p + at), n > at ? n - at : 0, 0);

	return zero < 0 ? POSTGRESQL_NAME : bounded(zero, POSTGRESQL_NAME - 1);
}

/* The statement from `from` on, which ends with a zero. */
static __always_inline void postgresql_sql(struct parse *parse, const __u8 *p, __u32 n, __u32 from,
					   struct unit *unit, struct text *text)
{
	__u64 to = unit->length;
	bool backslash = parse->shared[POSTGRESQL_STATE] & POSTGRESQL_BACKSLASH;

	if (to > n)
		to = n;
	if (to > from + POSTGRESQL_TEXT)
		to = from + POSTGRESQL_TEXT;
	text->length = 0;
	sql_normalize((const void *)p, from, to, text, backslash ? SQL_BACKSLASH : 0);
	unit->operation = text_fingerprint(text, POSTGRESQL);
}

/* A message without a type: what a connection begins with. */
static __always_inline int postgresql_start(struct parse *parse, const __u8 *p, __u32 n,
					    struct unit *unit, struct text *text)
{
	__u32 length, code;

	if (n > 1 && p[1])
		return ALIEN;
	if (n < 8)
		return MORE;
	length = be32_at(p);
	code = be32_at(p + 4);
	if (length < 8 || length > POSTGRESQL_LONGEST_STARTUP)
		return ALIEN;
	unit->length = length;
	switch (code) {
	case POSTGRESQL_SSL:
	case POSTGRESQL_GSS:
		parse->shared[POSTGRESQL_STATE] |= POSTGRESQL_ENCRYPTING;
		return TAKEN;
	case POSTGRESQL_CANCEL:
		return TAKEN;
	}
	if (code >> 16 != 3)
		return ALIEN;
	if (n < WINDOW && n < length)
		return MORE;
	unit->operation = postgresql_database((const void *)p, n < length ? n : length, text);
	if (unit->operation)
		unit->events = NAMESPACE;
	return TAKEN;
}

/* Parse: the name of the statement, and the statement. */
static __always_inline int postgresql_parse(struct parse *parse, const __u8 *p, __u32 n,
					    struct unit *unit, struct text *text)
{
	__u32 name = postgresql_name_length(p, 5, n), from = 5 + name + 1;

	if (name == POSTGRESQL_NAME)
		return TAKEN;
	unit->events = BEFORE | REMEMBER;
	unit->statement = postgresql_name((const void *)(p + 5), name, POSTGRESQL_STATEMENT);
	postgresql_sql(parse, p, n, from, unit, text);
	return TAKEN;
}

/* Bind: the name of the portal, that of the statement, and the parameters. */
static __always_inline int postgresql_bind(struct parse *parse, const __u8 *p, __u32 n,
					   struct unit *unit)
{
	__u32 portal = postgresql_name_length(p, 5, n), at = 5 + portal + 1;
	__u32 name = postgresql_name_length(p, at, n);
	__u64 statement = postgresql_name((const void *)(p + at), name, POSTGRESQL_STATEMENT);

	unit->events = BEFORE;
	if (portal == POSTGRESQL_NAME)
		return TAKEN;
	if (!portal) {
		parse->own[POSTGRESQL_UNNAMED] = statement;
		return TAKEN;
	}
	unit->events = BEFORE | REMEMBER | RECALL;
	unit->statement = postgresql_name((const void *)(p + 5), portal, POSTGRESQL_PORTAL);
	unit->operation = statement;
	return TAKEN;
}

static __always_inline void postgresql_function_call(struct unit *unit, struct text *text)
{
	*(__u64 *)text->bytes = CHARACTERS('F', 'U', 'N', 'C', 'T', 'I', 'O', 'N');
	*(__u64 *)(text->bytes + 8) = CHARACTERS(' ', 'C', 'A', 'L', 'L', 0, 0, 0);
	text->length = 13;
	unit->operation = text_fingerprint(text, POSTGRESQL);
}

/* How many bytes of a message have to be there. */
static __always_inline __u32 postgresql_needed(__u8 type)
{
	switch (type) {
	case 'Q':
	case 'P':
		return WINDOW;
	case 'B':
		return 5 + 2 * POSTGRESQL_NAME;
	case 'E':
		return 5 + POSTGRESQL_NAME;
	}
	return 5;
}

static __always_inline int postgresql_request(struct parse *parse, const __u8 *p, __u32 n,
					      struct unit *unit, struct text *text)
{
	__u64 *own = parse->own;
	__u32 length, portal;

	if (!p[0])
		return postgresql_start(parse, p, n, unit, text);
	if (!postgresql_is_client(p[0]))
		return ALIEN;
	if (n < 5)
		return MORE;
	length = be32_at(p + 1);
	if (length < 4 || length > POSTGRESQL_LONGEST)
		return ALIEN;
	unit->length = 1 + length;
	if (n < unit->length && n < postgresql_needed(p[0]))
		return MORE;
	if (n > unit->length)
		n = unit->length;
	switch (p[0]) {
	case 'Q': /* Query */
		unit->events = REQUEST;
		unit->local = POSTGRESQL_SIMPLE;
		own[POSTGRESQL_SYNCS] = 0;
		postgresql_sql(parse, p, n, 5, unit, text);
		break;
	case 'F': /* FunctionCall */
		unit->events = REQUEST;
		unit->local = POSTGRESQL_SIMPLE;
		own[POSTGRESQL_SYNCS] = 0;
		postgresql_function_call(unit, text);
		break;
	case 'P': /* Parse */
		return postgresql_parse(parse, p, n, unit, text);
	case 'B': /* Bind */
		return postgresql_bind(parse, p, n, unit);
	case 'D': /* Describe */
		unit->events = BEFORE;
		break;
	case 'E': /* Execute */
		unit->events = REQUEST | RECALL;
		unit->local = POSTGRESQL_EXECUTE;
		unit->statement = own[POSTGRESQL_UNNAMED];
		own[POSTGRESQL_SYNCS] = 0;
		portal = postgresql_name_length(p, 5, n);
		if (portal)
			unit->statement =
				postgresql_name((const void *)(p + 5), portal, POSTGRESQL_PORTAL);
		break;
	case 'S': /* Sync */
		if (length != 4)
			return ALIEN;
		unit->events = REQUEST | MARKER;
		unit->local = POSTGRESQL_SYNC;
		own[POSTGRESQL_SYNCS]++;
		break;
	case 'c': /* CopyDone */
	case 'f': /* CopyFail */
		parse->shared[POSTGRESQL_IGNORED] += own[POSTGRESQL_SYNCS];
		own[POSTGRESQL_SYNCS] = 0;
		break;
	}
	return TAKEN;
}

#endif
