"""Known traffic, sent as agents send it: what pages show has to equal these figures."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

from snapshots import Point, Sender, asked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, ResourceMetrics

    from serving import Serving

STEP = 15_000
SNAPSHOTS = 40
PEERS = 1_200
# host, service, peer, and what moves in a step, out and in
FLOWS = (
    ("web-1", "nginx", "alpha.example", 150_000_003, 3_000_001),
    ("web-1", "nginx", "beta.example", 45_000_007, 900_011),
    ("web-1", "postgres", "10.0.0.5", 7_500_013, 21_000_017),
    ("web-2", "nginx", "alpha.example", 30_000_019, 600_023),
    ("web-2", "cron", "ntp.example", 29, 31),
)
# host, service, pid, peer, and what moves in a step
PROCESSES = (
    ("web-1", "nginx", 812, "alpha.example", 100_000_003, 2_000_001),
    ("web-1", "nginx", 813, "alpha.example", 50_000_000, 1_000_000),
    ("web-1", "postgres", 900, "10.0.0.5", 7_500_013, 21_000_017),
)


# service, peer, side, protocol, operation, error, seconds, and how many in a step
REQUESTS = (
    ("nginx", "alpha.example", "server", "http", "GET /users/{id}", "", 0.012, 90),
    ("nginx", "alpha.example", "server", "http", "GET /users/{id}", "500", 0.35, 3),
    ("nginx", "beta.example", "server", "http", "POST /orders", "", 0.08, 7),
    ("nginx", "postgres", "client", "postgresql", "SELECT users", "", 0.004, 41),
    ("nginx", "10.0.0.53", "client", "dns", "A db.example", "", 0.0009, 2),
    ("nginx", "10.0.0.53", "client", "dns", "A gone.example", "NXDOMAIN", 0.002, 1),
    ("postgres", "nginx", "server", "postgresql", "SELECT users", "", 0.003, 41),
)
UNPAIRED = 11


@dataclass
class Agent:
    """Sends snapshots of one host; its counters began at `start`.

    Attributes:
        values: of each counter, by metric and attributes.
    """

    serving: Serving
    host: str
    start: int
    values: dict[tuple[str, tuple[tuple[str, str], ...]], int] = field(default_factory=dict)
    collections: int = 0
    request: ExportMetricsServiceRequest = field(default_factory=ExportMetricsServiceRequest)

    def add(self, metric: str, increase: int, **attributes: str) -> None:
        key = (metric, tuple(sorted(attributes.items())))
        self.values[key] = self.values.get(key, 0) + increase

    def moves(self, service: str, peer: str, out: int, in_: int) -> None:
        names = {"service_name": service, "kernob_peer": peer}
        for direction, size in (("transmit", out), ("receive", in_)):
            self.add("kernob.network.io", size, network_io_direction=direction, **names)
            self.add("kernob.network.operations", 3, network_io_direction=direction, **names)

    def asks(self, step: int, at: int) -> None:
        """Snaps the requests of the first `step` steps, and what could not be paired."""
        kind = {"network.protocol.name": "http", "reason": "before"}
        points = [
            asked(service, (lasted,) * many * step, side=side, peer=peer, operation=operation,
                  error=error, protocol=protocol)
            for service, peer, side, protocol, operation, error, lasted, many in REQUESTS
        ]  # fmt: skip
        unpaired = Point("kernob.agent.requests.unpaired", UNPAIRED * step, kind)
        sender = Sender(self.host, self.start, instance=f"{self.host}-1")
        sender.resource["service.version"] = "0.1.0"
        self.request.MergeFromString(sender.snapshot(at, *points, unpaired))

    def send(self, *more: ExportMetricsServiceRequest) -> None:
        """Sends what was snapped, with that of other agents."""
        for other in more:
            self.request.MergeFrom(other)
        answer = self.serving.send("/v1/metrics", self.request.SerializeToString())
        assert answer.status_code == 200, answer.text
        self.request.Clear()

    def snap(self, at: int, *, silent: bool = False) -> None:
        """Takes a snapshot at `at` milliseconds, to be sent; silent ones only say that it lives."""
        self.collections += 1
        request = self.request
        resource = request.resource_metrics.add()
        for name, value in (
            ("service.name", "kernob-agent"),
            ("host.name", self.host),
            ("service.version", "0.1.0"),
            ("service.instance.id", f"{self.host}-1"),
        ):
            attribute = resource.resource.attributes.add()
            attribute.key, attribute.value.string_value = name, value
        self._sum(resource, "kernob.agent.collections", {(): self.collections}, at)
        gauge = resource.scope_metrics.add().metrics.add(name="kernob.agent.info").gauge
        point = gauge.data_points.add(time_unix_nano=at * 10**6, as_int=1)
        mode = point.attributes.add()
        mode.key, mode.value.string_value = "kernob.agent.mode", "ebpf"
        if silent:
            return
        metrics: dict[str, dict[tuple[tuple[str, str], ...], int]] = {}
        for (metric, attributes), value in self.values.items():
            metrics.setdefault(metric, {})[attributes] = value
        for metric, found in metrics.items():
            self._sum(resource, metric, found, at)

    def _sum(
        self,
        resource: ResourceMetrics,
        name: str,
        values: Mapping[tuple[tuple[str, str], ...], int],
        at: int,
    ) -> None:
        metric: Metric = resource.scope_metrics.add().metrics.add(name=name, unit="By")
        metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
        metric.sum.is_monotonic = name != "kernob.connections"
        for attributes, value in values.items():
            point = metric.sum.data_points.add(
                start_time_unix_nano=self.start * 10**6, time_unix_nano=at * 10**6, as_int=value
            )
            for key, text in attributes:
                attribute = point.attributes.add()
                attribute.key, attribute.value.string_value = _dotted(key), text


def _dotted(name: str) -> str:
    known = {
        "service_name": "service.name",
        "kernob_peer": "kernob.peer",
        "network_io_direction": "network.io.direction",
        "process_pid": "process.pid",
        "process_executable_name": "process.executable.name",
    }
    return known[name]


@dataclass(frozen=True)
class Truth:
    """Ten minutes of traffic, three hours ago: what other tests send is about now.

    Attributes:
        start, end: milliseconds.
        totals: bytes out and in, by service.
        peers: the same of nginx, by peer.
        processes: the same of nginx, by pid.
    """

    start: int
    end: int
    totals: dict[str, tuple[int, int]]
    peers: dict[str, tuple[int, int]]
    processes: dict[int, tuple[int, int]]

    @property
    def crowd(self) -> str:
        """The ten minutes before: 1,500 peers, and a service that was silent for a while."""
        return f"from={_iso(self.start - SNAPSHOTS * STEP)}&to={_iso(self.start)}"

    @property
    def query(self) -> str:
        return f"from={_iso(self.start)}&to={_iso(self.end)}"


def _iso(ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ms / 1000))


def grown(found: dict, key: object, out: int, in_: int) -> None:
    was = found.get(key, (0, 0))
    found[key] = (was[0] + out, was[1] + in_)


def crowd(serving: Serving, start: int) -> Agent:
    """Returns snapshots of a host with many peers, and of one that pauses from step 10 to 19."""
    many, pausing = Agent(serving, "many-1", start), Agent(serving, "pausing-1", start)
    for step in range(SNAPSHOTS):
        if step in (0, 20):
            for number in range(PEERS):
                many.moves("crowded", f"peer-{number:04}.example", 1_000 + number, 7)
        many.snap(start + step * STEP + 5_000, silent=step not in (0, 20))
        pausing.moves("pausing", "here.example", 15_000, 30_000)
        pausing.snap(start + step * STEP + 5_000, silent=10 <= step < 20)
    many.request.MergeFrom(pausing.request)
    return many


def fill(serving: Serving) -> Truth:
    """Sends it all, each step's figures growing a little, and returns what they add up to."""
    end = (time.time_ns() // 10**6 - 3 * 3_600_000) // 60_000 * 60_000
    start = end - SNAPSHOTS * STEP
    agents = {host: Agent(serving, host, start) for host in ("web-1", "web-2")}
    totals: dict[str, tuple[int, int]] = {}
    peers: dict[str, tuple[int, int]] = {}
    processes: dict[int, tuple[int, int]] = {}
    for host, service, *_ in FLOWS:
        agents[host].add("kernob.connections", 5, service_name=service)
    for step in range(SNAPSHOTS):
        for host, service, peer, out, in_ in FLOWS:
            out, in_ = out + step, in_ + 2 * step  # noqa: PLW2901
            agents[host].moves(service, peer, out, in_)
            grown(totals, service, out, in_)
            if service == "nginx":
                grown(peers, peer, out, in_)
        for host, service, pid, peer, out, in_ in PROCESSES:
            for direction, size in (("transmit", out), ("receive", in_)):
                agents[host].add(
                    "process.network.io",
                    size,
                    process_pid=str(pid),
                    process_executable_name=service,
                    service_name=service,
                    network_io_direction=direction,
                    kernob_peer=peer,
                )
            if service == "nginx":
                grown(processes, pid, out, in_)
        for agent in agents.values():
            agent.snap(start + step * STEP + 5_000)
        agents["web-1"].asks(step + 1, start + step * STEP + 5_000)
    before = crowd(serving, start - SNAPSHOTS * STEP)
    before.send(*(agent.request for agent in agents.values()))
    return Truth(start, end, totals, peers, processes)
