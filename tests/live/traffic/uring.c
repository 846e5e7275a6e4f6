/* io_uring by its raw system calls: one request at a time, submitted and waited for. */
#include "traffic.h"
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ENTRIES = 8 };

struct uring {
	int fd;
	bool sqpoll;
	void *queues;
	size_t queues_size;
	struct io_uring_sqe *requests;
	struct io_uring_params params;
};

static _Atomic uint32_t *field(struct uring *ring, uint32_t offset)
{
	return (_Atomic uint32_t *)((char *)ring->queues + offset);
}

struct uring *uring_open(bool sqpoll)
{
	struct uring *ring = calloc(1, sizeof(*ring));

	ring->sqpoll = sqpoll;
	if (sqpoll) {
		ring->params.flags = IORING_SETUP_SQPOLL;
		ring->params.sq_thread_idle = 1; /* ms, then it must be woken */
	}
	ring->fd = syscall(SYS_io_uring_setup, ENTRIES, &ring->params);
	if (ring->fd < 0) {
		free(ring);
		return 0;
	}
	ring->queues_size = ring->params.cq_off.cqes +
			    ring->params.cq_entries * sizeof(struct io_uring_cqe);
	if (ring->queues_size < ring->params.sq_off.array + ENTRIES * sizeof(uint32_t))
		ring->queues_size = ring->params.sq_off.array + ENTRIES * sizeof(uint32_t);
	ring->queues = mmap(0, ring->queues_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			    ring->fd, IORING_OFF_SQ_RING);
	ring->requests = mmap(0, ENTRIES * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQES);
	return ring;
}

void uring_close(struct uring *ring)
{
	munmap(ring->requests, ENTRIES * sizeof(struct io_uring_sqe));
	munmap(ring->queues, ring->queues_size);
	close(ring->fd);
	free(ring);
}

static struct io_uring_cqe wait_one(struct uring *ring)
{
	_Atomic uint32_t *head = field(ring, ring->params.cq_off.head);
	_Atomic uint32_t *tail = field(ring, ring->params.cq_off.tail);
	struct io_uring_cqe *all =
		(struct io_uring_cqe *)((char *)ring->queues + ring->params.cq_off.cqes);
	struct io_uring_cqe one;

	while (atomic_load(head) == atomic_load(tail))
		syscall(SYS_io_uring_enter, ring->fd, 0, 1, IORING_ENTER_GETEVENTS, 0, 0);
	one = all[atomic_load(head) % ring->params.cq_entries];
	atomic_fetch_add(head, 1);
	return one;
}

static long run(struct uring *ring, const struct io_uring_sqe *request)
{
	_Atomic uint32_t *tail = field(ring, ring->params.sq_off.tail);
	_Atomic uint32_t *flags = field(ring, ring->params.sq_off.flags);
	uint32_t slot = atomic_load(tail) % ring->params.sq_entries;
	struct io_uring_cqe done;
	long result;

	ring->requests[slot] = *request;
	*field(ring, ring->params.sq_off.array + slot * sizeof(uint32_t)) = slot;
	atomic_fetch_add(tail, 1);
	if (!ring->sqpoll)
		syscall(SYS_io_uring_enter, ring->fd, 1, 0, 0, 0, 0);
	else if (atomic_load(flags) & IORING_SQ_NEED_WAKEUP)
		syscall(SYS_io_uring_enter, ring->fd, 0, 0, IORING_ENTER_SQ_WAKEUP, 0, 0);
	done = wait_one(ring);
	result = done.res;
	/* A zero-copy send completes twice: when it is queued, and when the pages are free. */
	while (done.flags & IORING_CQE_F_MORE)
		done = wait_one(ring);
	return result;
}

long uring_send(struct uring *ring, int fd, const void *data, long size, bool zerocopy)
{
	struct io_uring_sqe request = {
		.opcode = zerocopy ? IORING_OP_SEND_ZC : IORING_OP_SEND,
		.fd = fd,
		.addr = (uintptr_t)data,
		.len = size,
		.msg_flags = MSG_NOSIGNAL,
	};
	return run(ring, &request);
}

long uring_receive(struct uring *ring, int fd, void *data, long size)
{
	struct io_uring_sqe request = {
		.opcode = IORING_OP_RECV,
		.fd = fd,
		.addr = (uintptr_t)data,
		.len = size,
	};
	return run(ring, &request);
}

long uring_message(struct uring *ring, int fd, struct msghdr *message, enum direction direction)
{
	struct io_uring_sqe request = {
		.opcode = direction == TRANSMIT ? IORING_OP_SENDMSG : IORING_OP_RECVMSG,
		.fd = fd,
		.addr = (uintptr_t)message,
		.len = 1,
	};
	return run(ring, &request);
}
