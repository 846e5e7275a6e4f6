/* TCP: every way to move a stream's bytes. */
#include "traffic.h"
#include <fcntl.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <linux/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MESSAGES = 8 };

/* 0: TCP; the command `protocol` can say IPPROTO_MPTCP for the sockets after it. */
static int protocol;

/* What one transfer needs besides the socket. */
struct tools {
	char *buffer;
	int file; /* in memory, MOST_BUFFER long */
	int pipe[2];
	int nowhere;
	struct uring *ring;
};

static struct tools open_tools(const char *how)
{
	struct tools tools = { .buffer = malloc(MOST_BUFFER), .nowhere = -1 };

	memset(tools.buffer, 'x', MOST_BUFFER);
	tools.file = memfd_create("traffic", MFD_CLOEXEC);
	if (ftruncate(tools.file, MOST_BUFFER) || pipe2(tools.pipe, O_CLOEXEC))
		abort();
	tools.nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
	fcntl(tools.pipe[1], F_SETPIPE_SZ, MOST_BUFFER);
	if (strstr(how, "uring") || !strcmp(how, "sqpoll"))
		tools.ring = uring_open(!strcmp(how, "sqpoll"));
	return tools;
}

static void close_tools(struct tools *tools)
{
	if (tools->ring)
		uring_close(tools->ring);
	close(tools->nowhere);
	close(tools->pipe[0]);
	close(tools->pipe[1]);
	close(tools->file);
	free(tools->buffer);
}

static void into_parts(struct iovec *parts, int count, char *data, long size)
{
	for (int i = 0; i < count; i++) {
		parts[i].iov_base = data + size * i / count;
		parts[i].iov_len = size * (i + 1) / count - size * i / count;
	}
}

/* Reads completions until as many sends are confirmed as were made. */
static void await_completions(int fd, uint32_t sends)
{
	char control[128];
	uint32_t confirmed = 0;

	while (confirmed < sends) {
		struct msghdr message = { .msg_control = control, .msg_controllen = sizeof(control) };
		struct pollfd errors = { .fd = fd };
		struct sock_extended_err *error;

		if (recvmsg(fd, &message, MSG_ERRQUEUE) < 0) {
			poll(&errors, 1, 100);
			continue;
		}
		error = (struct sock_extended_err *)CMSG_DATA(CMSG_FIRSTHDR(&message));
		confirmed += error->ee_data - error->ee_info + 1;
	}
}

/* One call; returns what it returned, and through `operations` in how many messages. */
static long send_once(int fd, const char *how, long size, struct tools *tools, int *operations)
{
	struct iovec parts[MESSAGES];
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 3 };
	struct mmsghdr messages[MESSAGES] = {};
	char *data = tools->buffer;
	long moved = 0, filled;
	off_t start = 0;

	if (!strcmp(how, "write"))
		return write(fd, data, size);
	if (!strcmp(how, "send"))
		return send(fd, data, size, 0);
	if (!strcmp(how, "more"))
		return send(fd, data, size, MSG_MORE);
	if (!strcmp(how, "oob"))
		return send(fd, data, size, MSG_OOB);
	if (!strcmp(how, "zerocopy"))
		return send(fd, data, size, MSG_ZEROCOPY);
	if (!strcmp(how, "sendto"))
		return sendto(fd, data, size, 0, 0, 0);
	if (!strcmp(how, "writev")) {
		into_parts(parts, 3, data, size);
		return writev(fd, parts, 3);
	}
	if (!strcmp(how, "sendmsg")) {
		into_parts(parts, 3, data, size);
		return sendmsg(fd, &message, 0);
	}
	if (!strcmp(how, "sendmmsg")) {
		into_parts(parts, MESSAGES, data, size);
		for (int i = 0; i < MESSAGES; i++) {
			messages[i].msg_hdr.msg_iov = &parts[i];
			messages[i].msg_hdr.msg_iovlen = 1;
		}
		filled = sendmmsg(fd, messages, MESSAGES, 0);
		*operations = 0;
		for (int i = 0; i < filled; i++) {
			moved += messages[i].msg_len;
			*operations += messages[i].msg_len > 0;
		}
		return filled < 0 ? filled : moved;
	}
	if (!strcmp(how, "sendfile"))
		return sendfile(fd, tools->file, &start, size);
	if (!strcmp(how, "splice")) {
		filled = splice(tools->file, &start, tools->pipe[1], 0, size, 0);
		while (moved < filled) {
			long now = splice(tools->pipe[0], 0, fd, 0, filled - moved, 0);

			if (now < 0)
				return now;
			moved += now;
		}
		return moved;
	}
	if (tools->ring) {
		moved = uring_send(tools->ring, fd, data, size, !strcmp(how, "uring_zc"));
		errno = moved < 0 ? -moved : 0;
		return moved < 0 ? -1 : moved;
	}
	errno = EINVAL;
	return -1;
}

