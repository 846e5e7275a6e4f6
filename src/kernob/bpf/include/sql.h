/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * SQL as people should see it: with one `?` in the place of each literal and each parameter.
 *
 *	text->length = 0;
 *	sql_normalize((const void *)p, from, to, text, dialect);
 *	unit->operation = text_fingerprint(text, protocol);
 *
 * `from` and `to` are places in the window of the statement's first byte and of the byte behind its
 * last, or behind the zero that ends it; what of a statement does not fit into the window is
 *neither in the text nor in the fingerprint. The text is appended to what `text` holds already.
 *
 * Numbers, strings and parameters become `?`, with a sign that follows an operator. Comments go,
 * white space becomes one space, none after `(` and before `,` and `)`, one after each comma, and
 * the last semicolon goes. `(?, ?, ?)` becomes `(?)`, and `(?), (?)` becomes `(?)`. Words and
 *quoted identifiers stay as they are written. Nothing from within a quote ever is in the text but
 *for an identifier that is closed: one that is not may be something else, and becomes `?`, too.
 *
 * PostgreSQL: sections 4.1 of its manual, "Lexical Structure". MySQL: sections 11.1, 11.2 and 11.7
 * of its manual; `"` always holds a string there, since a server may have been told so.
 */
#ifndef KERNOB_SQL_H
#define KERNOB_SQL_H

#include "scan.h"

/* Of a dialect, by bit; 0 is PostgreSQL's. */
enum {
	SQL_MYSQL =
		1, /* "string", `identifier`, # comment, $word; no $$, no comment in a comment */
	SQL_BACKSLASH = 2, /* `\` escapes in every string, not only in E'' */
	SQL_UNSURE = 4, /* nobody knows whether it does: the text ends where that matters */
};

enum sql_state {
	SQL_BETWEEN, /* tokens */
	SQL_WORD,
	SQL_NUMBER, /* or the rest of a parameter */
	SQL_STRING,
	SQL_IDENTIFIER,
	SQL_LINE, /* a comment to the end of the line */
	SQL_COMMENT,
	SQL_TAG, /* of $tag$ string $tag$ */
	SQL_TAGGED, /* its string */
};

/* What is owed before the next token. */
enum { SQL_SPACE = 1, SQL_SEMICOLON = 2 };

/* Lies in text->own. */
struct sql_scan {
	__u64 tag; /* its hash */
	__u64 hash; /* of what may be the tag again */
	__u32 at; /* in the window */
	__u32 word; /* where the word or the identifier begins, in the text */
	__u8 state;
	__u8 gap;
	__u8 quote; /* what ends the string or identifier */
	__u8 escapes; /* `\` does, in this string */
	__u8 depth; /* of comments */
	__u8 plain; /* this number has no exponent */
};

struct sql_step {
	const struct window *window;
	struct text *text;
	__u32 to;
	__u32 dialect;
};

static __always_inline bool sql_is_digit(__u8 byte)
{
	return (__u8)(byte - '0') < 10;
}

static __always_inline bool sql_is_letter(__u8 byte)
{
	return (__u8)((byte | 0x20) - 'a') < 26 || byte == '_' || byte >= 0x80;
}

static __always_inline bool sql_in_word(__u8 byte)
{
	return sql_is_letter(byte) || sql_is_digit(byte);
}

static __always_inline bool sql_is_space(__u8 byte)
{
	return byte && byte <= ' ';
}

/* Those behind which `-` and `+` are signs. */
static __always_inline bool sql_is_operator(__u8 byte)
{
	/* ! # % & ( * + , - / : ; < = > @ [ ^, less 32 */
	const __u64 operators = 0x480000017c00bd6aULL;

	if (byte >= 32 && byte < 96)
		return operators >> (byte - 32) & 1;
	return byte == '|' || byte == '~';
}

static __always_inline __u8 sql_byte(const struct sql_step *s, __u32 at)
{
	return at < s->to ? s->window->bytes[bounded(at, WINDOW - 1)] : 0;
}

static __always_inline void sql_put(struct text *text, __u8 byte)
{
	__u32 length = text->length;

	if (length >= TEXT)
		return;
	text->bytes[bounded(length, TEXT - 1)] = byte;
	text->length = length + 1;
}

/* The byte `back` bytes before the end of the text, which is no shorter than that. */
static __always_inline __u8 sql_last(const struct text *text, __u32 back)
{
	return text->bytes[bounded(text->length - back, TEXT - 1)];
}

