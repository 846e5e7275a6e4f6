"""Rates and percentiles of requests, out of two tables of series some time apart."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from kernob.rates import seconds_between

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kernob.requests_table import Series, SeriesTable

Key = tuple[str, str, str, str, str]
"""Service, side, peer, protocol, operation."""
SCALE: Final = 3
"""Of the histograms: a bucket ends at 2**(1/8) times its beginning."""


@dataclass(slots=True)
class Line:
    """One operation of a service with a peer, between two tables.

    Attributes:
        seconds: between the two.
        buckets: requests by number of their bucket.
        errors: those that failed.
        time: seconds that all of them took.
        count: of lines, in the line that sums up others.

    """

    key: Key
    seconds: float
    buckets: dict[int, int] = field(default_factory=dict)
    errors: int = 0
    time: float = 0.0
    count: int = 1

    @property
    def requests(self) -> int:
        """How many there were."""
        return sum(self.buckets.values())

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    @property
    def error_rate(self) -> float:
        """Failed requests per second."""
        return self.errors / self.seconds

    @property
    def ended(self) -> bool:
        """An operation never ends: it may come again."""
        return False

    def add(self, other: Line) -> None:
        """Adds what another line has counted."""
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count
        self.errors += other.errors
        self.time += other.time

    def quantile(self, q: float) -> float | None:
        """Returns the duration that a part `q` of the requests did not exceed, in seconds.

        None without requests. Exact to the bucket, within which values count as spread evenly
        over its logarithm.
        """
        wanted = q * self.requests
        if not self.buckets:
            return None
        below = 0
        for bucket in sorted(self.buckets):
            count = self.buckets[bucket]
            if below + count >= wanted:
                place = max(0.0, wanted - below) / count
                return float(2.0 ** ((bucket + place) / (1 << SCALE)))
            below += count
        return float(2.0 ** ((max(self.buckets) + 1) / (1 << SCALE)))


@dataclass(frozen=True, slots=True)
class Sample:
    """All that two tables say.

    Attributes:
        table: the newer one.
        seconds: between the two, more than zero.
        lines: of every operation that is known, also those without requests in between.

    """

    table: SeriesTable
    seconds: float
    lines: list[Line]


def _key(series: Series) -> Key:
    return (series.service, series.side, series.peer, series.protocol, series.operation)


_Counted = dict[tuple[Key, str, str], tuple[dict[int, int], float]]


def _counted(table: SeriesTable) -> _Counted:
    """Returns buckets and sum of each series; those that look alike are one."""
    found: _Counted = {}
    for series in table.series:
        key = (_key(series), series.status, series.error)
        buckets, total = found.get(key, ({}, 0.0))
        for place, count in enumerate(series.counts, series.offset):
            if count:
                buckets[place] = buckets.get(place, 0) + count
        found[key] = (buckets, total + series.sum)
    return found


def measure(before: SeriesTable, after: SeriesTable, seconds: float) -> list[Line]:
    """Returns what each operation has counted between two tables.

    What is new has counted all it has. What went back (another agent) has counted nothing.
    """
    old = _counted(before)
    lines: dict[Key, Line] = {}
    for name, (buckets, total) in _counted(after).items():
        key, _, error = name
        line = lines.setdefault(key, Line(key, seconds))
        was, took = old.get(name, ({}, 0.0))
        if any(count > buckets.get(place, 0) for place, count in was.items()):
            continue
        new = {
            place: count - was.get(place, 0)
            for place, count in buckets.items()
            if count != was.get(place, 0)
        }
        errors = sum(new.values()) if error else 0
        line.add(Line(key, seconds, new, errors, max(0.0, total - took)))
    return list(lines.values())


class Meter:
    """Makes samples out of the tables as they come."""

    def __init__(self) -> None:
        self._last: SeriesTable | None = None
        self._since = 0.0

    def add(self, table: SeriesTable, now: float) -> Sample | None:
        """Takes a table in.

        Args:
            table: the table.
            now: seconds on a clock that never jumps, when it was read.

        Returns:
            None if it takes another table to say something: it is the first, or the same as before.

        """
        before, since = self._last, self._since
        if before is not None and table.time == before.time:
            return None
        self._last, self._since = table, now
        if before is None:
            return None
        seconds = seconds_between(before.time, table.time, now - since)
        return Sample(table, seconds, measure(before, table, seconds)) if seconds > 0 else None


def metered(ask: Callable[[], SeriesTable]) -> Callable[[], Sample | None]:
    """Returns a source of samples out of one of tables."""
    meter = Meter()
    return lambda: meter.add(ask(), time.monotonic())


def summed(lines: Iterable[Line], seconds: float) -> Line:
    """Returns lines added up to one, which says how many they are."""
    total = Line(("", "", "", "", ""), seconds, count=0)
    for line in lines:
        total.add(line)
        total.count += line.count
    return total


def matching(lines: Iterable[Line], text: str) -> list[Line]:
    """Returns the lines whose key has all words of `text`; case doesn't matter."""
    words = text.lower().split()
    return [line for line in lines if all(word in " ".join(line.key).lower() for word in words)]
