/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds many processes and sockets, each of which moves a byte per second in both directions.
 *
 *   hold SERVERS CLIENTS CONNECTIONS
 *
 * Each of CLIENTS processes opens CONNECTIONS connections to one of SERVERS processes. Both ends
 * are here, so there are 2 * CLIENTS * CONNECTIONS sockets. Says "ready" when all are open, and
 * ends, with all its processes, when its standard input ends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SERVERS_AT_MOST 16384

static int all_open[2]; /* a pipe: a byte from each client whose connections are open */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void watch(int epoll, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
		err(1, "epoll_ctl");
}

/* Answers each byte with a byte. */
static void serve(int listener)
{
	struct epoll_event events[64];
	int epoll = epoll_create1(0);
	char byte;

	watch(epoll, listener);
	for (;;) {
		int ready = epoll_wait(epoll, events, 64, -1);

		for (int i = 0; i < ready; i++) {
			int fd = events[i].data.fd;

			if (fd == listener) {
				int accepted = accept(listener, NULL, NULL);

				if (accepted < 0)
					err(1, "accept");
				watch(epoll, accepted);
			} else if (read(fd, &byte, 1) == 1 && write(fd, &byte, 1) != 1) {
				err(1, "write");
			}
		}
	}
}

static void call(const struct sockaddr_in *server, int connections)
{
	int *sockets = calloc(connections, sizeof(*sockets));
	char byte = 1;

	for (int i = 0; i < connections; i++) {
		sockets[i] = socket(AF_INET, SOCK_STREAM, 0);
		if (sockets[i] < 0 || connect(sockets[i], (void *)server, sizeof(*server)))
			err(1, "connect");
	}
	if (write(all_open[1], &byte, 1) != 1)
		err(1, "pipe");
	for (;;) {
		double next = now() + 1;

		for (int i = 0; i < connections; i++) {
			if (write(sockets[i], &byte, 1) != 1 || read(sockets[i], &byte, 1) != 1)
				err(1, "the server");
		}
		if (next > now())
			usleep((next - now()) * 1e6);
	}
}

static int listen_somewhere(struct sockaddr_in *address)
{
	int s = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t length = sizeof(*address);

	*address = (struct sockaddr_in){.sin_family = AF_INET};
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (s < 0 || bind(s, (void *)address, length) || listen(s, 4096) ||
	    getsockname(s, (void *)address, &length))
		err(1, "listen");
	return s;
}

static int is_child(void)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(0);
	}
	return !pid;
}

int main(int argc, char **argv)
{
	static struct sockaddr_in addresses[SERVERS_AT_MOST];
	struct rlimit files;
	char byte;

	if (argc != 4)
		errx(2, "SERVERS CLIENTS CONNECTIONS");
	int servers = atoi(argv[1]), clients = atoi(argv[2]), connections = atoi(argv[3]);

	if (servers < 1 || servers > SERVERS_AT_MOST)
		errx(2, "1 to %d servers", SERVERS_AT_MOST);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	if (pipe(all_open))
		err(1, "pipe");
	for (int i = 0; i < servers; i++) {
		int listener = listen_somewhere(&addresses[i]);

		if (is_child())
			serve(listener);
		close(listener);
	}
	for (int i = 0; i < clients; i++) {
		if (is_child())
			call(&addresses[i % servers], connections);
	}
	close(all_open[1]);
	for (int i = 0; i < clients; i++) {
		if (read(all_open[0], &byte, 1) != 1)
			errx(1, "a client ended");
	}
	puts("ready");
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
	return 0;
}
