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
    values that are zero; `sum` is in the metric's unit.
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
            Sums are cumulative since the series' start.
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
    """Returns `values` as attributes, in order of their names."""
    return tuple(sorted(values.items()))
