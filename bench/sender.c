/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends HTTP requests that were made before, and does little else.
 *
 *   sender PORT CONNECTIONS FILE [ROUNDS INTERVAL]
 *
 * FILE holds whole requests, each after its length (64 bits, this machine's byte order). They go to
 * 127.0.0.1 in their order, each once: a connection takes the next one as soon as it has its
 * answer, which has to say its Content-Length.
 *
 * With ROUNDS the connections are agents: FILE holds a request for each, which goes out once every
 * INTERVAL milliseconds, the agents spread evenly over it. After each request stand its points: how
 * many, then of each where its time is in the request, and by how much its value, nine bytes
 * further, grows in a round (64 bits each). Their time becomes that at which the round is due; an
 * agent that still waits for an answer then is late. What is answered with 503 is sent again after
 * a second.
 *
 * Prints one line of JSON: requests, those that were answered with a status of 2xx, seconds, bytes
 * sent, percentiles of the time to an answer in microseconds, seconds of CPU of its own, answers of
 * 503 to agents, the most microseconds that one was late; and the first other answer, if there was
 * one.
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
	struct agent {
		char *request;
		size_t length;
		const char *points;
		uint64_t count;
		unsigned left; /* rounds */
		int64_t due; /* of the next one */
		int64_t again; /* when it may be sent again; 0: it was not sent */
	} agent;
};

struct point {
	uint64_t time; /* where it is */
	int64_t grows;
};

static struct connection connections[MAX_CONNECTIONS];
static struct pollfd sockets[MAX_CONNECTIONS];
static char *next, *end;
static uint64_t requests, accepted, sent, retried;
static int port;
static unsigned rounds;
static int64_t interval, late, epoch; /* nanoseconds; the epoch is 0 of the clock */
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

static void begin(int i, const char *request, size_t length)
{
	struct connection *c = &connections[i];

	c->request = request;
	c->left = length;
	c->answered = 0;
	c->begin = now();
	push(i);
}

static uint64_t take_number(void)
{
	uint64_t number;

	memcpy(&number, next, sizeof(number));
	next += sizeof(number);
	return number;
}

static void start(int i)
{
	if (next == end) {
		connections[i].begin = 0;
		return;
	}
	size_t length = take_number();

	next += length;
	begin(i, next - length, length);
}

static void take_agent(int i, int count)
{
	struct agent *a = &connections[i].agent;

	a->length = take_number();
	a->request = next;
	next += a->length;
	a->count = take_number();
	a->points = next;
	next += a->count * sizeof(struct point);
	a->left = rounds;
	a->due = now() + interval / count * i;
}

static void advance(struct agent *a)
{
	int64_t time = epoch + a->due, value;

	for (uint64_t i = 0; i < a->count; i++) {
		struct point point;

		memcpy(&point, a->points + i * sizeof(point), sizeof(point));
		memcpy(a->request + point.time, &time, sizeof(time));
		if (!point.grows || a->left == rounds)
			continue;
		memcpy(&value, a->request + point.time + 9, sizeof(value));
		value += point.grows;
		memcpy(a->request + point.time + 9, &value, sizeof(value));
	}
}

/* Starts what is due; returns the milliseconds until an idle agent is, -1 if none will be. */
static int start_due(int count)
{
	int64_t time = now(), soonest = INT64_MAX;

	for (int i = 0; i < count; i++) {
		struct agent *a = &connections[i].agent;

		if (connections[i].begin || !a->left)
			continue;
		int64_t when = a->again ? a->again : a->due;

		if (when > time) {
			soonest = when < soonest ? when : soonest;
			continue;
		}
		if (!a->again) {
			late = time - a->due > late ? time - a->due : late;
			advance(a);
		}
		if (sockets[i].fd < 0)
			sockets[i].fd = dial(port);
		begin(i, a->request, a->length);
	}
	return soonest == INT64_MAX ? -1 : (soonest - time) / 1000000 + 1;
}

/* Returns whether the answer ends the round. */
static int end_round(struct connection *c)
{
	struct agent *a = &c->agent;

	c->begin = 0;
	if (!strncmp(c->answer, "HTTP/1.1 503", 12)) {
		retried++;
		a->again = now() + NANOSECONDS;
		return 0;
	}
	a->again = 0;
	a->due += interval;
	a->left--;
	return 1;
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
	if (c->left)
		errx(1, "an answer before the request was out: %.100s", c->answer);
	int64_t took = now() - c->begin;

	if (rounds && !end_round(c))
		return;
	latencies[requests++] = took / 1000;
	if (!strncmp(c->answer, "HTTP/1.1 2", 10))
		accepted++;
	else if (!*other)
		snprintf(other, sizeof(other), "%s", c->answer);
	if (!rounds)
		start(i);
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void map_requests(const char *path, int count)
{
	int file = open(path, O_RDONLY);
	struct stat facts;

	if (file < 0 || fstat(file, &facts) || !facts.st_size)
		err(1, "%s", path);
	next = mmap(NULL, facts.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_POPULATE, file,
		    0);
	if (next == MAP_FAILED)
		err(1, "mmap");
	end = next + facts.st_size;
	/* No request is shorter than its length and a line. */
	size_t most = rounds ? (size_t)rounds * count : facts.st_size / 16;

	latencies = malloc(most * sizeof(*latencies));
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
	if (argc != 4 && argc != 6)
		errx(2, "PORT CONNECTIONS FILE [ROUNDS INTERVAL]");
	int count = atoi(argv[2]);

	if (count < 1 || count > MAX_CONNECTIONS)
		errx(2, "1 to %d connections", MAX_CONNECTIONS);
	if (argc == 6) {
		rounds = atoi(argv[4]);
		interval = atoi(argv[5]) * (NANOSECONDS / 1000);
		if (!rounds || !interval)
			errx(2, "ROUNDS and INTERVAL are more than 0");
	}
	map_requests(argv[3], count);
	port = atoi(argv[1]);
	/* An agent connects when it has something to send: servers end connections that say
	 * nothing. */
	for (int i = 0; i < count; i++)
		sockets[i] = (struct pollfd){.fd = rounds ? -1 : dial(port), .events = POLLIN};

	double cpu = cpu_seconds();
	int64_t began = now();
	struct timespec wall;

	clock_gettime(CLOCK_REALTIME, &wall);
	epoch = wall.tv_sec * NANOSECONDS + wall.tv_nsec - began;
	for (int i = 0; i < count; i++) {
		if (rounds)
			take_agent(i, count);
		else
			start(i);
	}
	for (;;) {
		int wait = rounds ? start_due(count) : -1;

		if (wait < 0 && !busy(count))
			break;
		if (poll(sockets, count, wait) < 0)
			err(1, "poll");
		for (int i = 0; i < count; i++) {
			if (sockets[i].revents & (POLLIN | POLLERR | POLLHUP))
				pull(i);
			else if (sockets[i].revents & POLLOUT)
				push(i);
		}
	}

	double seconds = (now() - began) / (double)NANOSECONDS;

	cpu = cpu_seconds() - cpu;
	qsort(latencies, requests, sizeof(*latencies), by_size);
	fprintf(stderr, "%s", other);
	printf("{\"requests\": %lu, \"accepted\": %lu, \"seconds\": %.6f, \"sent\": %lu, "
	       "\"p50\": %u, \"p99\": %u, \"cpu\": %.6f, \"retried\": %lu, \"late\": %ld}\n",
	       requests, accepted, seconds, sent, latencies[requests / 2],
	       latencies[requests * 99 / 100], cpu, retried, late / 1000);
	return 0;
}
