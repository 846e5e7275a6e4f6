/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends HTTP requests that were made before, and does little else.
 *
 *   sender PORT CONNECTIONS FILE
 *
 * FILE holds whole requests, each after its length (64 bits, this machine's byte order). They go to
 * 127.0.0.1 in their order, each once: a connection takes the next one as soon as it has its
 * answer, which has to say its Content-Length. Prints one line of JSON: requests, those that were
 * answered with a status of 2xx, seconds, bytes sent, percentiles of the time to an answer in
 * microseconds, seconds of CPU of its own; and the first other answer, if there was one.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loopback.h"

#define MAX_CONNECTIONS 256
#define MAX_HEAD 65536

struct connection {
	const char *request; /* what is still to be sent */
	size_t left;
	int64_t begin; /* when the request began to go out; 0: idle */
	size_t answered; /* bytes of the answer so far */
	char answer[MAX_HEAD];
};

static struct connection connections[MAX_CONNECTIONS];
static struct pollfd sockets[MAX_CONNECTIONS];
static const char *next, *end;
static uint64_t requests, accepted, sent;
static uint32_t *latencies; /* microseconds */
static char other[200];

static void push(int i)
{
	struct connection *c = &connections[i];

	while (c->left) {
		ssize_t length =
			send(sockets[i].fd, c->request, c->left, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (length < 0 && errno == EAGAIN)
			break;
		if (length < 0)
			err(1, "send");
		c->request += length;
		c->left -= length;
		sent += length;
	}
	sockets[i].events = c->left ? POLLIN | POLLOUT : POLLIN;
}

static void start(int i)
{
	struct connection *c = &connections[i];
	uint64_t length;

	if (next == end) {
		c->begin = 0;
		return;
	}
	memcpy(&length, next, sizeof(length));
	c->request = next + sizeof(length);
	c->left = length;
	c->answered = 0;
	c->begin = now();
	next += sizeof(length) + length;
	push(i);
}

/* Returns the length of the whole answer, 0 if its head isn't there yet. */
static size_t length_of(const char *answer)
{
	const char *body = strstr(answer, "\r\n\r\n"),
		   *length = strcasestr(answer, "\r\nContent-Length:");

	if (!body)
		return 0;
	if (!length || length > body)
		errx(1, "an answer without Content-Length: %.100s", answer);
	return body + 4 - answer + strtoul(length + strlen("\r\nContent-Length:"), NULL, 10);
}

static void pull(int i)
{
	struct connection *c = &connections[i];
	size_t room = MAX_HEAD - 1 - c->answered, whole;
	ssize_t length = recv(sockets[i].fd, c->answer + c->answered, room, MSG_DONTWAIT);

	if (length <= 0)
		errx(1, "the server closed the connection");
	c->answered += length;
	c->answer[c->answered] = 0;
	whole = length_of(c->answer);
	if (!whole || c->answered < whole)
		return;
	latencies[requests++] = (now() - c->begin) / 1000;
	if (!strncmp(c->answer, "HTTP/1.1 2", 10))
		accepted++;
	else if (!*other)
		snprintf(other, sizeof(other), "%s", c->answer);
	if (c->left)
		errx(1, "an answer before the request was out: %.100s", c->answer);
	start(i);
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void map_requests(const char *path)
{
	int file = open(path, O_RDONLY);
	struct stat facts;

	if (file < 0 || fstat(file, &facts) || !facts.st_size)
		err(1, "%s", path);
	next = mmap(NULL, facts.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
	if (next == MAP_FAILED)
		err(1, "mmap");
	end = next + facts.st_size;
	/* No request is shorter than its length and a line. */
	latencies = malloc(facts.st_size / 16 * sizeof(*latencies));
	if (!latencies)
		err(1, "malloc");
}

static int busy(int count)
{
	for (int i = 0; i < count; i++) {
		if (connections[i].begin)
			return 1;
	}
	return 0;
}

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		errx(2, "PORT CONNECTIONS FILE");
	int count = atoi(argv[2]);

	if (count < 1 || count > MAX_CONNECTIONS)
		errx(2, "1 to %d connections", MAX_CONNECTIONS);
	map_requests(argv[3]);
	for (int i = 0; i < count; i++)
		sockets[i] = (struct pollfd){.fd = dial(atoi(argv[1])), .events = POLLIN};

	double cpu = cpu_seconds();
	int64_t begin = now();

	for (int i = 0; i < count; i++)
		start(i);
	while (busy(count)) {
		if (poll(sockets, count, -1) < 0)
			err(1, "poll");
		for (int i = 0; i < count; i++) {
			if (sockets[i].revents & (POLLIN | POLLERR | POLLHUP))
				pull(i);
			else if (sockets[i].revents & POLLOUT)
				push(i);
		}
	}

	double seconds = (now() - begin) / (double)NANOSECONDS;

	cpu = cpu_seconds() - cpu;
	qsort(latencies, requests, sizeof(*latencies), by_size);
	fprintf(stderr, "%s", other);
	printf("{\"requests\": %lu, \"accepted\": %lu, \"seconds\": %.6f, \"sent\": %lu, "
	       "\"p50\": %u, \"p99\": %u, \"cpu\": %.6f}\n",
	       requests, accepted, seconds, sent, latencies[requests / 2],
	       latencies[requests * 99 / 100], cpu);
	return 0;
}
