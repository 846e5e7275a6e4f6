"""Points of counters as they are stored, folded to steps: what `rates` makes increases of.

A run is what one series counted since one Start. In each step of it the highest value is the last
one, however often and in whatever order points came: so points that were sent twice, and rows of
rollups that are not merged yet, change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from kernob.store.tables import DELTA

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa
    from numpy.typing import NDArray

    from kernob.store.engine import Reader

MOST_CELLS: Final = 4_000_000
"""Series times steps that are read at once: 32 MB, and as much again in the store."""


@dataclass(frozen=True, slots=True)
class Which:
    """Which series of a metric.

    Attributes:
        sql: a condition over the columns of `kernob_series`.
        parameters: of it.
    """

    sql: str = "1"
    parameters: Mapping[str, object] = field(default_factory=dict)


ALL: Final = Which()


@dataclass(frozen=True, slots=True)
class Grid:
    """How time is divided.

    Attributes:
        tier: the table.
        begin: of what is read, milliseconds since the Unix epoch.
        end: of the range.
        bucket: SQL of the number of a point's step.
        before: steps before the range.
        steps: all.
        inside: what counters grow within the step of their first point is asked for, too.
    """

    tier: str
    begin: int
    end: int
    bucket: str
    before: int
    steps: int
    inside: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """The series of a metric, in order of their ids.

    Attributes:
        ids: shape (series,), uint64.
        sender: shape (series,), number of each one's sender.
        row: shape (series,), number of each one's row in the answer.
        row_sender: shape (rows,), number of the sender.
        told_apart: shape (series,), uint64.
        labels: of each row.
        deltas: whether some send increments.
    """

    ids: NDArray[np.uint64]
    sender: NDArray[np.intp]
    row: NDArray[np.intp]
    row_sender: NDArray[np.intp]
    told_apart: NDArray[np.uint64]
    labels: dict[str, list[Any]]
    deltas: bool


@dataclass(frozen=True, slots=True)
class Runs:
    """What was read of some series.

    Attributes:
        series: shape (runs,), number of each one's series.
        points: shape (runs,), how many.
        present: shape (runs, steps), whether there was a point.
        grew: shape (runs, steps), by how much after the first point.
        began: shape (runs,), whether the counter did within what was read.
        first: shape (runs,), step of the first point.
        initial: shape (runs,), value of the first point: the highest of its step.
        inside: shape (runs,), how much of it was counted within that step for sure.
    """

    series: NDArray[np.intp]
    points: NDArray[np.uint64]
    present: NDArray[np.bool_]
    grew: NDArray[np.float64]
    began: NDArray[np.bool_]
    first: NDArray[np.intp]
    initial: NDArray[np.float64]
    inside: NDArray[np.float64]


def _chosen(which: Which) -> str:
    """Returns the condition for `kernob_series`; it has a row for each day that a series lives."""
    return (
        "MetricName = {metric:String} "
        "AND Day >= toDate(fromUnixTimestamp64Milli({begin:Int64}), 'UTC') - 1 "
        "AND Day <= toDate(fromUnixTimestamp64Milli({end:Int64}), 'UTC') + 1 "
        f"AND ({which.sql})"
    )


def _parameters(metric: str, grid: Grid, which: Which) -> dict[str, object]:
    return {"metric": metric, "begin": grid.begin, "end": grid.end, **which.parameters}


def read_series(
    reader: Reader,
    metric: str,
    grid: Grid,
    labels: Mapping[str, str],
    which: Which,
    distinct: str,
) -> Series:
    """Returns the series of a metric, once for each id.

    Args:
        reader: of the store.
        metric: its name.
        grid: for the days that are looked at.
        labels: SQL over the columns of `kernob_series`, by name.
        which: series of it.
        distinct: SQL of `Series.told_apart`, a text.
    """
    selected = "".join(f", any({sql}) AS label{n}" for n, sql in enumerate(labels.values()))
    found = reader.read(
        "SELECT SeriesId, any(cityHash64(ResourceAttributes)) AS sender, "
        f"any(cityHash64({distinct})) AS told_apart, any(Temporality) AS temporality{selected} "
        f"FROM kernob_series WHERE {_chosen(which)} GROUP BY SeriesId ORDER BY SeriesId",
        **_parameters(metric, grid, which),
    )
    _, sender = np.unique(found["sender"].to_numpy(), return_inverse=True)
    columns = [found[f"label{n}"].to_pylist() for n in range(len(labels))]
    rows: dict[tuple[Any, ...], int] = {}
    keys = zip(sender.tolist(), *columns, strict=True)
    row = np.array([rows.setdefault(key, len(rows)) for key in keys], np.intp)
    return Series(
        ids=found["SeriesId"].to_numpy(),
        sender=sender,
        row=row,
        row_sender=np.array([key[0] for key in rows], np.intp),
        told_apart=found["told_apart"].to_numpy(),
        labels={label: [key[n + 1] for key in rows] for n, label in enumerate(labels)},
        deltas=bool((found["temporality"].to_numpy() == DELTA).any()),
    )


def read_runs(
    reader: Reader, metric: str, grid: Grid, series: Series, which: Which
) -> Iterator[Runs]:
    """Yields counters, a share of the series at a time, and increments if there are some."""
    rollup = ("Max", "Sum", "sum(Count)")
    value, summed, count = ("Value", "Value", "count()") if grid.tier == "points" else rollup
    head = f"WITH {grid.bucket} AS bucket SELECT SeriesId, {count} AS points, "
    source = (
        f" FROM kernob_{grid.tier} WHERE MetricName = {{metric:String}} "
        "AND Time >= fromUnixTimestamp64Milli({begin:Int64}) "
        "AND Time < fromUnixTimestamp64Milli({end:Int64}) "
        "AND SeriesId BETWEEN {first:UInt64} AND {last:UInt64}"
    )
    some = f" AND SeriesId IN (SELECT SeriesId FROM kernob_series WHERE {_chosen(which)}"
    uncompressed = "SETTINGS output_format_arrow_compression_method = 'none'"
    # One is added to each value, so that 0 says that there is none.
    counters = (
        f"{head}toUnixTimestamp64Milli(Start) AS start, "
        f"{f'min({value})' if grid.inside else 'NULL'} AS lowest, "
        f"maxResample(0, {grid.steps}, 1)({value} + 1, bucket) AS highest{source}"
        + (f"{some} AND Temporality != {DELTA})" if which != ALL or series.deltas else "")
        + f" GROUP BY SeriesId, Start {uncompressed}"
    )
    deltas = (
        f"{head}sumResample(0, {grid.steps}, 1)({summed}, bucket) AS grew, "
        f"countResample(0, {grid.steps}, 1)(bucket) AS present{source}"
        f"{some} AND Temporality = {DELTA}) GROUP BY SeriesId {uncompressed}"
    )
    parameters = _parameters(metric, grid, which)
    share = max(1, MOST_CELLS // grid.steps)
    for at in range(0, len(series.ids), share):
        ids = series.ids[at : at + share]
        between = {"first": int(ids[0]), "last": int(ids[-1])}
        found = reader.read(counters, **parameters, **between)
        if found.num_rows:
            yield _counted(found, series, grid)
        if series.deltas:
            found = reader.read(deltas, **parameters, **between)
            if found.num_rows:
                yield _summed(found, series, grid)


def _numbers(found: pa.Table, series: Series) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Returns which rows are of known series, and the numbers of those.

    A series whose description comes later than its points is unknown for a moment.
    """
    ids = found["SeriesId"].to_numpy()
    at = np.searchsorted(series.ids, ids).clip(max=len(series.ids) - 1)
    known = series.ids[at] == ids
    return known, at[known]


