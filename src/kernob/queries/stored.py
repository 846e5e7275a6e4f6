"""Exponential histograms as they are stored, folded to steps: `histograms` makes increases of them.

In each step of a run the histogram with the highest count is the last one, however often and in
whatever order they came: so those that were sent twice, and rows of rollups that are not merged
yet, change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from kernob.queries.runs import ALL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa
    from numpy.typing import NDArray

    from kernob.queries.runs import Grid, Which
    from kernob.store.engine import Reader

    Labels = dict[str, list[Any]]

MOST_CELLS: Final = 8_000_000
"""Buckets that an answer may have; beyond that the scale is made coarser."""
CELLS_AT_ONCE: Final = 2_000_000
"""Buckets that are read at once."""
ROWS_AT_ONCE: Final = 200_000
"""Histograms that are read at once."""
MOST_NAMED: Final = 5_000
"""Series that a query names one by one."""

NEVER: Final = 1 << 62

_FIRST: Final = "min(toUnixTimestamp64Milli(toDateTime64(Time, 3)))"
_SNAPSHOTS: Final = "kernob.agent.collections"
"""What each snapshot of an agent has, whatever else it has."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Where buckets lie in arrays: zeros first, then `width - 1` buckets of one scale.

    Attributes:
        scale: of all.
        lowest: number of the first bucket.
        width: of the arrays.
    """

    scale: int
    lowest: int
    width: int


@dataclass(frozen=True, slots=True)
class Series:
    """Series in order of their ids; `senders` are hashes, `sender` numbers them."""

    ids: NDArray[np.uint64]
    sender: NDArray[np.intp]
    senders: NDArray[np.uint64]
    labels: Labels


@dataclass(frozen=True, slots=True)
class Heard:
    """When senders were heard of.

    Attributes:
        steps: shape (senders, steps): whether they were.
        snapshots: shape (senders,): how often.
        first: shape (senders,): when first, milliseconds since the Unix epoch, or `NEVER`.
    """

    steps: NDArray[np.bool_]
    snapshots: NDArray[np.uint64]
    first: NDArray[np.int64]

    def note(self, found: pa.Table, known: NDArray[np.bool_], sender: NDArray[np.intp]) -> None:
        """Adds the rows `known`, of these senders, if they were not heard of before."""
        new = np.logical_not(self.steps.any(axis=1))[sender]
        sender = sender[new]
        step, points, first = (
            found[name].to_numpy()[known][new] for name in ("bucket", "points", "first")
        )
        self.steps[sender, step.astype(np.intp)] = True
        # One snapshot has many series: those of the one that has the most count.
        most = np.zeros(self.steps.shape, np.uint64)
        np.maximum.at(most, (sender, step.astype(np.intp)), points.astype(np.uint64))
        self.snapshots[:] += most.sum(axis=1)
        np.minimum.at(self.first, sender, first.astype(np.int64))


@dataclass(slots=True)
class Found:
    """Histograms of some series: first as they are, then how much they grew; n of them.

    Attributes:
        series: shape (n,): number of each one's series.
        start: shape (n,): milliseconds.
        step: shape (n,): number of its step.
        time: shape (n,): of the first point in its step, milliseconds since the Unix epoch.
        delta: shape (n,): it is an increment.
        first: shape (n,): it is the first of its run.
        count: shape (n,).
        sum: shape (n,).
        cells: shape (n, width).
    """

    series: NDArray[np.intp]
    start: NDArray[np.int64]
    step: NDArray[np.intp]
    time: NDArray[np.int64]
    delta: NDArray[np.bool_]
    first: NDArray[np.bool_]
    count: NDArray[np.float64]
    sum: NDArray[np.float64]
    cells: NDArray[np.float64]

    def keys(self) -> list[tuple[int, int, int]]:
        """Returns run and step of each."""
        parts = (self.series.tolist(), self.start.tolist(), self.step.tolist())
        return list(zip(*parts, strict=True))

    def grow(self) -> None:
        """Makes each how much more it is than the one before of its run."""
        same = (self.series[1:] == self.series[:-1]) & (self.start[1:] == self.start[:-1])
        self.first = ~np.append(False, same)
        # A count that falls is one that began anew.
        follows = same & ~self.delta[1:] & (self.count[1:] >= self.count[:-1])
        for name in ("count", "sum", "cells"):
            values = getattr(self, name)
            grown = values.copy()
            grown[1:][follows] -= values[:-1][follows]
            setattr(self, name, grown)

    def forget(self, which: NDArray[np.bool_], lowest: Found | None) -> None:
        """Takes off what was recorded before anybody counted here: all, or the lowest known."""
        for name in ("count", "sum", "cells"):
            values = getattr(self, name)
            values[which] = 0 if lowest is None else values[which] - getattr(lowest, name)


@dataclass(frozen=True, slots=True)
class Question:
    """What is read, part by part."""

    reader: Reader
    metrics: tuple[str, ...]
    grid: Grid
    which: Which
    service: str

    def series(self, labels: Mapping[str, str]) -> Series:
        """Returns the series, those without points too."""
        selected = "".join(f", any({sql}) AS label{n}" for n, sql in enumerate(labels.values()))
        found = self.reader.read(
            f"SELECT SeriesId, any(cityHash64(ResourceAttributes)) AS sender{selected} "
            f"FROM kernob_series WHERE {self._chosen()} GROUP BY SeriesId ORDER BY SeriesId",
            **self._parameters(),
        )
        senders, sender = np.unique(found["sender"].to_numpy(), return_inverse=True)
        named = {label: found[f"label{n}"].to_pylist() for n, label in enumerate(labels)}
        return Series(found["SeriesId"].to_numpy(), sender, senders, named)

    def _chosen(self) -> str:
        service = "AND Service = {service:String} " if self.service else ""
        return (
            f"MetricName IN ({self._names()}) AND Kind = 'exponential_histogram' {service}"
            "AND Day >= toDate(fromUnixTimestamp64Milli({begin:Int64}), 'UTC') - 1 "
            "AND Day <= toDate(fromUnixTimestamp64Milli({end:Int64}), 'UTC') + 1 "
            f"AND ({self.which.sql})"
        )

    def _names(self) -> str:
        return ", ".join(f"{{metric{n}:String}}" for n in range(len(self.metrics)))

    def _parameters(self) -> dict[str, object]:
        names = {f"metric{n}": name for n, name in enumerate(self.metrics)}
        used = {"begin": self.grid.begin, "end": self.grid.end, "service": self.service}
        return {**used, **names, **self.which.parameters}

    def _source(self, first: int = 0, last: int = (1 << 64) - 1) -> str:
        """Returns the SQL behind FROM: the series whose ids lie between two."""
        service = "Service = {service:String} AND " if self.service else ""
        some = f" AND SeriesId BETWEEN {first} AND {last}"
        if self.which != ALL:
            some += f" AND SeriesId IN (SELECT SeriesId FROM kernob_series WHERE {self._chosen()})"
        return (
            f"kernob_{self.grid.tier.replace('points', 'histograms')} "
            f"WHERE {service}MetricName IN ({self._names()}) "
            "AND Time >= fromUnixTimestamp64Milli({begin:Int64}) "
            f"AND Time < fromUnixTimestamp64Milli({{end:Int64}}){some}"
        )

    def frame(self, rows: int) -> Frame:
        """Returns a frame that holds all buckets, coarser if so many rows would be too large."""
        found = self.reader.read(
            "SELECT Scale AS scale, min(Offset) AS low, max(Offset + length(Buckets)) AS high "
            f"FROM {self._source()} AND notEmpty(Buckets) GROUP BY Scale",
            **self._parameters(),
        ).to_pylist()
        if not found:
            return Frame(0, 0, 1)
        scale = min(int(row["scale"]) for row in found)
        while True:
            low = min(int(row["low"]) >> int(row["scale"]) - scale for row in found)
            high = max((int(row["high"]) - 1) >> int(row["scale"]) - scale for row in found)
            width = high - low + 2
            if rows * width <= MOST_CELLS or high == low:
                return Frame(scale, low, width)
            scale -= 1

    def heard(self, series: Series) -> Heard:
        """Returns when senders were heard of.

        Agents by what each of their snapshots has, others by the histograms themselves.
        """
        senders = len(series.senders)
        heard = Heard(
            np.zeros((senders, self.grid.steps), np.bool_),
            np.zeros(senders, np.uint64),
            np.full(senders, NEVER, np.int64),
        )
        if not senders:
            return heard
        count = "count()" if self.grid.tier == "points" else "sum(Count)"
        agents = self.reader.read(
            f"""
