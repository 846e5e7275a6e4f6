/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Bytes and operations of every TCP and UDP socket, per process and peer.
 *
 * Two hooks see every call that moves data, after it is done, with the length that really moved.
 * TCP counts in the socket's own storage: one look-up, two additions, no key to build. The storage
 * belongs to the first process that used the socket; whatever another process moves on it goes
 * to the table of flows at once. Storages drain into that table when user space asks (an
 * iterator, before each reading) and when the socket closes, so a byte is always in exactly one
 * place. UDP has no event at close, so its datagrams go to the table at once.
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
#include "include/datagram.h"
#include "include/flow.h"
#include "include/process.h"

#define FIRST_USER_PORT 1024 /* RFC 6335 */
#define FIRST_EPHEMERAL_PORT 32768 /* net.ipv4.ip_local_port_range, as Linux has it */

/* Whether something else looks at the bytes that move: see chain.h. */
const volatile _Bool requests = 0;

/* Local ports somebody listens on, or did: who called whom, where no SYN was seen? */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u8);
} listening SEC(".maps");

/* Connections that have no owner yet, found by the last drain. */
__u64 connections_unowned;
static __u64 drain_session;
/* Datagrams whose peer could not be kept for the next hook: counted in the row of many peers. */
__u64 datagrams_dropped;

static __always_inline __u64 current_start(void)
{
	return bpf_get_current_task_btf()->group_leader->start_boottime;
}

/* Who opened a connection that is older than the agent. */
static __always_inline __u8 guess_side(struct sock *sk)
{
	__u32 port = sk->__sk_common.skc_num;
	__u8 *yes = bpf_map_lookup_elem(&listening, &port);

	return yes && *yes ? SERVER : CLIENT;
}

static __always_inline void listens(struct sock *sk)
{
	__u32 port = sk->__sk_common.skc_num;
	__u8 *yes = bpf_map_lookup_elem(&listening, &port);

	if (yes)
		*yes = 1;
}

static __always_inline int count_now(struct flow_key *key, int direction, int length,
				     int operations)
{
	add(flow_row(key), direction, length, operations);
	return 0;
}

static __always_inline int tcp_moved(struct sock *sk, struct connection *c, int length,
				     int direction, int operations)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct process_key process = process_of(task);
	struct connection unkept = {};
	struct flow_key key = {};

	remember_process(task, &process);
	/* MPTCP's own socket tells nobody when it closes: nothing may wait in its storage. */
	if (!c && sk->sk_protocol == IPPROTO_TCP) {
		/* Older than the agent. */
		c = make_connection(sk, guess_side(sk));
		if (c) {
			if (direction == RECEIVE)
				c->read_to -= length;
			c->older = 1;
			__sync_lock_test_and_set(&c->established, 1);
		}
	}
	if (!c) {
		unkept.side = guess_side(sk);
		name_connection(&unkept, sk, &process, &key);
		return count_now(&key, direction, length, operations);
	}
	if (!c->named)
		own(c, sk, &process);
	if (c->named && c->process == process.start && !c->shared) {
		__sync_fetch_and_add(&c->bytes[direction], length);
		__sync_fetch_and_add(&c->operations[direction], operations);
		if (!*(volatile __u64 *)&c->owner)
			drain(c, sk);
		return 0;
	}
	/* A second process on the same connection. The hook shows these bytes here; the read
	 * position must not show them to drain() again. */
	if (c->named && c->process != process.start && !c->shared) {
		c->shared = 1;
		/* Its requests are whoever's is running, from now on: to be found out once more. */
		if (c->stage < STAGES)
			c->stage = 0;
		*(volatile __u64 *)&c->owner = 0;
		drain(c, sk);
	}
	if (direction == RECEIVE)
		__sync_fetch_and_add(&c->read_to, length);
	name_connection(c, sk, &process, &key);
	return count_now(&key, direction, length, operations);
}

/*
 * Nobody says who serves in UDP. A socket that is connected and did not ask for its port calls. Of
 * the others, one that hears before it speaks serves; one that speaks first serves if it asked for
 * its port, unless the other's port looks more like a service's.
 */
static __always_inline __u8 udp_side(struct sock *sk, __u16 remote, int direction)
{
	bool asked = BPF_CORE_READ_BITFIELD(sk, sk_userlocks) & SOCK_BINDPORT_LOCK;
	__u16 local = sk->__sk_common.skc_num;

	if (!asked && sk->__sk_common.skc_dport)
		return CLIENT;
	if (direction == RECEIVE)
		return SERVER;
	if (!asked || (remote < FIRST_USER_PORT && local >= FIRST_USER_PORT) ||
	    (remote < FIRST_EPHEMERAL_PORT && local >= FIRST_EPHEMERAL_PORT))
		return CLIENT;
	return SERVER;
}