def _array(found: pa.Table, name: str, steps: int) -> NDArray[Any]:
    """Returns a column of lists of equal length, shape (rows, steps)."""
    values: NDArray[Any] = found[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return values.reshape(-1, steps)


def _counted(found: pa.Table, series: Series, grid: Grid) -> Runs:
    """Returns what counters did."""
    known, number = _numbers(found, series)
    highest = _array(found, "highest", grid.steps)[known]
    present = highest > 0
    first = present.argmax(axis=1)
    initial = np.take_along_axis(highest, first[:, None], 1)
    # What is missing is as it was before.
    at = np.maximum.accumulate(np.where(present, np.arange(grid.steps), 0), axis=1)
    filled = np.take_along_axis(highest, at, 1)
    filled = np.where(np.arange(grid.steps) < first[:, None], initial, filled)
    grew = np.diff(filled, axis=1, prepend=initial)
    initial = initial[:, 0] - 1
    inside = np.zeros(len(initial))
    if grid.inside:
        inside = np.maximum(initial - found["lowest"].to_numpy()[known], 0)
    return Runs(
        series=number,
        points=found["points"].to_numpy()[known],
        present=present,
        grew=np.where(grew < 0, filled - 1, grew),
        began=found["start"].to_numpy()[known] >= grid.begin,
        first=first,
        initial=initial,
        inside=inside,
    )


def _summed(found: pa.Table, series: Series, grid: Grid) -> Runs:
    """Returns what increments add up to."""
    known, number = _numbers(found, series)
    grew = _array(found, "grew", grid.steps)[known]
    return Runs(
        series=number,
        points=found["points"].to_numpy()[known],
        present=_array(found, "present", grid.steps)[known] > 0,
        grew=grew,
        began=np.ones(len(grew), np.bool_),
        first=np.zeros(len(grew), np.intp),
        initial=np.zeros(len(grew)),
        inside=np.zeros(len(grew)),
    )
