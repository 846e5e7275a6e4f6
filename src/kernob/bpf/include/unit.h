/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The contract between a protocol and the engine.
 *
 * A protocol cuts one direction of a connection into units: a message, a header line, an element
 * of an array, whatever it can tell the length of. It sees the stream through a window: `p` holds
 * the `n` bytes that follow the last unit, in one piece, however the stream was cut into calls. A
 * unit may be longer than the window; what lies beyond it is passed over and never read. If the
 * window ends before the parser knows enough, it returns MORE and sees the same bytes again with
 * more behind them; with a full window (n == WINDOW) it must not.
 *
 * A protocol's header holds pure functions: it includes this file and nothing else, keeps what it
 * must remember in `own` (of one direction) and `shared` (of the connection), and compiles for
 * the host as well, where it is fuzzed.
 *
 *	bool NAME_asks(const __u8 *p, __u32 n)
 *	bool NAME_answers(const __u8 *p, __u32 n)
 *		Does a stream that begins so look like a client's, like a server's? At least
 *		one byte is there.
 *	int NAME_request(struct parse *parse, const __u8 *p, __u32 n, struct unit *unit,
 *			 struct text *text)
 *	int NAME_response(struct parse *parse, const __u8 *p, __u32 n, struct unit *unit,
 *			  struct text *text)
 *		The next unit of a client's, of a server's direction. `unit` is zeroed.
 *
 * Reading p[i] is safe for any i <= WINDOW + 64, but what lies at and beyond n means nothing.
 */
#ifndef KERNOB_UNIT_H
#define KERNOB_UNIT_H

#ifdef KERNOB_HOST
#include "types.h"
#else
#include "kernel.h"
#endif
#include <stdbool.h>

#ifdef KERNOB_HOST
long bpf_loop(__u32 times, void *callback, void *context, __u64 flags);
typedef __u64 __attribute__((aligned(1))) unaligned_u64;
typedef __u32 __attribute__((aligned(1))) unaligned_u32;
#else
#include <bpf/bpf_helpers.h>
/* BPF loads any address; told that it is unaligned, the compiler would load single bytes. */
typedef __u64 unaligned_u64;
typedef __u32 unaligned_u32;
#endif

#define WINDOW 1024
#define TEXT 1024
#define TIMED_OUT 256 /* status of a request that no answer is waited for any more */

/* In the order in which they are tried. */
enum protocol {
	NO_PROTOCOL, /* not found yet */
	HTTP,
	REDIS,
	POSTGRESQL,
	MYSQL,
	MEMCACHED,
	DNS,
	PROTOCOLS,
};

enum verdict {
	TAKEN, /* `unit` says what */
	MORE,
	ALIEN, /* this is not the protocol, or it has lost its place in the stream */
};

/* Why bytes could not be read. */
enum unseen {
	SEEN,
	UNSEEN_CALL, /* a call whose arguments are not known here, or a 32-bit process */
	UNSEEN_SENDFILE, /* sendfile and splice: the bytes never were in the process */
	UNSEEN_IO_URING,
	UNSEEN_FAULT, /* the page is not in memory */
	UNSEEN_BUSY, /* two threads at the same direction of a connection */
	UNSEEN_MEMORY, /* no memory to put a message in pieces together */
	UNSEEN_UNITS, /* more messages in one call than are looked at */
	UNSEEN_ENCRYPTED, /* the connection has become TLS */
	UNSEEN_COMPRESSED,
	UNSEEN_OTHER, /* the connection has become another protocol */
	UNSEEN_REASONS,
};

enum unit_event {
	/* Of a client's direction. A request begins with this unit; text and operation say which.
	 * What follows, up to the next one, is of it. */
	REQUEST = 1 << 0,
	ONE_WAY = 1 << 1, /* the request of this unit gets no answer */
	MARKER = 1 << 2, /* with REQUEST: counts as none, but is answered (UNTIL) */
	REMEMBER = 1 << 3, /* the operation, under `statement`, for this connection */
	RECALL =
		1 << 4, /* the operation is the one remembered under `statement`; with REMEMBER, the
			 * one under `operation` is from now on remembered under `statement`, too */
	SAME = 1 << 5, /* with REQUEST: the operation is that of the latest one; it has no text */
	BEFORE = 1 << 6, /* this unit is of the request that follows, which begins with it */

	/* Of a server's direction. Each unit is of the answer to the oldest request, but for: */
	APART = 1 << 8, /* of no answer: a notice, a push, an interim response */
	ANSWER = 1 << 9, /* the answer is whole where this unit ends; `status` says how it went */
	PREPARED = 1 << 10, /* with ANSWER: what the client's direction has remembered under the
			     * request's `local` is remembered under `statement` from now on */
	UNTIL = 1 << 11, /* requests up to the next MARKER, and that one, get no other answer */
	TO_CLOSE = 1 << 12, /* the rest of the connection is the answer's body */

	/* Of both. */
	NAMESPACE = 1 << 16, /* `text` names what the requests from now on are about: a database */
	ENDS = 1 << 17, /* what follows on this connection can't be read, for a `reason` */
	/* With REQUEST and with ANSWER: they belong together by `statement`, in whatever order
	 * they come; each is whole in its unit. */
	BY_ID = 1 << 18,
};

struct unit {
	__u64 length; /* bytes of the stream, at least one */
	__u64 body; /* how many of them are payload, where the protocol tells them from headers */
	__u64 operation; /* fingerprint: see text.h */
	__u64 statement;
	__u32 status; /* 0: as it should be. What else it is, is the protocol's */
	__u32 reason; /* with ENDS: enum unseen */
	__u32 events;
	__u32 local; /* with REQUEST: what the answer's parser must know of it */
	__u32 again; /* how many more such requests, or answers, the unit holds: parse.runs at most
		      */
};

/* What a parser remembers between units. All zero at first, and after the connection lost its
 * place. */
struct parse {
	__u64 *own; /* four words for this direction */
	__u64 *shared; /* two words for both */
	__u32 asked; /* of a server's direction: `local` of the oldest request, 0 if none is known
		      */
	__u32 waiting; /* of a server's direction: how many requests like that are known to wait */
	__u32 runs; /* how many equal units may be told as one, by `again`; 0: none */
};

/* The operation as people should see it, with literals run together. */
struct text {
	__u32 length;
	__u8 bytes[TEXT + 64];
	/* Where a loop over it stands. Not on the stack, where the verifier would tell one step
	 * from the next. */
	__u64 own[4];
};

/* Eight bytes, the first the lowest. */
static __always_inline __u64 word_at(const __u8 *p)
{
	return *(const unaligned_u64 *)p;
}

static __always_inline __u32 be32_at(const __u8 *p)
{
	return (__u32)p[0] << 24 | (__u32)p[1] << 16 | (__u32)p[2] << 8 | p[3];
}

static __always_inline __u32 be16_at(const __u8 *p)
{
	return (__u32)p[0] << 8 | p[1];
}

static __always_inline __u32 le16_at(const __u8 *p)
{
	return p[0] | (__u32)p[1] << 8;
}

static __always_inline __u32 le32_at(const __u8 *p)
{
	return *(const unaligned_u32 *)p;
}

/* Mixes a word into a hash: multiply and fold, as in wyhash's finalizer but in 64 bits. */
static __always_inline __u64 mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
	return hash ^ (hash >> 29);
}

#endif
