/* UDP: every way to move datagrams. */
#include "traffic.h"
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MESSAGES = 64, MOST_DATAGRAM = 65536 };

static long open_socket(const char *address_text, const char *port)
{
	struct sockaddr_storage address;
	int fd, one = 1;
	bool server = strcmp(port, "-") != 0;

	parse_address(address_text, server ? port : "0", &address);
	fd = socket(address.ss_family, SOCK_DGRAM, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (server && bind(fd, (struct sockaddr *)&address, address_size(&address)))
		return -errno;
	ends[fd] = (struct end){
		.transport = IPPROTO_UDP,
		.side = server ? SERVER : CLIENT,
		.local_port = server ? local_port(fd) : 0,
		.peer = { .ss_family = address.ss_family },
	};
	return fd;
}

/* Sends packets to this host, and gets all of the protocol that come to it. */
static long open_raw(int protocol)
{
	struct sockaddr_storage here;
	int fd = socket(AF_INET, SOCK_RAW, protocol);

	parse_address("127.0.0.1", "0", &here);
	if (fd < 0 || connect(fd, (struct sockaddr *)&here, address_size(&here)))
		return -errno;
	ends[fd] = (struct end){ .peer = here };
	return fd;
}

static long connect_socket(int fd, const char *address_text, const char *port)
{
	struct sockaddr_storage address;

	parse_address(address_text, port, &address);
	if (connect(fd, (struct sockaddr *)&address, address_size(&address)))
		return -errno;
	ends[fd].peer = address;
	return 0;
}

/* Sends `count` datagrams to one peer after another of a comma-separated list; "-": connected. */
static long send_datagrams(int fd, const char *how, char *addresses, const char *port, long size,
			   long count)
{
	static char data[MOST_DATAGRAM];
	struct sockaddr_storage peers[MESSAGES] = {};
	struct mmsghdr messages[MESSAGES] = {};
	struct iovec part = { data, size };
	int peer_count = 0, one;
	bool connected = !strcmp(addresses, "-");
	struct uring *ring = 0;
	long sent = 0, now, i;

	for (char *rest = 0, *text = strtok_r(addresses, ",", &rest); text && !connected;
	     text = strtok_r(0, ",", &rest))
		parse_address(text, port, &peers[peer_count++]);
	for (i = 0; i < MESSAGES; i++) {
		messages[i].msg_hdr.msg_iov = &part;
		messages[i].msg_hdr.msg_iovlen = 1;
		if (!connected) {
			messages[i].msg_hdr.msg_name = &peers[i % peer_count];
			messages[i].msg_hdr.msg_namelen = address_size(&peers[0]);
		}
	}
	if (!strcmp(how, "uring"))
		ring = uring_open(false);
	while (sent < count) {
		struct msghdr *message = &messages[sent % (peer_count ? peer_count : 1)].msg_hdr;

		one = 1;
		if (!strcmp(how, "sendto")) {
			now = sendto(fd, data, size, 0, message->msg_name, message->msg_namelen);
		} else if (!strcmp(how, "send")) {
			now = send(fd, data, size, 0);
		} else if (!strcmp(how, "write")) {
			now = write(fd, data, size);
		} else if (ring) {
			now = uring_message(ring, fd, message, TRANSMIT);
			errno = now < 0 ? -now : 0;
		} else if (!strcmp(how, "sendmmsg")) {
			one = count - sent < MESSAGES ? count - sent : MESSAGES;
			one = now = sendmmsg(fd, messages, one, 0);
			for (i = 0; i < one; i++)
				account(fd, TRANSMIT, messages[i].msg_len, 1,
					messages[i].msg_hdr.msg_name);
		} else {
			now = sendmsg(fd, message, 0);
		}
		if (now < 0)
			break;
		if (strcmp(how, "sendmmsg"))
			account(fd, TRANSMIT, now, 1, message->msg_name);
		sent += one;
	}
	if (ring)
		uring_close(ring);
	return sent ? sent : -errno;
}

/* Receives until `count` calls (recvmmsg: messages) returned; gives back the bytes. */
static long receive_datagrams(int fd, const char *how, long count, long size)
{
	static char data[MESSAGES][2048], large[MOST_DATAGRAM];
	struct sockaddr_storage peers[MESSAGES] = {};
	struct mmsghdr messages[MESSAGES] = {};
	struct iovec parts[MESSAGES];
	struct uring *ring = 0;
	long bytes = 0, got = 0, now, i;

	if (!strcmp(how, "uring"))
		ring = uring_open(false);
	while (got < count) {
		struct msghdr *message = &messages[0].msg_hdr;
		const struct sockaddr_storage *peer = &peers[0];
		int batch = count - got < MESSAGES ? count - got : MESSAGES;

		for (i = 0; i < MESSAGES; i++) {
			parts[i] = (struct iovec){ data[i], sizeof(data[i]) };
			messages[i].msg_hdr = (struct msghdr){
				.msg_name = &peers[i],
				.msg_namelen = sizeof(peers[i]),
				.msg_iov = &parts[i],
				.msg_iovlen = 1,
			};
		}
		parts[0] = (struct iovec){ large, size };
		if (!strcmp(how, "recvmmsg")) {
			parts[0] = (struct iovec){ data[0], sizeof(data[0]) };
			now = recvmmsg(fd, messages, batch, MSG_WAITFORONE, 0);
			for (i = 0; i < now; i++) {
				account(fd, RECEIVE, messages[i].msg_len, 1, &peers[i]);
				bytes += messages[i].msg_len;
			}
			if (now < 0)
				break;
			got += now;
			continue;
		}
		if (!strcmp(how, "peek")) {
			recvmsg(fd, message, MSG_PEEK);
			return 0;
		}
		if (!strcmp(how, "recv") || !strcmp(how, "read")) {
			now = !strcmp(how, "recv") ? recv(fd, large, size, 0) :
						     read(fd, large, size);
			peer = 0;
		} else if (!strcmp(how, "trunc")) {
			now = recvmsg(fd, message, MSG_TRUNC);
		} else if (ring) {
			now = uring_message(ring, fd, message, RECEIVE);
			errno = now < 0 ? -now : 0;
		} else if (!strcmp(how, "recvfrom")) {
			now = recvfrom(fd, large, size, 0, message->msg_name,
				       &message->msg_namelen);
		} else {
			now = recvmsg(fd, message, 0);
		}
		if (now < 0)
			break;
		account(fd, RECEIVE, now, 1, peer);
		bytes += now;
		got++;
	}
	if (ring)
		uring_close(ring);
	return got ? bytes : -errno;
}

/* Answers `count` datagrams with as many bytes as they had. */
static long echo(int fd, long count)
{
	static char data[MOST_DATAGRAM];

	for (long i = 0; i < count; i++) {
		struct sockaddr_storage peer;
		socklen_t size = sizeof(peer);
		long now = recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)&peer, &size);

		if (now < 0)
			return -errno;
		account(fd, RECEIVE, now, 1, &peer);
		now = sendto(fd, data, now, 0, (struct sockaddr *)&peer, size);
		if (now < 0)
			return -errno;
		account(fd, TRANSMIT, now, 1, &peer);
	}
	return count;
}

