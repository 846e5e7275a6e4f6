"""Snapshots for a sender: in parts, cumulative or as deltas.

Apart from `otlp` since this needs OpenTelemetry's SDK in memory, which only a sender wants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kernob.telemetry import otlp_data
from kernob.telemetry.model import Kind, Points, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.metrics.export import MetricsData

PART: Final = 2000
"""Points in one request at most: well under gRPC's usual limit of 4 MiB a message."""
_DELTA: Final = {
    "cumulative": frozenset[Kind](),
    "delta": frozenset({Kind.COUNTER, Kind.HISTOGRAM}),
    "lowmemory": frozenset({Kind.HISTOGRAM}),
}


class Snapshots:
    """What a sender must know of snapshots (`otlp.Cargo`): each is a batch of its own.

    Args:
        temporality: see `otlp_settings.Settings`.
    """

    batch: Final = 1
    pause: Final = 0.0

    def __init__(self, temporality: str) -> None:
        self._deltas = otlp_data.Deltas(_DELTA[temporality])

    def parts(self, items: Sequence[Snapshot]) -> Iterator[Snapshot]:
        """Yields a snapshot in parts of at most `PART` points."""
        return _parts(items[0])

    def data(self, part: Snapshot) -> MetricsData:
        """Returns what the exporter takes: deltas since what has arrived."""
        return otlp_data.metrics_data(part, self._deltas)

    def arrived(self, part: Snapshot) -> None:
        """Remembers it: deltas begin there."""
        self._deltas.acknowledge(part)

    def done(self, items: Sequence[Snapshot]) -> None:
        """Forgets series that are no more."""
        self._deltas.forget(items[0])

    def time(self, items: Sequence[Snapshot]) -> int:
        """Returns of when it is."""
        return items[0].time


def _parts(snapshot: Snapshot) -> Iterator[Snapshot]:
    """Yields `snapshot` in parts of at most `PART` points."""
    part: list[Points] = []
    room = PART
    for points in snapshot.points:
        at = 0
        while at < len(points.series):
            some = slice(at, at + room)
            part.append(Points(points.metric, points.series[some], points.values[some]))
            at += len(part[-1].series)
            room -= len(part[-1].series)
            if not room:
                yield Snapshot(snapshot.time, tuple(part))
                part, room = [], PART
    if part:
        yield Snapshot(snapshot.time, tuple(part))
