/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* PostgreSQL: the server's direction. */
#ifndef KERNOB_PROTOCOL_POSTGRESQL_SERVER_H
#define KERNOB_PROTOCOL_POSTGRESQL_SERVER_H

#include "postgresql_message.h"

/* The words of parse.own */
enum {
	POSTGRESQL_TYPE, /* of a message whose type was a unit of its own */
	POSTGRESQL_FLAGS,
	POSTGRESQL_STATUS, /* the first error of a simple query */
};

/* own[POSTGRESQL_FLAGS] */
enum {
	POSTGRESQL_BEGUN = 1, /* a unit has been seen */
	POSTGRESQL_STARTING = 2, /* until the first ReadyForQuery, nothing answers a request */
	POSTGRESQL_FAILED = 4, /* the server skips all until a Sync */
};

#define POSTGRESQL_ERROR 192 /* bytes of an error, among which its severity and its code are */

struct postgresql_error {
	__u8 bytes[POSTGRESQL_ERROR];
};

/* How bad it is in the user's language, in English (since 9.6), then the code. */
#define POSTGRESQL_IS_FATAL (1ULL << 32)

/*
 * The SQLSTATE of an error's fields: five digits in base 36, plus one; with POSTGRESQL_IS_FATAL if
 * the server closes the connection. Not static: verified once.
 */
__noinline __u64 postgresql_error(const struct postgresql_error *error, __u32 n)
{
	__u64 status = 0, fatal = 0;
	__u32 at = 0;
	__u8 byte;
	int zero;

	if (!error)
		return 1;
	for (int field = 0; field < 3; field++) {
		if (at + 7 > n || at > POSTGRESQL_ERROR - 64)
			return 1;
		byte = error->bytes[at];
		if (byte == 'C')
			break;
		if (byte == 'V' && (error->bytes[at + 1] == 'F' || error->bytes[at + 1] == 'P'))
			fatal = POSTGRESQL_IS_FATAL;
		zero = find_byte((const void *)(error->bytes + at), n - at, 0);
		if (zero < 0)
			return 1;
		at += bounded(zero, 63) + 1;
	}
	if (at + 7 > n || at > POSTGRESQL_ERROR - 64 || error->bytes[at] != 'C')
		return 1;
#pragma unroll
	for (int i = 1; i <= 5; i++) {
		byte = error->bytes[at + i];
		byte = byte >= 'A' ? byte - 'A' + 10 : byte - '0';
		status = status * 36 + (byte < 36 ? byte : 0);
	}
	return (status + 1) | fatal;
}

/* ParameterStatus: one of them changes how strings are read. */
static __always_inline void postgresql_parameter_status(struct parse *parse, const __u8 *body)
{
	__u64 *state = &parse->shared[POSTGRESQL_STATE];

	if (word_at(body) != CHARACTERS('s', 't', 'a', 'n', 'd', 'a', 'r', 'd') ||
	    word_at(body + 8) != CHARACTERS('_', 'c', 'o', 'n', 'f', 'o', 'r', 'm') ||
	    word_at(body + 16) != CHARACTERS('i', 'n', 'g', '_', 's', 't', 'r', 'i'))
		return;
	if (body[29] == 'f') /* "ngs", 0, "off" */
		*state |= POSTGRESQL_BACKSLASH;
	else
		*state &= ~(__u64)POSTGRESQL_BACKSLASH;
}

/* A marker stands in line that the server does not answer: the message's type alone drops it. */
static __always_inline int postgresql_drop_marker(struct parse *parse, __u8 type, struct unit *unit)
{
	parse->own[POSTGRESQL_TYPE] = type;
	unit->length = 1;
	unit->events = UNTIL;
	return TAKEN;
}

static __always_inline int postgresql_ready(struct parse *parse, __u32 at, struct unit *unit)
{
	__u64 *own = parse->own, flags = own[POSTGRESQL_FLAGS], status = own[POSTGRESQL_STATUS];
	bool simple = parse->asked == POSTGRESQL_SIMPLE;

	if (at && parse->waiting && parse->shared[POSTGRESQL_IGNORED] &&
	    parse->asked == POSTGRESQL_SYNC) {
		parse->shared[POSTGRESQL_IGNORED]--;
		return postgresql_drop_marker(parse, 'Z', unit);
	}
	own[POSTGRESQL_FLAGS] = POSTGRESQL_BEGUN;
	own[POSTGRESQL_STATUS] = 0;
	if (!parse->waiting || flags & POSTGRESQL_STARTING) {
		unit->events = APART;
	} else if (simple && !(flags & POSTGRESQL_FAILED)) {
		unit->events = ANSWER;
		unit->status = status;
	} else {
		unit->events = UNTIL;
	}
	return TAKEN;
}

