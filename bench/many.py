"""Many agents: what 200 of them, simulated, take of one server, and how fresh its answers are.

They are sent by a process of its own. Meanwhile one more agent sends a counter of its own, and
asks for it until it is there: from its snapshot to the store is until the server has acknowledged
it, to the API until an answer has it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
import urllib.request
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from bench import bodies, fleet, host, kernob
from kernob.ui import source
from kernob.ui.state import parse

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from pathlib import Path

    from bench.kernob import Site

AGENTS: Final = 200
ROUNDS: Final = {10.0: 4, 1.0: 30}
"""Snapshots of each agent, by seconds between two."""
QUICK_ROUNDS: Final = {10.0: 2, 1.0: 5}
PROBES_PER_S: Final = 2
MOVED: Final = 1000
"""Bytes that the probe's counter grows by."""
PATIENCE: Final = 30.0
PROBE: Final = "bench-probe"


def measure(scratch: Path, *, quick: bool) -> dict[str, list[dict[str, Any]]]:
    """Returns a table: a row for each interval of the agents."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    rows = []
    for interval, count in rounds.items():
        host.say(f"fleet: {AGENTS} agents, every {interval:g} s")
        rows.append(_run(kernob.Site(scratch / f"{interval:g}"), interval, count))
    return {"fleet": rows}


def _run(site: Site, interval: float, rounds: int) -> dict[str, Any]:
    ours, theirs = multiprocessing.Pipe()
    sender = multiprocessing.get_context("spawn").Process(
        target=_send, args=(theirs, site.url, interval, rounds)
    )
    with site.server() as server:
        sender.start()
        theirs.close()  # So that its end is known here.
        time.sleep(max(0.0, ours.recv() - time.time()))
        host.reset_peak(server.pid)
        begin, cpu = time.monotonic(), host.cpu_seconds(server.pid)
        stored, asked = _probe(site, lambda: not ours.poll())
        sent, sender_cpu = ours.recv()
        seconds, cpu = time.monotonic() - begin, host.cpu_seconds(server.pid) - cpu
        sender.join()
        answer = site.get(source.traffic(parse(""), "service").path)
        truth = sum(sent.transmit.values()) + MOVED * len(stored)
        return {
            "interval_s": interval,
            "agents": AGENTS,
            "points_per_s": sent.points / seconds,
            "server_cpu_share": cpu / seconds,
            "sender_cpu_share": sender_cpu / seconds,
            "server_mib": host.resident_mib(server.pid),
            "server_peak_mib": host.peak_mib(server.pid),
            "answer_median_ms": median(sent.delays) * 1e3,
            "answer_p99_ms": quantiles(sent.delays, n=100)[98] * 1e3,
            "to_store_median_ms": median(stored) * 1e3,
            "to_api_median_ms": median(asked) * 1e3,
            "to_api_max_ms": max(asked) * 1e3,
            "retried": sent.retried,
            "bytes_share": answer["transmit"] / truth,
        }


def _send(pipe: Connection, url: str, interval: float, rounds: int) -> None:
    """Sends a fleet, in a process of its own; says first when it begins, then what it sent."""
    agents = fleet.make(agents=AGENTS, rounds=rounds, interval=interval)
    pipe.send(agents.start / bodies.SECOND + interval)
    cpu = time.process_time()
    sent = asyncio.run(agents.send(url))
    pipe.send((sent, time.process_time() - cpu))


def _probe(site: Site, running: Callable[[], bool]) -> tuple[list[float], list[float]]:
    """Returns seconds from each snapshot to its acknowledgement, and to an answer with it."""
    path = source.traffic(parse(""), "service", service=PROBE).path
    start = time.time_ns()
    stored: list[float] = []
    asked: list[float] = []
    while running():
        moved = MOVED * (len(stored) + 1)
        body = _snapshot(start, moved)
        begin = time.monotonic()
        headers = {"Content-Type": "application/x-protobuf"}
        request = urllib.request.Request(f"{site.url}/v1/metrics", body, headers)
        with urllib.request.urlopen(request, timeout=60):
            stored.append(time.monotonic() - begin)
        while site.get(path)["transmit"] != moved:
            if time.monotonic() - begin > PATIENCE:
                raise SystemExit(f"bench: no answer has the probe's {moved} bytes")
        asked.append(time.monotonic() - begin)
        time.sleep(max(0.0, 1 / PROBES_PER_S - asked[-1]))
    return stored, asked


def _snapshot(start: int, moved: int) -> bytes:
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    bodies.set_attributes(
        resource.resource, {"service.name": "kernob-agent", "host.name": "host-probe"}
    )
    metric = resource.scope_metrics.add().metrics.add(name="kernob.network.io", unit="By")
    metric.sum.aggregation_temporality, metric.sum.is_monotonic = 2, True
    point = metric.sum.data_points.add(
        start_time_unix_nano=start, time_unix_nano=time.time_ns(), as_int=moved
    )
    own = {"service.name": PROBE, "network.io.direction": "transmit", "kernob.peer": "client"}
    bodies.set_attributes(point, own)
    body: bytes = request.SerializeToString()
    return body
