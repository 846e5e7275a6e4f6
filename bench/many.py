"""Many agents: what 200 of them, simulated, take of one server, and how fresh its answers are.

A program in C sends them, in real time. Meanwhile one more agent sends a counter of its own, and
asks for it until it is there: from its snapshot to the store is until the server has acknowledged
it, to the API until an answer has it.
"""

from __future__ import annotations

import os
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import msgspec
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from bench import bodies, fleet, host, kernob
from kernob.ui import source
from kernob.ui.state import parse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.kernob import Site

AGENTS: Final = 200
SECONDS: Final = 60
QUICK_SECONDS: Final = 20
INTERVALS: Final = (10, 1)
"""Seconds between two snapshots of an agent."""
PROBES_PER_S: Final = 2
MOVED: Final = 1000
"""Bytes that the probe's counter grows by."""
PATIENCE: Final = 30.0
PROBE: Final = "bench-probe"
STORED: Final = """
SELECT count() AS points FROM (
    SELECT ResourceAttributes FROM otel.otel_metrics_sum
    UNION ALL SELECT ResourceAttributes FROM otel.otel_metrics_gauge
) WHERE match(ResourceAttributes['host.name'], '^host-[0-9]+$')"""


def measure(scratch: Path, *, quick: bool) -> dict[str, list[dict[str, Any]]]:
    """Returns a table: a row for each interval of the agents."""
    seconds = QUICK_SECONDS if quick else SECONDS
    sender = host.compile_c("sender", scratch)
    rows = []
    for interval in INTERVALS:
        host.say(f"fleet: {AGENTS} agents, every {interval} s")
        agents = fleet.make(agents=AGENTS, rounds=seconds // interval, interval=interval)
        rows.append(_run(kernob.Site(scratch / f"{interval}"), sender, agents))
    return {"fleet": rows}


def _run(site: Site, sender: Path, agents: fleet.Fleet) -> dict[str, Any]:
    load = os.getloadavg()[0]
    with site.server() as server, ThreadPoolExecutor(1) as pool:
        host.reset_peak(server.pid)
        begin, cpu = time.monotonic(), host.cpu_seconds(server.pid)
        sending = pool.submit(agents.send, sender, site.port, site.store.parent)
        stored, asked = _probe(site, lambda: not sending.done())
        sent = sending.result()
        seconds, cpu = time.monotonic() - begin, host.cpu_seconds(server.pid) - cpu
        answer = site.get(source.traffic(parse(""), "service").path)
        truth = sum(agents.moved(0).values()) + MOVED * len(stored)
        return {
            "interval_s": agents.interval,
            "agents": AGENTS,
            "offered_points_per_s": AGENTS * fleet.SERIES / agents.interval,
            "points_per_s": agents.points / sent.seconds,
            "stored_share": _stored(site) / agents.points,
            "server_cpu_share": cpu / seconds,
            "sender_cpu_share": sent.cpu / sent.seconds,
            "server_mib": host.resident_mib(server.pid),
            "server_peak_mib": host.peak_mib(server.pid),
            "answer_median_ms": sent.p50 / 1e3,
            "answer_p99_ms": sent.p99 / 1e3,
            "late_max_ms": sent.late / 1e3,
            "to_store_median_ms": median(stored) * 1e3,
            "to_api_median_ms": median(asked) * 1e3,
            "to_api_max_ms": max(asked) * 1e3,
            "retried": sent.retried,
            "bytes_share": answer["transmit"] / truth,
            "load_before": load,
        }


def _stored(site: Site) -> int:
    """Returns the points of the agents that are in the store."""
    body = msgspec.json.encode({"query": STORED})
    asked = urllib.request.Request(f"{site.url}/api/query", body)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return int(msgspec.json.decode(answer.read())["rows"][0][0])


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