static __always_inline int postgresql_failed(struct parse *parse, const __u8 *body, __u32 n,
					     struct unit *unit)
{
	__u64 *own = parse->own, error = postgresql_error((const void *)body, n);
	bool answers = parse->waiting &&
		       !(own[POSTGRESQL_FLAGS] & (POSTGRESQL_FAILED | POSTGRESQL_STARTING));

	if (answers && parse->asked == POSTGRESQL_SIMPLE) {
		if (!own[POSTGRESQL_STATUS])
			own[POSTGRESQL_STATUS] = (__u32)error;
		/* No ReadyForQuery follows. */
		if (error & POSTGRESQL_IS_FATAL) {
			unit->events = ANSWER;
			unit->status = own[POSTGRESQL_STATUS];
		}
		return TAKEN;
	}
	own[POSTGRESQL_FLAGS] |= POSTGRESQL_FAILED;
	unit->events = APART;
	if (answers && parse->asked == POSTGRESQL_EXECUTE) {
		unit->events = ANSWER;
		unit->status = error;
	}
	return TAKEN;
}

/* The one byte that answers a wish for encryption. Returns whether it is one. */
static __always_inline bool postgresql_encrypts(struct parse *parse, const __u8 *p, __u32 n,
						struct unit *unit)
{
	__u8 byte = p[0];
	/* The wish may have come before the agent; a notice's length begins with a zero. */
	bool first = byte == 'N' && n > 1 && p[1] && !parse->own[POSTGRESQL_FLAGS];

	if (!first && !(parse->shared[POSTGRESQL_STATE] & POSTGRESQL_ENCRYPTING))
		return false;
	parse->shared[POSTGRESQL_STATE] &= ~(__u64)POSTGRESQL_ENCRYPTING;
	if (byte != 'S' && byte != 'G' && byte != 'N')
		return false;
	unit->length = 1;
	unit->events = APART;
	if (byte == 'N')
		return true;
	unit->events = ENDS;
	unit->reason = UNSEEN_ENCRYPTED;
	return true;
}

static __always_inline int postgresql_response(struct parse *parse, const __u8 *p, __u32 n,
					       struct unit *unit, struct text *text)
{
	__u64 *own = parse->own;
	__u8 type = own[POSTGRESQL_TYPE];
	__u32 at = type ? 0 : 1, length;

	if (at) {
		type = p[0];
		if (postgresql_encrypts(parse, p, n, unit))
			return TAKEN;
		if (!postgresql_is_server(type))
			return ALIEN;
	}
	if (n < at + 4)
		return MORE;
	length = be32_at(p + at);
	if (length < 4 || length > POSTGRESQL_LONGEST)
		return ALIEN;
	unit->length = at + length;
	if (n < unit->length &&
	    ((type == 'E' && n < at + 4 + POSTGRESQL_ERROR) || (type == 'S' && n < 64)))
		return MORE;
	own[POSTGRESQL_FLAGS] |= POSTGRESQL_BEGUN;
	/* Only what an Execute was for answers so: a Sync before it has had no answer that was
	 * seen.
	 */
	if (at && parse->waiting && parse->asked == POSTGRESQL_SYNC &&
	    (type == 'D' || type == 'C' || type == 's' || type == 'I'))
		return postgresql_drop_marker(parse, type, unit);
	own[POSTGRESQL_TYPE] = 0;
	switch (type) {
	case 'R': /* Authentication */
		own[POSTGRESQL_FLAGS] |= POSTGRESQL_STARTING;
		unit->events = APART;
		break;
	case 'S': /* ParameterStatus */
		if (length > 32)
			postgresql_parameter_status(parse, p + at + 4);
		unit->events = APART;
		break;
	case 'N': /* NoticeResponse */
	case 'A': /* NotificationResponse */
	case 'K': /* BackendKeyData */
	case 'v': /* NegotiateProtocolVersion */
		unit->events = APART;
		break;
	case 'Z': /* ReadyForQuery */
		if (length != 5)
			return ALIEN;
		return postgresql_ready(parse, at, unit);
	case 'E': /* ErrorResponse */
		return postgresql_failed(parse, p + at + 4,
					 (n < unit->length ? n : unit->length) - at - 4, unit);
	case 'C': /* CommandComplete */
	case 's': /* PortalSuspended */
	case 'I': /* EmptyQueryResponse */
		if (!parse->waiting || parse->asked == POSTGRESQL_EXECUTE)
			unit->events = ANSWER;
		break;
	case 'W': /* CopyBothResponse: replication */
		unit->events = ANSWER | ENDS;
		unit->reason = UNSEEN_OTHER;
		break;
	case 'D': /* DataRow */
	case 'd': /* CopyData */
		break;
	default: /* of a Parse, a Bind, a Describe, a Close; CopyDone, and the like */
		if (!parse->waiting || parse->asked == POSTGRESQL_SYNC)
			unit->events = APART;
	}
	return TAKEN;
}

#endif
