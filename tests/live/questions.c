/*
 * DNS over UDP as fast as it goes: one thread asks, another one reads the answers, so an answer may
 * be read before the call that asked has returned. A child answers, or nobody does.
 *
 *	questions COUNT WINDOW	up to WINDOW without an answer at a time; 0: nobody answers
 *
 * Says the processes and the port: client, server, port.
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int client, count;
static atomic_int answered;

static void *read_answers(void *unused)
{
	char message[512];

	while (answered < count) {
		if (recv(client, message, sizeof(message), 0) > 0)
			answered++;
	}
	return unused;
}

static void answer(int server)
{
	unsigned char message[512];
	struct sockaddr_in from;
	socklen_t size;
	ssize_t length;

	for (;;) {
		size = sizeof(from);
		length = recvfrom(server, message, sizeof(message), 0, (void *)&from, &size);
		if (length < 12)
			continue;
		message[2] |= 0x80;
		message[3] = 0x83; /* no such name */
		sendto(server, message, length, 0, (void *)&from, size);
	}
}

int main(int argc, char **argv)
{
	unsigned char question[] = "\0\0\1\0\0\1\0\0\0\0\0\0\1a\5fast0\0\0\1\0\1";
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t size = sizeof(address);
	int window, server = socket(AF_INET, SOCK_DGRAM, 0);
	pthread_t reader;
	pid_t child = 0;

	if (argc != 3)
		return 1;
	count = atoi(argv[1]);
	window = atoi(argv[2]);
	bind(server, (void *)&address, size);
	getsockname(server, (void *)&address, &size);
	client = socket(AF_INET, SOCK_DGRAM, 0);
	if (connect(client, (void *)&address, size))
		return 1;
	if (window) {
		child = fork();
		if (!child)
			answer(server);
		pthread_create(&reader, NULL, read_answers, NULL);
	}
	printf("%d %d %d\n", getpid(), child, ntohs(address.sin_port));
	for (int i = 0; i < count; i++) {
		while (window && i - answered >= window)
			;
		question[0] = i >> 8;
		question[1] = i;
		question[19] = '0' + (i >> 16);
		send(client, question, sizeof(question) - 1, 0);
	}
	if (!window)
		return 0;
	pthread_join(reader, NULL);
	kill(child, SIGKILL);
	return waitpid(child, NULL, 0) != child;
}
