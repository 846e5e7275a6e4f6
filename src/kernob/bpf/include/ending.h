/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What a call leaves behind that does not end with a message, or that could not be read.
 */
#ifndef KERNOB_ENDING_H
#define KERNOB_ENDING_H

#include "engine.h"

/* What the hooks have shown of this connection so far can't be put in place any more. */
static __noinline int lose(struct work *work, struct talk *talk)
{
	struct stream *stream;

	if (!work || !talk)
		return 0;
	/* If it never was this protocol, these were no requests. */
	drop_line(work, talk, talk->party.agreed ? UNPAIRED_LOST : UNPAIRED_REASONS);
	for (int i = 0; i < 2; i++) {
		stream = &talk->streams[i];
		stream->lost = 1;
		stream->stashed = 0;
		stream->skip = 0;
		stream->first = 0;
		stream->bytes = 0;
		stream->body = 0;
		stream->events = 0;
		__builtin_memset(stream->own, 0, sizeof(stream->own));
	}
	return 0;
}

/* Keeps the beginning of a message for the next call. */
static __noinline int put_aside(struct work *work, struct talk *talk, struct sock *sk,
				int direction)
{
	struct stream *stream;
	struct stashes *both;
	__u32 at, count;

	if (!work || !talk || !sk)
		return 0;
	stream = &talk->streams[direction & 1];
	at = work->call.at;
	count = work->call.filled - at;
	both = bpf_sk_storage_get(&stashes, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!both) {
		count_unseen(talk, UNSEEN_MEMORY);
		return lose(work, talk);
	}
	asm volatile("" : "+r"(at), "+r"(count));
	if (count > WINDOW || at >= BLOCK)
		return 0;
	bpf_probe_read_kernel(both->of[direction & 1].bytes, count, work->call.block + at);
	stream->stashed = count;
	if (!stream->first)
		stream->first = work->call.now;
	return 0;
}

#endif
