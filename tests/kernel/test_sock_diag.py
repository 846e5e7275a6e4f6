"""sock_diag against what the program itself has done with its sockets."""

from __future__ import annotations

import ipaddress
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kernob.errors import KernelError
from kernob.kernel import sock_diag

if TYPE_CHECKING:
    from collections.abc import Iterator

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as listener:
        try:
            listener.bind((request.param, 0))
        except OSError as exc:
            pytest.skip(f"{request.param} can't be had here: {exc}")
        listener.listen()
        client = socket.socket(family)
        client.connect(listener.getsockname())
        server, _ = listener.accept()
    with client, server:
        yield client, server


def of(end: socket.socket) -> Any:
    inode = os.fstat(end.fileno()).st_ino
    (found,) = [s for s in sock_diag.tcp_sockets() if s["inode"] == inode]
    return found


def figures(end: socket.socket) -> list[int]:
    moved: list[int] = of(end)["bytes"].tolist()
    return moved


def test_tells_ports_peer_and_state(pair: Pair) -> None:
    client, server = pair
    address = ipaddress.ip_address(client.getpeername()[0])
    mapped = f"::ffff:{address}" if address.version == 4 else str(address)

    found = of(client)

    assert found["local"] == server.getpeername()[1]
    assert found["peer"] == client.getpeername()[1]
    assert found["address"].tobytes() == ipaddress.IPv6Address(mapped).packed
    assert found["state"] == sock_diag.ESTABLISHED


def test_listening_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        waiting = [socket.create_connection(listener.getsockname()) for _ in range(3)]

        found = of(listener)

        assert found["state"] == sock_diag.LISTEN
        assert found["local"] == listener.getsockname()[1]
        assert found["bytes"].tolist() == [0, 0]
        for client in waiting:
            client.close()


def test_bytes_are_those_that_were_written_and_read(pair: Pair) -> None:
    client, server = pair
    client.settimeout(0)

    written = 0
    while written < 50_000_000:  # until both buffers are full
        try:
            written += client.send(bytes(100_000))
        except BlockingIOError:
            break

    assert figures(client) == [written, 0]
    assert figures(server) == [0, 0]
    read = len(server.recv(30_000))
    assert figures(server) == [0, read]
    read += len(server.recv(1000, socket.MSG_WAITALL))
    server.recv(1000, socket.MSG_PEEK)
    assert figures(server) == [0, read]


def test_the_end_of_the_stream_is_not_a_byte(pair: Pair) -> None:
    client, server = pair
    client.sendall(bytes(1000))
    server.recv(400)

    client.shutdown(socket.SHUT_WR)

    assert figures(client) == [1000, 0]
    assert figures(server) == [0, 400]
    server.recv(600)
    assert figures(server) == [0, 1000]
    assert server.recv(1) == b""
    assert figures(server) == [0, 1000]


def test_an_unsent_end_of_the_stream_is_not_a_byte(pair: Pair) -> None:
    client, server = pair
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(0)
    written = client.send(bytes(1_000_000))

    client.shutdown(socket.SHUT_WR)

    assert figures(client) == [written, 0]


def last_figures(destroyed: sock_diag.Destroyed, cookies: list[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    deadline = time.monotonic() + 5
    while len(found) < len(cookies) and time.monotonic() < deadline:
        sockets, _ = destroyed.read()
        found |= {int(s["cookie"]): s["bytes"].tolist() for s in sockets if s["cookie"] in cookies}
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("first", [0, 1])
def test_destroyed_sockets_tell_their_last_figures(pair: Pair, first: int) -> None:
    with closing(sock_diag.Destroyed()) as destroyed:
        client, server = pair
        cookies = [int(of(end)["cookie"]) for end in pair]
        client.sendall(bytes(12_345))
        server.recv(12_345, socket.MSG_WAITALL)
        server.sendall(bytes(678))
        client.recv(678, socket.MSG_WAITALL)

        pair[first].close()
        pair[1 - first].recv(1)
        pair[1 - first].close()

        assert last_figures(destroyed, cookies) == {
            cookies[0]: [12_345, 678],
            cookies[1]: [678, 12_345],
        }


def test_a_full_queue_of_destroyed_sockets_is_told() -> None:
    with closing(sock_diag.Destroyed()) as destroyed:
        destroyed._link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            for _ in range(100):
                socket.create_connection(listener.getsockname()).close()
                listener.accept()[0].close()
        deadline = time.monotonic() + 5
        overruns = 0
        while not overruns and time.monotonic() < deadline:
            overruns = destroyed.read()[1]

        assert overruns > 0
        assert destroyed.read()[0].dtype == sock_diag.SOCKET


LOSSY = r"""
import os, socket, subprocess, sys, threading
from kernob.kernel import sock_diag

hook, size = sys.argv[1], 600_000
rules = f'''table inet lossy {{ chain one {{
    type filter hook {hook} priority 0;
    tcp dport 7000 meta length > 1000 numgen inc mod 7 == 0 drop
}}
}}'''
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
listener = socket.create_server(("127.0.0.1", 7000))
client = socket.create_connection(("127.0.0.1", 7000))
server, _ = listener.accept()
threading.Thread(target=client.sendall, args=(bytes(size),)).start()
server.recv(size, socket.MSG_WAITALL)
for end in (client, server):
    inode = os.fstat(end.fileno()).st_ino
    (found,) = [s for s in sock_diag.tcp_sockets() if s["inode"] == inode]
    print(*found["bytes"].tolist())
info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 216)
print(int.from_bytes(info[200:208], "little") > size)
"""


@pytest.mark.skipif(
    not shutil.which("nft")
    or subprocess.call(["unshare", "--net", "true"], stderr=subprocess.DEVNULL) != 0,
    reason="needs nft (nftables) and root that may make network namespaces",
)
@pytest.mark.parametrize(("hook", "too_many"), [("input", 0), ("output", 1)])
def test_bytes_that_are_sent_again_count_once(hook: str, too_many: int) -> None:
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", LOSSY, hook],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    sent, received, sent_again = done.stdout.splitlines()
    assert sent == f"{600_000 + too_many} 0"
    assert received == "0 600000"
    assert sent_again == "True"


def test_without_netlink_one_clear_error() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(KernelError, match="sock_diag does not answer"):
            sock_diag.tcp_sockets()
        with pytest.raises(KernelError, match="no sock_diag here"):
            sock_diag.Destroyed()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_messages_are_no_sockets() -> None:
    assert np.array_equal(sock_diag._parse(bytearray(), []), np.zeros(0, sock_diag.SOCKET))
