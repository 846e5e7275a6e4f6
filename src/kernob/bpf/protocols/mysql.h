/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * MySQL and MariaDB (dev.mysql.com/doc/dev/mysql-server, "Client/Server Protocol";
 * mariadb.com/docs/server/reference/clientserver-protocol).
 *
 * A unit is a packet: three bytes of length, one of sequence, the payload. A client's packet with
 * the sequence 0 is a command; one whose first packet is not, is of the login, of a file, or the
 * continuation of a packet of 16 MB. The definitions of columns and the rows of a result are
 * passed over by their lengths, as many in one unit as the window shows.
 *
 * Nothing here needs to know what both sides agreed on, so it is the same for a connection that is
 * older than the agent: an end of five bytes is the old EOF, a longer one is the new OK. The one
 * case that can't be told then is the old EOF behind the definitions of a prepared statement: the
 * answer is taken to end before it.
 */
#ifndef KERNOB_PROTOCOL_MYSQL_H
#define KERNOB_PROTOCOL_MYSQL_H

#include "mysql_client.h"
#include "mysql_server.h"

/* Does a packet end where the bytes do, or is another one behind it, with this sequence? */
static __always_inline bool mysql_fits(const __u8 *p, __u32 n, __u32 length, __u8 sequence)
{
	__u32 end = 4 + length;

	if (end >= n)
		return end == n;
	end = bounded(end, WINDOW - 1);
	return end + 4 > n || p[end + 3] == sequence;
}

/* The beginning of a statement, as far as the window goes. */
static __always_inline bool mysql_is_text(const __u8 *p)
{
	bool is_text = true;

#pragma unroll
	for (int i = 0; i < 8; i++)
		is_text &= p[i] >= '\t' && p[i] < 0x7f;
	return is_text;
}

/* Some read a packet's header, and then the rest: four bytes of which two are mostly zero. */
static __always_inline bool mysql_is_header(const __u8 *p, __u8 sequence)
{
	return (p[0] || p[1]) && !p[2] && p[3] == sequence;
}

/* A greeting comes first on every connection: so this is only for one that is older than the
 * agent, or has lost its place, and is strict. Not static: verified once. */
__noinline bool mysql_is_command(const struct window *window, __u32 n)
{
	const __u8 *p;
	__u32 length;

	if (!window)
		return false;
	p = window->bytes;
	if (n < 5)
		return n == 4 && mysql_is_header(p, 0);
	length = mysql_length(p);
	if (p[3] == 1)
		return n >= 36 && mysql_is_login(p, length) && mysql_fits(p, n, length, 2);
	if (!length || p[3])
		return false;
	switch (p[4]) {
	case MYSQL_QUERY:
	case MYSQL_PREPARE:
		if (length < 11)
			return mysql_fits(p, n, length, 0);
		/* Two bytes may come before the statement: no attributes. */
		return n >= 15 && mysql_is_text(p + 7) &&
		       (4 + length > n || mysql_fits(p, n, length, 0));
	case MYSQL_EXECUTE:
	case MYSQL_BULK_EXECUTE:
		return length >= 7 && mysql_fits(p, n, length, 0);
	case MYSQL_CLOSE:
	case 0x1a: /* STMT_RESET */
		return length == 5 && mysql_fits(p, n, length, 0);
	case MYSQL_FETCH:
		return length == 9 && mysql_fits(p, n, length, 0);
	case MYSQL_INIT_DB:
		return length > 1 && length <= 1 + 256 && mysql_fits(p, n, length, 0);
	case MYSQL_STATISTICS:
	case 0x0e: /* PING */
	case 0x1f: /* RESET_CONNECTION */
		return length == 1 && mysql_fits(p, n, length, 0);
	}
	return false;
}

/* A greeting, or the first packet of an answer. Not static: verified once. */
__noinline bool mysql_is_answer(const struct window *window, __u32 n)
{
	const __u8 *p;
	__u32 length;

	if (!window)
		return false;
	p = window->bytes;
	if (n == 4 && p[3])
		return mysql_is_header(p, 1);
	if (n < 5)
		return p[0] >= 40 && (n < 2 || !p[1]) && (n < 3 || !p[2]);
	length = mysql_length(p);
	if (!p[3])
		return p[4] == 10 && length >= 40 && length < 1024 &&
		       (n < 6 || (p[5] >= '0' && p[5] <= '9'));
	if (p[3] != 1)
		return false;
	if (p[4] == 0xff)
		return length >= 9 && n >= 8 && p[7] == '#' && 4 + length == n;
	if (p[4] == 0)
		return length >= 7 && mysql_fits(p, n, length, 2);
	return length >= 1 && length <= 4 && p[4] < 0xfd && mysql_fits(p, n, length, 2);
}

static __always_inline bool mysql_asks(const __u8 *p, __u32 n)
{
	return mysql_is_command((const void *)p, n);
}

static __always_inline bool mysql_answers(const __u8 *p, __u32 n)
{
	return mysql_is_answer((const void *)p, n);
}

#endif
