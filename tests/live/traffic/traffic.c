/*
 * The puppet: does what each message on its standard input says and answers with one number, the
 * command's result or -errno. Standard input is a Unix socket (SOCK_SEQPACKET), so that file
 * descriptors can be given and taken. Whatever it and its children move is written into one
 * account, in memory that they share; `report FILE` writes the account out, one JSON object a line.
 */
#include "traffic.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_ROWS = 8192, MOST_WORDS = 16, MOST_THREADS = 64 };

struct row {
	pid_t pid;
	uint8_t transport;
	uint8_t side;
	uint16_t port;
	uint8_t address[16];
	uint64_t bytes[2];
	uint64_t operations[2];
};

static struct account {
	int lock;
	int count;
	struct row rows[MOST_ROWS];
} *book;

struct end ends[MOST_FDS];
uint64_t again;

static int control;

int parse_address(const char *text, const char *port, struct sockaddr_storage *address)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;

	memset(address, 0, sizeof(*address));
	address->ss_family = strchr(text, ':') ? AF_INET6 : AF_INET;
	v4->sin_port = htons(atoi(port)); /* at the same place in both */
	return inet_pton(address->ss_family, text,
			 address->ss_family == AF_INET ? (void *)&v4->sin_addr :
							 (void *)&v6->sin6_addr);
}

socklen_t address_size(const struct sockaddr_storage *address)
{
	return address->ss_family == AF_INET ? sizeof(struct sockaddr_in) :
					       sizeof(struct sockaddr_in6);
}

uint16_t address_port(const struct sockaddr_storage *address)
{
	return ntohs(((const struct sockaddr_in *)address)->sin_port);
}

uint16_t local_port(int fd)
{
	struct sockaddr_storage address = {};
	socklen_t size = sizeof(address);

	getsockname(fd, (struct sockaddr *)&address, &size);
	return address_port(&address);
}

/* As IPv6; IPv4 is mapped into it. */
static void address_bytes(const struct sockaddr_storage *address, uint8_t bytes[16])
{
	memset(bytes, 0, 16);
	if (address->ss_family == AF_INET) {
		bytes[10] = bytes[11] = 0xff;
		memcpy(bytes + 12, &((const struct sockaddr_in *)address)->sin_addr, 4);
	} else {
		memcpy(bytes, &((const struct sockaddr_in6 *)address)->sin6_addr, 16);
	}
}

static struct row *find_row(const struct row *wanted)
{
	static _Thread_local struct row *last;
	size_t key = offsetof(struct row, bytes);

	if (last && !memcmp(last, wanted, key))
		return last;
	while (__atomic_exchange_n(&book->lock, 1, __ATOMIC_ACQUIRE))
		sched_yield();
	last = 0;
	for (int i = book->count - 1; i >= 0 && !last; i--)
		if (!memcmp(&book->rows[i], wanted, key))
			last = &book->rows[i];
	if (!last) {
		if (book->count == MOST_ROWS)
			abort();
		last = &book->rows[book->count++];
		*last = *wanted;
	}
	__atomic_store_n(&book->lock, 0, __ATOMIC_RELEASE);
	return last;
}

void account(int fd, enum direction direction, uint64_t bytes, uint64_t operations,
	     const struct sockaddr_storage *peer)
{
	const struct end *end = &ends[fd];
	struct row wanted, *row;

	memset(&wanted, 0, sizeof(wanted));
	wanted.pid = getpid();
	wanted.transport = end->transport;
	wanted.side = end->side;
	if (!peer)
		peer = &end->peer;
	wanted.port = end->side == SERVER ? end->local_port : address_port(peer);
	address_bytes(peer, wanted.address);
	row = find_row(&wanted);
	__atomic_add_fetch(&row->bytes[direction], bytes, __ATOMIC_RELAXED);
	__atomic_add_fetch(&row->operations[direction], operations, __ATOMIC_RELAXED);
}

static long report(const char *path)
{
	FILE *file = fopen(path, "w");

	for (int i = 0; i < book->count; i++) {
		struct row *row = &book->rows[i];
		char text[INET6_ADDRSTRLEN];

		inet_ntop(AF_INET6, row->address, text, sizeof(text));
		fprintf(file,
			"{\"pid\": %d, \"transport\": \"%s\", \"side\": \"%s\", \"address\": \"%s\", "
			"\"port\": %d, \"transmit\": %lu, \"receive\": %lu, "
			"\"transmit_operations\": %lu, \"receive_operations\": %lu}\n",
			row->pid, row->transport == IPPROTO_TCP ? "tcp" : "udp",
			row->side == SERVER ? "server" : "client", text, row->port, row->bytes[0],
			row->bytes[1], row->operations[0], row->operations[1]);
	}
	return fclose(file) ? -errno : book->count;
}

/* Children that each connect, send, receive as much, and end; `parallel` of them at a time. */
static long swarm(long count, long parallel, const char *transport, char *address, char *port,
		  char *size)
{
	long running = 0;
	int status;

	signal(SIGCHLD, SIG_DFL);
	for (long i = 0; i < count; i++) {
		if (running == parallel) {
			wait(&status);
			running--;
		}
		if (!fork()) {
			char fd[16];
			long result;

			if (!strcmp(transport, "tcp")) {
				stream_command(3, (char *[]){ "connect", address, port }, &result);
				if (result < 0)
					_exit(1);
				stream_send(result, "send", atol(size), atol(size));
				stream_receive(result, "recv", atol(size), atol(size));
			} else {
				datagram_command(3, (char *[]){ "udp", address, "-" }, &result);
				snprintf(fd, sizeof(fd), "%ld", result);
				datagram_command(7,
						 (char *[]){ "udp_send", fd, "sendto", address, port,
							     size, "1" },
						 &result);
				datagram_command(5,
						 (char *[]){ "udp_receive", fd, "recvfrom", "1",
							     "65536" },
						 &result);
			}
			_exit(0);
		}
		running++;
	}
	while (wait(&status) > 0)
		;
	signal(SIGCHLD, SIG_IGN);
	return count;
}