static long receive_once(int fd, const char *how, long size, struct tools *tools, int *operations)
{
	struct iovec parts[MESSAGES];
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 3 };
	struct mmsghdr messages[MESSAGES] = {};
	struct sockaddr_storage peer;
	socklen_t peer_size = sizeof(peer);
	char *data = tools->buffer;
	long moved = 0, filled;

	if (!strcmp(how, "read"))
		return read(fd, data, size);
	if (!strcmp(how, "recv"))
		return recv(fd, data, size, 0);
	if (!strcmp(how, "recvfrom"))
		return recvfrom(fd, data, size, 0, (struct sockaddr *)&peer, &peer_size);
	if (!strcmp(how, "waitall"))
		return recv(fd, data, size, MSG_WAITALL);
	if (!strcmp(how, "trunc"))
		return recv(fd, 0, size, MSG_TRUNC);
	if (!strcmp(how, "oob"))
		return recv(fd, data, size, MSG_OOB);
	if (!strcmp(how, "peek")) {
		*operations = 0;
		return recv(fd, data, size, MSG_PEEK) < 0 ? -1 : 0;
	}
	if (!strcmp(how, "peekrecv")) {
		if (recv(fd, data, size, MSG_PEEK) < 0)
			return -1;
		return recv(fd, data, size, 0);
	}
	if (!strcmp(how, "readv")) {
		into_parts(parts, 3, data, size);
		return readv(fd, parts, 3);
	}
	if (!strcmp(how, "recvmsg")) {
		into_parts(parts, 3, data, size);
		return recvmsg(fd, &message, 0);
	}
	if (!strcmp(how, "recvmmsg")) {
		into_parts(parts, MESSAGES, data, size);
		for (int i = 0; i < MESSAGES; i++) {
			messages[i].msg_hdr.msg_iov = &parts[i];
			messages[i].msg_hdr.msg_iovlen = 1;
		}
		filled = recvmmsg(fd, messages, MESSAGES, MSG_WAITFORONE, 0);
		*operations = 0;
		for (int i = 0; i < filled; i++) {
			moved += messages[i].msg_len;
			*operations += messages[i].msg_len > 0;
		}
		return filled < 0 ? filled : moved;
	}
	if (!strcmp(how, "splice")) {
		/* No hook sees this call; that its bytes are seen is all that is promised. */
		*operations = 0;
		moved = splice(fd, 0, tools->pipe[1], 0, size, 0);
		for (filled = moved; filled > 0;)
			filled -= splice(tools->pipe[0], 0, tools->nowhere, 0, filled, 0);
		return moved;
	}
	if (tools->ring) {
		moved = uring_receive(tools->ring, fd, data, size);
		errno = moved < 0 ? -moved : 0;
		return moved < 0 ? -1 : moved;
	}
	errno = EINVAL;
	return -1;
}

typedef long (*once)(int fd, const char *how, long size, struct tools *tools, int *operations);

