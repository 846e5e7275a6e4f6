/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Every request: who asked whom for what, how it went, how long it took.
 *
 * The programs of the network's bytes call these at their end, by the stage of the connection:
 * first `detect`, until a protocol is found, then the protocol's own, or nothing at all. Each is
 * small for the verifier, and one that a kernel refuses leaves the others as they are.
 */
#include "include/kernel.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <stdbool.h>
#include <stddef.h>

#include "include/chain.h"
#include "include/connection.h"
#include "include/ending.h"
#include "include/question.h"
#include "include/straight.h"
#include "protocols/all.h"

#define MOST_TRIES 8
#define DATAGRAM PROTOCOLS /* its place in the chains */

/* Connections that got no storage for their requests. */
__u64 talks_dropped;
static __u64 talks_made;

static __always_inline struct work *work_of(__u32 hook)
{
	return bpf_map_lookup_elem(&works, &hook);
}

static __always_inline void set_stage(struct sock *sk, __u8 stage)
{
	struct connection *c = bpf_sk_storage_get(&connections, sk, 0, 0);

	if (c)
		c->stage = stage;
}

static __always_inline void give_up(struct sock *sk)
{
	set_stage(sk, PLAIN);
	bpf_sk_storage_delete(&talks, sk);
	bpf_sk_storage_delete(&stashes, sk);
}

/* Roles of a direction that are possible, by bit: who opened a connection is known if the agent saw
 * it. */
enum { MAY_ASK = 1, MAY_ANSWER = 2 };

static __always_inline __u32 roles(struct sock *sk, int direction)
{
	struct connection *c = bpf_sk_storage_get(&connections, sk, 0, 0);

	if (!c || c->older)
		return MAY_ASK | MAY_ANSWER;
	return (c->side == CLIENT) == (direction == TRANSMIT) ? MAY_ASK : MAY_ANSWER;
}

