/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load at a fixed rate, and its latency.
 *
 *   client PORT CONNECTIONS RATE SECONDS PIPELINE REQUEST RESPONSE_LENGTH
 *
 * Sends PIPELINE requests at a time to 127.0.0.1, RATE requests per second in all, and expects
 * RESPONSE_LENGTH bytes for each. A latency begins when its requests were due, not when they could
 * be sent, so a server that stalls can't hide it. Prints one line of JSON: requests, seconds,
 * bytes sent and received, latency percentiles in microseconds.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "loopback.h"

#define MAX_CONNECTIONS 256

struct connection {
	int64_t due; /* of the requests in flight; 0: idle */
	size_t missing; /* bytes of their responses */
};

static struct connection connections[MAX_CONNECTIONS];
static struct pollfd sockets[MAX_CONNECTIONS];
static int count;
static char *batch;
static size_t batch_length, response_length;
static uint64_t sent, received, batches, answered;
static uint32_t *latencies; /* microseconds */

static void start(int i, int64_t due)
{
	/* A batch is smaller than any socket buffer that is empty: it goes out whole. */
	if (send(sockets[i].fd, batch, batch_length, 0) != (ssize_t)batch_length)
		err(1, "send");
	connections[i] = (struct connection){.due = due, .missing = response_length};
	sent += batch_length;
	batches++;
}

static void finish(int i)
{
	static char buffer[1 << 16];
	ssize_t length = recv(sockets[i].fd, buffer, sizeof(buffer), MSG_DONTWAIT);

	if (length <= 0)
		err(1, "the server closed the connection");
	if ((size_t)length > connections[i].missing)
		errx(1, "a longer response than expected");
	received += length;
	connections[i].missing -= length;
	if (!connections[i].missing) {
		latencies[answered++] = (now() - connections[i].due) / 1000;
		connections[i].due = 0;
	}
}

static int find_idle(void)
{
	static int last;

	for (int i = 0; i < count; i++) {
		last = (last + 1) % count;
		if (!connections[last].due)
			return last;
	}
	return -1;
}

static void wait_until(int64_t due)
{
	int64_t left = due - now();
	struct timespec timeout = {0};

	if (left > 0)
		timeout = (struct timespec){left / NANOSECONDS, left % NANOSECONDS};
	if (ppoll(sockets, count, &timeout, NULL) < 0)
		err(1, "ppoll");
	for (int i = 0; i < count; i++) {
		if (sockets[i].revents)
			finish(i);
	}
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	if (argc != 8)
		errx(2, "PORT CONNECTIONS RATE SECONDS PIPELINE REQUEST RESPONSE_LENGTH");
	double rate = atof(argv[3]), seconds = atof(argv[4]);
	int pipeline = atoi(argv[5]);
	size_t request = strlen(argv[6]);
	uint64_t planned = rate * seconds / pipeline;

	count = atoi(argv[2]);
	if (count < 1 || count > MAX_CONNECTIONS || !planned)
		errx(2, "1 to %d connections, at least one request", MAX_CONNECTIONS);
	batch_length = request * pipeline;
	response_length = strtoul(argv[7], NULL, 10) * pipeline;
	batch = malloc(batch_length);
	latencies = malloc(planned * sizeof(*latencies));
	if (!batch || !latencies)
		err(1, "malloc");
	for (int i = 0; i < pipeline; i++)
		memcpy(batch + i * request, argv[6], request);
	prctl(PR_SET_TIMERSLACK, 1);
	for (int i = 0; i < count; i++)
		sockets[i] = (struct pollfd){.fd = dial(atoi(argv[1])), .events = POLLIN};

	int64_t begin = now(), step = NANOSECONDS * pipeline / rate;

	while (answered < planned) {
		int64_t due = begin + (int64_t)batches * step;
		int idle = batches < planned && due <= now() ? find_idle() : -1;

		if (idle >= 0)
			start(idle, due);
		else if (batches < planned && due > now())
			wait_until(due);
		else
			wait_until(now() + NANOSECONDS / 100);
	}
	seconds = (now() - begin) / (double)NANOSECONDS;
	qsort(latencies, answered, sizeof(*latencies), by_size);
	printf("{\"requests\": %lu, \"seconds\": %.6f, \"sent\": %lu, \"received\": %lu, "
	       "\"p50\": %u, \"p99\": %u}\n",
	       answered * pipeline, seconds, sent, received, latencies[answered / 2],
	       latencies[answered * 99 / 100]);
	return 0;
}
