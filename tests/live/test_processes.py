"""Whose bytes: processes that share sockets, hand them on, live for milliseconds or are killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from observer import agree
from workshop import free_udp_port, transfer, unread

if TYPE_CHECKING:
    from observer import Observer
    from workshop import Workshop

pytestmark = pytest.mark.live

MIB = 1 << 20


def test_parent_and_child_use_one_socket_at_once(observer: Observer, workshop: Workshop) -> None:
    client, c, server, s = workshop.pair()
    transfer((client, c), (server, s), 1000)
    child = client.fork()
    server.call("begin", 0, "send", s, "send", 20 * MIB, 10_000)
    server.call("begin", 1, "receive", s, "recv", 20 * MIB, 10_000)

    with observer.busy():
        for puppet in (client, child):
            puppet.call("begin", 0, "send", c, "send", 10 * MIB, 10_000)
            puppet.call("begin", 1, "receive", c, "recv", 10 * MIB - 100_000, 7000)
        for puppet in (client, child):
            assert puppet.call("end", 0) == 10 * MIB
            assert puppet.call("end", 1) == 10 * MIB - 100_000
        child.call("receive", c, "recv", 200_000, 7000)
        assert server.call("end", 0) == 20 * MIB
        assert server.call("end", 1) == 20 * MIB

    agree(observer, workshop)
    for puppet, fd in ((client, c), (child, c), (server, s)):
        puppet.call("close", fd)
    assert observer.all_closed()
    agree(observer, workshop)


def test_passed_over_a_unix_socket(observer: Observer, workshop: Workshop) -> None:
    client, c, server, s = workshop.pair()
    other = workshop.puppet()
    transfer((client, c), (server, s), 3000)

    o = server.pass_socket(s, other)
    other.call("adopt", o, "server")
    server.call("close", s)
    transfer((client, c), (other, o), 4000)
    transfer((other, o), (client, c), 5000)

    agree(observer, workshop)
    client.call("close", c)
    other.call("close", o)
    assert observer.all_closed()


@pytest.mark.parametrize("receive", ["recv", "splice"])
def test_passed_before_anybody_used_it(
    observer: Observer, workshop: Workshop, receive: str
) -> None:
    client, c, server, s = workshop.pair()
    worker = workshop.puppet()

    w = server.pass_socket(s, worker)
    worker.call("adopt", w, "server")
    server.call("close", s)
    transfer((client, c), (worker, w), 4000, receive=receive)
    worker.call("close", w)
    client.call("close", c)

    agree(observer, workshop)
    assert observer.all_closed()


def test_pre_forked_workers(observer: Observer, workshop: Workshop) -> None:
    client, server = workshop.puppet(), workshop.puppet()
    listener = server.call("listen", "127.0.0.1", 0)
    port = server.call("port", listener)
    workers = [server.fork() for _ in range(3)]

    for worker in workers:
        worker.start("echo", listener, 20, 5000)
    client.call("swarm", 60, 3, "tcp", "127.0.0.1", port, 5000)
    for worker in workers:
        worker.finish()

    truth = workshop.truth()
    assert len(truth) == 63
    assert observer.flows() == truth
    assert observer.all_closed()


def test_many_threads_on_one_socket(observer: Observer, workshop: Workshop) -> None:
    client, c, server, s = workshop.pair()

    for puppet, fd in ((client, c), (server, s)):
        for thread in range(8):
            puppet.call("begin", thread, "send", fd, "send", 2 * MIB, 3000)
            puppet.call("begin", 8 + thread, "receive", fd, "recv", 2 * MIB - 20_000, 3000)
    for puppet in (client, server):
        for thread in range(16):
            assert puppet.call("end", thread) >= 2 * MIB - 20_000
    client.call("receive", c, "recv", 8 * 20_000, 3000)
    server.call("receive", s, "recv", 8 * 20_000, 3000)

    agree(observer, workshop)
    client.call("close", c)
    server.call("close", s)
    assert observer.all_closed()
    agree(observer, workshop)


def test_exec_with_an_inherited_socket(observer: Observer, workshop: Workshop) -> None:
    client, c, server, s = workshop.pair()
    transfer((client, c), (server, s), 1000)

    workshop.execute(server)
    server.call("adopt", s, "server")
    transfer((client, c), (server, s), 2000)
    transfer((server, s), (client, c), 3000)

    agree(observer, workshop)
    client.call("close", c)
    server.call("close", s)
    assert observer.all_closed()


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("parallel", [1, 20])
def test_200_processes_that_live_for_milliseconds(
    observer: Observer, workshop: Workshop, transport: str, parallel: int
) -> None:
    client, server = workshop.puppet(), workshop.puppet()
    if transport == "tcp":
        listener = server.call("listen", "127.0.0.1", 0)
        port = server.call("port", listener)
        server.start("echo", listener, 200, 1000)
    else:
        port = free_udp_port()
        server.start("udp_echo", server.call("udp", "127.0.0.1", port), 200)

    client.call("swarm", 200, parallel, transport, "127.0.0.1", port, 1000)
    server.finish()

    truth = workshop.truth()
    assert len(truth) == 201
    assert observer.flows() == truth
    assert observer.all_closed()


@pytest.mark.parametrize("receive", ["recv", "splice"])
def test_killed_in_the_middle(observer: Observer, workshop: Workshop, receive: str) -> None:
    client, c, server, s = workshop.pair()
    client.start("send", c, "send", 1 << 40, 100_000)
    server.call("receive", s, receive, 5 * MIB, 100_000)

    client.kill()
    server.call("receive", s, receive, -1, 100_000)

    # The sender's last call never returned to it. What its kernel had taken by then arrives,
    # since nothing was left unread there.
    observer.find_owners()
    flows = observer.flows()
    received = workshop.truth()
    assert sum(row.transmit for row in flows.values()) == sum(
        row.receive for row in received.values()
    )
    assert {who: row for who, row in flows.items() if who.pid == server.pid} == received
    server.call("close", s)
    assert observer.all_closed()


@pytest.mark.parametrize("receive", ["recv", "splice"])
def test_killed_while_receiving(observer: Observer, workshop: Workshop, receive: str) -> None:
    client, c, server, s = workshop.pair()
    port = server.call("port", s)
    server.start("receive", s, receive, 1 << 40, 100_000)
    client.call("send", c, "send", 5 * MIB, 100_000)
    while client.call("info", c, "acked") < 5 * MIB or unread(port):
        pass

    server.kill()
    with pytest.raises(OSError, match="has gone"):
        server.finish()

    flows = observer.flows()
    assert {row.receive for who, row in flows.items() if who.pid == server.pid} == {5 * MIB}
    client.call("close", c)
    assert observer.all_closed()