/* Repeats a call until `total` bytes are moved (-1: to the end); -errno if nothing was. */
static long repeat(int fd, enum direction direction, once call, const char *how, long total,
		   long chunk)
{
	struct tools tools = open_tools(how);
	long moved = 0, now, failure = 0;
	uint32_t calls = 0;

	while (total < 0 || moved < total) {
		int operations = 1;
		long size = total < 0 || chunk < total - moved ? chunk : total - moved;

		now = call(fd, how, size, &tools, &operations);
		if (now < 0 && errno == EAGAIN) {
			__atomic_add_fetch(&again, 1, __ATOMIC_RELAXED);
			continue;
		}
		if (now < 0)
			failure = -errno;
		if (now <= 0)
			break;
		account(fd, direction, now, operations, 0);
		moved += now;
		calls++;
	}
	if (!strcmp(how, "zerocopy") && direction == TRANSMIT)
		await_completions(fd, calls);
	close_tools(&tools);
	return moved ? moved : failure;
}

long stream_send(int fd, const char *how, long total, long chunk)
{
	int one = 1;

	if (!strcmp(how, "zerocopy"))
		setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one));
	return repeat(fd, TRANSMIT, send_once, how, total, chunk);
}

long stream_receive(int fd, const char *how, long total, long chunk)
{
	return repeat(fd, RECEIVE, receive_once, how, total, chunk);
}

static int opened(int fd, enum side side)
{
	socklen_t size = sizeof(ends[fd].peer);

	ends[fd] = (struct end){
		.transport = IPPROTO_TCP,
		.side = side,
		.local_port = local_port(fd),
	};
	getpeername(fd, (struct sockaddr *)&ends[fd].peer, &size);
	return fd;
}

static long listen_on(const char *address_text, const char *port)
{
	struct sockaddr_storage address;
	int fd, one = 1, zero = 0;

	parse_address(address_text, port, &address);
	fd = socket(address.ss_family, SOCK_STREAM, protocol);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (address.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (bind(fd, (struct sockaddr *)&address, address_size(&address)) || listen(fd, 4096))
		return -errno;
	return fd;
}

/* By a new socket if `fd` is -1; from the nth address after `from` if it is not 0. */
static long connect_to(int fd, const char *address_text, const char *port, const char *from,
		       const char *from_port, long nth)
{
	struct sockaddr_storage address, source;
	int failure;

	parse_address(address_text, port, &address);
	if (fd < 0)
		fd = socket(address.ss_family, SOCK_STREAM, protocol);
	if (fd < 0)
		return -errno;
	if (from) {
		parse_address(from, from_port, &source);
		((struct sockaddr_in *)&source)->sin_addr.s_addr =
			htonl(ntohl(((struct sockaddr_in *)&source)->sin_addr.s_addr) + nth);
		bind(fd, (struct sockaddr *)&source, address_size(&source));
	}
	if (connect(fd, (struct sockaddr *)&address, address_size(&address))) {
		failure = errno;
		close(fd);
		return -failure;
	}
	return opened(fd, CLIENT);
}

static long fast_open(const char *address_text, const char *port, long size)
{
	struct sockaddr_storage address;
	char *data = calloc(1, size);
	long moved;
	int fd;

	parse_address(address_text, port, &address);
	fd = socket(address.ss_family, SOCK_STREAM, 0);
	moved = sendto(fd, data, size, MSG_FASTOPEN, (struct sockaddr *)&address,
		       address_size(&address));
	free(data);
	if (moved < 0)
		return -errno;
	ends[fd] = (struct end){ IPPROTO_TCP, CLIENT, local_port(fd), address };
	account(fd, TRANSMIT, moved, 1, 0);
	return fd;
}

static long accept_from(int listener)
{
	int fd = accept(listener, 0, 0);

	return fd < 0 ? -errno : opened(fd, SERVER);
}

/* Accepts `count` connections; on each takes `size` bytes and gives as many back. */
static long echo(int listener, long count, long size, bool keep)
{
	for (long i = 0; i < count; i++) {
		int fd = accept_from(listener);

		if (fd < 0)
			return fd;
		stream_receive(fd, "recv", size, size);
		stream_send(fd, "send", size, size);
		if (!keep)
			close(fd);
	}
	return count;
}

/* Accepts `count` connections, reads each to its end, and then gives `size` bytes. */
static long serve(int listener, long count, long size)
{
	for (long i = 0; i < count; i++) {
		int fd = accept_from(listener);

		if (fd < 0)
			return fd;
		stream_receive(fd, "recv", -1, size);
		stream_send(fd, "send", size, size);
		close(fd);
	}
	return count;
}

/* The other side of `serve`: says that nothing will come from here, and reads to the end. */
static long fetch(const char *address, const char *port, long count, const char *how)
{
	for (long i = 0; i < count; i++) {
		int fd = connect_to(-1, address, port, 0, 0, 0);

		if (fd < 0)
			return fd;
		stream_send(fd, "send", 100, 100);
		shutdown(fd, SHUT_WR);
		stream_receive(fd, how, -1, 50000);
		close(fd);
	}
	return count;
}

/* Opens `count` connections that all stay open, with `size` bytes there and back on each. */
static long many(const char *address, const char *port, long count, long size, const char *from)
{
	int *fds = malloc(count * sizeof(int));

	for (long i = 0; i < count; i++) {
		fds[i] = connect_to(-1, address, port, from, "0", i);
		if (fds[i] < 0)
			return fds[i];
		stream_send(fds[i], "send", size, size);
	}
	for (long i = 0; i < count; i++)
		stream_receive(fds[i], "recv", size, size);
	free(fds);
	return count;
}

static long tcp_info(int fd, const char *name)
{
	struct tcp_info info;
	socklen_t size = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size))
		return -errno;
	return !strcmp(name, "acked") ? info.tcpi_bytes_acked : info.tcpi_bytes_received;
}

