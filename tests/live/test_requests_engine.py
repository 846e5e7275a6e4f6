"""Requests, whatever the protocol: connections that change hands, the bounds of the table."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from seen import Seen

pytestmark = pytest.mark.live

COMMAND = b"*1\r\n$4\r\nPING\r\n"
ANSWER = b"+PONG\r\n"


@pytest.fixture
def pair() -> tuple[socket.socket, socket.socket]:
    """A client's and a server's end of a connection, both in this process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    return client, server


def exchange(client: socket.socket, server: socket.socket, times: int) -> None:
    """Asks and answers, one after the other."""
    for _ in range(times):
        client.sendall(COMMAND)
        assert server.recv(100) == COMMAND
        server.sendall(ANSWER)
        assert client.recv(100) == ANSWER


def in_child(client: socket.socket, server: socket.socket, times: int) -> int:
    """Has a child do that; returns its pid."""
    child = os.fork()
    if not child:
        exchange(client, server, times)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return child


def test_a_connection_that_changes_hands(
    requests_seen: Seen, pair: tuple[socket.socket, socket.socket]
) -> None:
    client, server = pair
    port = server.getsockname()[1]

    exchange(client, server, 5)
    child = in_child(client, server, 7)
    exchange(client, server, 3)
    client.close()
    server.close()

    rows = requests_seen.rows(port=port)
    counts = {(row.pid, row.side): 0 for row in rows}
    for row in rows:
        counts[row.pid, row.side] += row.count
    own = os.getpid()
    assert counts == {
        (own, "client"): 8,
        (own, "server"): 8,
        (child, "client"): 7,
        (child, "server"): 7,
    }


def test_what_waits_at_the_close_is_told(
    requests_seen: Seen, pair: tuple[socket.socket, socket.socket]
) -> None:
    client, server = pair
    port = server.getsockname()[1]
    exchange(client, server, 1)

    client.sendall(COMMAND * 20)
    assert server.recv(1000) == COMMAND * 20
    server.sendall(ANSWER * 4)
    assert client.recv(100) == ANSWER * 4
    client.close()
    server.close()

    requests_seen.until(lambda: requests_seen.unpaired().get(("redis", "closed"), 0) >= 32)
    assert requests_seen.unpaired()["redis", "closed"] == 32
    assert sum(row.count for row in requests_seen.rows(port=port)) == 10
