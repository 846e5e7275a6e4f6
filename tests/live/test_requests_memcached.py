"""Memcached: what a real server and real clients exchange is counted, at both ends."""

from __future__ import annotations

import contextlib
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import bmemcached
import pymemcache
import pytest
from pymemcache.client.base import Client
from seen import Seen

from kernob.config import Network, Requests
from kernob.signals.network import KernelFlows
from kernob.signals.requests import KernelRequests
from servers import debian_server, free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.live, pytest.mark.server]

NOT_FOUND, EXISTS, CLIENT_ERROR, NOT_STORED, ERROR = 1, 2, 4, 5, 0x81
TOO_LARGE = 3
SIDES = ("client", "server")
Counts = dict[tuple[str, int], int]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real Memcached."""
    port = free_port()
    command = [debian_server("memcached"), "-u", "root", "-l", "127.0.0.1", "-p", str(port)]
    for _ in running(command, port, tmp_path_factory.mktemp("memcached") / "log"):
        yield port


@contextlib.contextmanager
def raw(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def ask(connection: socket.socket, stream: bytes, expected: bytes) -> None:
    connection.sendall(stream)
    received = b""
    while len(received) < len(expected):
        part = connection.recv(65536)
        assert part, received
        received += part
    assert received == expected


def counts(seen: Seen, port: int, side: str) -> Counts:
    return seen.counts(port=port, side=side, protocol="memcached")


def one_way(seen: Seen, port: int, side: str) -> dict[str, int]:
    rows = seen.rows(port=port, side=side, kind="one_way")
    return {row.operation: row.count for row in rows}


def assert_both(seen: Seen, port: int, expected: Counts) -> None:
    for side in SIDES:
        seen.until(lambda side=side: counts(seen, port, side) == expected)
        assert counts(seen, port, side) == expected, side


def test_a_client_of_text(port: int, requests_seen: Seen) -> None:
    client = Client(("127.0.0.1", port), default_noreply=False)
    client.flush_all()
    for i in range(1000):
        assert client.set(f"k{i}", b"v" * i)
        assert client.get(f"k{i}") == b"v" * i
    many = client.get_many([f"k{i}" for i in range(1000)])  # a line of 5 kB
    assert len(many) == 1000
    assert client.get("none") is None
    assert not client.add("k1", b"x")
    assert client.replace("k1", b"x")
    assert client.append("k1", b"y")
    value, token = client.gets("k1")
    assert value == b"xy"
    assert client.cas("k1", b"z", token)
    assert client.cas("k1", b"z", token) is False
    assert client.incr("n", 1) is None
    client.set("n", b"1")
    assert client.incr("n", 5) == 6
    assert client.touch("n", 10)
    assert client.delete("n")
    assert not client.delete("n")
    assert client.version()
    assert client.stats()
    with pytest.raises(pymemcache.exceptions.MemcacheClientError):
        client.incr("k1", 1)
    client.close()
    expected = {
        **{(name, 0): 1 for name in ("flush_all", "replace", "append", "gets", "incr", "touch")},
        **{(name, 0): 1 for name in ("cas", "delete", "version", "stats")},
        ("set", 0): 1001,
        ("get", 0): 1001,
        ("get", NOT_FOUND): 1,
        ("cas", EXISTS): 1,
        ("add", NOT_STORED): 1,
        ("incr", NOT_FOUND): 1,
        ("delete", NOT_FOUND): 1,
        ("incr", CLIENT_ERROR): 1,
    }
    assert_both(requests_seen, port, expected)


def test_noreply_is_one_way(port: int, requests_seen: Seen) -> None:
    client = Client(("127.0.0.1", port), default_noreply=True)
    for i in range(500):
        client.set(f"k{i}", b"v" * 100)
    client.delete("k1")
    client.incr("k2", 1, noreply=True)
    assert len(client.get_many([f"k{i}" for i in range(500)])) >= 498
    client.close()
    assert_both(requests_seen, port, {("get", 0): 1})
    for side in SIDES:
        assert one_way(requests_seen, port, side)["set"] == 500


def test_a_client_of_binary(port: int, requests_seen: Seen) -> None:
    client = bmemcached.Client(f"127.0.0.1:{port}")
    keys = {f"k{i}": "v" * i for i in range(300)}
    assert client.set_multi(keys) == []
    assert len(client.get_multi(list(keys))) == 300
    for i in range(200):
        assert client.set(f"s{i}", "x" * 5000)
        assert client.get(f"s{i}") == "x" * 5000
    assert client.get("none") is None
    assert client.incr("n", 1, default=1) is not None
    assert client.delete("s1")
    assert client.stats()
    client.disconnect_all()
    for side in SIDES:
        requests_seen.until(
            lambda side=side: counts(requests_seen, port, side).get(("delete", 0)) == 1
        )
        found = counts(requests_seen, port, side)
        quiet = one_way(requests_seen, port, side)
        assert found["set", 0] == 200, side
        assert found["get", 0] == 200, side
        assert found["get", NOT_FOUND] == 1, side
        assert found["incr", 0] == 1, side
        assert found["delete", 0] == 1, side
        assert found["stats", 0] == 1, side
        assert quiet["setq"] + found.get(("noop", 0), 0) >= 300, side
        assert quiet["getkq"] + found.get(("getk", 0), 0) == 300, side


def test_meta_commands(port: int, requests_seen: Seen) -> None:
    with raw(port) as connection:
        ask(connection, b"ms k 5 T0\r\nhello\r\n", b"HD\r\n")
        ask(connection, b"mg k v k O9\r\n", b"VA 5 kk O9\r\nhello\r\n")
        ask(connection, b"mg none v\r\n", b"EN\r\n")
        ask(connection, b"ms none 1 MR\r\nx\r\n", b"NS\r\n")
        ask(connection, b"md none\r\n", b"NF\r\n")
        batch = b"mg k v q\r\nmg none v q\r\nms k 1 q\r\nx\r\nms no 1 q MR\r\nx\r\n"
        ask(connection, batch + b"mn\r\n", b"VA 5\r\nhello\r\nNS\r\nMN\r\n")
        ask(
            connection,
            b"ma k\r\n",
            b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
        )
        ask(connection, b"mn\r\n", b"MN\r\n")
    expected = {
        ("ms", 0): 1,
        ("mg", 0): 1,
        ("mg", NOT_FOUND): 1,
        ("ms", NOT_STORED): 1,
        ("md", NOT_FOUND): 1,
        ("mn", NOT_STORED): 1,
        ("mn", 0): 1,
        ("ma", CLIENT_ERROR): 1,
    }
    assert_both(requests_seen, port, expected)
    for side in SIDES:
        assert one_way(requests_seen, port, side) == {"mg": 2, "ms": 2}


def test_cut_at_every_byte(port: int, requests_seen: Seen) -> None:
    stream = b"set k 0 0 5\r\nhello\r\nget k none\r\nmg k v\r\nbogus secret\r\n"
    expected = b"STORED\r\nVALUE k 0 5\r\nhello\r\nEND\r\nVA 5\r\nhello\r\nERROR\r\n"
    with raw(port) as connection:
        for cut in range(1, len(stream)):
            connection.sendall(stream[:cut])
            ask(connection, stream[cut:], expected)
    each = len(stream) - 1
    names = {("set", 0): each, ("get", 0): each, ("mg", 0): each, ("?", ERROR): each}
    assert_both(requests_seen, port, names)


def test_a_large_value_and_one_that_is_too_large(port: int, requests_seen: Seen) -> None:
    with raw(port) as connection:
        ask(connection, b"set k 0 0 1000000\r\n" + b"get k\r\n" * 142857 + b"x\r\n", b"STORED\r\n")
        large = b"set k 0 0 2000000\r\n" + b"x" * 2000000 + b"\r\n"
        ask(connection, large, b"SERVER_ERROR object too large for cache\r\n")
        ask(connection, b"get k\r\n", b"END\r\n")
    assert_both(requests_seen, port, {("set", 0): 1, ("set", 0x84): 1, ("get", NOT_FOUND): 1})


def test_at_saturation(port: int, requests_seen: Seen) -> None:
    """Pipelines from several threads, as many as the machine can."""
    pipeline = b"set k 0 0 1\r\nx\r\nget k\r\n" * 500
    answered = b"STORED\r\nVALUE k 0 1\r\nx\r\nEND\r\n" * 500
    rounds, threads = 40, 4

    def run(_: int) -> None:
        with raw(port) as connection:
            for _ in range(rounds):
                ask(connection, pipeline, answered)

    with ThreadPoolExecutor(threads) as pool:
        assert len(list(pool.map(run, range(threads)))) == threads
    each = rounds * threads * 500
    assert_both(requests_seen, port, {("set", 0): each, ("get", 0): each})
    for side in SIDES:
        rows = requests_seen.rows(port=port, side=side, operation="set")
        assert sum(row.request_bytes for row in rows) == each * 16
        assert sum(row.response_bytes for row in rows) == each * 8


def test_a_reset_in_the_middle(port: int, requests_seen: Seen) -> None:
    with raw(port) as connection:
        ask(connection, b"set k 0 0 1\r\nx\r\n", b"STORED\r\n")
        connection.sendall(b"set k 0 0 5000\r\nxxxx")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with raw(port) as connection:
        ask(connection, b"get k\r\n", b"VALUE k 0 1\r\nx\r\nEND\r\n")
    assert_both(requests_seen, port, {("set", 0): 1, ("get", 0): 1})


def test_attached_in_the_middle(port: int) -> None:
    with raw(port) as connection:
        ask(connection, b"set k 0 0 1\r\nx\r\n", b"STORED\r\n")
        source = KernelFlows(Network(), requests=True)
        requests = KernelRequests(source, Requests())
        try:
            seen = Seen(requests)
            for _ in range(50):
                ask(connection, b"get k\r\n", b"VALUE k 0 1\r\nx\r\nEND\r\n")
            assert_both(seen, port, {("get", 0): 50})
        finally:
            requests.close()
            source.close()
