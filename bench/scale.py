"""Scale: what a collection takes, and the agent uses, with many processes, sockets and series."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from bench import host, tools
from kernob.collector import Collector
from kernob.config import Config
from kernob.signals.network import KernelFlows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Scene:
    """How many servers, how many clients, how many connections each client has; see hold.c."""

    name: str
    servers: int
    clients: int
    connections: int


SCENES: Final = (
    Scene("1,000 series", 70, 70, 1),
    Scene("10,000 series", 710, 710, 1),
    Scene("1,000 processes", 1, 999, 1),
    Scene("10,000 processes", 1, 9_999, 1),
    Scene("1,000 sockets", 5, 5, 100),
    Scene("10,000 sockets", 5, 5, 1_000),
    Scene("100,000 sockets", 10, 10, 5_000),
)
QUICK: Final = ("1,000 series", "1,000 processes", "10,000 sockets")
INTERVAL: Final = 1.0


def measure(scratch: Path, *, quick: bool) -> dict[str, list[dict[str, Any]]]:
    """Returns two tables: each scene, and the memory of the kernel's maps in the last one."""
    hold = host.compile_c("hold", scratch)
    scenes = [scene for scene in SCENES if not quick or scene.name in QUICK]
    rows = []
    maps: list[dict[str, Any]] = []
    for scene in scenes:
        with host.holding(hold, scene.servers, scene.clients, scene.connections):
            collection, maps = _collection(rounds=3 if quick else 7)
            agent = _agent(seconds=3.0 if quick else 10.0)
        rows.append(
            {
                "scene": scene.name,
                "processes": scene.servers + scene.clients,
                "sockets": 2 * scene.clients * scene.connections,
                **collection,
                **agent,
            }
        )
    return {"scale": rows, "maps": maps}


def _collection(rounds: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the figures of a `Collector` in this process, and its maps."""
    before = time.process_time()
    with contextlib.closing(Collector(Config())) as collector:
        collector.collect()
        first = time.process_time() - before
        walls, cpus = [], []
        for _ in range(rounds):
            time.sleep(INTERVAL)
            wall, cpu = time.perf_counter(), time.process_time()
            collector.collect()
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
        source = collector.source
        memory = dict(source.memory()) if isinstance(source, KernelFlows) else {}
    figures = {
        "load_and_first_ms": first * 1e3,
        "collection_ms": median(walls) * 1e3,
        "collection_cpu_ms": median(cpus) * 1e3,
    }
    memory["total"] = sum(memory.values())
    return figures, [{"map": name, "mib": size / 2**20} for name, size in memory.items()]


def _agent(seconds: float) -> dict[str, Any]:
    """Returns the figures of `kernob agent`."""
    with trickle() as port:
        begin = time.monotonic()
        with tools.agent() as agent:
            host.wait_for(lambda: sum(agent.seen(port, ())) > 0, "numbers of the agent")
            first_numbers = time.monotonic() - begin
            time.sleep(tools.SETTLE_SECONDS)
            cpu = host.cpu_seconds(agent.pid)
            time.sleep(seconds)
            cpu = (host.cpu_seconds(agent.pid) - cpu) / seconds
            before, wall = host.cpu_seconds(agent.pid), time.monotonic()
            page = agent.metrics()
            scrape = time.monotonic() - wall
            return {
                "series": sum(line[:1] not in ("#", "") for line in page.splitlines()),
                "first_numbers_s": first_numbers,
                "agent_cpu_share": cpu,
                "scrape_ms": scrape * 1e3,
                "scrape_cpu_ms": (host.cpu_seconds(agent.pid) - before) * 1e3,
                "resident_mib": host.resident_mib(agent.pid),
            }


@contextlib.contextmanager
def trickle() -> Iterator[int]:
    """Sends a byte every few milliseconds meanwhile, to the port that it yields."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as sender,
        listener.accept()[0] as receiver,
    ):
        stop = threading.Event()

        def send() -> None:
            while not stop.wait(0.005):
                sender.sendall(b".")
                receiver.recv(1)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            stop.set()
            thread.join()
