"""HTTP/1 with real servers and clients: what is sent is counted, at both ends."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import numpy as np
import pytest

from kernob.config import Network, Requests
from kernob.signals.network import KernelFlows
from kernob.signals.requests import FIRST_DURATION, KernelRequests
from servers import debian_server, free_port, is_open, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from seen import Seen

pytestmark = [pytest.mark.live, pytest.mark.server]

BIG = 10_000_000
CONF = """
daemon off; worker_processes 1; pid {0}/pid; error_log {0}/errors;
events {{ worker_connections 3000; }}
http {{
  access_log off; sendfile on; keepalive_requests 10000000; client_max_body_size 20m;
  client_body_temp_path {0}/t; proxy_temp_path {0}/t; fastcgi_temp_path {0}/t;
  uwsgi_temp_path {0}/t; scgi_temp_path {0}/t;
  upstream python {{ server 127.0.0.1:{2}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{1}; root {0};
    location /behind/ {{
      proxy_pass http://python/; proxy_http_version 1.1; proxy_set_header Connection "";
    }}
    location /items/ {{ return 200 "an item\\n"; }}
    location /users/ {{ return 200 "a user\\n"; }}
    location /down {{ return 503; }}
    location /gone {{ proxy_pass http://127.0.0.1:1/; }}
  }}
}}
"""


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    """Runs a server until the block ends."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: is_open(port), command[0])
        try:
            yield
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def python() -> Iterator[int]:
    """The port of a server in Python."""
    port = free_port()
    program = Path(__file__).with_name("http_server.py")
    with running([sys.executable, str(program), str(port)], port):
        yield port


@pytest.fixture(scope="module")
def nginx(python: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of nginx, with files, and the server in Python behind it."""
    path = tmp_path_factory.mktemp("nginx")
    path.chmod(0o755)
    port = free_port()
    (path / "conf").write_text(CONF.format(path, port, python))
    (path / "small").write_text("small\n")
    (path / "empty").touch()
    with (path / "big").open("wb") as file:
        file.truncate(BIG)
    command = [debian_server("nginx"), "-e", str(path / "errors"), "-c", str(path / "conf")]
    with running([*command, "-g", "user root;"], port):
        yield port


def get(port: int, *targets: str, method: str = "GET") -> None:
    """Sends requests on one connection and reads the answers."""
    client = http.client.HTTPConnection("127.0.0.1", port)
    for target in targets:
        client.request(method, target)
        client.getresponse().read()
    client.close()


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    """A connection without Nagle's delay."""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield client


def read_until(client: socket.socket, end: bytes, times: int = 1) -> bytes:
    """Returns what comes up to where `end` has come so often."""
    data = b""
    while data.count(end) < times:
        piece = client.recv(1 << 20)
        assert piece, data
        data += piece
    return data


def settle(seen: Seen, expected: dict[tuple[str, int], int], port: int) -> None:
    """Asserts that these were counted at both ends."""
    for side in ("client", "server"):
        seen.until(lambda side=side: seen.counts(port=port, side=side) == expected)  # type: ignore[misc]
        assert seen.counts(port=port, side=side) == expected, side


def bodies(seen: Seen, kind: str, **wanted: object) -> tuple[int, int]:
    """Returns how many bodies there were, and their bytes."""
    rows = seen.rows(kind=kind, **wanted)
    return sum(row.count for row in rows), sum(row.sum for row in rows)


def test_wrk_and_nginx(requests_seen: Seen, nginx: int) -> None:
    wrk = debian_server("wrk")
    url = f"http://127.0.0.1:{nginx}/small"

    output = subprocess.check_output([wrk, "-c8", "-t1", "-d1", url], text=True)

    found = re.search(r"(\d+) requests in", output)
    assert found, output
    sent = int(found[1])
    name = ("GET /small HTTP/1.1", 200)
    assert requests_seen.counts(port=nginx, side="client") == {name: sent}
    # At its end, wrk leaves a request on each connection.
    assert sent <= requests_seen.counts(port=nginx, side="server")[name] <= sent + 8
    assert bodies(requests_seen, "response_body", port=nginx, side="client") == (sent, 6 * sent)


def test_statuses_and_files_of_nginx(requests_seen: Seen, nginx: int) -> None:
    if not shutil.which("curl"):
        pytest.skip("no curl (Debian: curl)")
    targets = ["small", "empty", "big", "none", "down", "gone", "behind/status/500"]
    urls = [f"http://127.0.0.1:{nginx}/{target}" for target in targets]

    for _ in range(3):
        subprocess.run(["curl", "-s", *urls], stdout=subprocess.DEVNULL, check=True)
    subprocess.run(["curl", "-sI", urls[2]], stdout=subprocess.DEVNULL, check=True)

    statuses = [200, 200, 200, 404, 503, 502, 500]
    expected = {
        (f"GET /{target} HTTP/1.1".replace("/500", "/{id}"), status): 3
        for target, status in zip(targets, statuses, strict=True)
    }
    settle(requests_seen, {**expected, ("HEAD /big HTTP/1.1", 200): 1}, nginx)
    for side in ("client", "server"):
        found = bodies(
            requests_seen, "response_body", port=nginx, side=side, operation="GET /big HTTP/1.1"
        )
        assert found == (3, 3 * BIG)
        empty = requests_seen.rows(
            kind="response_body", port=nginx, side=side, operation="GET /empty HTTP/1.1"
        )
        assert not empty


def test_a_proxy_is_server_and_client(requests_seen: Seen, nginx: int, python: int) -> None:
    get(nginx, *(f"/behind/size/{size}" for size in range(20)))

    settle(requests_seen, {("GET /behind/size/{id} HTTP/1.1", 200): 20}, nginx)
    settle(requests_seen, {("GET /size/{id} HTTP/1.1", 200): 20}, python)
    [asking] = {row.pid for row in requests_seen.rows(port=python, side="client")}
    assert asking in {row.pid for row in requests_seen.rows(port=nginx, side="server")}


@pytest.mark.parametrize("size", [0, 1, 1000, 1024, 100_000, BIG])
def test_bodies(requests_seen: Seen, python: int, size: int) -> None:
    client = http.client.HTTPConnection("127.0.0.1", python)
    pieces = [b"p" * min(size, 70_000)] * 3
    for body in (b"b" * size, iter(pieces)):
        client.request("POST", "/a", body, encode_chunked=not isinstance(body, bytes))
        assert client.getresponse().read()
    client.request("GET", f"/size/{size}")
    assert len(client.getresponse().read()) == size
    client.request("GET", f"/chunks/3/{min(size, 70_000) + 1}")
    assert client.getresponse().read()
    client.close()

    settle(
        requests_seen,
        {
            ("POST /a HTTP/1.1", 200): 2,
            ("GET /size/{id} HTTP/1.1", 200): 1,
            ("GET /chunks/{id}/{id} HTTP/1.1", 200): 1,
        },
        python,
    )
    chunked = 3 * min(size, 70_000)
    for side in ("client", "server"):
        asked = bodies(requests_seen, "request_body", port=python, side=side)
        answered = bodies(
            requests_seen,
            "response_body",
            port=python,
            side=side,
            operation="GET /size/{id} HTTP/1.1",
        )
        in_chunks = bodies(
            requests_seen,
            "response_body",
            port=python,
            side=side,
            operation="GET /chunks/{id}/{id} HTTP/1.1",
        )
        assert asked == ((size > 0) * 2, size + chunked)
        assert answered == (int(size > 0), size)
        assert in_chunks == (1, chunked + 3)


def test_aiohttp(requests_seen: Seen, python: int) -> None:
    async def ask() -> None:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{python}") as session:

            async def one(number: int) -> None:
                async with session.get(f"/status/{(200, 404, 503)[number % 3]}") as answer:
                    await answer.read()
                async with session.delete(f"/size/{number}") as answer:
                    await answer.read()

            await asyncio.gather(*(one(number) for number in range(60)))

    asyncio.run(ask())

    expected = {("GET /status/{id} HTTP/1.1", status): 20 for status in (200, 404, 503)}
    settle(requests_seen, {**expected, ("DELETE /size/{id} HTTP/1.1", 200): 60}, python)


def test_answers_without_a_length(requests_seen: Seen, python: int) -> None:
    for size in (0, 10, BIG):
        get(python, f"/rest/{size}")
    get(python, "/status/204", "/status/304", "/size/3")
    get(python, "/size/1000", method="HEAD")
    get(python, "/size/4")

    settle(
        requests_seen,
        {
            ("GET /rest/{id} HTTP/1.1", 200): 3,
            ("GET /status/{id} HTTP/1.1", 204): 1,
            ("GET /status/{id} HTTP/1.1", 304): 1,
            ("GET /size/{id} HTTP/1.1", 200): 2,
            ("HEAD /size/{id} HTTP/1.1", 200): 1,
        },
        python,
    )
    for side in ("client", "server"):
        found = bodies(
            requests_seen,
            "response_body",
            port=python,
            side=side,
            operation="GET /rest/{id} HTTP/1.1",
        )
        assert found == (2, 10 + BIG)


def test_continue_and_upgrade(requests_seen: Seen, python: int) -> None:
    if not shutil.which("curl"):
        pytest.skip("no curl (Debian: curl)")
    command = ["curl", "-s", "-H", "Expect: 100-continue", "-d", "x" * 2000]
    subprocess.run([*command, f"http://127.0.0.1:{python}/a"], capture_output=True, check=True)
    with connected(python) as client:
        client.sendall(b"GET /upgrade HTTP/1.1\r\nConnection: Upgrade\r\n\r\n")
        read_until(client, b"hello")
        client.sendall(b"GET /never HTTP/1.1\r\n\r\n")

    settle(
        requests_seen,
        {("POST /a HTTP/1.1", 200): 1, ("GET /upgrade HTTP/1.1", 101): 1},
        python,
    )
    assert requests_seen.unseen()["http", "other"] >= 2


class Peer:
    """A server of single answers, each sent and read in pieces as the test wants it."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]

    @contextmanager
    def serving(self, serve: Callable[[socket.socket], None]) -> Iterator[None]:
        def accept() -> None:
            connection, _ = self._listening.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection:
                serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield
        thread.join(10)
        self._listening.close()


def receive_exactly(connection: socket.socket, *lengths: int) -> None:
    """Reads pieces of these lengths, each in a call of its own."""
    for length in lengths:
        if length:
            assert len(connection.recv(length, socket.MSG_WAITALL)) == length


def test_cut_at_every_byte(requests_seen: Seen) -> None:
    request = b"POST /a/17?q=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    rounds = max(len(request), len(answer))
    peer = Peer()

    def cut(message: bytes, at: int) -> tuple[bytes, bytes]:
        at %= len(message)
        return message[:at], message[at:]

    def serve(connection: socket.socket) -> None:
        for at in range(rounds):
            receive_exactly(connection, *map(len, cut(request, at)))
            for piece in cut(answer, at):
                connection.sendall(piece)
        receive_exactly(connection, *[1] * len(request))
        for at in range(len(answer)):
            connection.sendall(answer[at : at + 1])

    with peer.serving(serve), connected(peer.port) as client:
        for at in range(rounds):
            for piece in cut(request, at):
                client.sendall(piece)
            receive_exactly(client, *map(len, cut(answer, at)))
        for at in range(len(request)):
            client.sendall(request[at : at + 1])
        receive_exactly(client, *[1] * len(answer))

    settle(requests_seen, {("POST /a/{id} HTTP/1.1", 200): rounds + 1}, peer.port)
    for side in ("client", "server"):
        rows = requests_seen.rows(port=peer.port, side=side)
        assert sum(row.request_bytes for row in rows) == len(request) * (rounds + 1)
        assert sum(row.response_bytes for row in rows) == len(answer) * (rounds + 1)
        found = bodies(requests_seen, "request_body", port=peer.port, side=side)
        assert found == (rounds + 1, 4 * (rounds + 1))


def test_pipelined(requests_seen: Seen, nginx: int) -> None:
    lines = [b"GET /items/7 HTTP/1.1", b"GET /none HTTP/1.1", b"HEAD /small HTTP/1.1"]
    batch = b"".join(line + b"\r\nHost: a\r\n\r\n" for line in lines) * 100
    with connected(nginx) as client:
        for _ in range(3):
            client.sendall(batch)
            read_until(client, b"Server: ", 300)

    settle(
        requests_seen,
        {
            ("GET /items/{id} HTTP/1.1", 200): 300,
            ("GET /none HTTP/1.1", 404): 300,
            ("HEAD /small HTTP/1.1", 200): 300,
        },
        nginx,
    )


@pytest.mark.parametrize(
    "count", [30_000, pytest.param(300_000, marks=[pytest.mark.slow, pytest.mark.timeout(300)])]
)
def test_many_paths_are_two_routes(requests_seen: Seen, nginx: int, count: int) -> None:
    with connected(nginx) as client:
        for start in range(0, count, 1000):
            batch = b"".join(
                b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n"
                % (b"users/%d/orders/%08xa1" % (i, i) if i % 3 else b"items/%d?page=%d" % (i, i))
                for i in range(start, start + 1000)
            )
            client.sendall(batch)
            read_until(client, b"HTTP/1.1 200", 1000)

    settle(
        requests_seen,
        {
            ("GET /users/{id}/orders/{id} HTTP/1.1", 200): count * 2 // 3,
            ("GET /items/{id} HTTP/1.1", 200): count // 3,
        },
        nginx,
    )


def test_reset_in_the_middle(requests_seen: Seen) -> None:
    peer = Peer()

    def serve(connection: socket.socket) -> None:
        read_until(connection, b"\r\n\r\n")
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n")
        read_until(connection, b"\r\n\r\n", 2)
        connection.sendall(b"Content-Length: 100\r\n\r\nonly this")
        time.sleep(0.05)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with peer.serving(serve), connected(peer.port) as client:
        request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        client.sendall(request)
        read_until(client, b"ok")
        client.sendall(request * 2)
        read_until(client, b"only this")
        with pytest.raises(ConnectionResetError):
            client.recv(1)

    settle(requests_seen, {("GET / HTTP/1.1", 200): 1}, peer.port)
    # Two at each end; others on this machine may have had some, too.
    requests_seen.until(lambda: requests_seen.unpaired().get(("http", "closed"), 0) >= 4)
    assert requests_seen.unpaired()["http", "closed"] >= 4


def test_half_open_ones_and_a_good_one(requests_seen: Seen, nginx: int) -> None:
    clients = [socket.create_connection(("127.0.0.1", nginx)) for _ in range(1000)]
    for client in clients:
        client.sendall(b"GET /never HTTP/1.1\r\nHos")
    get(nginx, "/small")
    settle(requests_seen, {("GET /small HTTP/1.1", 200): 1}, nginx)
    for client in clients:
        client.close()
    get(nginx, "/small")
    settle(requests_seen, {("GET /small HTTP/1.1", 200): 2}, nginx)


def test_attached_in_the_middle(python: int) -> None:
    idle = http.client.HTTPConnection("127.0.0.1", python)
    idle.request("GET", "/size/1")
    idle.getresponse().read()
    busy = http.client.HTTPConnection("127.0.0.1", python)
    busy.request("GET", f"/size/{BIG}")
    answer = busy.getresponse()
    answer.read(BIG // 2)

    flows = KernelFlows(Network(), requests=True)
    source = KernelRequests(flows, Requests())
    try:
        answer.read()
        for client in (idle, busy):
            for _ in range(5):
                client.request("GET", "/size/2")
                client.getresponse().read()
            client.close()

        keys: dict[int, np.void] = {}

        def counts() -> dict[int, int]:
            reading = source.read()
            keys.update(zip(reading.numbers.tolist(), reading.keys.copy(), strict=True))
            found: Counter[int] = Counter()
            for number, key in keys.items():
                if key["port"] == python and key["kind"] < 2:
                    found[int(key["side"])] += int(reading.rows["buckets"][number].sum())
            return dict(found)

        wait_until(lambda: counts() == {1: 10, 2: 10}, lambda: str(counts()))
    finally:
        source.close()
        flows.close()


def percentile(buckets: NDArray[np.uint32], share: float) -> tuple[float, float]:
    """Returns the limits, in seconds, of the bucket that this share of the durations ends in."""
    place = int(np.searchsorted(np.cumsum(buckets), share * int(buckets.sum())))
    upper = 2.0 ** ((place + FIRST_DURATION + 1) / 8)
    return upper / 2 ** (1 / 8), upper


@pytest.mark.parametrize(("milliseconds", "times"), [(1, 100), (10, 50), (100, 10)])
def test_durations(requests_seen: Seen, python: int, milliseconds: int, times: int) -> None:
    request = b"GET /sleep/%d HTTP/1.1\r\nHost: a\r\n\r\n" % milliseconds
    durations = []
    with connected(python) as client:
        for _ in range(times):
            start = time.monotonic()
            client.sendall(request)
            read_until(client, b"slept")
            durations.append(time.monotonic() - start)

    settle(requests_seen, {("GET /sleep/{id} HTTP/1.1", 200): times}, python)
    rows = [
        row
        for row in requests_seen.rows(port=python, pid=os.getpid())
        if row.kind in ("whole", "pieces")
    ]
    buckets = np.sum([row.buckets for row in rows], axis=0)
    mean = sum(row.sum for row in rows) / times / 1e9
    assert mean == pytest.approx(sum(durations) / times, rel=0.05)
    for share in (0.5, 0.99):
        low, high = percentile(buckets, share)
        own = float(np.quantile(durations, share, method="inverted_cdf"))
        assert low * 0.95 <= own <= high * 1.05
