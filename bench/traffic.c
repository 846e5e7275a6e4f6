/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Traffic that is easy and hard to see, all over loopback, one after the other.
 *
 *   traffic SECONDS
 *
 * "long": a process with ten connections that sends all the time. "short": 200 processes, each
 * sends once and ends after 5 ms. "udp": a process that sends datagrams. One more process takes it
 * all in. Prints a line for each sending process: kind, process id, bytes sent.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SHORT_PROCESSES 200
#define SHORT_MICROSECONDS 5000
#define LONG_CONNECTIONS 10

static struct sockaddr_in address = {.sin_family = AF_INET};
static char payload[10000];
static double seconds;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static int make(int type)
{
	int s = socket(AF_INET, type, 0);

	if (s < 0)
		err(1, "socket");
	return s;
}

static int dial(int type)
{
	int s = make(type);

	if (connect(s, (void *)&address, sizeof(address)))
		err(1, "connect");
	return s;
}

static void send_whole(int s, size_t length)
{
	if (send(s, payload, length, 0) != (ssize_t)length)
		err(1, "send");
}

static size_t send_long(void)
{
	int sockets[LONG_CONNECTIONS];
	size_t sent = 0;
	double end = now() + seconds;

	for (int i = 0; i < LONG_CONNECTIONS; i++)
		sockets[i] = dial(SOCK_STREAM);
	while (now() < end) {
		for (int i = 0; i < LONG_CONNECTIONS; i++) {
			send_whole(sockets[i], sizeof(payload));
			sent += sizeof(payload);
		}
		usleep(5000);
	}
	return sent;
}

static size_t send_short(void)
{
	send_whole(dial(SOCK_STREAM), sizeof(payload));
	usleep(SHORT_MICROSECONDS);
	return sizeof(payload);
}

static size_t send_datagrams(void)
{
	int s = dial(SOCK_DGRAM);
	size_t sent = 0, length = 1000;
	double end = now() + seconds;

	while (now() < end) {
		send_whole(s, length);
		sent += length;
		usleep(500);
	}
	return sent;
}

/* Runs in a process of its own, which says what it has sent before it ends. */
static void run(const char *kind, size_t (*work)(void))
{
	pid_t pid = fork();

	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		size_t sent = work();

		printf("%s %d %zu\n", kind, getpid(), sent);
		exit(0);
	}
	if (waitpid(pid, NULL, 0) != pid)
		err(1, "waitpid");
}

/* Takes all in until its parent ends it. */
static void take(int listener, int datagrams)
{
	static char buffer[1 << 16];
	static struct pollfd open[2 + LONG_CONNECTIONS + 64];
	int count = 2;

	open[0] = (struct pollfd){.fd = listener, .events = POLLIN};
	open[1] = (struct pollfd){.fd = datagrams, .events = POLLIN};
	while (poll(open, count, -1) > 0) {
		for (int i = count - 1; i > 0; i--) {
			if (open[i].revents && recv(open[i].fd, buffer, sizeof(buffer), 0) <= 0) {
				close(open[i].fd);
				open[i] = open[--count];
			}
		}
		if (open[0].revents)
			open[count++] = (struct pollfd){accept(listener, NULL, NULL), POLLIN, 0};
	}
}

int main(int argc, char **argv)
{
	socklen_t length = sizeof(address);
	int listener = make(SOCK_STREAM), datagrams = make(SOCK_DGRAM);

	if (argc != 2)
		errx(2, "SECONDS");
	seconds = atof(argv[1]);
	setvbuf(stdout, NULL, _IOLBF, 0);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (void *)&address, length) || listen(listener, 64) ||
	    getsockname(listener, (void *)&address, &length) ||
	    bind(datagrams, (void *)&address, length))
		err(1, "bind");

	pid_t sink = fork();

	if (sink < 0)
		err(1, "fork");
	if (!sink)
		take(listener, datagrams);
	close(listener);
	close(datagrams);
	run("long", send_long);
	for (int i = 0; i < SHORT_PROCESSES; i++)
		run("short", send_short);
	run("udp", send_datagrams);
	kill(sink, SIGTERM);
	return 0;
}
