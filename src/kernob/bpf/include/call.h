/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The bytes of one call: where they are in the process's memory, and a block of them to look at.
 *
 * The hooks have the socket and the length, not the bytes. These are still where the process gave
 * them to the kernel, or got them: the registers of the system call in progress say where. What
 * comes from elsewhere (a uprobe with plain text) fills in `base` and `piece` itself.
 */
#ifndef KERNOB_CALL_H
#define KERNOB_CALL_H

#include "kernel.h"
#include "unit.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define BLOCK 2048

struct iovec {
	__u64 base;
	__u64 length;
};

struct call {
	__u64 now; /* monotonic, nanoseconds */
	__u64 base; /* where `block` was filled from, behind the stash */
	__u64 vectors; /* address of the vector after the piece at `base` */
	__u64 piece; /* bytes from `base` on that are in one piece */
	__u32 vectors_left;
	__u32 length; /* bytes from `base` on, of all pieces */
	__u32 filled; /* bytes in the block */
	__u32 at; /* how many of them are done with */
	__u32 stashed; /* how many of them come from the stash */
	__u8 block[2 * BLOCK];
};

struct message_header {
	__u64 name;
	__u64 name_length;
	__u64 vectors;
	__u64 vectors_count;
};

/* Begins the next piece of a vector. */
static __noinline int next_piece(struct call *call)
{
	struct iovec vector;

	if (!call || !call->vectors_left ||
	    bpf_probe_read_user(&vector, sizeof(vector), (void *)call->vectors))
		return UNSEEN_FAULT;
	call->vectors += sizeof(vector);
	call->vectors_left--;
	call->base = vector.base;
	call->piece = vector.length;
	return SEEN;
}

static __always_inline int from_vectors(struct call *call, __u64 vectors, __u64 count)
{
	call->vectors = vectors;
	call->vectors_left = count;
	call->piece = 0;
	return next_piece(call);
}

static __always_inline int from_message(struct call *call, __u64 address)
{
	struct message_header message;

	if (bpf_probe_read_user(&message, sizeof(message), (void *)address))
		return UNSEEN_FAULT;
	return from_vectors(call, message.vectors, message.vectors_count);
}

enum call_kind { PLAIN_BUFFER, VECTORS, MESSAGE, MESSAGES, SENDFILE, IO_URING, UNKNOWN };

/* arch/x86/entry/syscalls/syscall_64.tbl: read, write, sendto, recvfrom */
#define X86_PLAIN (1ULL << 0 | 1ULL << 1 | 1ULL << 44 | 1ULL << 45)
#define X86_WRITEV 20

static __always_inline bool is_x86_plain(__u64 number)
{
	return number < 64 && X86_PLAIN >> number & 1;
}

static __always_inline enum call_kind x86_call(__u64 number)
{
	if (is_x86_plain(number))
		return PLAIN_BUFFER;
	switch (number) {
	case 19: /* readv */
	case 20: /* writev */
		return VECTORS;
	case 46: /* sendmsg */
	case 47: /* recvmsg */
		return MESSAGE;
	case 299: /* recvmmsg */
	case 307: /* sendmmsg */
		return MESSAGES;
	case 40: /* sendfile */
	case 275: /* splice */
		return SENDFILE;
	case 426: /* io_uring_enter */
		return IO_URING;
	}
	return UNKNOWN;
}

/* include/uapi/asm-generic/unistd.h */
static __always_inline enum call_kind arm64_call(__u64 number)
{
	switch (number) {
	case 63: /* read */
	case 64: /* write */
	case 206: /* sendto */
	case 207: /* recvfrom */
		return PLAIN_BUFFER;
	case 65: /* readv */
	case 66: /* writev */
		return VECTORS;
	case 211: /* sendmsg */
	case 212: /* recvmsg */
		return MESSAGE;
	case 243: /* recvmmsg */
	case 269: /* sendmmsg */
		return MESSAGES;
	case 71: /* sendfile */
	case 76: /* splice */
		return SENDFILE;
	case 426: /* io_uring_enter */
		return IO_URING;
	}
	return UNKNOWN;
}

/* What the system call in progress was called with. */
struct arguments {
	enum call_kind kind;
	__u64 second;
	__u64 third;
	__u64 fifth;
};

static __always_inline struct arguments call_arguments(void)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	struct pt_regs___arm64 *arm64 = (void *)regs;
	struct arguments found;

	if (bpf_core_field_exists(regs->orig_ax)) {
		found.kind = x86_call(regs->orig_ax);
		found.second = regs->si;
		found.third = regs->dx;
		found.fifth = regs->r8;
	} else {
		found.kind = arm64_call(arm64->syscallno);
		found.second = arm64->regs[1];
		found.third = arm64->regs[2];
		found.fifth = arm64->regs[4];
	}
	return found;
}

/* Finds the `length` bytes of the call in progress; of a vector of messages those of number
 * `index`. Returns SEEN or why they can't be. */
