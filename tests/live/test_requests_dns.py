"""DNS as Kernob sees it: every question, at both ends, by name, type and outcome."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import dns.message
import dns.query
import pytest
from seen import Seen

from kernob.collector import Collector
from kernob.config import Config, Network, Requests
from kernob.signals.network import KernelFlows
from kernob.signals.requests import KernelRequests
from servers import debian_server, free_port, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.live, pytest.mark.server]

NXDOMAIN, REFUSED = 3, 5
TIMEOUT, NO_DATA, TRUNCATED = 256, 257, 258
ZONE = (
    *("--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--local=/test/"),
    *("--host-record=www.test,192.0.2.1,2001:db8::1", "--txt-record=txt.test,hello"),
    *(f"--txt-record=large.test,{'x' * 200}{number}" for number in range(4)),
)
QUESTIONS = [
    *[("www.test", "A", 0)] * 5,
    *[("WWW.Test", "AAAA", 0)] * 3,
    *[("txt.test", "TXT", 0)] * 2,
    *[("none.test", "A", NXDOMAIN)] * 4,
    *[("www.test", "MX", NO_DATA)] * 2,
    ("elsewhere.example", "A", REFUSED),
]
EXPECTED = dict(Counter((f"{kind} {name.lower()}", code) for name, kind, code in QUESTIONS))

Counts = dict[tuple[str, int], int]


@dataclass(frozen=True)
class Dnsmasq:
    """A running dnsmasq: its port and process; each connection is a child's."""

    port: int
    pid: int


@pytest.fixture(scope="module")
def dnsmasq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dnsmasq]:
    port = free_port()
    command = [
        *(debian_server("dnsmasq"), "--keep-in-foreground", *ZONE, f"--port={port}"),
        *("--listen-address=127.0.0.1", "--listen-address=::1", "--bind-interfaces"),
        *("--pid-file=", "--edns-packet-max=4096"),
    ]
    for process in running(command, port, tmp_path_factory.mktemp("dnsmasq") / "log"):
        yield Dnsmasq(port, process.pid)


def agree(seen: Seen, expected: Counts, **wanted: object) -> None:
    """Waits until these rows are as expected: a program may run a moment after its call."""
    seen.until(lambda: seen.counts(**wanted) == expected)
    assert seen.counts(**wanted) == expected


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled `questions.c`."""
    target = tmp_path_factory.mktemp("questions") / "questions"
    command = [sys.executable, "-m", "ziglang", "cc", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(
        [*command, "-pthread", "-o", target, Path(__file__).parent / "questions.c"], check=True
    )
    return target


@dataclass(frozen=True)
class Pair:
    """A connected client and a server, of this process."""

    client: socket.socket
    server: socket.socket
    port: int


@pytest.fixture
def pair() -> Iterator[Pair]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("127.0.0.1", 0))
        client.connect(server.getsockname())
        for one in (server, client):
            one.settimeout(5)
        yield Pair(client, server, server.getsockname()[1])


def question(name: str, number: int = 0) -> bytes:
    wire: bytes = dns.message.make_query(name, "A", id=number).to_wire()
    return wire


def answer(asked: bytes) -> bytes:
    """Returns the answer that there is no such name."""
    given = dns.message.make_response(dns.message.from_wire(asked), recursion_available=True)
    given.set_rcode(NXDOMAIN)
    wire: bytes = given.to_wire()
    return wire


def framed(*messages: bytes) -> bytes:
    return b"".join(struct.pack(">H", len(message)) + message for message in messages)


def test_dig(dnsmasq: Dnsmasq, requests_seen: Seen, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    asked.write_text("".join(f"{name} {kind}\n" for name, kind, _ in QUESTIONS))
    command = [debian_server("dig"), "@127.0.0.1", "-p", str(dnsmasq.port), "-f", str(asked)]

    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as dig:
        assert dig.wait(20) == 0

    agree(requests_seen, EXPECTED, pid=dig.pid, side="client", port=dnsmasq.port)
    agree(requests_seen, EXPECTED, pid=dnsmasq.pid, side="server", port=dnsmasq.port)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_dnspython(dnsmasq: Dnsmasq, requests_seen: Seen, address: str) -> None:
    sizes = [0, 0]
    for name, kind, _ in QUESTIONS:
        asked = dns.message.make_query(name, kind)
        given = dns.query.udp(asked, address, port=dnsmasq.port, timeout=5)
        sizes[0] += len(asked.to_wire())
        sizes[1] += len(given.to_wire())

    agree(requests_seen, EXPECTED, pid=os.getpid(), side="client", port=dnsmasq.port)
    agree(requests_seen, EXPECTED, pid=dnsmasq.pid, side="server", port=dnsmasq.port)
    for side in ("client", "server"):
        rows = requests_seen.rows(side=side, port=dnsmasq.port)
        assert sum(row.request_bytes for row in rows) == sizes[0]
        # dnsmasq compresses names as dnspython does.
        assert sum(row.response_bytes for row in rows) == sizes[1]


def test_dnspython_over_tcp(dnsmasq: Dnsmasq, requests_seen: Seen) -> None:
    with socket.create_connection(("127.0.0.1", dnsmasq.port)) as connection:
        for name, kind, _ in QUESTIONS:
            dns.query.tcp(dns.message.make_query(name, kind), "", sock=connection, timeout=5)

    agree(requests_seen, EXPECTED, pid=os.getpid(), side="client", port=dnsmasq.port)
    agree(requests_seen, EXPECTED, side="server", port=dnsmasq.port)


GETADDRINFO = """
import os, socket, sys
print(os.getpid(), flush=True)
for _ in range(40):
    assert len(socket.getaddrinfo("www.test.", 80, type=socket.SOCK_STREAM)) == 2