bool stream_command(int argc, char **argv, long *result)
{
	struct sockaddr nobody = { .sa_family = AF_UNSPEC };
	const char *verb = argv[0];
	int fd = argc > 1 ? atoi(argv[1]) : -1;

	if (!strcmp(verb, "protocol"))
		*result = protocol = fd;
	else if (!strcmp(verb, "listen"))
		*result = listen_on(argv[1], argv[2]);
	else if (!strcmp(verb, "connect"))
		*result = connect_to(-1, argv[1], argv[2], argc > 4 ? argv[3] : 0, argv[4], 0);
	else if (!strcmp(verb, "reconnect"))
		*result = connect_to(fd, argv[2], argv[3], 0, 0, 0);
	else if (!strcmp(verb, "disconnect"))
		*result = connect(fd, &nobody, sizeof(nobody)) ? -errno : 0;
	else if (!strcmp(verb, "fast_open"))
		*result = fast_open(argv[1], argv[2], atol(argv[3]));
	else if (!strcmp(verb, "accept"))
		*result = accept_from(fd);
	else if (!strcmp(verb, "adopt"))
		*result = opened(fd, !strcmp(argv[2], "server") ? SERVER : CLIENT);
	else if (!strcmp(verb, "send"))
		*result = stream_send(fd, argv[2], atol(argv[3]), atol(argv[4]));
	else if (!strcmp(verb, "receive"))
		*result = stream_receive(fd, argv[2], atol(argv[3]), atol(argv[4]));
	else if (!strcmp(verb, "echo"))
		*result = echo(fd, atol(argv[2]), atol(argv[3]), argc > 4);
	else if (!strcmp(verb, "many"))
		*result = many(argv[1], argv[2], atol(argv[3]), atol(argv[4]),
			       argc > 5 ? argv[5] : 0);
	else if (!strcmp(verb, "serve"))
		*result = serve(fd, atol(argv[2]), atol(argv[3]));
	else if (!strcmp(verb, "fetch"))
		*result = fetch(argv[1], argv[2], atol(argv[3]), argv[4]);
	else if (!strcmp(verb, "info"))
		*result = tcp_info(fd, argv[2]);
	else
		return false;
	return true;
}