static __always_inline void sql_put_gap(struct text *text, struct sql_scan *scan)
{
	__u8 gap = scan->gap, last;

	if (!gap)
		return;
	scan->gap = 0;
	if (!text->length)
		return;
	if (gap & SQL_SEMICOLON)
		sql_put(text, ';');
	last = sql_last(text, 1);
	if (last != '(' && last != ' ')
		sql_put(text, ' ');
}

/* Takes the sign of the number that follows off the text, if it is one. */
static __always_inline void sql_drop_sign(struct text *text)
{
	__u32 length = text->length;
	__u8 before;

	if (!length || (sql_last(text, 1) != '-' && sql_last(text, 1) != '+'))
		return;
	if (length > 1) {
		before = sql_last(text, 2);
		if (before == '-' || before == '+')
			return;
		if (before == ' ' && length > 2)
			before = sql_last(text, 3);
		if (!sql_is_operator(before))
			return;
	}
	text->length = length - 1;
}

static __always_inline void sql_put_literal(struct text *text, struct sql_scan *scan)
{
	if (scan->gap)
		sql_put_gap(text, scan);
	else
		sql_drop_sign(text);
	sql_put(text, '?');
}

/* Before a comma and the end of a list: `(?, ?` is `(?`. */
static __always_inline void sql_fold_list(struct text *text)
{
	__u32 length = text->length;

	if (length < 5 || sql_last(text, 1) != '?')
		return;
	if (le32_at(text->bytes + bounded(length - 5, TEXT - 1)) == 0x202c3f28) /* "(?, " */
		text->length = length - 3;
}

/* Behind the end of a list: `(?), (?)` is `(?)`. */
static __always_inline void sql_fold_rows(struct text *text)
{
	__u32 length = text->length;

	if (length < 8)
		return;
	if (word_at(text->bytes + bounded(length - 8, TEXT - 1)) == 0x293f28202c293f28)
		text->length = length - 5;
}

static __always_inline void sql_begin_string(struct text *text, struct sql_scan *scan, __u8 quote,
					     bool escapes)
{
	sql_put_literal(text, scan);
	scan->quote = quote;
	scan->escapes = escapes;
	scan->state = SQL_STRING;
}

static __always_inline void sql_begin_identifier(struct text *text, struct sql_scan *scan,
						 __u8 quote)
{
	sql_put_gap(text, scan);
	scan->word = text->length;
	sql_put(text, quote);
	scan->quote = quote;
	scan->state = SQL_IDENTIFIER;
}

static __always_inline void sql_begin_number(struct text *text, struct sql_scan *scan, bool plain)
{
	sql_put_literal(text, scan);
	scan->plain = plain;
	scan->state = SQL_NUMBER;
}

/* The next byte of a word. Returns whether it is one: else the word has ended before it. */
static __always_inline bool sql_go_on_word(struct sql_step *s, struct sql_scan *scan, __u8 byte)
{
	struct text *text = s->text;
	__u8 prefix;

	if (sql_in_word(byte) || byte == '$' ||
	    (byte == '.' && (s->dialect & SQL_MYSQL || !sql_is_digit(sql_byte(s, scan->at + 1))))) {
		sql_put(text, byte);
		scan->at++;
		return true;
	}
	scan->state = SQL_BETWEEN;
	if (byte != '\'' || text->length - scan->word != 1)
		return false;
	prefix = sql_last(text, 1) | 0x20;
	if (prefix != 'e' && prefix != 'x' && prefix != 'b' && prefix != 'n')
		return false;
	text->length = scan->word;
	sql_begin_string(text, scan, byte, prefix == 'e' || s->dialect & SQL_BACKSLASH);
	scan->at++;
	return true;
}

