"""Polling against what this program itself has moved over loopback."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kernob.identity.addresses import plain
from kernob.signals import polling
from kernob.signals.accounts import PROCESS_IO, SERVICE_IO, Accounts
from kernob.signals.flows import Settled
from kernob.signals.polling import PolledFlows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kernob.signals.flows import Reading

ME = os.getpid()
NONE = Settled(np.zeros(0, np.intp), [])


@contextlib.contextmanager
def polled(**limits: int) -> Iterator[PolledFlows]:
    limits = {"flows": 65536, "peers_per_server": 64, "peers_per_client": 1024} | limits
    settings: Any = SimpleNamespace(**limits)
    with contextlib.closing(PolledFlows(settings)) as flows:
        yield flows


@contextlib.contextmanager
def listening(host: str = "127.0.0.1") -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, 0), family=family, backlog=4096)
    except OSError as exc:
        pytest.skip(f"{host} can't be had here: {exc}")
    with listener:
        yield listener


def connect(
    listener: socket.socket, source: tuple[str, int] | None = None
) -> tuple[socket.socket, socket.socket]:
    client = socket.create_connection(listener.getsockname()[:2], source_address=source)
    return client, listener.accept()[0]


def move(sender: socket.socket, receiver: socket.socket, size: int) -> None:
    for chunk in [100_000] * (size // 100_000) + [size % 100_000]:
        sender.sendall(bytes(chunk))
        receiver.recv(chunk, socket.MSG_WAITALL)


def rows(reading: Reading, port: int, pid: int = ME) -> dict[str, tuple[int, int, int]]:
    """Returns, by side, bytes sent and received and open connections of a process at a port."""
    found = {}
    for key, value in zip(reading.keys, reading.values, strict=True):
        if key["pid"] == pid and key["port"] == port:
            moved = (*value["bytes"].tolist(), int(value["connections"]))
            found[{1: "client", 2: "server"}[int(key["side"])]] = moved
    return found


def eventually(ask: Callable[[], Any], wanted: Any) -> None:
    """Asks until it is as wanted; the kernel tells the end of a socket a little later."""
    deadline = time.monotonic() + 10
    while (got := ask()) != wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    assert got == wanted


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_counts_both_ends(host: str) -> None:
    with polled() as flows, listening(host) as listener:
        client, server = connect(listener)
        with client, server:
            move(client, server, 1_234_567)
            move(server, client, 89)

            reading = flows.read()

    port = listener_port(reading, 1_234_567)
    assert rows(reading, port) == {"client": (1_234_567, 89, 1), "server": (89, 1_234_567, 1)}
    mine = reading.keys[(reading.keys["pid"] == ME) & (reading.keys["port"] == port)]
    assert {str(plain(key["address"].tobytes())) for key in mine} == {host}
    assert set(mine["transport"].tolist()) == {socket.IPPROTO_TCP}
    assert set(mine["start"].tolist()) == {polling.start_of(ME)}
    assert reading.values["operations"].sum() == 0


def listener_port(reading: Reading, sent: int) -> int:
    (port,) = {
        int(p)
        for p, b in zip(reading.keys["port"], reading.values["bytes"], strict=True)
        if b[0] == sent
    }
    return port


def test_counts_a_long_connection_in_between() -> None:
    with polled() as flows, listening() as listener:
        client, server = connect(listener)
        port = listener.getsockname()[1]
        with client, server:
            sent = 0
            for size in (1, 999, 0, 250_000, 7):
                move(client, server, size)
                sent += size
                assert rows(flows.read(), port) == {
                    "client": (sent, 0, 1),
                    "server": (0, sent, 1),
                }


def test_counts_from_its_start_on() -> None:
    with listening() as listener:
        client, server = connect(listener)
        port = listener.getsockname()[1]
        with client, server:
            move(client, server, 5000)
            with polled() as flows:
                assert rows(flows.read(), port)["server"] == (0, 0, 1)
                move(client, server, 21)
                assert rows(flows.read(), port) == {"client": (21, 0, 1), "server": (0, 21, 1)}


def test_who_accepted_is_the_server_though_nobody_listens_any_more() -> None:
    with polled() as flows:
        with listening() as listener:
            port = listener.getsockname()[1]
            flows.read()
            client, server = connect(listener)
        with client, server:
            move(server, client, 3)

            assert rows(flows.read(), port) == {"client": (0, 3, 1), "server": (3, 0, 1)}


@pytest.mark.parametrize("first", [0, 1])
def test_counts_what_moves_between_the_last_poll_and_the_close(first: int) -> None:
    with polled() as flows, listening() as listener:
        pair = connect(listener)
        port = listener.getsockname()[1]
        move(*pair, 100)
        flows.read()
        move(*pair, 400_000)
        move(pair[1], pair[0], 50)

        for end in (pair[first], pair[1 - first]):
            end.close()

        wanted = {"client": (400_100, 50, 0), "server": (50, 400_100, 0)}
        eventually(lambda: rows(flows.read(), port), wanted)
        assert rows(flows.read(), port) == wanted


def test_a_reset_connection_keeps_its_bytes() -> None:
    with polled() as flows, listening() as listener:
        client, server = connect(listener)
        port = listener.getsockname()[1]
        move(client, server, 300)
        flows.read()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        client.close()
        server.close()

        eventually(lambda: rows(flows.read(), port), {"client": (300, 0, 0), "server": (0, 300, 0)})
        eventually(lambda: bool(flows.read() and flows.losses()["tails_unknown"]), wanted=True)


def test_bytes_of_sockets_that_live_between_two_polls_are_a_loss() -> None:
    with polled() as flows, listening() as listener:
        before = flows.losses()
        client, server = connect(listener)
        move(client, server, 77_777_777)
        client.close()
        server.recv(1)
        server.close()

        def lost() -> bool:
            flows.read()
            return flows.losses()["bytes_without_process"] >= 2 * 77_777_777

        eventually(lost, wanted=True)
        assert rows(flows.read(), listener.getsockname()[1]) == {}
        after = flows.losses()
        assert after["sockets_without_process"] >= before["sockets_without_process"] + 2


def test_a_process_that_ends_keeps_its_bytes_until_they_are_settled() -> None:
    program = (
        "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])));"
        "s.sendall(bytes(5000)); sys.stdin.read(); s.sendall(bytes(6000))"
    )
    with polled() as flows, listening() as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "-c", program, str(port)]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as child, listener.accept()[0] as end:
            end.recv(5000, socket.MSG_WAITALL)
            process = polling.start_of(child.pid), child.pid
            reading = flows.read()
            assert rows(reading, port, child.pid) == {"client": (5000, 0, 1)}
            assert process not in reading.ended
            child.communicate()
            end.recv(6000, socket.MSG_WAITALL)

        eventually(lambda: process in flows.read().ended, wanted=True)
        reading = flows.read()
        assert rows(reading, port, child.pid) == {"client": (11_000, 0, 0)}
        assert process in reading.ended

        mine = np.flatnonzero(reading.keys["pid"] == child.pid)
        filled = flows.fill()["flows"][0]
        flows.settle(reading, Settled(mine, [process]))

        reading = flows.read()
        assert rows(reading, port, child.pid) == {}
        assert process not in reading.ended
        assert flows.fill()["flows"] == (filled - 1, 65536)


def test_a_socket_passed_on_is_the_heirs_from_then_on() -> None:
    program = """