static long join_group(int fd, const char *group, const char *interface)
{
	struct sockaddr_storage group_address, interface_address;
	struct ip_mreq membership;

	parse_address(group, "0", &group_address);
	parse_address(interface, "0", &interface_address);
	membership.imr_multiaddr = ((struct sockaddr_in *)&group_address)->sin_addr;
	membership.imr_interface = ((struct sockaddr_in *)&interface_address)->sin_addr;
	return setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &membership, sizeof(membership)) ?
		       -errno :
		       0;
}

static long send_from(int fd, const char *interface)
{
	struct sockaddr_storage address;

	parse_address(interface, "0", &address);
	return setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF,
			  &((struct sockaddr_in *)&address)->sin_addr, sizeof(struct in_addr)) ?
		       -errno :
		       0;
}

bool datagram_command(int argc, char **argv, long *result)
{
	const char *verb = argv[0];
	int fd = argc > 1 ? atoi(argv[1]) : -1;

	if (!strcmp(verb, "udp"))
		*result = open_socket(argv[1], argv[2]);
	else if (!strcmp(verb, "raw"))
		*result = open_raw(fd);
	else if (!strcmp(verb, "udp_connect"))
		*result = connect_socket(fd, argv[2], argv[3]);
	else if (!strcmp(verb, "udp_send"))
		*result = send_datagrams(fd, argv[2], argv[3], argv[4], atol(argv[5]),
					 atol(argv[6]));
	else if (!strcmp(verb, "udp_receive"))
		*result = receive_datagrams(fd, argv[2], atol(argv[3]), atol(argv[4]));
	else if (!strcmp(verb, "udp_echo"))
		*result = echo(fd, atol(argv[2]));
	else if (!strcmp(verb, "udp_join"))
		*result = join_group(fd, argv[2], argv[3]);
	else if (!strcmp(verb, "udp_interface"))
		*result = send_from(fd, argv[2]);
	else
		return false;
	return true;
}
