"""Agents with known costs, losses and parts, and an application, sent over OTLP in one go."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

    from serving import Serving

Values = dict[tuple[str, ...], float]

KEYS = {
    "kernob.agent.info": ("kernob.agent.mode",),
    "kernob.agent.part": ("kernob.part", "kernob.reason"),
    "kernob.agent.map.entries": ("kernob.map",),
    "kernob.agent.map.capacity": ("kernob.map",),
    "kernob.agent.map.memory": ("kernob.map",),
    "kernob.agent.lost": ("reason",),
    "kernob.network.io": ("service.name", "network.io.direction", "kernob.peer"),
}
"""Attributes of each metric's series; none for the others."""
TOTALS = {
    "kernob.agent.cpu.time",
    "kernob.agent.collections",
    "kernob.agent.lost",
    "kernob.network.io",
}


def now() -> int:
    return time.time_ns() // 10**6


@dataclass
class Host:
    """An agent whose counters grow by the same with each snapshot.

    Attributes:
        last: time of its latest snapshot, milliseconds.
        interval: between two of them.
        snapshots: how many it sent.
        lost: by reason, all of it in the snapshot number `losing`.
        parts: with the reason why not; empty for those that it observes.
        agent: whether it is one, or another that only says what the host moves.
    """

    name: str
    last: int
    interval: int = 60_000
    snapshots: int = 15
    mode: str = "ebpf"
    version: str = "0.1.0"
    cpu: float = 0.6
    memory: int = 41_234_567
    maps: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)
    losing: int = 10
    parts: Mapping[str, str] = field(default_factory=lambda: {"network": ""})
    moves: Mapping[str, tuple[int, int]] = field(default_factory=lambda: {"nginx": (6_000, 600)})
    agent: bool = True

    @property
    def started(self) -> int:
        return self.last - self.snapshots * self.interval

    def at(self, number: int) -> dict[str, Values]:
        """Returns what it says after so many intervals."""
        lost: Values = {
            (reason,): n if number >= self.losing else 0 for reason, n in self.lost.items()
        }
        return {
            "kernob.agent.info": {(self.mode,): 1},
            "kernob.agent.part": {(name, off): int(not off) for name, off in self.parts.items()},
            "kernob.agent.cpu.time": {(): self.cpu * number},
            "kernob.agent.collections": {(): number},
            "kernob.agent.memory.usage": {(): self.memory},
            "kernob.agent.map.entries": {(name,): held for name, (held, _, _) in self.maps.items()},
            "kernob.agent.map.capacity": {
                (name,): room for name, (_, room, _) in self.maps.items()
            },
            "kernob.agent.map.memory": {(name,): size for name, (_, _, size) in self.maps.items()},
            "kernob.agent.lost": lost,
            "kernob.network.io": {
                (service, direction, "far.example"): size * number
                for service, sizes in self.moves.items()
                for direction, size in zip(("transmit", "receive"), sizes, strict=True)
            },
        }

    def request(self) -> ExportMetricsServiceRequest:
        """Returns all its snapshots."""
        made = ExportMetricsServiceRequest()
        group = made.resource_metrics.add()
        names = {
            "service.name": "kernob-agent",
            "service.version": self.version,
            "service.instance.id": f"{self.name}-{self.started}",
            "host.name": self.name,
        }
        _describe(group.resource, names)
        scope = group.scope_metrics.add()
        for number in range(1, self.snapshots + 1):
            at = self.last - (self.snapshots - number) * self.interval
            for name, values in self.at(number).items():
                if not values or not (self.agent or name == "kernob.network.io"):
                    continue
                metric = scope.metrics.add(name=name)
                if name in TOTALS:
                    metric.sum.is_monotonic = True
                    metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
                points = metric.sum.data_points if name in TOTALS else metric.gauge.data_points
                for texts, value in values.items():
                    point = points.add(time_unix_nano=at * 10**6, as_double=value)
                    point.start_time_unix_nano = self.started * 10**6
                    for key, text in zip(KEYS.get(name, ()), texts, strict=True):
                        if text:
                            point.attributes.add(key=key).value.string_value = text
        return made


def send(serving: Serving, *hosts: Host) -> None:
    whole = ExportMetricsServiceRequest()
    for host in hosts:
        whole.MergeFrom(host.request())
    answer = serving.send("/v1/metrics", whole.SerializeToString())
    assert answer.status_code == 200, answer.text


def send_application(serving: Serving, service: str, points: int, spans: int, logs: int) -> None:
    """Sends so many records of an application, all of them now."""
    at = time.time_ns()
    metrics = ExportMetricsServiceRequest()
    measured = metrics.resource_metrics.add()
    metric = measured.scope_metrics.add().metrics.add(name="orders")
    for number in range(points):
        point = metric.gauge.data_points.add(time_unix_nano=at, as_int=number)
        point.attributes.add(key="shop").value.string_value = str(number)
    traces = ExportTraceServiceRequest()
    traced = traces.resource_spans.add()
    made = traced.scope_spans.add()
    for number in range(spans):
        made.spans.add(
            trace_id=(number + 1).to_bytes(16),
            span_id=(number + 1).to_bytes(8),
            name="order",
            start_time_unix_nano=at,
            end_time_unix_nano=at + 1,
        )
    said = ExportLogsServiceRequest()
    logged = said.resource_logs.add()
    lines = logged.scope_logs.add()
    for _ in range(logs):
        lines.log_records.add(time_unix_nano=at, severity_number=9).body.string_value = "said"
    for group in (measured, traced, logged):
        _describe(group.resource, {"service.name": service})
    for path, request in (("metrics", metrics), ("traces", traces), ("logs", said)):
        answer = serving.send(f"/v1/{path}", request.SerializeToString())
        assert answer.status_code == 200, answer.text


def send_without_ids(serving: Serving, spans: int) -> None:
    """Sends spans that the server has to refuse."""
    request = ExportTraceServiceRequest()
    made = request.resource_spans.add().scope_spans.add()
    for _ in range(spans):
        made.spans.add(trace_id=b"short", span_id=b"12345678", start_time_unix_nano=time.time_ns())
    assert serving.send("/v1/traces", request.SerializeToString()).status_code == 200


def _describe(resource: Resource, names: Mapping[str, str]) -> None:
    for key, text in names.items():
        resource.attributes.add(key=key).value.string_value = text
