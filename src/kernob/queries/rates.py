"""From counters to increases: the one place that knows how.

A series (SeriesId) that starts anew gets a new Start; within one Start a cumulative counter only
grows. So in each step of each (SeriesId, Start), a run, the highest value is the last one, however
often and in whatever order points came, and a step's increase is that value less the one before:

- The first value counts from 0 if the counter began (Start) within what is read, or if whoever
  sends it was heard of before without it; else it is unknown what came before, and the first value
  is where counting begins. What is read begins `LOOK_BACK` steps before the range for that.
- A value that falls within one Start counts from 0: a sender that restarts without saying so.
- Increments (deltas, temporality 1) are summed.

Increases are exact: their sum is what was counted between the first and the last point. Rates are
drawn from them: what was counted after a gap belongs to the whole gap, so its rate is spread over
it, and the steps without a measurement stay empty. One sender takes snapshots of all its series at
once, so gaps are those of senders.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from kernob.queries.runs import ALL, Grid, Series, Which, read_runs, read_series

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from kernob.queries.model import Range
    from kernob.store.engine import Reader

LOOK_BACK: Final = 12
"""Steps before the range that are read for the value to start from."""
STORED_WITHIN: Final = 500
"""Milliseconds from a snapshot to its place in the store, as a rule."""


@dataclass(frozen=True, slots=True)
class Increases:
    """How much counters grew, by what they were told apart by and by sender.

    Attributes:
        labels: of each row, by name.
        values: shape (rows, steps of the range): increase within each step.
        rates: shape (rows, steps of the range): per second; NaN where its sender was silent.
        distinct: shape (pairs, 2), uint64: row, and hash of the text that was asked for, for
            texts of series that grew.
        points: that were read.
    """

    labels: dict[str, list[Any]]
    values: NDArray[np.float64]
    rates: NDArray[np.float64]
    distinct: NDArray[np.uint64]
    points: int


def increases(
    reader: Reader,
    metric: str,
    asked: Range,
    labels: Mapping[str, str],
    which: Which = ALL,
    distinct: str = "''",
) -> Increases:
    """Returns how much a metric's counters grew in each step.

    The SQL has two parts: who the series are (`kernob_series`), and the highest value of each run
    in each step, as one array (`maxResample`). Many series are read a share at a time, by ranges of
    their id, which the tables are sorted by. Differences are numpy's: half of the time that arrays
    of lambdas take in ClickHouse.

    Args:
        reader: of the store.
        metric: its name.
        asked: the range.
        labels: SQL over the columns of `kernob_series`, by the name it has in the answer.
        which: series of it.
        distinct: SQL over the same columns, a text: see `Increases.distinct`.

    Raises:
        StoreError: as `Reader.read`.
    """
    begin = asked.start - LOOK_BACK * asked.step
    # Steps begin at whole seconds.
    bucket = f"intDiv(toUnixTimestamp(Time) - {begin // 1000}, {asked.step // 1000})"
    steps = (asked.end - asked.start) // asked.step + LOOK_BACK
    grid = Grid(asked.tier, begin, asked.end, bucket, LOOK_BACK, steps)
    grown = _grown(reader, metric, grid, labels, which, distinct)
    rates = spread(
        grown.values, grown.series.row_sender, grown.heard, grown.unknown, grown.snapshots
    )
    return Increases(
        labels=grown.series.labels,
        values=grown.values[:, LOOK_BACK:],
        rates=rates[:, LOOK_BACK:] * (1000 / asked.step),
        distinct=grown.pairs,
        points=grown.points,
    )


def totals(
    reader: Reader, metric: str, asked: Range, labels: Mapping[str, str], which: Which = ALL
) -> dict[tuple[Any, ...], float]:
    """Returns how much a metric's counters grew within the whole range, by labels; not zeros.

    As the sum of `increases`, for half of its time: the SQL takes the highest value before the
    range and the highest in it. So a counter that falls without a new Start is not noticed.

    Args:
        reader: of the store.
        metric: its name.
        asked: the range.
        labels: SQL over the columns of `kernob_series`, by name.
        which: series of it.

    Raises:
        StoreError: as `Reader.read`.
    """
    begin = asked.start - LOOK_BACK * asked.step
    bucket = f"toUnixTimestamp(Time) >= {asked.start // 1000}"
    grid = Grid(asked.tier, begin, asked.end, bucket, before=1, steps=2, inside=True)
    grown = _grown(reader, metric, grid, labels, which)
    found: dict[tuple[Any, ...], float] = {}
    keys = zip(*grown.series.labels.values(), strict=True)
    for key, total in zip(keys, grown.values[:, 1].tolist(), strict=True):
        if total:
            found[key] = found.get(key, 0.0) + total
    return found


@dataclass(frozen=True, slots=True)
class _Grown:
    """What series did, before rates are made of it.

    Attributes:
        series: whose it is.
        values: shape (rows, steps), increases.
        heard: shape (senders, steps), whether anything came.
        unknown: shape (senders,), counting begins within the step that is heard of first.
        snapshots: shape (senders,), points of the series that has the most.
        pairs: as `Increases.distinct`.
        points: that were read.
    """

    series: Series
    values: NDArray[np.float64]
    heard: NDArray[np.bool_]
    unknown: NDArray[np.bool_]
    snapshots: NDArray[np.uint64]
    pairs: NDArray[np.uint64]
    points: int


def _grown(
    reader: Reader,
    metric: str,
    grid: Grid,
    labels: Mapping[str, str],
    which: Which,
    distinct: str = "''",
) -> _Grown:
    series = read_series(reader, metric, grid, labels, which, distinct)
    values = np.zeros((len(series.row_sender), grid.steps))
    senders = int(series.sender.max(initial=-1)) + 1
    heard = np.zeros((senders, grid.steps), np.bool_)
    snapshots = np.zeros(senders, np.uint64)
    unknown = np.zeros(senders, np.bool_)
    grown = np.zeros(len(series.ids), np.bool_)
    points = 0
    firsts = []
    for runs in read_runs(reader, metric, grid, series, which):
        sender = series.sender[runs.series]
        values += _sums(runs.grew, series.row[runs.series], len(values))
        heard |= _sums(runs.present, sender, senders) > 0
        np.maximum.at(snapshots, sender, runs.points)
        grown[runs.series] |= runs.grew[:, grid.before :].any(axis=1)
        points += int(runs.points.sum())
        firsts.append((runs.series, runs.began, runs.first, runs.initial, runs.inside))
    if firsts:
        number, began, first, initial, inside = (
            np.concatenate(part) for part in zip(*firsts, strict=True)
        )
        # Once all are read it is known when each sender was first heard of.
        counted = began | (heard.argmax(axis=1)[series.sender[number]] < first)
        np.add.at(values, (series.row[number], first), np.where(counted, initial, inside))
        grown[number] |= counted & (initial > 0) & (first >= grid.before)
        unknown[series.sender[number[~counted]]] = True
    pairs = np.column_stack([series.row[grown].astype(np.uint64), series.told_apart[grown]])
    return _Grown(series, values, heard, unknown, snapshots, np.unique(pairs, axis=0), points)


def _sums(values: NDArray[Any], group: NDArray[np.intp], groups: int) -> NDArray[Any]:
    """Returns the rows of `values` added up by group, shape (groups, steps)."""
    kind = np.float64 if values.dtype.kind == "f" else np.int64
    total = np.zeros((groups, values.shape[1]), kind)
    if len(values):
        order = np.argsort(group, kind="stable")
        starts = np.flatnonzero(np.diff(group[order], prepend=-1))
        total[group[order[starts]]] = np.add.reduceat(values[order], starts, axis=0, dtype=kind)
    return total


def spread(
    values: NDArray[np.float64],
    row_sender: NDArray[np.intp],
    heard: NDArray[np.bool_],
    unknown: NDArray[np.bool_],
    snapshots: NDArray[np.uint64],
) -> NDArray[np.float64]:
    """Returns increases per step, spread over what they cover; NaN where nothing is known.

    Args:
        values: shape (rows, steps), increases.
        row_sender: shape (rows,), number of each one's sender.
        heard: shape (senders, steps), whether anything came.
        unknown: shape (senders,), counting begins within the step that is heard of first.
        snapshots: shape (senders,), how often it was heard of.
    """
    rates = np.full(values.shape, np.nan)
    for number, present in enumerate(heard):
        at = np.flatnonzero(present)
        if not len(at):
            continue
        distance = np.diff(at, prepend=at[0] - 1)
        # Senders that are heard about once a step miss one now and then, since they are not on the
        # dot: such a step is no gap. Nor are those between the points of slow senders.
        dense = snapshots[number] >= 2 * len(at) or len(at) == 1
        reach = 1 if dense else 2 * int(distance[1:].min())
        # Each step that was heard of fills itself and, within reach, the silent ones before it.
        lengths = np.where(distance <= reach, distance, 1)
        filling = np.repeat(np.arange(len(at)), lengths)
        steps = at[filling] - (np.cumsum(lengths)[filling] - 1 - np.arange(len(filling)))
        mine = np.flatnonzero(row_sender == number)
        per_step = values[mine[:, None], at] / distance
        if unknown[number]:
            per_step[:, 0] = np.nan
        rates[mine[:, None], steps] = per_step[:, filling]
    return rates


def complete_steps(asked: Range, now: int | None = None) -> int:
    """Returns how many steps of the range nothing is added to any more.

    The snapshot that ends a step comes an interval later at most, and takes a moment to be stored.
    """
    now = time.time_ns() // 1_000_000 if now is None else now
    settled = min(asked.end, now - asked.interval - STORED_WITHIN)
    return max(0, settled - asked.start) // asked.step