/* Between tokens, at a byte of none of the classes. Returns how many bytes are done with. */
static __always_inline __u32 sql_take_sign(struct sql_step *s, struct sql_scan *scan, __u8 byte)
{
	struct text *text = s->text;
	bool mysql = s->dialect & SQL_MYSQL;
	__u8 next;

	switch (byte) {
	case '\'':
		sql_begin_string(text, scan, byte, s->dialect & SQL_BACKSLASH);
		return 1;
	case ',':
	case ')':
		scan->gap &= SQL_SEMICOLON;
		sql_put_gap(text, scan);
		sql_fold_list(text);
		sql_put(text, byte);
		if (byte == ')')
			sql_fold_rows(text);
		else
			scan->gap = SQL_SPACE;
		return 1;
	case ';':
		scan->gap |= SQL_SEMICOLON;
		return 1;
	case '"':
		if (mysql)
			sql_begin_string(text, scan, byte, s->dialect & SQL_BACKSLASH);
		else
			sql_begin_identifier(text, scan, byte);
		return 1;
	}
	next = sql_byte(s, scan->at + 1);
	switch (byte) {
	case '`':
		if (!mysql)
			break;
		sql_begin_identifier(text, scan, byte);
		return 1;
	case '#':
		if (!mysql)
			break;
		scan->state = SQL_LINE;
		return 1;
	case '-':
		if (next != '-' || (mysql && !sql_is_space(sql_byte(s, scan->at + 2))))
			break;
		scan->state = SQL_LINE;
		return 2;
	case '/':
		if (next != '*')
			break;
		scan->depth = 1;
		scan->state = SQL_COMMENT;
		return 2;
	case '.':
		if (!sql_is_digit(next))
			break;
		sql_begin_number(text, scan, false);
		return 1;
	case '?':
		sql_put_literal(text, scan);
		scan->plain = true;
		if (sql_is_digit(next))
			scan->state = SQL_NUMBER;
		return 1;
	case '$':
		if (sql_is_digit(next)) {
			sql_begin_number(text, scan, true);
			return 1;
		}
		if (!sql_is_letter(next) && next != '$')
			break;
		sql_put_literal(text, scan);
		scan->hash = 0;
		scan->state = SQL_TAG;
		return 1;
	case ':':
	case '@':
		if (next == byte || (byte == ':' && next == '=')) {
			sql_put_gap(text, scan);
			sql_put(text, byte);
			sql_put(text, next);
			return 2;
		}
		if (!sql_in_word(next))
			break;
		sql_begin_number(text, scan, true);
		return 1;
	}
	sql_put_gap(text, scan);
	sql_put(text, byte);
	return 1;
}

static __always_inline void sql_begin_token(struct sql_step *s, struct sql_scan *scan, __u8 byte)
{
	struct text *text = s->text;

	if (sql_is_letter(byte) || (byte == '$' && s->dialect & SQL_MYSQL)) {
		sql_put_gap(text, scan);
		scan->word = text->length;
		sql_put(text, byte);
		scan->state = SQL_WORD;
		scan->at++;
	} else if (!byte) {
		scan->at = s->to;
	} else if (byte <= ' ') {
		scan->gap |= SQL_SPACE;
		scan->at++;
	} else if (sql_is_digit(byte)) {
		sql_begin_number(text, scan,
				 byte == '0' && (sql_byte(s, scan->at + 1) | 0x20) == 'x');
		scan->at++;
	} else {
		scan->at += sql_take_sign(s, scan, byte);
	}
}

static __always_inline void sql_go_on_number(struct sql_step *s, struct sql_scan *scan, __u8 byte)
{
	if (sql_in_word(byte) || byte == '.')
		scan->at++;
	else if ((byte == '-' || byte == '+') && !scan->plain &&
		 (sql_byte(s, scan->at - 1) | 0x20) == 'e' &&
		 sql_is_digit(sql_byte(s, scan->at + 1)))
		scan->at++;
	else
		scan->state = SQL_BETWEEN;
}

/* Passes over up to eight bytes of a string. */
static __always_inline void sql_go_on_string(struct sql_step *s, struct sql_scan *scan)
{
	__u64 word = word_at(s->window->bytes + bounded(scan->at, WINDOW - 1));
	__u64 marks = bytes_equal(word, scan->quote) | bytes_equal(word, '\\');
	__u8 byte;

	if (!marks) {
		scan->at += 8;
		return;
	}
	scan->at += lowest_marked(marks);
	byte = sql_byte(s, scan->at);
	if (byte == '\\' && s->dialect & SQL_UNSURE) {
		scan->at = s->to;
	} else if (byte == '\\') {
		scan->at += scan->escapes ? 2 : 1;
	} else if (byte == scan->quote && sql_byte(s, scan->at + 1) == byte) {
		scan->at += 2;
	} else {
		scan->at++;
		scan->state = SQL_BETWEEN;
	}
}

static __always_inline void sql_go_on_identifier(struct sql_step *s, struct sql_scan *scan,
						 __u8 byte)
{
	sql_put(s->text, byte);
	scan->at++;
	if (byte != scan->quote)
		return;
	if (sql_byte(s, scan->at) == byte) {
		sql_put(s->text, byte);
		scan->at++;
	} else {
		scan->state = SQL_BETWEEN;
	}
}

static __always_inline void sql_go_on_line(struct sql_step *s, struct sql_scan *scan, __u8 byte)
{
	scan->at++;
	if (!byte) {
		scan->at = s->to;
	} else if (byte == '\n' || (byte == '\r' && !(s->dialect & SQL_MYSQL))) {
		scan->gap |= SQL_SPACE;
		scan->state = SQL_BETWEEN;
	}
}

