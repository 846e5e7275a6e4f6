"""The workshop's own account, against the kernel's: what TCP says was sent and has arrived."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from workshop import Moved, transfer

if TYPE_CHECKING:
    from workshop import Workshop

SYN = 1  # takes a sequence number, so `tcpi_bytes_acked` of the side that sent it has one more


@pytest.mark.parametrize("send", ["write", "sendmmsg", "sendfile", "splice", "zerocopy", "uring"])
@pytest.mark.parametrize("receive", ["readv", "recvmmsg", "trunc", "splice", "sqpoll"])
def test_account_is_tcp_info(workshop: Workshop, send: str, receive: str) -> None:
    client, c, server, s = workshop.pair()

    transfer((client, c), (server, s), 1_000_003, send=send, receive=receive)

    account = {who.pid: row for who, row in workshop.truth().items()}
    assert server.call("info", s, "received") == account[server.pid].receive == 1_000_003
    while client.call("info", c, "acked") < 1_000_003 + SYN:
        pass  # the last acknowledgement may be on its way
    assert client.call("info", c, "acked") - SYN == account[client.pid].transmit


def test_nothing_moved_is_an_empty_account(workshop: Workshop) -> None:
    workshop.pair()

    assert workshop.truth() == {}


def test_calls_are_counted_one_by_one(workshop: Workshop) -> None:
    client, c, server, s = workshop.pair()

    for _ in range(5):
        client.call("send", c, "send", 30, 10)
    server.call("receive", s, "waitall", 150, 75)

    account = {who.pid: row for who, row in workshop.truth().items()}
    assert account == {client.pid: Moved(150, 0, 15, 0), server.pid: Moved(0, 150, 0, 2)}
