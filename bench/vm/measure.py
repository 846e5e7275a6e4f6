"""Runs in the guest: throughput of three servers with different things attached.

`measure.py ROUNDS NAME=WHAT...` writes `$OUT/rates.json`: the requests per second of each round, by
workload and by name. WHAT is `nothing`, an object file, or `agent`: all of Kernob. The rounds take
turns, so that what drifts with time falls on all alike.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NGINX = """
daemon off;
worker_processes 1;
error_log /dev/null;
pid /run/nginx.pid;
events { worker_connections 1024; }
http {
  access_log off;
  keepalive_requests 100000000;
  server { listen 127.0.0.1:8080; location / { return 200 "hello world\\n"; } }
}
"""
REDIS = ("--port", "6379", "--save", "", "--bind", "127.0.0.1")
AGENT = ("-c", "from kernob.cli import main; main()", "agent", "--mode", "ebpf")
AGENT_PORT = 9464
POSTGRESQL = Path("/usr/lib/postgresql/15/bin")
DATABASE = Path("/tmp/database")
NOBODY = 65534
START_SECONDS = 60
SETTLE_SECONDS = 3


def wrk(seconds: int) -> float:
    """Returns the requests per second of nginx under wrk with 32 connections."""
    output = run("wrk", "-t1", "-c32", f"-d{seconds}s", "http://127.0.0.1:8080/")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if not rate or "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(output)
    return float(rate[1])


def redis(requests: int, pipeline: int) -> float:
    """Returns the GETs per second of redis-server, `pipeline` at a time on 32 connections."""
    size = ("-c", "32", "-n", str(requests), "-P", str(pipeline))
    output = run("redis-benchmark", "-t", "get", "--csv", *size)
    return float(re.findall(r'"([^"]*)"', output.splitlines()[-1])[1])


def postgresql(seconds: int) -> float:
    """Returns the transactions per second of pgbench's selects on 8 connections over TCP."""
    where = ("-h", "127.0.0.1", "-U", "postgres")
    output = run("pgbench", *where, "-S", "-n", "-c", "8", "-T", str(seconds), "postgres")
    return float(re.findall(r"tps = ([\d.]+)", output)[-1])


def start_postgresql() -> subprocess.Popen[bytes]:
    """Starts a fresh database with pgbench's tables; it refuses to run as root."""
    user = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    DATABASE.mkdir()
    os.chown(DATABASE, NOBODY, NOBODY)
    initdb = (str(POSTGRESQL / "initdb"), "-U", "postgres", "-A", "trust", "-N")
    run(*user, *initdb, "-D", str(DATABASE))
    command = (str(POSTGRESQL / "postgres"), "-D", str(DATABASE), "-k", "/tmp", "-F")
    server = subprocess.Popen([*user, *command], stderr=subprocess.DEVNULL)
    wait_for(5432)
    where = ("-h", "127.0.0.1", "-U", "postgres")
    run("pgbench", *where, "-i", "-q", "-s", "1", "postgres")
    return server


WORKLOADS: dict[str, Callable[[], float]] = {
    "nginx": lambda: wrk(2),
    "redis -P 1": lambda: redis(30_000, 1),
    "redis -P 16": lambda: redis(200_000, 16),
    "pgbench -S": lambda: postgresql(2),
}


@contextlib.contextmanager
def attached(what: str) -> Iterator[None]:
    """Has an object's programs attached, or the agent running, meanwhile."""
    if what == "nothing":
        yield
        return
    command = AGENT if what == "agent" else ("load.py", "hold", what)
    with subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if what == "agent":
            wait_for(AGENT_PORT)
        elif process.stdout is None or process.stdout.readline() != "attached\n":
            raise SystemExit(f"{what} was not attached")
        time.sleep(SETTLE_SECONDS)  # What the agent does once, at its start, is no overhead.
        yield
        process.terminate()


def wait_for(port: int) -> None:
    """Returns when somebody listens on a port of the loopback address."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit(f"nobody listens on port {port}")


def run(*command: str) -> str:
    """Returns what a command that succeeds says."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main(rounds: int, variants: dict[str, str]) -> None:
    """Measures every workload with everything."""
    Path("nginx.conf").write_text(NGINX)
    servers = [
        subprocess.Popen(["nginx", "-c", str(Path("nginx.conf").absolute())]),
        subprocess.Popen(["redis-server", *REDIS], stdout=subprocess.DEVNULL),
        start_postgresql(),
    ]
    wait_for(8080)
    wait_for(6379)
    for work in WORKLOADS.values():
        work()  # For nothing: memory is touched, the kernel's caches fill.
    rates: dict[str, dict[str, list[float]]] = {
        workload: {variant: [] for variant in variants} for workload in WORKLOADS
    }
    for _ in range(rounds):
        for variant, what in variants.items():
            with attached(what):
                for workload, work in WORKLOADS.items():
                    rates[workload][variant].append(work())
    Path(os.environ["OUT"], "rates.json").write_text(json.dumps(rates))
    for server in servers:
        server.terminate()


if __name__ == "__main__":
    main(int(sys.argv[1]), dict(pair.split("=") for pair in sys.argv[2:]))
