"""Redis: what a real server and real clients exchange is counted in the kernel, at both ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest
import redis
from seen import Seen

from kernob.config import Network, Requests
from kernob.protocols.redis import error
from kernob.signals.network import KernelFlows
from kernob.signals.requests import KernelRequests
from servers import debian_server, free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.live, pytest.mark.server]

Counts = dict[tuple[str, str], int]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real Redis."""
    yield from server(tmp_path_factory.mktemp("redis"))


def server(directory: Path, *more: str) -> Iterator[int]:
    port = free_port()
    command = [debian_server("redis-server"), "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--save", "", "--repl-diskless-sync-delay", "0", "--dir", str(directory), *more]
    for _ in running(command, port, directory / "log"):
        yield port


@pytest.fixture
def client(port: int, requests_seen: Seen) -> Iterator[redis.Redis]:
    """A client whose connection is made after Kernob has begun to look."""
    assert requests_seen
    with redis.Redis(port=port, socket_timeout=10) as client:
        client.flushall()
        yield client


@contextlib.contextmanager
def raw(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def receive(connection: socket.socket, length: int) -> bytes:
    """Returns exactly so many bytes."""
    received = b""
    while len(received) < length:
        part = connection.recv(65536)
        assert part, received
        received += part
    return received


def counts(seen: Seen, port: int, side: str) -> Counts:
    """Returns the requests on one side by operation and error; connection setup left out."""
    found = seen.counts(port=port, side=side, protocol="redis")
    setup = ("CLIENT", "HELLO", "CONFIG", "FLUSHALL")
    return {(name, error(status)): n for (name, status), n in found.items() if name not in setup}


def assert_both(seen: Seen, port: int, expected: Counts) -> None:
    for side in ("client", "server"):
        seen.until(lambda side=side: counts(seen, port, side) == expected)
        assert counts(seen, port, side) == expected, side


@pytest.mark.parametrize("depth", [1, 16, 1000])
def test_every_request_of_the_benchmark(port: int, requests_seen: Seen, depth: int) -> None:
    if not shutil.which("redis-benchmark"):
        pytest.skip("redis-benchmark is missing: apt-get install redis-tools")
    number = 20_000
    command = ["redis-benchmark", "-p", str(port), "-q", "-n", str(number), "-P", str(depth)]
    subprocess.run([*command, "-t", "set,get,lpush"], check=True, capture_output=True)
    assert_both(requests_seen, port, {(name, ""): number for name in ("SET", "GET", "LPUSH")})


def test_at_saturation(port: int, requests_seen: Seen) -> None:
    """As many as the machine can, from many connections of several processes at once."""
    if not shutil.which("redis-benchmark"):
        pytest.skip("redis-benchmark is missing: apt-get install redis-tools")
    number = 500_000
    command = ["redis-benchmark", "-p", str(port), "-q", "-n", str(number), "-P", "32"]
    many = [subprocess.Popen([*command, "-c", "40", "-t", "incr"], stdout=-3) for _ in range(2)]
    assert [process.wait() for process in many] == [0, 0]
    assert_both(requests_seen, port, {("INCR", ""): 2 * number})


@pytest.mark.parametrize("version", [2, 3])
def test_answers_of_all_kinds(port: int, requests_seen: Seen, version: int) -> None:
    with redis.Redis(port=port, protocol=version) as client:
        client.flushall()
        client.set("big", "x" * 3_000_000)
        assert len(client.get("big")) == 3_000_000
        client.hset("h", mapping={str(i): "v" for i in range(500)})
        assert len(client.hgetall("h")) == 500
        client.zadd("z", {"a": 1.5})
        assert client.zscore("z", "a") == 1.5
        assert client.get("none") is None
        assert client.eval("return {1, {2, 'x'}, 'y'}", 0)
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            client.incr("h")
        with pytest.raises(redis.ResponseError, match="unknown command"):
            client.execute_command("NONSENSE", "secret")
        with pytest.raises(redis.ResponseError, match="wrong number"):
            client.execute_command("GET")
    assert_both(
        requests_seen,
        port,
        {
            ("SET", ""): 1,
            ("GET", ""): 2,
            ("GET", "ERR"): 1,
            ("HSET", ""): 1,
            ("HGETALL", ""): 1,
            ("ZADD", ""): 1,
            ("ZSCORE", ""): 1,
            ("EVAL", ""): 1,
            ("INCRBY", "WRONGTYPE"): 1,
            ("NONSENSE", "ERR"): 1,
        },
    )
    for side in ("client", "server"):
        row = requests_seen.rows(port=port, side=side, operation="SET")[0]
        sent = command(b"SET", b"big", b"x" * 3_000_000)
        assert (row.request_bytes, row.response_bytes) == (len(sent), len(b"+OK\r\n"))


def test_a_transaction_and_a_pipeline(client: redis.Redis, requests_seen: Seen) -> None:
    port = client.connection_pool.connection_kwargs["port"]
    with client.pipeline(transaction=True) as pipeline:
        pipeline.set("a", "x").lpush("a", "y").get("a")
        with pytest.raises(redis.ResponseError):
            pipeline.execute()
    with client.pipeline(transaction=False) as pipeline:
        for i in range(1000):
            pipeline.set(f"k{i}", "v" * i)
            pipeline.get(f"k{i}")
        assert len(pipeline.execute()) == 2000
    expected = {
        ("MULTI", ""): 1,
        ("SET", ""): 1001,
        ("GET", ""): 1001,
        ("LPUSH", ""): 1,
        ("EXEC", "WRONGTYPE"): 1,  # an error within the array
    }
    assert_both(requests_seen, port, expected)


def test_databases(port: int, requests_seen: Seen) -> None:
    with redis.Redis(port=port, db=5) as client:
        client.set("a", "1")
        client.get("a")
    assert_both(requests_seen, port, {("SELECT", ""): 1, ("SET", ""): 1, ("GET", ""): 1})
    for side in ("client", "server"):
        rows = requests_seen.rows(port=port, side=side)
        assert {row.namespace for row in rows if row.operation in ("SET", "GET")} == {"5"}


@pytest.mark.parametrize("version", [2, 3])
def test_subscriptions(port: int, requests_seen: Seen, version: int) -> None:
    messages = 200
    with (
        redis.Redis(port=port, protocol=version) as client,
        redis.Redis(port=port, protocol=version) as publisher,
        client.pubsub() as channels,
    ):
        channels.subscribe("a", "b")
        channels.psubscribe("c*")
        received = 0
        for i in range(messages):
            publisher.publish(("a", "b", "cd")[i % 3], f"message {i}")
        deadline = time.monotonic() + 5
        while received < messages and time.monotonic() < deadline:
            message = channels.get_message(timeout=1)
            received += message is not None and message["type"].endswith("message")
        channels.ping()
        channels.get_message(timeout=1)
        channels.unsubscribe()
        while channels.subscribed and time.monotonic() < deadline:
            channels.get_message(timeout=0.1)
            if not channels.channels and channels.patterns:
                channels.punsubscribe()
        assert received == messages
        client.get("after")
    expected = {
        ("SUBSCRIBE", ""): 1,
        ("PSUBSCRIBE", ""): 1,
        ("PUBLISH", ""): messages,
        ("PING", ""): 1,
        ("UNSUBSCRIBE", ""): 1,
        ("GET", ""): 1,
    }
    for side in ("client", "server"):
        requests_seen.until(
            lambda side=side: counts(requests_seen, port, side).get(("GET", "")) == 1
        )
        found = counts(requests_seen, port, side)
        found.pop(("PUNSUBSCRIBE", ""), None)
        assert found == expected, side


def test_a_blocked_request_lasts_as_long(client: redis.Redis, requests_seen: Seen) -> None:
    port = client.connection_pool.connection_kwargs["port"]
    assert client.blpop(["nothing"], timeout=0.2) is None
    assert_both(requests_seen, port, {("BLPOP", ""): 1})
    for row in requests_seen.rows(port=port, operation="BLPOP"):
        assert 0.18e9 < row.sum < 1e9


def test_muted_replies_are_one_way(port: int, requests_seen: Seen) -> None:
    with raw(port) as connection:
        connection.sendall(command(b"CLIENT", b"REPLY", b"OFF") + command(b"INCR", b"n") * 100)
        connection.sendall(command(b"CLIENT", b"REPLY", b"ON") + command(b"DECR", b"n"))
        receive(connection, len(b"+OK\r\n:99\r\n"))
    assert_both(requests_seen, port, {("DECR", ""): 1})
    for side in ("client", "server"):
        rows = requests_seen.rows(port=port, side=side, kind="one_way")
        assert {row.operation: row.count for row in rows} == {"CLIENT": 1, "INCR": 100}


def test_a_monitor(client: redis.Redis, requests_seen: Seen) -> None:
    port = client.connection_pool.connection_kwargs["port"]
    with raw(port) as connection:
        connection.sendall(command(b"MONITOR"))
        receive(connection, 5)
        client.get("a")
        client.get("b")
        receive(connection, 60)
        connection.sendall(command(b"QUIT"))
        while connection.recv(65536):
            pass
    assert_both(requests_seen, port, {("MONITOR", ""): 1, ("GET", ""): 2, ("QUIT", ""): 1})


def test_cut_at_every_byte(port: int, requests_seen: Seen) -> None:
    stream = command(b"set", b"key", b"value") + command(b"GET", b"key") + b"ECHO hi\r\n"
    expected = b"+OK\r\n$5\r\nvalue\r\n$2\r\nhi\r\n"
    with raw(port) as connection:
        for cut in range(1, len(stream)):
            connection.sendall(stream[:cut])
            connection.sendall(stream[cut:])
            assert receive(connection, len(expected)) == expected
        for i in range(len(stream)):
            connection.sendall(stream[i : i + 1])
        read = b"".join(connection.recv(1) for _ in expected)
        assert read == expected
    each = len(stream)
    assert_both(requests_seen, port, {("SET", ""): each, ("GET", ""): each, ("ECHO", ""): each})


def test_a_reset_in_the_middle(client: redis.Redis, requests_seen: Seen) -> None:
    port = client.connection_pool.connection_kwargs["port"]
    with raw(port) as connection:
        connection.sendall(command(b"PING"))
        receive(connection, 7)
        connection.sendall(command(b"SET", b"k", b"v" * 5000)[:3000])
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    client.get("a")
    assert_both(requests_seen, port, {("PING", ""): 1, ("GET", ""): 1})


def test_attached_in_the_middle(client: redis.Redis) -> None:
    """Of connections that were in use before, all that begins afterwards counts."""
    port = client.connection_pool.connection_kwargs["port"]
    client.set("a", "x")
    blocked = threading.Thread(target=lambda: client.blpop(["nothing"], timeout=0.5))
    blocked.start()
    source = KernelFlows(Network(), requests=True)
    requests = KernelRequests(source, Requests())
    try:
        seen = Seen(requests)
        blocked.join()
        for _ in range(50):
            client.get("a")
        assert_both(seen, port, {("GET", ""): 50})
        assert {row.pid for row in seen.rows(port=port, side="client")} == {os.getpid()}
    finally:
        requests.close()
        source.close()


def test_a_replica_is_given_up(client: redis.Redis, requests_seen: Seen, tmp_path: Path) -> None:
    port = client.connection_pool.connection_kwargs["port"]
    for replica in server(tmp_path, "--replicaof", "127.0.0.1", str(port)):
        with redis.Redis(port=replica) as other:
            deadline = time.monotonic() + 8
            while other.info("replication")["master_link_status"] != "up":
                assert time.monotonic() < deadline
                time.sleep(0.1)
        client.set("a", "x")
        for side in ("client", "server"):
            requests_seen.until(lambda side=side: asked_for_all(requests_seen, port, side) == 1)
            assert asked_for_all(requests_seen, port, side) == 1, side
        assert requests_seen.unseen()["redis", "other"] >= 2


def asked_for_all(seen: Seen, port: int, side: str) -> int:
    return counts(seen, port, side).get(("PSYNC", ""), 0)