static long close_all(void)
{
	for (int fd = 3; fd < MOST_FDS; fd++)
		if (fd != control)
			close(fd);
	return 0;
}

static long enter_network(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 || setns(fd, CLONE_NEWNET) ? -errno : close(fd);
}

static long execute(void)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", control);
	execl("/proc/self/exe", "traffic", number, (char *)0);
	return -errno;
}

/* A child that listens to a control socket of its own. */
static long fork_puppet(int new_control)
{
	pid_t child = fork();

	if (child) {
		close(new_control);
		return child;
	}
	close(control);
	control = new_control;
	return 0;
}

static long set_option(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) ? -errno : 0;
}

static bool socket_command(int argc, char **argv, long *result)
{
	const char *verb = argv[0];
	int fd = argc > 1 ? atoi(argv[1]) : -1;
	struct linger none = { .l_onoff = 1 };

	if (!strcmp(verb, "report"))
		*result = report(argv[1]);
	else if (!strcmp(verb, "port"))
		*result = local_port(fd);
	else if (!strcmp(verb, "close"))
		*result = close(fd) ? -errno : 0;
	else if (!strcmp(verb, "close_all"))
		*result = close_all();
	else if (!strcmp(verb, "reset"))
		*result = setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none)) || close(fd);
	else if (!strcmp(verb, "shutdown"))
		*result = shutdown(fd, atoi(argv[2])) ? -errno : 0;
	else if (!strcmp(verb, "nonblock"))
		*result = fcntl(fd, F_SETFL, O_NONBLOCK) ? -errno : 0;
	else if (!strcmp(verb, "option"))
		*result = set_option(fd, atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
	else if (!strcmp(verb, "again"))
		*result = again;
	else if (!strcmp(verb, "pid"))
		*result = getpid();
	else if (!strcmp(verb, "swarm"))
		*result = swarm(atol(argv[1]), atol(argv[2]), argv[3], argv[4], argv[5], argv[6]);
	else if (!strcmp(verb, "network"))
		*result = enter_network(argv[1]);
	else if (!strcmp(verb, "exec"))
		*result = execute();
	else
		return false;
	return true;
}

static long run_words(int argc, char **argv)
{
	long result;

	if (socket_command(argc, argv, &result) || stream_command(argc, argv, &result) ||
	    datagram_command(argc, argv, &result))
		return result;
	return -ENOSYS;
}

struct thread {
	pthread_t id;
	char text[512];
	long result;
} static threads[MOST_THREADS];

static long run(char *text)
{
	char *words[MOST_WORDS] = {}, *rest = 0;
	int count = 0;

	for (char *word = strtok_r(text, " ", &rest); word && count < MOST_WORDS;
	     word = strtok_r(0, " ", &rest))
		words[count++] = word;
	return run_words(count, words);
}

static void *run_thread(void *argument)
{
	struct thread *thread = argument;

	thread->result = run(thread->text);
	return 0;
}

/* `begin N COMMAND...` runs a command in thread N; `end N` waits for it and has its result. */
static long begin(char *text)
{
	char *command;
	struct thread *thread = &threads[strtol(text, &command, 10)];

	snprintf(thread->text, sizeof(thread->text), "%s", command);
	return -pthread_create(&thread->id, 0, run_thread, thread);
}

static long end(char *text)
{
	struct thread *thread = &threads[atoi(text)];

	pthread_join(thread->id, 0);
	return thread->result;
}

/* The next command, and a file descriptor that came with it, or -1. */
static long next_command(char *text, size_t size, int *fd)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} extra;
	struct iovec part = { text, size - 1 };
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &extra,
		.msg_controllen = sizeof(extra),
	};
	long got = recvmsg(control, &message, 0);

	*fd = -1;
	if (got > 0 && CMSG_FIRSTHDR(&message))
		memcpy(fd, CMSG_DATA(&extra.header), sizeof(int));
	text[got > 0 ? got : 0] = 0;
	return got;
}

/* Sends the result, and with it the file descriptor `fd` unless it is -1. */
static void answer(long result, int fd)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} extra = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	char text[32];
	struct iovec part = { text, snprintf(text, sizeof(text), "%ld", result) };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (fd >= 0) {
		memcpy(CMSG_DATA(&extra.header), &fd, sizeof(int));
		message.msg_control = &extra;
		message.msg_controllen = sizeof(extra);
	}
	sendmsg(control, &message, 0);
}

int main(int argc, char **argv)
{
	static char text[4096];
	int fd;

	control = argc > 1 ? atoi(argv[1]) : 0;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	book = mmap(0, sizeof(*book), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (argc > 1)
		answer(0, -1); /* of the exec */
	while (next_command(text, sizeof(text), &fd) > 0) {
		if (!strcmp(text, "fork")) {
			long child = fork_puppet(fd);

			if (child)
				answer(child, -1);
		} else if (!strcmp(text, "take")) {
			answer(fd, -1);
		} else if (!strncmp(text, "give ", 5)) {
			answer(0, atoi(text + 5));
		} else if (!strncmp(text, "begin ", 6)) {
			answer(begin(text + 6), -1);
		} else if (!strncmp(text, "end ", 4)) {
			answer(end(text + 4), -1);
		} else {
			answer(run(text), -1);
		}
	}
	return 0;
}
