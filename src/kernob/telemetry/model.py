"""The one model of what leaves Kernob: snapshots of points, each point of one series.

A signal makes `Points`, one for each metric: the series (who and what) beside one numpy array of
cumulative values. Exporters (OTLP, Prometheus) read them and nothing else, so a new signal
needs no change here, and a new exporter none in the signals. Names, units and attributes follow
the OpenTelemetry semantic conventions where they have one.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

AttributeValue = str | int | float | bool
Attributes = tuple[tuple[str, AttributeValue], ...]
"""Names and values in order of their names: hashable, so equal sets are one series."""

VALUE_LENGTH: Final = 1024
"""Longest text of an attribute, in characters; `attributes` cuts what is longer."""

OVERFLOW: Final[Attributes] = (("otel.metric.overflow", True),)
"""Attributes of the series that takes what exceeds a metric's limit of series.

OpenTelemetry specification 1.50, metrics SDK, "Overflow attribute".
"""


class Kind(enum.Enum):
    """What a metric's values mean."""

    COUNTER = "counter"
    """Only grows: a monotonic cumulative sum."""
    UP_DOWN_COUNTER = "up-down counter"
    """A sum that may fall."""
    GAUGE = "gauge"
    """The latest value; not to be added up."""
    HISTOGRAM = "exponential histogram"
    """Counts by buckets whose borders are powers of 2**(2**-scale)."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What is measured.

    Attributes:
        name: the OpenTelemetry name (`process.network.io`).
        unit: in UCUM (`By`, `s`, `{operation}`).
    """

    name: str
    kind: Kind
    unit: str
    description: str


@dataclass(frozen=True, slots=True)
class Series:
    """Whose values these are.

    Attributes:
        resource: the OpenTelemetry resource (`service.name`, `host.name`, ...).
        attributes: those of the point.
        start: since when it counts, in nanoseconds since the Unix epoch.
    """

    resource: Attributes
    attributes: Attributes
    start: int


def histogram_dtype(buckets: int) -> np.dtype[Any]:
    """Returns the dtype of a `HISTOGRAM`'s values with `buckets` positive buckets.

    `counts[i]` are the values in bucket number `offset + i`, which holds
    `(base**(offset + i), base**(offset + i + 1)]` with `base = 2**(2**-scale)`; `zeros` the
    values that are zero; `sum` is in the metric's unit. The rows of one `Points` all have the
    same scale (-4 to 8, what Prometheus takes) and offset: they come from one kernel map.
    """
    return np.dtype(
        [
            ("scale", np.int8),
            ("offset", np.int32),
            ("zeros", np.uint64),
            ("sum", np.float64),
            ("counts", np.uint64, (buckets,)),
        ]
    )


@dataclass(frozen=True, slots=True)
class Points:
    """The values of one metric at one time.

    Attributes:
        series: n series, all different.
        values: shape (n,): int64, uint64 or float64; for a `HISTOGRAM` of `histogram_dtype`.
            Sums are cumulative since the series' start. Once shown, a series is in every
            snapshot until it is gone for good; one that comes back has a new start.
    """

    metric: Metric
    series: Sequence[Series]
    values: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All points of one moment.

    Attributes:
        time: nanoseconds since the Unix epoch.
    """

    time: int
    points: tuple[Points, ...]


def attributes(values: dict[str, AttributeValue]) -> Attributes:
    """Returns `values` as attributes, in order of their names.

    Texts become what every exporter can encode: at most `VALUE_LENGTH` characters, with `?` for
    what is no valid Unicode (names in /proc are bytes).
    """
    return tuple(sorted((name, _clean(value)) for name, value in values.items()))


def _clean(value: AttributeValue) -> AttributeValue:
    if not isinstance(value, str) or (value.isascii() and len(value) <= VALUE_LENGTH):
        return value
    return value[:VALUE_LENGTH].encode("utf-8", "replace").decode()


class SeriesLimit:
    """Bounds the series of one metric; what exceeds it goes, summed, into one series.

    A series keeps its place, among the admitted or in the overflow, for as long as it lives, and
    what a counter or histogram in the overflow had counted stays there when it ends: no sum ever
    goes back. The place of an admitted series that ends is free again.

    OpenTelemetry specification 1.50, metrics SDK, "Cardinality limits": the overflow series
    counts towards the limit.

    Attributes:
        overflowing: how many series of the last points went into the overflow.
    """

    def __init__(self, limit: int, resource: Attributes) -> None:
        """Admits `limit - 1` series; the overflow's series is of `resource`."""
        self.overflowing = 0
        self._room = limit - 1
        self._resource = resource
        self._series: Series | None = None
        self._admitted: set[Series] = set()
        self._divided: Sequence[Series] = ()
        self._shown: list[Series] = []
        self._kept = np.zeros(0, np.intp)
        self._exceeding = np.zeros(0, np.intp)
        self._overflowed: dict[Series, int] = {}
        self._values: NDArray[Any] = np.zeros(0)
        self._ended: NDArray[Any] = np.zeros(0)

    def apply(self, points: Points) -> Points:
        """Returns `points` with at most `limit` series."""
        if self._series is None:
            if len(points.series) <= self._room:
                # All are admitted; who they are only matters once there are too many.
                self._divided = points.series
                return points
            self._admitted = set(self._divided)
            self._divided = ()
        # The same list as last time, as it mostly is, is divided as it was.
        if points.series is not self._divided:
            self._divide(points)
        if self._series is None:
            start = min(points.series[row].start for row in self._exceeding.tolist())
            self._series = Series(self._resource, OVERFLOW, start)
        overflow = self._sum(points)
        return Points(
            points.metric,
            [*self._shown, *[self._series] * len(overflow)],
            np.concatenate([points.values[self._kept], overflow]),
        )

    def _divide(self, points: Points) -> None:
        """Tells the rows of the admitted series from those that exceed the limit."""
        present = points.series
        self._admitted.intersection_update(present)
        kept: list[int] = []
        exceeding: list[int] = []
        overflowed: dict[Series, int] = {}
        for row, series in enumerate(present):
            if series not in self._admitted:
                if series in self._overflowed or len(self._admitted) >= self._room:
                    overflowed[series] = len(exceeding)
                    exceeding.append(row)
                    continue
                self._admitted.add(series)
            kept.append(row)
        gone = [at for series, at in self._overflowed.items() if series not in overflowed]
        if gone and points.metric.kind in (Kind.COUNTER, Kind.HISTOGRAM):
            self._ended = _add(self._ended, self._values[gone])
        self._overflowed = overflowed
        self._kept, self._exceeding = np.array(kept, np.intp), np.array(exceeding, np.intp)
        self._shown = [present[row] for row in kept]
        self._divided = present
        self.overflowing = len(exceeding)

    def _sum(self, points: Points) -> NDArray[Any]:
        """Returns the overflow's value, shape (1,); of a gauge the last one, shape (0,) or (1,)."""
        self._values = points.values[self._exceeding]
        if points.metric.kind is Kind.GAUGE:
            return self._values[-1:]
        return _add(self._ended, self._values)


def _add(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """Returns the sum of both, shape (1,), of the dtype of `second`."""
    rows = np.concatenate([first.astype(second.dtype), second]) if len(first) else second
    total = np.zeros(1, second.dtype)
    if second.dtype.names is None:
        total[0] = rows.sum(dtype=second.dtype)
    elif len(rows):
        total[0] = rows[0]
        for field in ("zeros", "sum", "counts"):
            total[field][0] = rows[field].sum(axis=0)
    return total