for _ in range(10):
    try:
        socket.getaddrinfo("none.test.", 80)
    except socket.gaierror:
        continue
    sys.exit("there is such a name")
"""
SURROUNDINGS = """
set -e
ip link set lo up
mount --bind "$2/resolv.conf" /etc/resolv.conf
mount --bind "$2/nsswitch.conf" /etc/nsswitch.conf
shift 2
"$@"
"""


def test_both_families_at_once(requests_seen: Seen, tmp_path: Path) -> None:
    """The C library asks for A and AAAA in one sendmmsg."""
    if not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("no unshare or ip (Debian: util-linux, iproute2)")
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    (tmp_path / "nsswitch.conf").write_text("hosts: dns\n")
    pid_file = tmp_path / "pid"
    # Without --keep-in-foreground it returns when it listens.
    server = [debian_server("dnsmasq"), *ZONE, "--port=53", f"--pid-file={pid_file}"]
    inner = 'set -e; "${@:4}"; "$1" -c "$2"; kill $(cat "$3")'
    command = [
        *("unshare", "--net", "--mount", "sh", "-c", SURROUNDINGS, "sh", "-", str(tmp_path)),
        *("bash", "-c", inner, "bash", sys.executable, GETADDRINFO, str(pid_file), *server),
    ]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)

    assert done.returncode == 0, done.stderr
    expected = {
        ("A www.test", 0): 40,
        ("AAAA www.test", 0): 40,
        ("A none.test", NXDOMAIN): 10,
        ("AAAA none.test", NXDOMAIN): 10,
    }
    agree(requests_seen, expected, pid=int(done.stdout), side="client", port=53)
    servers = {row.pid for row in requests_seen.rows(side="server", port=53)}
    assert len(servers) == 1
    agree(requests_seen, expected, side="server", port=53)


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """`struct mmsghdr` (recvmmsg(2))."""

    _fields_ = (
        *(("name", ctypes.c_void_p), ("name_length", ctypes.c_uint32)),
        *(("vectors", ctypes.POINTER(_Vector)), ("count", ctypes.c_size_t)),
        *(("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t)),
        *(("flags", ctypes.c_int), ("unused", ctypes.c_int)),
        *(("length", ctypes.c_uint), ("unused_too", ctypes.c_int)),
    )


class Batch:
    """Messages for sendmmsg and recvmmsg, always at the same addresses."""

    SIZE = 16

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._buffers = [ctypes.create_string_buffer(512) for _ in range(self.SIZE)]
        self._vectors = (_Vector * self.SIZE)()
        self._headers = (_Header * self.SIZE)()
        for number, header in enumerate(self._headers):
            header.vectors = ctypes.pointer(self._vectors[number])
            header.count = 1

    def send(self, to: socket.socket, messages: list[bytes]) -> None:
        for number, message in enumerate(messages):
            ctypes.memmove(self._buffers[number], message, len(message))
            self._place(number, len(message))
        sent = self._libc.sendmmsg(to.fileno(), self._headers, len(messages), 0)
        assert sent == len(messages)

    def receive(self, at: socket.socket) -> list[bytes]:
        """Returns what is there, up to SIZE messages; the call ends with EAGAIN, or is full."""
        for number in range(self.SIZE):
            self._place(number, 512)
        got = self._libc.recvmmsg(at.fileno(), self._headers, self.SIZE, socket.MSG_DONTWAIT, None)
        return [self._buffers[n].raw[: self._headers[n].length] for n in range(got)]

    def _place(self, number: int, length: int) -> None:
        self._vectors[number].base = ctypes.addressof(self._buffers[number])
        self._vectors[number].length = length


def test_many_in_one_call(pair: Pair, requests_seen: Seen) -> None:
    client, server, port = pair.client, pair.server, pair.port
    ours, theirs = Batch(), Batch()
    expected: Counter[tuple[str, int]] = Counter()
    # As many as there is room for, fewer, one, and one of them empty.
    for turn, count in enumerate((Batch.SIZE, 5, 1, Batch.SIZE, 7)):
        names = [f"n{turn}-{number}.batch" for number in range(count)]
        asked = [question(name, number) for number, name in enumerate(names)]
        if count == 7:
            asked[3] = b""
        ours.send(client, asked)
        got = theirs.receive(server)
        assert got == asked
        server.connect(client.getsockname())
        theirs.send(server, [answer(one) if one else b"" for one in got])
        assert len(ours.receive(client)) == count
        expected.update(f"A {n}" for n, one in zip(names, asked, strict=True) if one)

    for side in ("client", "server"):
        agree(
            requests_seen,
            {(operation, NXDOMAIN): count for operation, count in expected.items()},
            pid=os.getpid(), side=side, port=port,
        )  # fmt: skip


def test_truncated_then_over_tcp(dnsmasq: Dnsmasq, requests_seen: Seen) -> None:
    command = [
        *(debian_server("dig"), "@127.0.0.1", "-p", str(dnsmasq.port), "+bufsize=512"),
        *("large.test", "TXT"),
    ]

    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert "Truncated, retrying in TCP" in done.stdout
    expected = {("TXT large.test", TRUNCATED): 1, ("TXT large.test", 0): 1}
    agree(requests_seen, expected, side="client", port=dnsmasq.port)
    agree(requests_seen, expected, side="server", port=dnsmasq.port)


def test_one_socket_that_forwards(pair: Pair, dnsmasq: Dnsmasq, requests_seen: Seen) -> None:
    """A server's to those who ask it, a client's to the one it asks."""
    client, forwarder, port = pair.client, pair.server, pair.port
    for number in range(20):
        client.send(dns.message.make_query("www.test", "A", id=number).to_wire())
        asked, back = forwarder.recvfrom(512)
        forwarder.sendto(asked, ("127.0.0.1", dnsmasq.port))
        forwarder.sendto(forwarder.recvfrom(512)[0], back)
        client.recv(512)

    expected = {("A www.test", 0): 20}
    for side, at in (
        ("client", port),
        ("server", port),
        ("client", dnsmasq.port),
        ("server", dnsmasq.port),
    ):
        agree(requests_seen, expected, side=side, port=at)


def test_unanswered_and_sent_again(
    pair: Pair, requests_seen: Seen, requests_source: KernelRequests, questions: Path
) -> None:
    """Who waits is remembered up to a bound, for five seconds."""
    client, server, port = pair.client, pair.server, pair.port
    before = requests_source.repeated().get("dns", 0)
    for _ in range(3):
        client.send(question("lost.test", 1))
        server.recvfrom(512)
    for _ in range(2):
        client.send(question("late.test", 2))
        server.recvfrom(512)
    server.connect(client.getsockname())
    server.send(answer(question("late.test", 2)))
    client.recv(512)
    client.send(question("", 3))
    server.recvfrom(512)

    def unanswered(side: str) -> Counts:
        rows = requests_seen.rows(port=port, side=side, kind="unanswered")
        return {(row.operation, row.status): row.count for row in rows}

    expected = {("A lost.test", TIMEOUT): 1, ("A .", TIMEOUT): 1}
    for side in ("client", "server"):
        assert unanswered(side) == {}
        agree(requests_seen, {("A late.test", NXDOMAIN): 1}, port=port, side=side)
    # Both ends saw two and one of them again.
    assert requests_source.repeated()["dns"] - before == 6
    flood = subprocess.run([questions, "34000", "0"], capture_output=True, text=True, check=True)
    flooding = int(flood.stdout.split()[0])
    full = requests_seen.unpaired()["dns", "full"]
    assert full >= 34000 - 32768
    requests_seen.until(lambda: unanswered("client") == unanswered("server") == expected, 8)
    assert unanswered("client") == unanswered("server") == expected

    def flooded() -> int:
        return sum(row.count for row in requests_seen.rows(pid=flooding, kind="unanswered"))

    requests_seen.until(lambda: flooded() == 34000 - full)
    assert flooded() == 34000 - full
    assert requests_seen.counts(pid=flooding) == {}
    # An answer that comes too late is nobody's.
    server.send(answer(question("lost.test", 1)))
    client.recv(512)
    agree(requests_seen, {("A late.test", NXDOMAIN): 1}, port=port, side="client")


def serve_once(listener: socket.socket, talk: Callable[[socket.socket], None]) -> threading.Thread:
    def run() -> None:
        connection, _ = listener.accept()
        with connection:
            talk(connection)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def read_messages(connection: socket.socket, count: int) -> list[bytes]:
    with connection.makefile("rb") as stream:
        return [stream.read(*struct.unpack(">H", stream.read(2))) for _ in range(count)]


@pytest.mark.parametrize("step", [1, 3, 100_000])
def test_answers_out_of_order(requests_seen: Seen, step: int) -> None:
    """Many questions at once, however their stream is cut; the last is answered first."""
    count = 60
    asked = [question(f"n{number % 6}.order", number) for number in range(count)]
    stream = framed(*asked)

    def reverse(connection: socket.socket) -> None:
        got = read_messages(connection, count)
        back = framed(*(answer(one) for one in reversed(got)))
        for at in range(0, len(back), step):
            connection.send(back[at : at + step])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = serve_once(listener, reverse)
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(0, len(stream), step):
                client.send(stream[at : at + step])
            assert len(read_messages(client, count)) == count
        thread.join()

    expected = {(f"A n{number}.order", NXDOMAIN): count // 6 for number in range(6)}
    for side in ("client", "server"):
        agree(requests_seen, expected, side=side, port=port)


def test_reset_in_the_middle(dnsmasq: Dnsmasq, requests_seen: Seen) -> None:
    """What was answered is counted, half a question is not, and the next connection is fine."""
    linger = struct.pack("ii", 1, 0)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", dnsmasq.port)) as client:
            client.sendall(framed(question("www.test", 1)))
            read_messages(client, 1)
            client.sendall(framed(question("www.test", 2))[:20])
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    for side in ("client", "server"):
        agree(requests_seen, {("A www.test", 0): 3}, side=side, port=dnsmasq.port)


def test_attached_in_the_middle(pair: Pair, dnsmasq: Dnsmasq) -> None:
    """The answer to what was asked before is nobody's; all from then on is counted."""
    client, server, port = pair.client, pair.server, pair.port
    stream = socket.create_connection(("127.0.0.1", dnsmasq.port))
    stream.sendall(framed(question("www.test", 1)))
    read_messages(stream, 1)
    client.send(question("before.test", 1))
    server.recv(512)
    server.connect(client.getsockname())
    flows = KernelFlows(Network(), requests=True)
    source = KernelRequests(flows, Requests())
    try:
        seen = Seen(source)
        server.send(answer(question("before.test", 1)))
        client.recv(512)
        for number in range(10):
            client.send(question("after.test", number))
            server.send(answer(server.recv(512)))
            client.recv(512)
            stream.sendall(framed(question("www.test", number)))
            read_messages(stream, 1)

        for side in ("client", "server"):
            agree(seen, {("A after.test", NXDOMAIN): 10}, side=side, port=port)
            agree(seen, {("A www.test", 0): 10}, side=side, port=dnsmasq.port)
    finally:
        source.close()
        flows.close()
        stream.close()


