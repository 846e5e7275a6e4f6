"""nginx and Redis on loopback, under saturation and at a fixed rate; what really moved."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import socket
import subprocess
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from bench import host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONNECTIONS: Final = 32
NGINX: Final = """
daemon off;
master_process off;
error_log /dev/null;
pid {scratch}/nginx-{port}.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path {scratch}/body;
  proxy_temp_path {scratch}/proxy;
  fastcgi_temp_path {scratch}/fastcgi;
  uwsgi_temp_path {scratch}/uwsgi;
  scgi_temp_path {scratch}/scgi;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 "hello world\\n"; }} }}
  server {{ listen 127.0.0.1:{status}; location / {{ stub_status; }} }}
}}
"""
SCRIPT: Final = 'done = function(summary) print("read", summary.bytes) end'
_UNITS: Final = {"us": 1.0, "ms": 1e3, "s": 1e6}


@dataclass(frozen=True)
class Run:
    """What one run of a load generator did.

    Attributes:
        requests: how many were answered.
        rate: of them, per second.
        p50: median latency in microseconds.
        p99: of the latency, in microseconds.
        moved: bytes in both directions, counted at the server, counted at its clients.
        pid: of the load generator.

    """

    requests: int
    rate: float
    p50: float
    p99: float
    moved: tuple[int, int]
    pid: int


class Server(Protocol):
    """A server of its own for one workload."""

    pid: int
    port: int
    request: bytes
    response_length: int

    def saturate(self, seconds: float) -> Run:
        """Loads it as much as the usual load generator can."""


class Nginx:
    """nginx that answers "hello world", under wrk."""

    def __init__(self, pid: int, port: int, status: int, script: Path) -> None:
        self.pid = pid
        self._script = script
        self.port = port
        self._status = status
        self.request = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
        self.response_length = _response_length(port, self.request)

    def _requests(self) -> int:
        """Returns how many requests it has had; asking is one, too."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._status}/") as response:
            return int(response.read().split()[9])

    def saturate(self, seconds: float) -> Run:
        """Runs wrk; what moved is known by nginx's count of requests, all of one size.

        wrk says how much it has read: it ends without the responses that are on their way.
        """
        before = self._requests()
        pid, output = _run(
            *("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "--latency"),
            *("-s", str(self._script), f"http://127.0.0.1:{self.port}/"),
        )
        requests = self._requests() - before - 1
        rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
        latency = dict(re.findall(r"(\d+)%\s+([\d.]+[mu]?s)", output))
        read = re.search(r"read\s+(\d+)", output)
        if not rate or not read or "Non-2xx" in output or "Socket errors" in output:
            raise SystemExit(f"bench: wrk: {output}")
        asked, answered = requests * len(self.request), requests * self.response_length
        moved = asked + answered, asked + int(read[1])
        return Run(
            requests,
            float(rate[1]),
            _microseconds(latency["50"]),
            _microseconds(latency["99"]),
            moved,
            pid,
        )


class Redis:
    """Redis under redis-benchmark, GETs of a missing key."""

    def __init__(self, pid: int, port: int, control: Path, pipeline: int) -> None:
        self.pid = pid
        self.port = port
        self._control = control
        self._pipeline = pipeline
        self._rate = 20_000.0
        self.request = b"*2\r\n$3\r\nGET\r\n$16\r\nkey:__rand_int__\r\n"
        self.response_length = _response_length(port, self.request)

    def _moved(self) -> tuple[int, int]:
        """Returns the bytes that it has moved before it answered, and those of the answer."""
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(self._control))
            control.sendall(b"INFO stats\r\n")
            answer = control.recv(1 << 16)
        totals = re.findall(rb"total_net_(?:in|out)put_bytes:(\d+)", answer)
        return sum(int(total) for total in totals), len(answer) + len(b"INFO stats\r\n")

    def saturate(self, seconds: float) -> Run:
        """Runs redis-benchmark; what moved is known by Redis's own count."""
        requests = int(self._rate * seconds)
        before, of_asking = self._moved()
        pid, output = _run(
            *("redis-benchmark", "-p", str(self.port), "-t", "get", "--csv"),
            *("-c", str(CONNECTIONS), "-P", str(self._pipeline)),
            *("-n", str(requests)),
        )
        moved = self._moved()[0] - before - of_asking
        _, rate, _, _, p50, _, p99, _ = next(csv.reader([output.splitlines()[-1]]))
        self._rate = float(rate)  # How many requests the next run needs.
        return Run(requests, self._rate, float(p50) * 1e3, float(p99) * 1e3, (moved, moved), pid)


@contextlib.contextmanager
def nginx(scratch: Path) -> Iterator[Nginx]:
    """Runs nginx, one process."""
    port, status = host.free_port(), host.free_port()
    configuration = scratch / f"nginx-{port}.conf"
    configuration.write_text(NGINX.format(scratch=scratch, port=port, status=status))
    process = subprocess.Popen(["nginx", "-c", str(configuration)], text=True)
    script = scratch / "wrk.lua"
    script.write_text(SCRIPT)
    with host.running(process):
        host.wait_for(lambda: host.listens(status), "nginx")
        yield Nginx(process.pid, port, status, script)


@contextlib.contextmanager
def redis(scratch: Path, pipeline: int) -> Iterator[Redis]:
    """Runs Redis without persistence."""
    port = host.free_port()
    control = scratch / f"redis-{port}"
    process = subprocess.Popen(
        [
            *("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""),
            *("--unixsocket", str(control), "--dir", str(scratch)),
        ],
        stdout=subprocess.DEVNULL,
        text=True,
    )
    with host.running(process):
        host.wait_for(lambda: host.listens(port), "Redis")
        yield Redis(process.pid, port, control, pipeline)


def pace(client: Path, server: Server, rate: int, seconds: float, pipeline: int = 1) -> Run:
    """Loads a server at a fixed rate; what moved is the client's own count."""
    pid, output = _run(
        *(str(client), str(server.port), str(CONNECTIONS), str(rate), str(seconds)),
        *(str(pipeline), server.request.decode(), str(server.response_length)),
    )
    done = json.loads(output)
    moved = done["sent"] + done["received"]
    rate = done["requests"] / done["seconds"]
    return Run(done["requests"], rate, done["p50"], done["p99"], (moved, moved), pid)


def _run(*command: str) -> tuple[int, str]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"bench: {command[0]} failed")
    return process.pid, output


def _response_length(port: int, request: bytes) -> int:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request)
        return len(connection.recv(1 << 16))


def _microseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(\w+)", text).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]