static __always_inline int udp_moved(struct sock *sk, struct connection *c, int length,
				     int direction, int operations)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct process_key process = process_of(task);
	struct datagram *datagram = this_datagram();
	__u16 remote;
	struct flow_key key = {
		.start = process.start,
		.pid = process.pid,
		.transport = IPPROTO_UDP,
	};

	if (datagram && datagram->socket == (__u64)sk) {
		datagram->socket = 0;
		datagram->moved = (__u64)sk;
		__builtin_memcpy(key.address, datagram->address, sizeof(key.address));
		remote = datagram->port;
	} else {
		if (datagram)
			datagram->moved = 0;
		peer_address(sk, key.address);
		remote = bpf_ntohs(sk->__sk_common.skc_dport);
	}
	key.side = udp_side(sk, remote, direction);
	if (!c) {
		/* Nothing is counted there; it keeps the side that the first datagram showed. */
		c = bpf_sk_storage_get(&connections, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (c)
			c->side = key.side;
	}
	if (c)
		key.side = c->side;
	key.port = key.side == SERVER ? sk->__sk_common.skc_num : remote;
	remember_process(task, &process);
	return count_now(&key, direction, length, operations);
}

static __noinline int moved_slowly(struct sock *sk, struct connection *c, int length, int direction,
				   int operations)
{
	/* A raw socket has a protocol, too. */
	if (!sk || sk->sk_type == SOCK_RAW)
		return 0;
	if (sk->sk_protocol == IPPROTO_UDP)
		return udp_moved(sk, c, length, direction, operations);
	if (length > 0 && (sk->sk_protocol == IPPROTO_TCP || sk->sk_protocol == IPPROTO_MPTCP))
		return tcp_moved(sk, c, length, direction, operations);
	return 0;
}

/* The peer of a datagram that was not sent must not pass for that of the next one. Nor does a
 * failure leave anything of a sendmmsg or recvmmsg: the next one begins anew. */
static __noinline int forget_datagram(void)
{
	struct datagram *datagram = this_datagram();

	if (datagram) {
		datagram->socket = 0;
		datagram->messages = 0;
	}
	return 0;
}

/* Counts. Returns the program that looks at requests, -1 for none. */
static __always_inline int moved(struct sock *sk, int length, int direction, int operations)
{
	struct connection *c;
	__u64 start;
	__u16 family;

	if (length < 0) {
		if (sk->sk_protocol == IPPROTO_UDP && (direction == TRANSMIT || requests))
			forget_datagram();
		return -1;
	}
	family = sk->__sk_common.skc_family;
	if (family != AF_INET && family != AF_INET6)
		return -1;
	c = bpf_sk_storage_get(&connections, sk, 0, 0);
	start = current_start();
	if (!c || c->owner != start) {
		moved_slowly(sk, c, length, direction, operations);
		/* A datagram may be empty, and counts among those of one call. */
		if (!requests || (!length && sk->sk_protocol != IPPROTO_UDP))
			return -1;
		if (!c)
			c = bpf_sk_storage_get(&connections, sk, 0, 0);
		return c ? c->stage : -1;
	}
	if (!length)
		return -1;
	__sync_fetch_and_add(&c->bytes[direction], length);
	__sync_fetch_and_add(&c->operations[direction], operations);
	/* Closed, or shared, by somebody in between: nobody will drain this for us. */
	if (*(volatile __u64 *)&c->owner != start)
		drain(c, sk);
	return c->stage;
}

/* Counts, and goes on to what looks at requests, if anything does. */
#define MOVED(sk, length, direction, operations, chain)                                            \
	do {                                                                                       \
		int stage = moved(sk, length, direction, operations);                              \
                                                                                                   \
		if (requests && stage >= 0 && stage < STAGES)                                      \
			bpf_tail_call(ctx, &chain, stage);                                         \
		return 0;                                                                          \
	} while (0)