FLOOD = """
import os, socket, sys, time
import dns.message
names, seconds = int(sys.argv[2]), float(sys.argv[3])
wires = [bytearray(dns.message.make_query(f"n{n}.test", "A").to_wire()) for n in range(names)]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("127.0.0.1", int(sys.argv[1])))
s.settimeout(5)
sent, end = 0, time.monotonic() + seconds
while sent < names or time.monotonic() < end:
    wire = wires[sent % names]
    wire[0], wire[1] = sent >> 8 & 255, sent & 255
    s.send(wire)
    s.recv(512)
    sent += 1
print(sent)
"""


def flood(port: int, names: int, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FLOOD, str(port), str(names), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_as_fast_as_it_goes(dnsmasq: Dnsmasq, requests_seen: Seen) -> None:
    clients = [flood(dnsmasq.port, 10, 0.7) for _ in range(2)]
    sent = [int(client.communicate(timeout=20)[0]) for client in clients]

    assert sum(sent) > 1000
    for client, count in zip(clients, sent, strict=True):
        seen = requests_seen.counts(pid=client.pid, side="client", port=dnsmasq.port)
        assert sum(seen.values()) == count
        assert len(seen) == 10
    requests_seen.until(lambda: sum(requests_seen.counts(pid=dnsmasq.pid).values()) == sum(sent))
    counts = requests_seen.counts(pid=dnsmasq.pid, side="server")
    assert sum(counts.values()) == sum(sent)
    assert counts.keys() == {(f"A n{number}.test", NXDOMAIN) for number in range(10)}


def test_who_has_ended_waits_no_longer(questions: Path) -> None:
    """Its questions count before its rows go, and make none afterwards."""
    collector = Collector(Config())

    def unanswered() -> list[int]:
        return [
            int(value)
            for points in collector.collect()
            if points.metric.name == "kernob.requests.unanswered"
            for series, value in zip(points.series, points.values, strict=True)
            if dict(series.attributes)["service.name"] == "questions"
        ]

    try:
        assert collector.requests
        done = subprocess.run([questions, "30", "0"], capture_output=True, text=True, check=True)
        pid = int(done.stdout.split()[0])

        for _ in range(3):
            assert unanswered() == [30]
        keys, _ = collector.requests._index.read()
        assert pid not in keys["pid"]
    finally:
        collector.close()


@pytest.mark.parametrize("window", [1, 50])
def test_who_asks_does_not_read(requests_seen: Seen, questions: Path, window: int) -> None:
    """An answer may be seen before its question: on another processor."""
    command = [questions, "15000", str(window)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    client, server, port = map(int, done.stdout.split())

    expected = {("A a.fast0", NXDOMAIN): 15000}
    agree(requests_seen, expected, pid=client, side="client", port=port)
    agree(requests_seen, expected, pid=server, side="server", port=port)


def test_random_names_overflow_into_one_row(
    pair: Pair, requests_seen: Seen, requests_source: KernelRequests
) -> None:
    """Each process has its limit of operations; requests beyond it lose their name, no more."""
    server, port = pair.server, pair.port
    limit, before = Requests().series_per_process, requests_source.losses()
    with flood(port, limit + 500, 0.0) as process:
        server.settimeout(1)
        for _ in range(limit + 500):
            asked, back = server.recvfrom(512)
            # No such name: the flags of an answer and the code, and no more.
            server.sendto(asked[:2] + b"\x81\x83" + asked[4:], back)
        assert process.wait(10) == 0
    rows = requests_seen.rows(pid=process.pid, side="client", port=port)
    assert Counter(row.count for row in rows) == {1: limit, 500: 1}
    assert all(row.status == NXDOMAIN for row in rows)
    lost = requests_source.losses()["operations_overflowed"] - before["operations_overflowed"]
    assert lost >= 500


def test_what_is_not_dns_is_let_go(pair: Pair, requests_seen: Seen) -> None:
    client, server, port = pair.client, pair.server, pair.port
    for message in (b"x" * 100, b"", bytes(48), question("www.test")[:-2]) * 4:
        client.send(message)
        server.recv(512)
    client.send(question("too.late", 1))
    server.recv(512)
    # Not even by chance: a name for all of a link is not asked of anybody.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mdns:
        mdns.sendto(question("printer.local"), ("127.0.0.1", 5353))
    time.sleep(0.05)

    assert requests_seen.rows(port=port) == []
    assert requests_seen.rows(operation="A printer.local") == []


def test_latency(pair: Pair, requests_seen: Seen) -> None:
    client, server, port = pair.client, pair.server, pair.port
    took = []
    for number in range(10):
        start = time.monotonic()
        client.send(question("slow.test", number))
        asked = server.recv(512)
        time.sleep(0.02)
        server.sendto(answer(asked), client.getsockname())
        client.recv(512)
        took.append(time.monotonic() - start)

    (row,) = requests_seen.rows(port=port, side="client")
    assert row.sum / 1e9 == pytest.approx(sum(took), rel=0.05)