/* Passes over up to eight bytes of a comment. */
static __always_inline void sql_go_on_comment(struct sql_step *s, struct sql_scan *scan)
{
	__u64 word = word_at(s->window->bytes + bounded(scan->at, WINDOW - 1));
	__u64 marks = bytes_equal(word, '*') | bytes_equal(word, '/');
	__u8 byte, next;

	if (!marks) {
		scan->at += 8;
		return;
	}
	scan->at += lowest_marked(marks);
	byte = sql_byte(s, scan->at);
	next = sql_byte(s, scan->at + 1);
	if (byte == '*' && next == '/') {
		scan->at++;
		if (!--scan->depth) {
			scan->gap |= SQL_SPACE;
			scan->state = SQL_BETWEEN;
		}
	} else if (byte == '/' && next == '*' && !(s->dialect & SQL_MYSQL)) {
		scan->at++;
		scan->depth++;
	}
	scan->at++;
}

static __always_inline void sql_go_on_tag(struct sql_scan *scan, __u8 byte)
{
	if (byte == '$') {
		scan->tag = scan->hash;
		scan->hash = ~0ULL;
		scan->state = SQL_TAGGED;
		scan->at++;
	} else if (sql_in_word(byte)) {
		scan->hash = mix(scan->hash, byte);
		scan->at++;
	} else {
		scan->state = SQL_BETWEEN;
	}
}

static __always_inline void sql_go_on_tagged(struct sql_scan *scan, __u8 byte)
{
	scan->at++;
	if (byte != '$')
		scan->hash = mix(scan->hash, byte);
	else if (scan->hash == scan->tag)
		scan->state = SQL_BETWEEN;
	else
		scan->hash = 0;
}

static long sql_go_on(__u32 i, struct sql_step *s)
{
	struct sql_scan *scan = (void *)s->text->own;
	__u8 byte;

	if (scan->at >= s->to)
		return 1;
	byte = s->window->bytes[bounded(scan->at, WINDOW - 1)];
	switch (scan->state) {
	case SQL_WORD:
		if (!sql_go_on_word(s, scan, byte))
			sql_begin_token(s, scan, byte);
		return 0;
	case SQL_BETWEEN:
		sql_begin_token(s, scan, byte);
		return 0;
	case SQL_NUMBER:
		sql_go_on_number(s, scan, byte);
		return 0;
	case SQL_STRING:
		sql_go_on_string(s, scan);
		return 0;
	case SQL_IDENTIFIER:
		sql_go_on_identifier(s, scan, byte);
		return 0;
	case SQL_LINE:
		sql_go_on_line(s, scan, byte);
		return 0;
	case SQL_COMMENT:
		sql_go_on_comment(s, scan);
		return 0;
	case SQL_TAG:
		sql_go_on_tag(scan, byte);
		return 0;
	}
	sql_go_on_tagged(scan, byte);
	return 0;
}

/* Appends the statement that lies from `from` to `to`. Not static: verified once. */
__noinline int sql_normalize(const struct window *window, __u32 from, __u32 to, struct text *text,
			     __u32 dialect)
{
	struct sql_step step = {.window = window, .text = text, .to = to, .dialect = dialect};
	struct sql_scan *scan;

	if (!window || !text)
		return 0;
	if (step.to > WINDOW)
		step.to = WINDOW;
	__builtin_memset(text->own, 0, sizeof(text->own));
	scan = (void *)text->own;
	scan->at = from;
	/* A byte takes up to two steps. */
	bpf_loop(2 * WINDOW, sql_go_on, &step, 0);
	if (scan->state == SQL_IDENTIFIER) {
		text->length = scan->word;
		sql_put_literal(text, scan);
	}
	return 0;
}

struct text_hash {
	const struct text *text;
	__u64 *hash;
};

static long text_mix(__u32 i, struct text_hash *s)
{
	__u32 at = 8 * i, length = s->text->length;
	__u64 word;

	if (at >= length)
		return 1;
	word = word_at(s->text->bytes + bounded(at, TEXT - 1));
	if (length - at < 8)
		word &= (1ULL << (8 * bounded(length - at, 7))) - 1;
	*s->hash = mix(*s->hash, word);
	return 0;
}

/* Returns the fingerprint of all of the text. Not static: verified once. */
__noinline __u64 text_fingerprint(struct text *text, __u32 protocol)
{
	struct text_hash step = {.text = text};

	if (!text)
		return 0;
	step.hash = text->own;
	text->own[0] = mix(protocol, text->length);
	bpf_loop(TEXT / 8, text_mix, &step, 0);
	return text->own[0];
}

#endif