SEC("tp_btf/sock_send_length")
int BPF_PROG(send_length, struct sock *sk, int length, int flags)
{
	MOVED(sk, length, TRANSMIT, 1, send_chain);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(receive_length, struct sock *sk, int length, int flags)
{
	if (flags & (MSG_PEEK | MSG_ERRQUEUE))
		return 0;
	MOVED(sk, length, RECEIVE, 1, receive_chain);
}

/* Before 6.3 there are no such tracepoints, and before 6.5 sendfile passes them by: the same on
 * the calls that TCP and UDP share. User space asks for these, or for the two above. */
SEC("fexit/inet_sendmsg")
int BPF_PROG(inet_send, struct socket *socket, struct msghdr *message, size_t size, int length)
{
	MOVED(socket->sk, length, TRANSMIT, 1, send_chain);
}

SEC("fexit/inet6_sendmsg")
int BPF_PROG(inet6_send, struct socket *socket, struct msghdr *message, size_t size, int length)
{
	MOVED(socket->sk, length, TRANSMIT, 1, send_chain);
}

/* One sendfile or splice comes here once for each page: its last one counts the operation. */
SEC("fexit/inet_sendpage")
int BPF_PROG(inet_send_page, struct socket *socket, struct page *page, int offset, size_t size,
	     int flags, int length)
{
	/* MPTCP has no sendpage: its pages go on to inet_sendmsg from in here. */
	if (socket->sk->sk_protocol == IPPROTO_MPTCP)
		return 0;
	MOVED(socket->sk, length, TRANSMIT, !(flags & MSG_SENDPAGE_NOTLAST), page_chain);
}

SEC("fexit/inet_recvmsg")
int BPF_PROG(inet_receive, struct socket *socket, struct msghdr *message, size_t size, int flags,
	     int length)
{
	if (flags & (MSG_PEEK | MSG_ERRQUEUE))
		return 0;
	MOVED(socket->sk, length, RECEIVE, 1, receive_chain);
}

SEC("fexit/inet6_recvmsg")
int BPF_PROG(inet6_receive, struct socket *socket, struct msghdr *message, size_t size, int flags,
	     int length)
{
	if (flags & (MSG_PEEK | MSG_ERRQUEUE))
		return 0;
	MOVED(socket->sk, length, RECEIVE, 1, receive_chain);
}

static __noinline int state_changed(struct sock *sk, int new)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct process_key process;
	struct connection *c;
	struct flow_key key;

	if (!sk || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (new == TCP_LISTEN)
		listens(sk);
	if (is_subflow(sk))
		return 0;
	c = bpf_sk_storage_get(&connections, sk, 0, 0);
	switch (new) {
	case TCP_SYN_SENT:
		if (!c)
			c = make_connection(sk, CLIENT);
		if (c) {
			/* A socket may be used again after it was disconnected. */
			c->named = 0;
			c->side = CLIENT;
			c->claimed = 0;
			c->closed = 0;
			c->older = 0;
			c->last = 0;
			c->shared = 0;
			c->established = 0;
			c->counted = 0;
			c->unhooked = 0;
			process = process_of(task);
			remember_process(task, &process);
			own(c, sk, &process);
		}
		break;
	case TCP_ESTABLISHED:
		if (!c)
			c = make_connection(sk, SERVER);
		/* By fast open, it may have been read from already. */
		if (c && !c->established) {
			start_position(c, sk);
			__sync_lock_test_and_set(&c->established, 1);
			if (c->named) {
				key = c->key;
				count_connection(c, bpf_map_lookup_elem(&flows, &key));
			}
		}
		break;
	case TCP_FIN_WAIT1:
	case TCP_LAST_ACK:
	case TCP_CLOSE:
		if (!c)
			break;
		/* Nobody has used it so far, and the one that closes it is running now: not
		 * so when it is the peer's reset that ends it. */
		if (!c->named && (new != TCP_CLOSE || sk->sk_shutdown == SHUTDOWN_MASK) &&
		    read_position(c, sk) != c->read_to) {
			process = process_of(task);
			remember_process(task, &process);
			own(c, sk, &process);
		}
		if (new != TCP_CLOSE)
			break;
		__sync_lock_test_and_set(&c->closed, 1);
		__sync_lock_test_and_set(&c->owner, 0);
		/* The position as it is now, before a disconnect moves it. */
		if (!c->shared)
			__sync_lock_test_and_set(&c->last, 1);
		drain(c, sk);
		uncount_connection(c);
		break;
	}
	return 0;
}

/* The last file of the socket is closed, long after TCP's own close perhaps: nobody reads now. */
static __noinline int destroyed(struct sock *sk)
{
	struct connection *c = sk ? bpf_sk_storage_get(&connections, sk, 0, 0) : 0;
	struct process_key process;

	if (!c || !c->closed || !sk->__sk_common.skc_dport)
		return 0;
	if (!c->named && read_position(c, sk) != c->read_to) {
		process = process_of(bpf_get_current_task_btf());
		remember_process(bpf_get_current_task_btf(), &process);
		own(c, sk, &process);
	}
	__sync_lock_test_and_set(&c->last, 1);
	drain(c, sk);
	return 0;
}

/*
 * Each twice. The kernel does not run a program where that program is running already, and these
 * also run in interrupts: of all that one interrupt does while a task is in one of the two, the
 * other one sees everything. Whatever is not interrupted is seen by both, which changes nothing.
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(set_state, struct sock *sk, int old, int new)
{
	return state_changed(sk, new);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(set_state_again, struct sock *sk, int old, int new)
{
	return state_changed(sk, new);
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(destroy, struct sock *sk)
{
	return destroyed(sk);
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(destroy_again, struct sock *sk)
{
	return destroyed(sk);
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exit, struct task_struct *task)
{
	struct process_key key;
	__u64 now;

	if (task->signal->live.counter)
		return 0;
	key = process_of(task);
	if (!bpf_map_lookup_elem(&processes, &key))
		return 0;
	now = bpf_ktime_get_boot_ns();
	if (bpf_map_update_elem(&exits, &key, &now, BPF_ANY))
		__sync_fetch_and_add(&exits_dropped, 1);
	return 0;
}

static __always_inline int keep_datagram(struct bpf_sock_addr *ctx, bool ipv6)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct datagram *earlier = bpf_map_lookup_elem(&datagrams, &thread);
	struct datagram datagram = {
		.socket = (__u64)ctx->sk,
		.port = bpf_ntohs(ctx->user_port),
	};

	if (earlier) {
		datagram.count = earlier->count;
		datagram.messages = earlier->messages;
		datagram.messages_socket = earlier->messages_socket;
	}
	if (ipv6) {
		__u32 *word = (__u32 *)datagram.address;

		word[0] = ctx->user_ip6[0];
		word[1] = ctx->user_ip6[1];
		word[2] = ctx->user_ip6[2];
		word[3] = ctx->user_ip6[3];
	} else {
		set_ipv4(datagram.address, ctx->user_ip4);
	}
	if (bpf_map_update_elem(&datagrams, &thread, &datagram, BPF_ANY))
		__sync_fetch_and_add(&datagrams_dropped, 1);
	return 1;
}

SEC("cgroup/sendmsg4")
int send_datagram4(struct bpf_sock_addr *ctx)
{
	return keep_datagram(ctx, false);
}

SEC("cgroup/sendmsg6")
int send_datagram6(struct bpf_sock_addr *ctx)
{
	return keep_datagram(ctx, true);
}

SEC("cgroup/recvmsg4")
int receive_datagram4(struct bpf_sock_addr *ctx)
{
	return keep_datagram(ctx, false);
}

SEC("cgroup/recvmsg6")
int receive_datagram6(struct bpf_sock_addr *ctx)
{
	return keep_datagram(ctx, true);
}

/* Nothing to drain, which is so for most connections of most hosts. */
static __always_inline bool is_quiet(struct connection *c, struct sock *sk)
{
	return !c->bytes[TRANSMIT] && !c->bytes[RECEIVE] && !c->last &&
	       (c->shared || !position_holds(c, sk) || read_position(c, sk) == c->read_to);
}

/* User space reads this to its end before it reads the flows. */
SEC("iter/bpf_sk_storage_map")
int drain_connections(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk;
	struct connection *seen, *c;

	/* Not by seq_num: of a single connection, the call at the end has the same as the first. */
	if (ctx->meta->session_id != drain_session) {
		drain_session = ctx->meta->session_id;
		connections_unowned = 0;
	}
	if (!sk)
		return 0;
	seen = ctx->value;
	if (!seen || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (!seen->named) {
		connections_unowned++;
		return 0;
	}
	if (is_quiet(seen, sk))
		return 0;
	c = bpf_sk_storage_get(&connections, sk, 0, 0);
	if (c)
		drain(c, sk);
	return 0;
}

static __always_inline struct sock *socket_of(struct file *file)
{
	struct socket *socket = file ? bpf_sock_from_file(file) : 0;
	struct sock *sk = socket ? socket->sk : 0;

	if (!sk || sk->sk_protocol != IPPROTO_TCP || sk->sk_type == SOCK_RAW)
		return 0;
	return sk;
}

/* At the start, twice: first who listens, then whose each connection is. Later for connections
 * that nobody has used yet. */
SEC("iter/task_file")
int find_listeners(struct bpf_iter__task_file *ctx)
{
	struct sock *sk = socket_of(ctx->file);

	if (sk && sk->__sk_common.skc_state == TCP_LISTEN)
		listens(sk);
	return 0;
}

SEC("iter/task_file")
int find_owners(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct sock *sk = socket_of(ctx->file);
	struct process_key process;
	struct connection *c;

	if (!task || !sk || sk->__sk_common.skc_state == TCP_LISTEN ||
	    sk->__sk_common.skc_state == TCP_SYN_SENT)
		return 0;
	c = bpf_sk_storage_get(&connections, sk, 0, 0);
	if (!c) {
		if (sk->__sk_common.skc_state == TCP_CLOSE)
			return 0;
		c = make_connection(sk, guess_side(sk));
		if (!c)
			return 0;
		c->older = 1;
		__sync_lock_test_and_set(&c->established, 1);
	}
	if (c->named)
		return 0;
	process = process_of(task);
	remember_process(task, &process);
	own(c, sk, &process);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
