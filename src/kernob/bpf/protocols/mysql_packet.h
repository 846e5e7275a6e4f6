/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* MySQL: what a packet is made of, and what both directions remember. */
#ifndef KERNOB_PROTOCOL_MYSQL_PACKET_H
#define KERNOB_PROTOCOL_MYSQL_PACKET_H

#include "../include/scan.h"
#include "../include/sql.h"

enum mysql_command {
	MYSQL_QUIT = 0x01,
	MYSQL_INIT_DB = 0x02,
	MYSQL_QUERY = 0x03,
	MYSQL_FIELD_LIST = 0x04,
	MYSQL_STATISTICS = 0x09,
	MYSQL_PROCESS_INFO = 0x0a,
	MYSQL_CHANGE_USER = 0x11,
	MYSQL_BINLOG_DUMP = 0x12,
	MYSQL_TABLE_DUMP = 0x13,
	MYSQL_PREPARE = 0x16,
	MYSQL_EXECUTE = 0x17,
	MYSQL_SEND_LONG_DATA = 0x18,
	MYSQL_CLOSE = 0x19,
	MYSQL_FETCH = 0x1c,
	MYSQL_BINLOG_DUMP_GTID = 0x1e,
	MYSQL_BULK_EXECUTE = 0xfa, /* MariaDB's */
};

/* What the other commands that are answered are called; the rest does not exist. 64 bytes may be
 * read from each place. */
static const __u8 mysql_names[32 + 2][24] = {
	[0x02] = "INIT_DB",
	[0x04] = "FIELD_LIST",
	[0x05] = "CREATE_DB",
	[0x06] = "DROP_DB",
	[0x07] = "REFRESH",
	[0x08] = "SHUTDOWN",
	[0x09] = "STATISTICS",
	[0x0a] = "PROCESS_INFO",
	[0x0c] = "PROCESS_KILL",
	[0x0d] = "DEBUG",
	[0x0e] = "PING",
	[0x11] = "CHANGE_USER",
	[0x15] = "REGISTER_SLAVE",
	[0x1a] = "STMT_RESET",
	[0x1b] = "SET_OPTION",
	[0x1c] = "STMT_FETCH",
	[0x1f] = "RESET_CONNECTION",
};

/* The words of parse.own of a client's direction */
enum {
	MYSQL_REST, /* bytes of the command's packet that are a unit of their own */
	MYSQL_OF, /* the command that they are of */
	MYSQL_FLAGS, /* of both directions */
	MYSQL_LAST, /* `local` of the latest statement that is prepared */
};

/* and of a server's */
enum {
	MYSQL_STATE,
	MYSQL_LEFT, /* definitions to come */
	MYSQL_STATEMENT = 3,
};

/* own[MYSQL_FLAGS] */
enum {
	MYSQL_CONTINUES = 1, /* the packet was as long as can be: the next one is of it */
	MYSQL_IN_FILE = 2, /* of a client's: it sends a file */
	MYSQL_LOGGING_IN = 4, /* of a client's: it has said who it is */
};

/* own[MYSQL_STATE]: what the next packet is */
enum {
	MYSQL_ANSWER, /* the first one of an answer */
	MYSQL_RESULT, /* the first one of a further result */
	MYSQL_DEFINITIONS,
	MYSQL_FIRST_ROW, /* or the old EOF behind the definitions */
	MYSQL_ROW,
	MYSQL_PREPARED, /* a definition of a parameter or a column */
};

/* parse.shared[0]: the server's capabilities, then those of both, and above them: */
#define MYSQL_HANDSHAKE (1ULL << 32)
#define MYSQL_KNOWN (1ULL << 33) /* the capabilities are those of both */
#define MYSQL_FILE (1ULL << 34) /* the server has asked for a file */
#define MYSQL_MODE_KNOWN (1ULL << 35) /* an answer has told the next one: */
#define MYSQL_PLAIN_STRINGS (1ULL << 36) /* `\` is no escape in strings */

/* parse.shared[1]: the database of now, and in the upper half the one before it. */

/* Capabilities */
#define MYSQL_WITH_DATABASE (1 << 3)
#define MYSQL_COMPRESSES (1 << 5 | 1 << 26) /* zlib, zstd */
#define MYSQL_PROTOCOL_41 (1 << 9)
#define MYSQL_SSL (1 << 11)
#define MYSQL_LENGTH_OF_AUTH (1 << 15 | 1 << 21) /* before the bytes */
#define MYSQL_DEPRECATE_EOF (1 << 24)

/* Status flags of a server */
#define MYSQL_MORE_RESULTS (1 << 3)
#define MYSQL_NO_ESCAPES (1 << 9) /* SERVER_STATUS_NO_BACKSLASH_ESCAPES */
#define MYSQL_CURSOR (1 << 6)
#define MYSQL_STATE_CHANGED (1 << 14)

#define MYSQL_LONGEST 0xffffff
#define MYSQL_TEXT 1000 /* bytes of a statement that are looked at, whatever it comes in */

static __always_inline __u32 mysql_length(const __u8 *p)
{
	return le32_at(p) & 0xffffff;
}

/* How many bytes a number of variable length takes. */
static __always_inline __u32 mysql_number_size(__u8 first)
{
	return first < 0xfb ? 1 : first == 0xfc ? 3 : first == 0xfd ? 4 : first == 0xfe ? 9 : 1;
}

/* Makes up to 64 bytes of a name the text; returns its fingerprint. Not static: verified once. */
__noinline __u64 mysql_name(const struct bytes64 *name, __u32 length, struct text *text)
{
	if (!name || !text)
		return 0;
	text->length = length < sizeof(*name) ? length : sizeof(*name);
#pragma unroll
	for (int i = 0; i < 8; i++)
		*(__u64 *)(text->bytes + i * 8) = word_at(name->bytes + i * 8);
	return text_fingerprint(text, MYSQL);
}

/* Returns where the string or blob at `at` ends: its length may take one byte or three. Not
 * static: verified once. */
__noinline __u32 mysql_string_end(const struct window *window, __u32 at)
{
	const __u8 *string;

	if (!window)
		return WINDOW;
	string = window->bytes + bounded(at, WINDOW - 1);
	if (string[0] < 0xfb)
		return at + 1 + string[0];
	return string[0] == 0xfc ? at + 3 + le16_at(string + 1) : WINDOW;
}

/* The connection is about another database from now on. Its fingerprint has half of the bits, so
 * that the one before is kept beside it. */
static __always_inline void mysql_set_database(struct parse *parse, __u32 database,
					       struct unit *unit)
{
	unit->operation = database;
	unit->events |= NAMESPACE;
	parse->shared[1] = parse->shared[1] << 32 | database;
}

/* Does a packet look like a client's answer to the greeting? 36 bytes are there. */
static __always_inline bool mysql_is_login(const __u8 *p, __u32 length)
{
	return length >= 32 && length < 4096 && le32_at(p + 4) & MYSQL_PROTOCOL_41 &&
	       !word_at(p + 16) && !word_at(p + 24);
}

/* The server's number of a statement, apart from what `local` can be. */
static __always_inline __u64 mysql_number(__u32 number)
{
	return 1ULL << 32 | number;
}

#endif
