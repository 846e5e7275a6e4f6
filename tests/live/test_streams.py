"""TCP: however a stream's bytes are moved, they are counted to the byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from observer import agree
from workshop import transfer

if TYPE_CHECKING:
    from observer import Observer
    from workshop import Workshop

pytestmark = pytest.mark.live

MIB = 1 << 20
SOCKET, SEND_BUFFER, RECEIVE_BUFFER = 1, 7, 8  # SOL_SOCKET, SO_SNDBUF, SO_RCVBUF

SENDS = (
    *("write", "writev", "send", "sendto", "sendmsg", "sendmmsg", "more"),
    *("sendfile", "splice", "zerocopy", "uring", "uring_zc", "sqpoll"),
)
RECEIVES = (
    *("read", "readv", "recv", "recvfrom", "recvmsg", "recvmmsg"),
    *("peekrecv", "trunc", "waitall", "splice", "uring", "sqpoll"),
)


def check(observer: Observer, workshop: Workshop, *sockets: tuple) -> None:
    """Compares all that was moved; then closes the sockets and waits for the connections."""
    agree(observer, workshop)
    for puppet, fd in sockets:
        puppet.call("close", fd)
    assert observer.all_closed()
    agree(observer, workshop)


@pytest.mark.parametrize("send", SENDS)
def test_every_way_to_send(observer: Observer, workshop: Workshop, send: str) -> None:
    client, c, server, s = workshop.pair()

    transfer((client, c), (server, s), 3 * MIB + 1, send=send)
    transfer((server, s), (client, c), MIB + 7, send=send, chunk=4096)

    check(observer, workshop, (client, c), (server, s))


@pytest.mark.parametrize("receive", RECEIVES)
def test_every_way_to_receive(observer: Observer, workshop: Workshop, receive: str) -> None:
    client, c, server, s = workshop.pair()

    transfer((client, c), (server, s), 3 * MIB + 1, receive=receive)
    observer.find_owners()
    agree(observer, workshop)
    transfer((server, s), (client, c), MIB + 7, receive=receive, chunk=4096)

    check(observer, workshop, (client, c), (server, s))


def test_partial_writes_and_thousands_of_eagain(observer: Observer, workshop: Workshop) -> None:
    client, c, server, s = workshop.pair()
    client.call("option", c, SOCKET, SEND_BUFFER, 100_000)
    for puppet, fd in ((client, c), (server, s)):
        puppet.call("nonblock", fd)

    transfer((client, c), (server, s), 20 * MIB, chunk=300_000, receive="read")

    assert client.call("again") + server.call("again") > 2000
    check(observer, workshop, (client, c), (server, s))


@pytest.mark.parametrize("receive", ["recv", "waitall", "splice", "uring", "peekrecv"])
def test_collecting_in_the_middle_of_reads(
    observer: Observer, workshop: Workshop, receive: str
) -> None:
    client, c, server, s = workshop.pair()

    with observer.busy():
        transfer((client, c), (server, s), 100 * MIB, chunk=MIB, receive=receive)
        transfer((server, s), (client, c), 100 * MIB, chunk=MIB, receive=receive)

    check(observer, workshop, (client, c), (server, s))


def test_receive_by_splice_and_recv_in_turn(observer: Observer, workshop: Workshop) -> None:
    client, c, server, s = workshop.pair()

    for receive in ("splice", "recv", "splice", "recv"):
        transfer((client, c), (server, s), 100_001, receive=receive)
        transfer((client, c), (server, s), 50_003, receive="recv")
        agree(observer, workshop)

    check(observer, workshop, (client, c), (server, s))


def test_splice_is_all_that_ever_reads(observer: Observer, workshop: Workshop) -> None:
    client, c, server, s = workshop.pair()
    transfer((client, c), (server, s), 200_000, receive="splice")
    observer.find_owners()
    agree(observer, workshop)
    transfer((client, c), (server, s), 300_000, receive="splice")

    server.call("close", s)
    client.call("close", c)

    agree(observer, workshop)
    assert observer.all_closed()


def test_splice_after_the_stream_has_ended(observer: Observer, workshop: Workshop) -> None:
    client, c, server, s = workshop.pair()
    transfer((client, c), (server, s), 1000)
    client.call("shutdown", c, 1)
    server.call("send", s, "send", 300_000, 300_000)
    server.call("close", s)

    # The kernel's state is CLOSE by now; what came before waits to be read.
    client.call("receive", c, "splice", -1, 65536)
    client.call("close", c)

    agree(observer, workshop)
    assert observer.all_closed()


def test_oob(observer: Observer, workshop: Workshop) -> None:
    client, c, server, s = workshop.pair()
    client.call("send", c, "send", 1000, 1000)
    client.call("send", c, "oob", 1, 1)
    client.call("send", c, "send", 1000, 1000)

    server.call("receive", s, "oob", 1, 1)
    agree(observer, workshop)
    server.call("receive", s, "recv", 2000, 2000)

    check(observer, workshop, (client, c), (server, s))


def test_reading_to_the_end(observer: Observer, workshop: Workshop) -> None:
    client, c, server, s = workshop.pair()
    client.call("send", c, "send", 70_000, 70_000)
    client.call("shutdown", c, 1)

    assert server.call("receive", s, "recv", -1, 4096) == 70_000
    for receive in ("recv", "splice", "recv"):
        assert server.call("receive", s, receive, -1, 4096) == 0
    transfer((server, s), (client, c), 1234)

    check(observer, workshop, (server, s), (client, c))


@pytest.mark.parametrize("receive", ["recv", "splice"])
def test_more_than_4_gib_and_a_sequence_number_wraps(
    observer: Observer, workshop: Workshop, receive: str
) -> None:
    client, c, server, s = workshop.pair()

    # Splice first: what the read position tells must survive bytes that wrap it.
    transfer((client, c), (server, s), 10 * MIB, chunk=MIB, receive="splice")
    observer.find_owners()
    agree(observer, workshop)
    transfer((client, c), (server, s), (1 << 32) + 5, chunk=MIB, receive=receive)

    check(observer, workshop, (client, c), (server, s))


@pytest.mark.slow
def test_10_gb_through_one_socket(observer: Observer, workshop: Workshop) -> None:
    client, c, server, s = workshop.pair()

    transfer((client, c), (server, s), 10**10, chunk=MIB)

    check(observer, workshop, (client, c), (server, s))