import os, socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.sendall(bytes(1000))
sys.stdin.readline()
if os.fork() == 0:
    s.recv(1)
    s.sendall(bytes(200))
    s.recv(1)
"""
    with polled() as flows, listening() as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "-c", program, str(port)]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as child, listener.accept()[0] as end:
            end.recv(1000, socket.MSG_WAITALL)
            assert rows(flows.read(), port, child.pid) == {"client": (1000, 0, 1)}
            child.communicate(b"\n")  # it ends, the heir waits
            flows.read()
            end.sendall(b"x")
            end.recv(200, socket.MSG_WAITALL)

            reading = flows.read()

            assert rows(reading, port, child.pid) == {"client": (1000, 0, 0)}
            assert heirs(reading, port, child.pid) == [[200, 1]]


def test_the_end_of_a_process_waits_for_its_sockets_last_figures() -> None:
    program = """
import os, socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.sendall(bytes(1000))
sys.stdin.readline()
if os.fork() == 0:
    sys.stdin.read()
"""
    with polled() as flows, listening() as listener:
        command = [sys.executable, "-c", program, str(listener.getsockname()[1])]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
            end, _ = listener.accept()
            end.recv(1000, socket.MSG_WAITALL)
            flows.read()
            process = polling.start_of(child.pid), child.pid
            assert child.stdin
            child.stdin.write(b"\n")
            child.stdin.flush()
            child.wait()
            # A connection that was reset is closed, though its heir still has the socket.
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()

            assert process not in flows.read().ended
            child.stdin.close()
            eventually(lambda: process in flows.read().ended, wanted=True)


def heirs(reading: Reading, port: int, parent: int) -> list[list[int]]:
    others = (reading.keys["port"] == port) & ~np.isin(reading.keys["pid"], [ME, parent])
    moved: list[list[int]] = reading.values["bytes"][others].tolist()
    return moved


def test_the_peers_of_a_server_are_bounded() -> None:
    with polled(peers_per_server=2) as flows, listening() as listener:
        port = listener.getsockname()[1]
        with contextlib.ExitStack() as stack:
            for last in range(2, 7):
                client, server = connect(listener, (f"127.0.0.{last}", 0))
                stack.enter_context(client)
                stack.enter_context(server)
                move(client, server, 1000)
            reading = flows.read()

        served = reading.keys["port"] == port
        served &= reading.keys["side"] == polling.SERVER
        received = Counter[str]()
        for key, value in zip(reading.keys[served], reading.values[served], strict=True):
            received[str(plain(key["address"].tobytes()))] += int(value["bytes"][1])
        assert received.pop("0.0.0.0") == 3000
        assert list(received.values()) == [1000, 1000]


def test_the_services_called_are_bounded() -> None:
    with polled(peers_per_client=1) as flows, contextlib.ExitStack() as stack:
        for _ in range(3):
            listener = stack.enter_context(listening())
            for end in connect(listener):
                stack.enter_context(end)

        reading = flows.read()

    called = (reading.keys["pid"] == ME) & (reading.keys["side"] == polling.CLIENT)
    many = called & (reading.keys["port"] == 0)
    assert called.sum() == 2
    assert reading.values["connections"][many] == 2


def test_a_full_table_counts_in_the_row_of_zeros() -> None:
    with polled(flows=1) as flows, listening() as listener:
        client, server = connect(listener)
        with client, server:
            move(client, server, 4000)
            reading = flows.read()

    zeros = reading.keys == np.zeros((), polling.KEY)
    moved = reading.values["bytes"].sum(axis=0)
    assert len(reading.keys) == 2
    assert (moved >= 4000).all()
    assert reading.values["bytes"][zeros].max() >= 4000
    assert flows.losses()["flows_overflowed"] >= 1
    assert flows.fill()["flows"] == (1, 1)


def test_two_thousand_sockets() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with polled() as flows, listening() as listener, contextlib.ExitStack() as stack:
            port = listener.getsockname()[1]
            for size in range(1, 1001):
                client, server = connect(listener)
                stack.enter_context(client)
                stack.enter_context(server)
                move(client, server, size)
            wanted = {"client": (500_500, 0, 1000), "server": (0, 500_500, 1000)}

            # More than one poll may be needed: the search for processes has little time.
            eventually(lambda: rows(flows.read(), port), wanted)
            begin = time.monotonic()
            flows.read()
            assert time.monotonic() - begin < 2
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_poll_that_fails_is_counted_and_the_next_goes_on() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with polled() as flows, listening() as listener:
        client, server = connect(listener)
        with client, server:
            move(client, server, 10)
            before = rows(flows.read(), listener.getsockname()[1])
            move(client, server, 5)
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            try:
                failed = flows.read()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

            assert rows(failed, listener.getsockname()[1]) == before
            assert flows.losses()["polls_failed"] == 1
            assert rows(flows.read(), listener.getsockname()[1])["client"] == (15, 0, 1)


UNPRIVILEGED = """
import os, socket, sys, types
from kernob.signals.polling import PolledFlows
"x".encode("idna")
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
flows = PolledFlows(types.SimpleNamespace(flows=99, peers_per_server=9, peers_per_client=9))
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
client.sendall(bytes(4321))
server.recv(4321, socket.MSG_WAITALL)
print("ready", flush=True)
sys.stdin.readline()
reading = flows.read()
mine = reading.keys["pid"] == os.getpid()
print(sorted(reading.values["bytes"][mine].tolist()))
print(flows.losses()["bytes_without_process"])
print(flows.description)
"""


@pytest.mark.skipif(
    subprocess.call(
        ["setpriv", "--reuid=65534", "--clear-groups", "true"], stderr=subprocess.DEVNULL
    )
    != 0,
    reason="needs root that may become another user",
)
def test_an_ordinary_user_sees_its_own_and_knows_what_it_misses() -> None:
    command = [sys.executable, "-c", UNPRIVILEGED]
    with (
        listening() as listener,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child,
    ):
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        client, server = connect(listener)
        with client, server:
            move(client, server, 1_000_000)
            out, _ = child.communicate("\n", timeout=30)

    own, lost, description = out.splitlines()
    assert own == "[[0, 4321], [4321, 0]]"
    assert int(lost) >= 2_000_000
    assert "processes that this user may not look into" in description


@pytest.mark.skipif(
    subprocess.call(["unshare", "--net", "true"], stderr=subprocess.DEVNULL) != 0,
    reason="needs root that may make network namespaces",
)
def test_another_network_namespace_is_told() -> None:
    own = Path("/proc/self/ns/net").readlink()
    with subprocess.Popen(["unshare", "--net", "sleep", "60"]) as child:
        try:
            eventually(
                lambda: Path(f"/proc/{child.pid}/ns/net").readlink() == own,
                wanted=False,
            )
            assert "other network namespaces" in polling.blind_spots()
        finally:
            child.send_signal(signal.SIGKILL)


def test_the_description_is_one_line_with_what_lifts_it() -> None:
    description = polling.describe(["other network namespaces"])

    assert "\n" not in description
    for word in ("polled", "UDP", "between two polls", "other network namespaces", "doctor"):
        assert word in description


def test_becomes_points() -> None:
    def identify(pid: int, start: int) -> Any:
        return SimpleNamespace(pid=pid, start=start, service=f"service-{pid}", executable="python")

    accounts = Accounts(
        identify=identify,
        name_peer=lambda address, _port, _transport: str(plain(address)),
        serves=lambda _transport, _port, _service: None,
        resource={"host.name": "here"},
        start=time.time_ns(),
        boot=time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        peers_per_server=64,
        conversations=1000,
    )
    with polled() as flows, listening() as listener:
        port = listener.getsockname()[1]
        client, server = connect(listener)
        move(client, server, 1111)
        flows.settle(reading := flows.read(), accounts.update(reading))
        move(client, server, 2222)
        client.close()
        server.recv(1)
        server.close()

        def transmitted() -> list[int]:
            reading = flows.read()
            flows.settle(reading, accounts.update(reading))
            return [
                int(value)
                for points in accounts.points()
                for series, value in zip(points.series, points.values, strict=True)
                if points.metric == SERVICE_IO
                and ("server.port", port) in series.attributes
                and ("kernob.side", "client") in series.attributes
                and ("network.io.direction", "transmit") in series.attributes
            ]

        eventually(transmitted, [3333])
        of_processes = next(p for p in accounts.points() if p.metric == PROCESS_IO)
        assert any(("process.pid", ME) in series.attributes for series in of_processes.series)
