"""What a client may do to a connection before anybody waits for it: raw bytes to a real server."""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from kernob.server import connection
from server import records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from server.conftest import Receiver

HEAD = b"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n"
EMPTY = HEAD + b"Content-Length: 0\r\n\r\n"


@contextmanager
def client(receiver: Receiver) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", receiver.server.port), timeout=5) as wire:
        yield wire


def until_closed(wire: socket.socket) -> bytes:
    """Returns all that comes until the server ends the connection."""
    heard = b""
    try:
        while chunk := wire.recv(65536):
            heard += chunk
    except ConnectionResetError:
        pass
    return heard


def send_for_ever(wire: socket.socket, said: bytes, *, pause: float = 0.0) -> None:
    for _ in range(200):
        wire.sendall(said)
        time.sleep(pause)
    until_closed(wire)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CLIENT_SECONDS", 0.3)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("said", [b"", b"P", HEAD, EMPTY + b"P", EMPTY + HEAD], ids=range(5))
def test_silence_before_the_end_of_the_headers_ends_it(receiver: Receiver, said: bytes) -> None:
    with client(receiver) as wire:
        wire.sendall(said)
        begin = time.monotonic()

        heard = until_closed(wire)

        assert time.monotonic() - begin < 3
        assert heard.count(b"HTTP/1.1 200") == said.count(EMPTY)


@pytest.mark.usefixtures("hurried")
def test_drops_of_headers_end_it(receiver: Receiver) -> None:
    with client(receiver) as wire:
        wire.sendall(HEAD)

        with pytest.raises(ConnectionError):
            send_for_ever(wire, b"X: y\r\n", pause=0.05)


@pytest.mark.usefixtures("hurried")
def test_a_body_that_nobody_reads_any_more_ends_it(receiver: Receiver) -> None:
    with client(receiver) as wire:
        wire.sendall(HEAD + b"Content-Length: 100000000\r\n\r\n")

        heard = until_closed(wire)

        assert heard.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("endless", [b"X: y\r\n", b"y" * 1000], ids=["many", "long"])
def test_endless_headers_end_it(receiver: Receiver, endless: bytes) -> None:
    with client(receiver) as wire:
        wire.sendall(HEAD + b"X: ")

        with pytest.raises(ConnectionError):
            send_for_ever(wire, endless * 100)


def test_large_headers_and_bodies_are_told_apart(receiver: Receiver) -> None:
    body = records.logs(["told apart"], body="x" * 2 * connection.HEADER_SIZE)
    headers = b"X: " + b"y" * (connection.HEADER_SIZE // 2) + b"\r\nConnection: close\r\n"
    with client(receiver) as wire:
        wire.sendall(HEAD + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body)

        assert until_closed(wire).startswith(b"HTTP/1.1 200")


@pytest.mark.usefixtures("hurried")
def test_a_slow_answer_is_none_of_the_clients_fault(receiver: Receiver) -> None:
    body = records.logs(["slow"])
    with client(receiver) as wire:
        with receiver.blocked_store():
            wire.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            time.sleep(2 * connection.CLIENT_SECONDS)

        assert wire.recv(1000).startswith(b"HTTP/1.1 200")


def test_too_many_are_told_so_and_more_are_not_heard(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNECTIONS", 2)
    with client(receiver), client(receiver), client(receiver), client(receiver):
        time.sleep(0.1)
        with client(receiver) as fifth:
            fifth.sendall(EMPTY)
            assert until_closed(fifth) == b""


def test_no_http_is_told_so(receiver: Receiver) -> None:
    with client(receiver) as wire:
        wire.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")

        assert until_closed(wire).startswith(b"HTTP/1.1 400")