static __always_inline int locate_in(struct call *call, struct arguments *arguments, __u32 length,
				     __u32 index)
{
	call->length = length;
	call->vectors_left = 0;
	switch (arguments->kind) {
	case PLAIN_BUFFER:
		call->base = arguments->second;
		call->piece = length;
		return SEEN;
	case VECTORS:
		return from_vectors(call, arguments->second, arguments->third);
	case MESSAGE:
		return from_message(call, arguments->second);
	case MESSAGES:
		/* struct mmsghdr: the header of one message, and its length. */
		return from_message(call, arguments->second + index * 64ULL);
	case SENDFILE:
		return UNSEEN_SENDFILE;
	case IO_URING:
		return UNSEEN_IO_URING;
	default:
		return UNSEEN_CALL;
	}
}

/* As locate. Which of several messages it is that has moved is not known. */
static __noinline int locate_slowly(struct call *call, __u32 length)
{
	struct arguments arguments;

	if (!call)
		return UNSEEN_CALL;
	arguments = call_arguments();
	if (arguments.kind == MESSAGES && arguments.third != 1)
		return UNSEEN_CALL;
	return locate_in(call, &arguments, length, 0);
}

/* Finds the `length` bytes of the call in progress, of a stream. Returns SEEN or why they can't
 * be. */
static __always_inline int locate(struct call *call, __u32 length)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());

	/* Most calls are of one plain buffer, on x86 told from the others by one test. */
	if (!bpf_core_field_exists(regs->orig_ax) ||
	    (!is_x86_plain(regs->orig_ax) && regs->orig_ax != X86_WRITEV))
		return locate_slowly(call, length);
	call->length = length;
	call->base = regs->si;
	call->piece = length;
	call->vectors_left = 0;
	return regs->orig_ax == X86_WRITEV ? from_vectors(call, regs->si, regs->dx) : SEEN;
}

struct passing {
	struct call *call;
	__u64 count;
};

static long pass_one(__u32 step, struct passing *passing)
{
	struct call *call = passing->call;

	if (passing->count < call->piece) {
		call->base += passing->count;
		call->piece -= passing->count;
		return 1;
	}
	passing->count -= call->piece;
	call->piece = 0;
	return next_piece(call) != SEEN;
}

#define MOST_VECTORS 1024 /* UIO_MAXIOV */

/* Goes on by `count` bytes of the call. */
static __always_inline void pass(struct call *call, __u32 count)
{
	struct passing passing = {.call = call, .count = count};

	call->length = count < call->length ? call->length - count : 0;
	if (count < call->piece) {
		call->base += count;
		call->piece -= count;
	} else if (call->length) {
		bpf_loop(MOST_VECTORS, pass_one, &passing, 0);
	}
}

struct filling {
	struct call *call;
	__u64 vectors;
	__u32 left;
};

static long fill_piece(__u32 step, struct filling *filling)
{
	struct call *call = filling->call;
	__u32 filled = call->filled, count;
	struct iovec vector;

	if (!filling->left || filled >= BLOCK ||
	    bpf_probe_read_user(&vector, sizeof(vector), (void *)filling->vectors))
		return 1;
	filling->vectors += sizeof(vector);
	filling->left--;
	count = BLOCK - filled;
	if (vector.length < count)
		count = vector.length;
	if (count > call->length - (filled - call->stashed))
		count = call->length - (filled - call->stashed);
	/* For the verifier of 6.1, which the compiler would leave no check to see. */
	asm volatile("" : "+r"(count));
	if (count > BLOCK)
		return 1;
	if (bpf_probe_read_user(call->block + (filled & (BLOCK - 1)), count, (void *)vector.base))
		return 1;
	call->filled = filled + count;
	return 0;
}

/* Fills the rest of the block from the pieces behind the first one. Returns whether there was
 * something. */
static __noinline bool fill_more(struct call *call)
{
	struct filling filling = {.call = call};
	__u32 before;

	if (!call)
		return false;
	before = call->filled;
	/* Nothing if there is no other piece, or the block has them already. */
	if (before - call->stashed != call->piece || call->piece >= call->length)
		return false;
	filling.vectors = call->vectors;
	filling.left = call->vectors_left;
	bpf_loop(MOST_VECTORS, fill_piece, &filling, 0);
	return call->filled > before;
}

/* Fills the block from `base` on, behind what the stash has put there, with what lies in one
 * piece: often that says enough. */
static __always_inline int fill_first(struct call *call)
{
	__u32 count = call->length, stashed = call->stashed;

	if (call->piece < count)
		count = call->piece;
	if (stashed > BLOCK / 2)
		return UNSEEN_MEMORY;
	if (count > BLOCK - stashed)
		count = BLOCK - stashed;
	asm volatile("" : "+r"(count));
	if (count > BLOCK)
		return UNSEEN_FAULT;
	if (bpf_probe_read_user(call->block + stashed, count, (void *)call->base))
		return UNSEEN_FAULT;
	call->filled = stashed + count;
	call->at = 0;
	if (!count)
		fill_more(call);
	return SEEN;
}

/* Fills the block from `base` on, from as many pieces as it takes. */
static __always_inline int fill(struct call *call)
{
	int reason = fill_first(call);

	if (reason == SEEN)
		fill_more(call);
	return reason;
}

#endif
