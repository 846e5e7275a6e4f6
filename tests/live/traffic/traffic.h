/* A puppet that moves data in the ways Linux knows, and keeps account of what it moved. */
#ifndef TRAFFIC_H
#define TRAFFIC_H

#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

enum direction { TRANSMIT, RECEIVE };
enum side { CLIENT = 1, SERVER = 2 };

enum { MOST_FDS = 20000, MOST_BUFFER = 1 << 20 };

/* One end of a conversation, by file descriptor: what the account needs to know of it. */
struct end {
	uint8_t transport; /* IPPROTO_TCP, IPPROTO_UDP */
	uint8_t side;
	uint16_t local_port;
	struct sockaddr_storage peer; /* of a connection, or a connected UDP socket */
};
extern struct end ends[MOST_FDS];

/* How often a call said EAGAIN. */
extern uint64_t again;

/* Notes that this process moved `bytes` in `operations` calls; `peer` may be 0: that of `fd`. */
void account(int fd, enum direction direction, uint64_t bytes, uint64_t operations,
	     const struct sockaddr_storage *peer);

/* A family of commands returns true if it knew the command, and its result: -errno is failure. */
bool stream_command(int argc, char **argv, long *result);
bool datagram_command(int argc, char **argv, long *result);

long stream_send(int fd, const char *how, long total, long chunk);
long stream_receive(int fd, const char *how, long total, long chunk);

/* One send or receive by io_uring; way: "uring", "uring_zc", "sqpoll". Returns what it returned. */
struct uring;
struct uring *uring_open(bool sqpoll);
long uring_send(struct uring *ring, int fd, const void *data, long size, bool zerocopy);
long uring_receive(struct uring *ring, int fd, void *data, long size);
long uring_message(struct uring *ring, int fd, struct msghdr *message, enum direction direction);
void uring_close(struct uring *ring);

int parse_address(const char *text, const char *port, struct sockaddr_storage *address);
socklen_t address_size(const struct sockaddr_storage *address);
uint16_t address_port(const struct sockaddr_storage *address);
uint16_t local_port(int fd);

#endif
