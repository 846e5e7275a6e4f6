"""Snapshots as agents send them: OTLP requests with the metrics of one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import ScopeMetrics

from kernob.store.engine import Signal
from kernob.store.store import Store

MILLISECOND = 1_000_000


@dataclass
class Sender:
    """Who sends: an agent, unless its resource says otherwise.

    Attributes:
        host: its name.
        instance: new with each start of an agent.
        start: since when it counts, milliseconds since the Unix epoch.
        temporality: 2 for counters, 1 for increments.
    """

    host: str
    start: int
    instance: str = "first"
    temporality: int = 2
    service: str = "kernob-agent"
    resource: dict[str, str] = field(default_factory=dict)

    def snapshot(self, time: int, *points: Point | Durations) -> bytes:
        """Returns a request with points of one moment, milliseconds since the Unix epoch."""
        request = ExportMetricsServiceRequest()
        made = request.resource_metrics.add()
        of = {
            "service.name": self.service,
            "service.version": "1.2.3",
            "service.instance.id": self.instance,
            "host.name": self.host,
            **self.resource,
        }
        for name, value in of.items():
            made.resource.attributes.add(key=name).value.string_value = value
        scope = made.scope_metrics.add()
        for point in points:
            if isinstance(point, Durations):
                point.add_to(scope, self, time)
                continue
            metric = scope.metrics.add(name=point.metric, unit="By")
            if point.gauge:
                data = metric.gauge.data_points.add(time_unix_nano=time * MILLISECOND)
            else:
                metric.sum.aggregation_temporality = self.temporality
                metric.sum.is_monotonic = True
                start = self.start if point.start is None else point.start
                data = metric.sum.data_points.add(
                    time_unix_nano=time * MILLISECOND, start_time_unix_nano=start * MILLISECOND
                )
            if isinstance(point.value, int):
                data.as_int = point.value
            else:
                data.as_double = point.value
            for name, value in point.attributes.items():
                data.attributes.add(key=name).value.string_value = value
        return request.SerializeToString()


@dataclass
class Point:
    """One value.

    Attributes:
        start: of its counter, if that isn't the sender's.
    """

    metric: str
    value: float
    attributes: dict[str, str] = field(default_factory=dict)
    gauge: bool = False
    start: int | None = None


@dataclass
class Durations:
    """An exponential histogram of all that was recorded so far.

    Attributes:
        samples: seconds; zeros are told apart.
        start: since when it counts, if that isn't the sender's.
    """

    metric: str
    samples: Sequence[float]
    attributes: dict[str, str] = field(default_factory=dict)
    scale: int = 3
    start: int | None = None

    def add_to(self, scope: ScopeMetrics, sender: Sender, time: int) -> None:
        """Adds its point at a time."""
        made = scope.metrics.add(name=self.metric, unit="s").exponential_histogram
        made.aggregation_temporality = sender.temporality
        samples = np.asarray(self.samples, float)
        start = sender.start if self.start is None else self.start
        point = made.data_points.add(
            time_unix_nano=time * MILLISECOND,
            start_time_unix_nano=start * MILLISECOND,
            count=len(samples),
            sum=samples.sum(),
            scale=self.scale,
            zero_count=int((samples == 0).sum()),
        )
        index = np.ceil(np.log2(samples[samples > 0]) * 2**self.scale).astype(int) - 1
        if len(index):
            point.positive.offset = int(index.min())
            point.positive.bucket_counts.extend(np.bincount(index - index.min()).tolist())
        for name, value in self.attributes.items():
            point.attributes.add(key=name).value.string_value = value


def asked(
    service: str,
    samples: Sequence[float],
    *,
    side: str = "server",
    peer: str = "client.example",
    operation: str = "GET /",
    error: str = "",
    protocol: str = "http",
) -> Durations:
    """Returns requests of one kind: `GET /`, `SELECT users`, `A a.example`."""
    own = {"service.name": service, "kernob.peer": peer, "kernob.side": side}
    own["network.protocol.name"] = protocol
    first, _, rest = operation.partition(" ")
    if protocol == "http":
        metric = f"http.{side}.request.duration"
        own["http.request.method"] = first
        own["http.route" if side == "server" else "url.template"] = rest
    elif protocol == "dns":
        metric = "dns.lookup.duration"
        own |= {"kernob.dns.question.type": first, "dns.question.name": rest}
    else:
        metric = f"{'kernob.' * (side == 'server')}db.{side}.operation.duration"
        own |= {"db.system.name": protocol, "db.query.summary": operation}
        own["db.operation.name"] = first
    if error:
        own["error.type"] = error
    return Durations(metric, samples, own)


def moved(
    service: str, transmit: int, receive: int = 0, peer: str = "10.0.0.1", calls: int = 0
) -> list[Point]:
    """Returns what an agent says of a service and one peer."""
    own = {"service.name": service, "kernob.peer": peer, "network.transport": "tcp"}
    directions = {"transmit": transmit, "receive": receive}
    return [
        *(
            Point("kernob.network.io", value, own | {"network.io.direction": way})
            for way, value in directions.items()
        ),
        Point("kernob.network.operations", calls, own | {"network.io.direction": "transmit"}),
    ]


def process(
    pid: int, program: str, service: str, transmit: int, start: int, peer: str = "10.0.0.1"
) -> Point:
    """Returns what an agent says of a process."""
    own = {
        "process.pid": str(pid),
        "process.executable.name": program,
        "service.name": service,
        "kernob.peer": peer,
        "network.io.direction": "transmit",
    }
    return Point("process.network.io", transmit, own, start=start)


def itself(collections: int, **more: Any) -> list[Point]:
    """Returns what an agent says of itself.

    Args:
        collections: made so far.
        more: `cpu` (seconds), `memory` (bytes), `mode`, `lost` and `entries` by name.
    """
    points = [
        Point("kernob.agent.collections", collections),
        Point("kernob.agent.cpu.time", more.get("cpu", collections * 0.01)),
        Point("kernob.agent.memory.usage", more.get("memory", 50 << 20), gauge=True),
        Point("kernob.agent.info", 1, {"kernob.agent.mode": more.get("mode", "ebpf")}, gauge=True),
    ]
    for reason, count in more.get("lost", {}).items():
        points.append(Point("kernob.agent.lost", count, {"reason": reason}))
    for table, (count, room) in more.get("entries", {}).items():
        of = {"kernob.map": table}
        points.append(Point("kernob.agent.map.entries", count, of, gauge=True))
        points.append(Point("kernob.agent.map.capacity", room, of, gauge=True))
        points.append(Point("kernob.agent.map.memory", room * 100, of, gauge=True))
    for part, reason in more.get("parts", {}).items():
        of = {"kernob.part": part} | ({"kernob.reason": reason} if reason else {})
        points.append(Point("kernob.agent.part", 0 if reason else 1, of, gauge=True))
    return points


def send(store: Store, *bodies: bytes) -> None:
    """Stores requests; none may be refused."""
    assert not any(refused.records for refused in store.write(Signal.METRICS, bodies))