/* The first protocol that a stream which begins so may be, and has not proved not to be. */
static __always_inline __u32 find_protocol(const __u8 *p, __u32 n, __u32 refused, __u32 roles,
					   bool *asks)
{
	*asks = true;
	/* Not `refused & 1 << number`: from then on the verifier would tell apart which are. */
#define ASKS(number, name)                                                                         \
	if (roles & MAY_ASK && !bounded(refused >> (number), 1) && name##_asks(p, n))              \
		return number;
	EACH_PROTOCOL(ASKS)
#undef ASKS
	*asks = false;
#define ANSWERS(number, name)                                                                      \
	if (roles & MAY_ANSWER && !bounded(refused >> (number), 1) && name##_answers(p, n))        \
		return number;
	EACH_PROTOCOL(ANSWERS)
#undef ANSWERS
	return NO_PROTOCOL;
}

/* Whose requests they will be: of the connection's owner. */
static __always_inline void identify(struct party *party, struct sock *sk, __u8 protocol,
				     __u8 requests)
{
	struct connection *c = bpf_sk_storage_get(&connections, sk, 0, 0);

	__builtin_memset(party->rows, 0, sizeof(party->rows));
	party->protocol = protocol;
	party->requests = requests;
	party->side = requests == TRANSMIT ? CLIENT : SERVER;
	party->port = party->side == SERVER ? sk->__sk_common.skc_num
					    : bpf_ntohs(sk->__sk_common.skc_dport);
	if (!c || !c->named) {
		party->shared = 1;
		peer_address(sk, party->address);
		return;
	}
	party->start = c->key.start;
	party->pid = c->key.pid;
	party->shared = c->shared;
	__builtin_memcpy(party->address, c->key.address, sizeof(party->address));
	c->stage = protocol;
}

/* Looks at the beginning of a connection's turns until one is of a protocol: the first program. */
static __always_inline void start(void *ctx, struct sock *sk, __u32 length, int direction,
				  __u32 hook, void *chain)
{
	struct talk *talk = bpf_sk_storage_get(&talks, sk, 0, 0);
	struct work *work = work_of(hook);
	struct stream *stream;
	__u32 found;
	bool asks;

	if (!work)
		return;
	if (sk->sk_protocol == IPPROTO_UDP) {
		set_stage(sk, DATAGRAM);
		bpf_tail_call(ctx, chain, DATAGRAM);
		return;
	}
	if (!talk) {
		talk = bpf_sk_storage_get(&talks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (!talk) {
			__sync_fetch_and_add(&talks_dropped, 1);
			set_stage(sk, PLAIN);
			return;
		}
		talk->id = __sync_fetch_and_add(&talks_made, 1) + 1;
		talk->last_direction = !direction;
	}
	found = talk->party.protocol;
	if (found) {
		/* The connection has got a second owner. */
		identify(&talk->party, sk, found, talk->party.requests);
		bpf_tail_call(ctx, chain, found);
		return;
	}
	stream = &talk->streams[direction];
	/* The middle of a message says nothing: only where the direction turns. */
	if (talk->last_direction == direction && !stream->stashed)
		return;
	talk->last_direction = direction;
	if (locate(&work->call, length) == SEEN &&
	    begin_block(work, stream, sk, direction) == SEEN) {
		fill_more(&work->call);
		found = find_protocol(work->call.block, work->call.filled, talk->refused,
				      roles(sk, direction), &asks);
		stream->stashed = work->call.stashed;
		if (found) {
			identify(&talk->party, sk, found, asks ? direction : !direction);
			bpf_tail_call(ctx, chain, found);
			return;
		}
	}
	if (++talk->tries >= MOST_TRIES)
		give_up(sk);
}

/* The program of datagrams, which have no talk. */
static __always_inline void datagram(void *ctx, struct sock *sk, __u32 length, int direction,
				     __u32 hook, void *chain)
{
	struct datagram_socket *socket =
		bpf_sk_storage_get(&datagram_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	struct work *work = work_of(hook);

	if (!work)
		return;
	if (!socket) {
		__sync_fetch_and_add(&talks_dropped, 1);
		set_stage(sk, PLAIN);
		return;
	}
	if (!socket->id)
		socket->id = __sync_fetch_and_add(&talks_made, 1) + 1;
	if (see_datagram(work, socket, sk, length, direction))
		return;
	set_stage(sk, PLAIN);
	bpf_sk_storage_delete(&datagram_sockets, sk);
}

/* Counts the records of a call. */
static __always_inline void apply_all(struct work *work, struct talk *talk)
{
	struct applying context = {.work = work, .talk = talk};
	__u32 count = work->count;

	work->count = 0;
	if (count == 1)
		apply(work, talk, &work->records[0]);
	else if (count)
		bpf_loop(count, apply_one, &context, 0);
}

/* Sees to how a call ended, if that is not all. Returns the program to go on with, PLAIN for none.
 */
static __noinline __u32 finish_call(struct work *work, struct talk *talk, struct sock *sk,
				    int direction)
{
	if (!work || !talk || !sk)
		return PLAIN;
	switch (work->ending) {
	case NO_ROOM:
		work->going_on = 1;
		return talk->party.protocol;
	case NOT_READ:
		count_unseen(talk, work->reason);
		lose(work, talk);
		break;
	case OVER:
		count_unseen(talk, work->reason);
		drop_line(work, talk, UNPAIRED_LOST);
		give_up(sk);
		return PLAIN;
	case NOT_MINE:
		if (talk->party.agreed) {
			lose(work, talk);
			break;
		}
		talk->refused |= 1 << (talk->party.protocol & 7);
		lose(work, talk);
		talk->party.protocol = NO_PROTOCOL;
		talk->streams[0].lost = 0;
		talk->streams[1].lost = 0;
		/* The next protocol sees what this one waited with, too. */
		talk->streams[direction & 1].stashed = work->call.stashed;
		talk->last_direction = !direction;
		set_stage(sk, NO_PROTOCOL);
		__sync_lock_test_and_set(&talk->streams[direction & 1].busy, 0);
		return NO_PROTOCOL;
	default:
		put_aside(work, talk, sk, direction);
	}
	__sync_lock_test_and_set(&talk->streams[direction & 1].busy, 0);
	return PLAIN;
}

/* Whether the bytes begin with units like the latest ones, as far as the protocol can tell that
 * for little. */
static __always_inline bool says_again(__u32 protocol, bool asking, struct parse *parse,
				       const __u8 *p, __u32 n, struct unit *unit, struct text *text)
{
	switch (protocol) {
	case HTTP:
		return asking ? http_same_request(parse, p, n, unit)
			      : http_same_response(parse, p, n, unit);
	case REDIS:
		return asking ? redis_same_commands(parse, p, n, unit, text)
			      : redis_plain_answers(parse, p, n, unit, text);
	}
	return false;
}

/* The beginning of a call, the short way. Returns whether that was all of it. */
static __always_inline bool go_straight(struct step *s, __u32 protocol)
{
	struct stream *stream = s->stream;
	struct talk *talk = s->talk;
	struct work *work = s->work;
	struct call *call = &work->call;
	struct parse parse = {.own = stream->own, .shared = talk->shared};
	struct unit unit = {};
	__u32 n = call->filled;
	struct pending *first = 0;

	/* Nothing may be under way, nor wait to be counted first. */
	if (work->count || call->at || call->stashed || stream->first || stream->lost || !n)
		return false;
	if (n > WINDOW)
		n = WINDOW;
	if (s->asking) {
		parse.runs = MOST_AGAIN;
	} else {
		first = simple_front(talk);
		if (!first)
			return false;
		parse.runs = parse.waiting = first->count;
		parse.asked = first->local;
	}
	if (!says_again(protocol, s->asking, &parse, call->block, n, &unit, &work->text) ||
	    unit.length > call->length ||
	    (unit.length > call->filled && unit.length != call->length))
		return false;
	if (!s->asking)
		answer_again(work, talk, first, &unit);
	else if (!ask_again(work, talk, &unit))
		return false;
	if (unit.length == call->length) {
		call->at = call->filled;
		return true;
	}
	call->at = unit.length;
	work->ahead.index = talk->head;
	return call->at == call->filled && !next_block(work, 0);
}

/* A protocol's program. */
static __always_inline void observe(void *ctx, struct sock *sk, __u32 length, int direction,
				    __u32 hook, void *chain, __u32 protocol, void *units)
{
	struct talk *talk = bpf_sk_storage_get(&talks, sk, 0, 0);
	struct stream *stream;
	struct work *work;
	struct step s;
	__u64 skip;
	__u32 next;

	if (!talk)
		return;
	stream = &talk->streams[direction];
	skip = stream->skip;
	if (skip && (skip > length || (skip == length && !stream->events))) {
		/* Within a message, as most of what is large is. */
		stream->skip = skip - length;
		if (stream->events & TO_CLOSE)
			stream->last = bpf_ktime_get_ns();
		return;
	}
	work = work_of(hook);
	if (!work)
		return;
	if (!work->going_on) {
		if (__sync_lock_test_and_set(&stream->busy, 1)) {
			count_unseen(talk, UNSEEN_BUSY);
			return;
		}
		work->ending = AT_THE_END;
		work->count = 0;
	}
	s.work = work;
	s.talk = talk;
	s.stream = stream;
	s.asking = talk->party.requests == direction;
	if (open_call(&s, sk, length, direction, skip) && !go_straight(&s, protocol) &&
	    bpf_loop(MOST_UNITS, units, &s, 0) == MOST_UNITS)
		work->ending = NO_ROOM;
	apply_all(work, talk);
	if (work->ending == AT_THE_END && work->call.at == work->call.filled) {
		__sync_lock_test_and_set(&stream->busy, 0);
		return;
	}
	next = finish_call(work, talk, sk, direction);
	if (next == PLAIN)
		return;
	bpf_tail_call(ctx, chain, next);
	/* As many as the kernel allows in a row: the rest of this call is not looked at. */
	work->going_on = 0;
	count_unseen(talk, UNSEEN_UNITS);
	lose(work, talk);
	__sync_lock_test_and_set(&stream->busy, 0);
}

/* One program for each hook, and what it does. */
#define PROGRAMS(name)                                                                             \
	SEC("tp_btf/sock_send_length")                                                             \
	int BPF_PROG(name##_send_length, struct sock *sk, int length, int flags)                   \
	{                                                                                          \
		name(ctx, sk, length, TRANSMIT, HOOK_SEND, &send_chain);                           \
		return 0;                                                                          \
	}                                                                                          \
                                                                                                   \
	SEC("tp_btf/sock_recv_length")                                                             \
	int BPF_PROG(name##_receive_length, struct sock *sk, int length, int flags)                \
	{                                                                                          \
		name(ctx, sk, length, RECEIVE, HOOK_RECEIVE, &receive_chain);                      \
		return 0;                                                                          \
	}                                                                                          \
                                                                                                   \
	SEC("fexit/inet_sendmsg")                                                                  \
	int BPF_PROG(name##_inet_send, struct socket *socket, struct msghdr *message, size_t size, \
		     int length)                                                                   \
	{                                                                                          \
		name(ctx, socket->sk, length, TRANSMIT, HOOK_SEND, &send_chain);                   \
		return 0;                                                                          \
	}                                                                                          \
                                                                                                   \
	SEC("fexit/inet_sendpage")                                                                 \
	int BPF_PROG(name##_inet_send_page, struct socket *socket, struct page *page, int offset,  \
		     size_t size, int flags, int length)                                           \
	{                                                                                          \
		name(ctx, socket->sk, length, TRANSMIT, HOOK_PAGE, &page_chain);                   \
		return 0;                                                                          \
	}                                                                                          \
                                                                                                   \
	SEC("fexit/inet_recvmsg")                                                                  \
	int BPF_PROG(name##_inet_receive, struct socket *socket, struct msghdr *message,           \
		     size_t size, int flags, int length)                                           \
	{                                                                                          \
		name(ctx, socket->sk, length, RECEIVE, HOOK_RECEIVE, &receive_chain);              \
		return 0;                                                                          \
	}

/* The programs of one protocol. */
#define PROTOCOL(number, name)                                                                     \
	UNITS(name)                                                                                \
	static __always_inline void name(void *ctx, struct sock *sk, __u32 length, int direction,  \
					 __u32 hook, void *chain)                                  \
	{                                                                                          \
		observe(ctx, sk, length, direction, hook, chain, number, name##_unit);             \
	}                                                                                          \
	PROGRAMS(name)

PROGRAMS(start)
PROGRAMS(datagram)
EACH_PROTOCOL(PROTOCOL)

/* A connection is gone, and what was known of it. */
static __always_inline void forget(struct sock *sk, __u32 hook)
{
	struct talk *talk = bpf_sk_storage_get(&talks, sk, 0, 0);
	struct work *work = work_of(hook);

	if (!talk || !work)
		return;
	end_talk(work, talk);
	bpf_sk_storage_delete(&talks, sk);
}

/* After the last read, which may come long after TCP's own close. Twice, as in network.bpf.c: a
 * program does not run in an interrupt of itself. */
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(first_destroy, struct sock *sk)
{
	forget(sk, HOOK_CLOSE);
	return 0;
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(second_destroy, struct sock *sk)
{
	forget(sk, HOOK_CLOSE_AGAIN);
	return 0;
}

/* User space reads this now and then: what waits in vain goes. */
SEC("iter/bpf_map_elem")
int sweep(struct bpf_iter__bpf_map_elem *ctx)
{
	struct flight_key *key = ctx->key;
	struct awaited *value = ctx->value;

	if (key && value)
		sweep_one(key, value);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
