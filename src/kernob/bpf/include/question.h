/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Questions and answers in datagrams: DNS over UDP.
 *
 * Each datagram says by itself what it is: a question that is sent or an answer that is received
 * is a client's, the others are a server's, so one socket may be both. There is no connection:
 * what is asked waits under the socket, the peer, and the message's id and question.
 */
#ifndef KERNOB_QUESTION_H
#define KERNOB_QUESTION_H

#include "../protocols/dns.h"
#include "by_id.h"
#include "datagram.h"

#define MOST_DATAGRAMS 8 /* that are not DNS, until the socket is let go */

struct datagram_socket {
	__u64 id; /* as that of a talk */
	__u8 known; /* DNS it is */
	__u8 agreed; /* a question has had its answer */
	__u8 tries;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct datagram_socket);
} datagram_sockets SEC(".maps");

/*
 * Which of the messages of a sendmmsg or recvmmsg has just moved: they all show the same registers.
 * Failures are seen (see forget_datagram), but not that recvmmsg's time is over.
 */
static __always_inline int locate_datagram(struct call *call, struct datagram *datagram,
					   struct sock *sk, __u32 length, int direction)
{
	struct arguments arguments = call_arguments();
	__u32 index = 0;
	int reason;

	if (arguments.kind == MESSAGES && arguments.third != 1) {
		if (!datagram || (direction == RECEIVE && arguments.fifth))
			return UNSEEN_CALL;
		if (datagram->messages != arguments.second ||
		    datagram->messages_socket != (__u64)sk || datagram->count >= arguments.third) {
			datagram->messages = arguments.second;
			datagram->messages_socket = (__u64)sk;
			datagram->count = 0;
		}
		index = datagram->count++;
	}
	reason = locate_in(call, &arguments, length, index);
	/* Not the message that it was taken for. */
	if (reason == SEEN && direction == TRANSMIT && !call->vectors_left && call->piece != length)
		return UNSEEN_CALL;
	return reason;
}

/* The row of this thread, made if there is none and it is needed: of a connected socket. */
static __always_inline struct datagram *datagram_row(void)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct datagram *datagram = bpf_map_lookup_elem(&datagrams, &thread);
	struct datagram none = {};

	if (datagram)
		return datagram;
	bpf_map_update_elem(&datagrams, &thread, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&datagrams, &thread);
}

/*
 * Questions in this form that nobody need answer, since they go to all of a link: NetBIOS names
 * (RFC 1002), multicast DNS (RFC 6762), link-local multicast names (RFC 4795).
 */
static __always_inline bool is_for_all(__u16 port)
{
	return port == 137 || port == 5353 || port == 5355;
}

/* Whose question it is. Returns a hash of the peer. */
static __always_inline __u64 name_datagram(struct party *party, struct datagram *datagram,
					   struct sock *sk, bool client)
{
	__u64 *address = (__u64 *)party->address;
	bool ipv4;
	__u64 hash;

	__builtin_memset(party, 0, sizeof(*party));
	party->shared = 1;
	party->protocol = DNS;
	party->side = client ? CLIENT : SERVER;
	if (datagram && datagram->moved == (__u64)sk) {
		__builtin_memcpy(party->address, datagram->address, sizeof(party->address));
		party->port = datagram->port;
	} else {
		peer_address(sk, party->address);
		party->port = bpf_ntohs(sk->__sk_common.skc_dport);
	}
	hash = mix(mix(mix(party->side, address[0]), address[1]), party->port);
	if (client)
		return hash;
	/* A server has more clients than there may be rows. */
	ipv4 = ((__u32 *)address)[2] == bpf_htonl(0xffff);
	address[0] = 0;
	address[1] = 0;
	if (ipv4)
		set_ipv4(party->address, 0);
	party->port = sk->__sk_common.skc_num;
	return hash;
}

/* A datagram that is DNS, as one record. */
static __always_inline void count_datagram(struct work *work, struct datagram_socket *socket,
					   struct unit *unit, __u32 length, __u64 peer)
{
	struct record *record = &work->records[0];
	struct party *party = &work->party;

	record->operation = unit->operation;
	record->first = work->call.now;
	record->bytes = length;
	record->body = 0;
	record->statement = mix(unit->statement, peer);
	record->status = unit->status;
	record->count = 1;
	party->agreed = socket->agreed;
	if (unit->events & REQUEST) {
		announce(unit->operation, &work->text, DNS, OPERATION_TEXT);
		ask_by_id(work, party, socket->id, record);
	} else {
		answer_by_id(work, party, socket->id, record);
	}
	socket->agreed = party->agreed;
}

/* Looks at a datagram. Returns whether the socket is worth looking at again. */
static __noinline bool see_datagram(struct work *work, struct datagram_socket *socket,
				    struct sock *sk, __u32 length, int direction)
{
	struct datagram *datagram = datagram_row();
	struct unit unit = {};
	int verdict = ALIEN, reason;
	__u64 peer;

	if (!work || !socket || !sk)
		return false;
	work->call.now = bpf_ktime_get_ns();
	work->call.stashed = 0;
	reason = locate_datagram(&work->call, datagram, sk, length, direction);
	/* An empty one has a place among those of its call, no more. */
	if (!length)
		return true;
	if (reason == SEEN)
		reason = fill(&work->call);
	if (reason == SEEN)
		verdict = dns_message((const void *)work->call.block, work->call.filled, length,
				      &unit, &work->text);
	if (verdict == TAKEN && !(unit.events & APART)) {
		peer = name_datagram(&work->party, datagram, sk,
				     !(unit.events & REQUEST) == (direction == RECEIVE));
		if (!is_for_all(work->party.port)) {
			socket->known = 1;
			count_datagram(work, socket, &unit, length, peer);
			return true;
		}
	}
	if (socket->known) {
		__sync_fetch_and_add(&unseen[DNS][reason == SEEN ? UNSEEN_OTHER : reason & 15], 1);
		return true;
	}
	return ++socket->tries < MOST_DATAGRAMS;
}

/* What has waited for its other half for so long is counted without it. */
const volatile __u64 answer_timeout_ns = 5000000000ULL;

/* A process that has ended waits for nothing; and no row of it may be made once user space has let
 * go of it, which is when it leaves this table. */
static __always_inline bool has_ended(struct series_key *row)
{
	struct process_key process = {.start = row->start, .pid = row->pid};

	return bpf_map_lookup_elem(&exits, &process);
}

static __always_inline void sweep_one(struct flight_key *key, struct awaited *value)
{
	struct flight_key id = *key;
	struct series_key row_key = value->key;
	struct series *row;
	__u64 now = bpf_ktime_get_ns(), last = value->last, bytes = value->bytes;
	__u32 reason = value->reason, number;

	if (row_key.protocol != DNS)
		return;
	if (now - (last ? last : value->start) < answer_timeout_ns &&
	    (last || !has_ended(&row_key)))
		return;
	if (bpf_map_delete_elem(&awaited, &id))
		return;
	if (last) {
		add_unpaired(DNS, reason, 1);
		return;
	}
	number = find_series(&row_key);
	row = bpf_map_lookup_elem(&series, &number);
	if (!row)
		return;
	__sync_fetch_and_add(&row->buckets[0], 1);
	__sync_fetch_and_add(&row->request_bytes, bytes);
	__sync_fetch_and_add(&row->sum, 1);
}

#endif
