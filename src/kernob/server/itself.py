"""The server about itself: what it took, refused and stored, and what that cost.

The same figures go into its own store, as metrics `kernob.server.*`, and to `GET /api/server`.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    NumberDataPoint,
)

from kernob import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kernob.server.ingest import Figures
    from kernob.store.engine import Signal
    from kernob.telemetry.model import AttributeValue

SERVICE: Final = "kernob-server"

_PAGE: Final = resource.getpagesize()


@dataclass(frozen=True, slots=True)
class Figure:
    """One number.

    Attributes:
        metric: its name, `kernob.server.*`.
        unit: in UCUM.
        value: as of now; whole numbers stay whole.
        attributes: what it is of.
        total: it only grows: a counter, not a gauge.
    """

    metric: str
    unit: str
    value: float
    attributes: Mapping[str, str] = field(default_factory=dict)
    total: bool = True


def figures(did: Figures, losses: Mapping[tuple[Signal, str], int]) -> list[Figure]:
    """Returns all figures as of now, those of one metric after each other.

    Args:
        did: what was taken and stored.
        losses: the store's `losses`.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    memory = int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE
    found = [
        Figure("kernob.server.cpu.time", "s", used.ru_utime + used.ru_stime),
        Figure("kernob.server.memory.usage", "By", memory, total=False),
        Figure("kernob.server.waiting", "By", did.waiting_bytes, total=False),
    ]
    for metric, unit, by_signal in (
        ("kernob.server.records", "{record}", did.records),
        ("kernob.server.received", "By", did.received_bytes),
        ("kernob.server.batches", "{batch}", did.batches),
        ("kernob.server.insert.time", "s", did.insert_seconds),
    ):
        found += [
            Figure(metric, unit, value, {"kernob.signal": signal})
            for signal, value in by_signal.items()
        ]
    for metric, unit, name, by_both in (
        ("kernob.server.requests", "{request}", "kernob.outcome", did.requests),
        ("kernob.server.lost", "{record}", "kernob.reason", losses),
    ):
        found += [
            Figure(metric, unit, value, {"kernob.signal": signal, name: what})
            for (signal, what), value in by_both.items()
        ]
    return found


def request(
    of: Mapping[str, AttributeValue], values: Iterable[Figure], start: int
) -> ExportMetricsServiceRequest:
    """Returns the figures as metrics, cumulative.

    Args:
        of: the resource.
        values: those of one metric after each other.
        start: since when they count, nanoseconds since the Unix epoch.
    """
    now = time.time_ns()
    made = ExportMetricsServiceRequest()
    whose = made.resource_metrics.add()
    for name, value in of.items():
        whose.resource.attributes.add(key=name).value.string_value = str(value)
    scope = whose.scope_metrics.add()
    scope.scope.name, scope.scope.version = "kernob", __version__
    metric = None
    for figure in values:
        if metric is None or metric.name != figure.metric:
            metric = scope.metrics.add(name=figure.metric, unit=figure.unit)
        point = NumberDataPoint(time_unix_nano=now)
        if isinstance(figure.value, int):
            point.as_int = figure.value
        else:
            point.as_double = figure.value
        for name, text in figure.attributes.items():
            point.attributes.add(key=name).value.string_value = text
        if figure.total:
            point.start_time_unix_nano = start
            metric.sum.is_monotonic = True
            metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
            metric.sum.data_points.append(point)
        else:
            metric.gauge.data_points.append(point)
    return made
