"""Snapshots as OpenTelemetry's own `MetricsData`, cumulative or as deltas.

Apart from `otlp` since this needs OpenTelemetry's SDK in memory, which only a sender wants.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Buckets,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from kernob import __version__
from kernob.telemetry.model import Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kernob.telemetry.model import Attributes, Points, Series, Snapshot

_SCOPE: Final = InstrumentationScope("kernob", __version__)
_LARGEST: Final = 2**63 - 1
"""OTLP's integers are signed."""


class Deltas:
    """What was acknowledged, and what came since.

    Attributes:
        kinds: the kinds that go out as deltas.
    """

    def __init__(self, kinds: frozenset[Kind]) -> None:
        self.kinds = kinds
        self._acknowledged: dict[str, dict[Series, tuple[int, Any]]] = {}

    def since(self, points: Points) -> tuple[list[int], NDArray[Any]]:
        """Returns the start of each value in nanoseconds and the values, both as they go out."""
        starts = [series.start for series in points.series]
        if points.metric.kind not in self.kinds:
            return starts, points.values
        before = self._acknowledged.get(points.metric.name, {})
        values = points.values.copy()
        for row, series in enumerate(points.series):
            if series in before:
                starts[row], value = before[series]
                values[row] = _difference(values[row], value)
        return starts, values

    def acknowledge(self, part: Snapshot) -> None:
        """Remembers that `part` has arrived."""
        for points in part.points:
            if points.metric.kind in self.kinds:
                self._acknowledged.setdefault(points.metric.name, {}).update(
                    (series, (part.time, value))
                    for series, value in zip(points.series, points.values, strict=True)
                )

    def forget(self, snapshot: Snapshot) -> None:
        """Forgets the series that `snapshot`, which has arrived, no longer has."""
        present = {points.metric.name: points.series for points in snapshot.points}
        for name, before in self._acknowledged.items():
            for series in before.keys() - set(present.get(name, ())):
                del before[series]


def _difference(value: Any, before: Any) -> Any:
    """Returns `value - before`; all of `value` if it counts anew."""
    if value.dtype.names is None:
        return value - before if value >= before else value
    if np.any(value["counts"] < before["counts"]) or value["zeros"] < before["zeros"]:
        return value
    difference = value.copy()
    for field in ("zeros", "sum", "counts"):
        difference[field] = value[field] - before[field]
    return difference


def metrics_data(part: Snapshot, deltas: Deltas) -> MetricsData:
    """Returns `part`, one `ResourceMetrics` for each resource, the scope Kernob's.

    Integers stay integers.
    """
    resources: dict[Attributes, list[Metric]] = {}
    for points in part.points:
        metric = points.metric
        rows: dict[Attributes, list[Any]] = {}
        starts, values = deltas.since(points)
        histogram = metric.kind is Kind.HISTOGRAM
        for series, start, value in zip(
            points.series, starts, values if histogram else _numbers(values), strict=True
        ):
            point = _histogram_point if histogram else _number_point
            # A clock that was set back must not make a point end before it begins.
            begin = min(start, part.time)
            rows.setdefault(series.resource, []).append(point(series, begin, part.time, value))
        for resource, data_points in rows.items():
            data = _data(metric.kind, data_points, delta=metric.kind in deltas.kinds)
            resources.setdefault(resource, []).append(
                Metric(metric.name, metric.description, metric.unit, data)
            )
    return MetricsData(
        [
            ResourceMetrics(_resource(attributes), [ScopeMetrics(_SCOPE, metrics, "")], "")
            for attributes, metrics in resources.items()
        ]
    )


def _data(kind: Kind, points: list[Any], *, delta: bool) -> Sum | Gauge | ExponentialHistogram:
    temporality = AggregationTemporality.DELTA if delta else AggregationTemporality.CUMULATIVE
    if kind is Kind.GAUGE:
        return Gauge(points)
    if kind is Kind.HISTOGRAM:
        return ExponentialHistogram(points, temporality)
    return Sum(points, temporality, is_monotonic=kind is Kind.COUNTER)


def _numbers(values: NDArray[Any]) -> list[int | float]:
    if values.dtype == np.uint64:
        values = np.minimum(values, _LARGEST)
    numbers: list[int | float] = values.tolist()
    return numbers


def _number_point(series: Series, start: int, time: int, value: float) -> NumberDataPoint:
    return NumberDataPoint(dict(series.attributes), start, time, value)


def _histogram_point(
    series: Series, start: int, time: int, value: Any
) -> ExponentialHistogramDataPoint:
    counts = value["counts"]
    used = np.flatnonzero(counts)
    first, last = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)
    return ExponentialHistogramDataPoint(
        attributes=dict(series.attributes),
        start_time_unix_nano=start,
        time_unix_nano=time,
        count=int(value["zeros"]) + int(counts.sum()),
        sum=float(value["sum"]),
        scale=int(value["scale"]),
        zero_count=int(value["zeros"]),
        positive=Buckets(int(value["offset"]) + first, counts[first:last].tolist()),
        negative=Buckets(0, []),
        flags=0,
        # Not known in the kernel, and optional in OTLP; the class has no word for that.
        min=None,  # type: ignore[arg-type]
        max=None,  # type: ignore[arg-type]
    )


@lru_cache(maxsize=4096)
def _resource(attributes: Attributes) -> Resource:
    return Resource(dict(attributes))