SELECT sender, bucket, sum(points) AS points, min(first) AS first FROM (
    SELECT SeriesId, {self.grid.bucket} AS bucket, {count} AS points, {_FIRST} AS first
    FROM kernob_{self.grid.tier} WHERE MetricName = '{_SNAPSHOTS}'
        AND Time >= fromUnixTimestamp64Milli({{begin:Int64}})
        AND Time < fromUnixTimestamp64Milli({{end:Int64}})
    GROUP BY SeriesId, bucket
) AS snapshots INNER JOIN (
    SELECT SeriesId, any(cityHash64(ResourceAttributes)) AS sender FROM kernob_series
    WHERE MetricName = '{_SNAPSHOTS}'
        AND Day >= toDate(fromUnixTimestamp64Milli({{begin:Int64}}), 'UTC') - 1
    GROUP BY SeriesId
) AS senders USING SeriesId GROUP BY sender, bucket""",
            **self._parameters(),
        )
        heard.note(agents, *_numbers(agents["sender"].to_numpy(), series.senders))
        if heard.steps.any(axis=1).all():
            return heard
        others = self.reader.read(
            f"SELECT SeriesId, {self.grid.bucket} AS bucket, count() AS points, "
            f"{_FIRST} AS first FROM {self._source()} GROUP BY SeriesId, bucket",
            **self._parameters(),
        )
        known, number = _numbers(others["SeriesId"].to_numpy(), series.ids)
        heard.note(others, known, series.sender[number])
        return heard

    def histograms(self, series: Series, frame: Frame, *, buckets: bool) -> Iterator[Found]:
        """Yields how much histograms grew, a share of the series at a time."""
        at_once = min(ROWS_AT_ONCE, CELLS_AT_ONCE // frame.width)
        share = max(1, at_once // self.grid.steps)
        for at in range(0, len(series.ids), share):
            ids = series.ids[at : at + share]
            source = self._source(int(ids[0]), int(ids[-1]))
            found = self._read(series, frame, source, "argMax", buckets=buckets)
            found.grow()
            yield found

    def lowest(
        self,
        series: Series,
        found: Found,
        begins: NDArray[np.bool_],
        frame: Frame,
        *,
        buckets: bool,
    ) -> Found | None:
        """Returns the first histogram of runs that it is unknown what was before; see `Grid`."""
        if not self.grid.inside or not begins.any():
            return None
        ids = np.unique(series.ids[found.series[begins]])
        source = self._source(int(ids[0]), int(ids[-1]))
        if len(ids) <= MOST_NAMED:
            source += f" AND SeriesId IN ({', '.join(map(str, ids.tolist()))})"
        lowest = self._read(series, frame, source, "argMin", buckets=buckets)
        place = {key: at for at, key in enumerate(lowest.keys())}
        at = [place[key] for key, begin in zip(found.keys(), begins, strict=True) if begin]
        return Found(*(getattr(lowest, part.name)[at] for part in fields(Found)))

    def _read(
        self, series: Series, frame: Frame, source: str, pick: str, *, buckets: bool
    ) -> Found:
        """Returns one histogram of each run and step, and each increment."""
        columns = "Count, Sum, Scale, Zeros, Offset, Buckets" if buckets else "Count, Sum"
        parts = [
            f"one.{n} AS {name.strip().lower()}" for n, name in enumerate(columns.split(","), 1)
        ]
        firsts: dict[tuple[int, ...], int] = {}
        if buckets and self.grid.inside:
            firsts, times = self._ends(source, pick)
            source += times
        found = self.reader.read(
            f"SELECT SeriesId, start, bucket, delta, first, {', '.join(parts)} FROM ("
            "SELECT SeriesId, toUnixTimestamp64Milli(Start) AS start, "
            f"{self.grid.bucket} AS bucket, IsDelta AS delta, {_FIRST} AS first, "
            f"{pick}(tuple({columns}), Count) AS one "
            f"FROM {source} GROUP BY SeriesId, Start, bucket, IsDelta, "
            "if(IsDelta, toUnixTimestamp64Milli(Time), 0)) ORDER BY SeriesId, start, bucket "
            "SETTINGS output_format_arrow_compression_method = 'none'",
            **self._parameters(),
        )
        known, number = _numbers(found["SeriesId"].to_numpy(), series.ids)
        found = found.filter(known)
        time = found["first"].to_numpy().astype(np.int64)
        if firsts:
            time = np.array(
                [firsts.get(key, at) for key, at in zip(_keys(found), time, strict=True)]
            )
        return Found(
            series=number,
            start=found["start"].to_numpy().astype(np.int64),
            step=found["bucket"].to_numpy().astype(np.intp),
            time=time,
            delta=found["delta"].to_numpy().astype(np.bool_),
            first=np.ones(len(number), np.bool_),
            count=found["count"].to_numpy().astype(np.float64),
            sum=found["sum"].to_numpy().astype(np.float64),
            cells=_cells(found, frame) if buckets else np.zeros((len(number), 1)),
        )

    def _ends(self, source: str, pick: str) -> tuple[dict[tuple[int, ...], int], str]:
        """Returns the first time of each run and step, and a condition for those to be picked.

        Where a step holds many histograms of a run, their buckets are not read but for few.
        """
        found = self.reader.read(
            "SELECT SeriesId, toUnixTimestamp64Milli(Start) AS start, "
            f"{self.grid.bucket} AS bucket, max(IsDelta) AS delta, {_FIRST} AS first, "
            f"toUnixTimestamp64Milli({pick}(Time, Count)) AS time "
            f"FROM {source} GROUP BY SeriesId, Start, bucket",
            **self._parameters(),
        )
        times = np.unique(found["time"].to_numpy())
        if not len(times) or len(times) > MOST_NAMED or found["delta"].to_numpy().any():
            return {}, ""
        named = ", ".join(f"fromUnixTimestamp64Milli({time})" for time in times.tolist())
        firsts = dict(zip(_keys(found), found["first"].to_pylist(), strict=True))
        return firsts, f" AND Time IN ({named})"


def _keys(found: pa.Table) -> list[tuple[int, ...]]:
    columns = (found[name].to_pylist() for name in ("SeriesId", "start", "bucket"))
    return list(zip(*columns, strict=True))


def _numbers(
    ids: NDArray[np.uint64], known: NDArray[np.uint64]
) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Returns which ids are known, and the numbers of those."""
    if not len(known):
        return np.zeros(len(ids), np.bool_), np.zeros(0, np.intp)
    at = np.searchsorted(known, ids).clip(max=len(known) - 1)
    found: NDArray[np.bool_] = np.equal(known[at], ids)
    return found, at[found]


def _cells(found: pa.Table, frame: Frame) -> NDArray[np.float64]:
    """Returns histograms side by side, shape (histograms, width)."""
    lists = found["buckets"].combine_chunks()
    lengths = np.diff(lists.offsets.to_numpy())
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    starts = np.cumsum(lengths) - lengths
    offset = found["offset"].to_numpy().astype(np.int64)
    index = np.arange(len(flat)) - starts[owner] + offset[owner]
    index >>= found["scale"].to_numpy().astype(np.int64)[owner] - frame.scale
    place = owner * frame.width + index - frame.lowest + 1
    size = len(lengths) * frame.width
    summed = np.bincount(place, weights=flat, minlength=size).astype(np.float64)
    cells: NDArray[np.float64] = summed.reshape(len(lengths), frame.width)
    cells[:, 0] = found["zeros"].to_numpy()
    return cells
