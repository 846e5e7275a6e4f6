"""From exponential histograms to what was recorded in each step: the one place that knows.

The rules are those of `rates`, for each bucket: within one Start a histogram only grows, so the one
with the highest count is the last of its step, and what was recorded in a step is that less the one
before. What a run began with counts if it began within what is read, or if its sender was heard of
before without it. A count that falls within one Start counts from 0. Increments are summed.

Buckets of one scale are added up; those of a finer scale are first put together, two by two for
each step of scale (OpenTelemetry specification 1.50, metrics data model, "Exponential Scale").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kernob.queries.rates import LOOK_BACK
from kernob.queries.runs import ALL, Grid
from kernob.queries.stored import Frame, Question

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from kernob.queries.model import Range
    from kernob.queries.runs import Which
    from kernob.queries.stored import Labels
    from kernob.store.engine import Reader

    Grouped = Callable[[Labels], NDArray[np.intp]]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What histograms recorded; n series, in all steps of the grid.

    Attributes:
        labels: of each series, by name.
        before: steps at the beginning that are before the range.
        counts: shape (n, steps): values recorded.
        sums: shape (n, steps): of those values.
        sender: shape (n,): number of each one's sender.
        heard: shape (senders, steps): whether anything came.
        unknown: shape (senders,): counting begins where something is heard of first.
        snapshots: shape (senders,): how often it was heard of.
        frame: of what follows.
        of_series: shape (n, width): buckets of each series, over all steps of the range.
        of_steps: shape (groups, steps, width): buckets of each group of series.
        points: that were read.
    """

    labels: Labels
    before: int
    counts: NDArray[np.float64]
    sums: NDArray[np.float64]
    sender: NDArray[np.intp]
    heard: NDArray[np.bool_]
    unknown: NDArray[np.bool_]
    snapshots: NDArray[np.uint64]
    frame: Frame
    of_series: NDArray[np.float64]
    of_steps: NDArray[np.float64]
    points: int


def stepwise(asked: Range) -> Grid:
    """Returns the grid of a range's steps."""
    begin = asked.start - LOOK_BACK * asked.step
    bucket = f"intDiv(toUnixTimestamp(Time) - {begin // 1000}, {asked.step // 1000})"
    steps = (asked.end - asked.start) // asked.step + LOOK_BACK
    return Grid(asked.tier, begin, asked.end, bucket, LOOK_BACK, steps)


def whole(asked: Range) -> Grid:
    """Returns the grid of a range as one step; what was sent before it is the other."""
    begin = asked.start - LOOK_BACK * asked.step
    bucket = f"toUnixTimestamp(Time) >= {asked.start // 1000}"
    return Grid(asked.tier, begin, asked.end, bucket, 1, 2, inside=True)


def recorded(
    reader: Reader,
    metrics: Sequence[str],
    grid: Grid,
    labels: Mapping[str, str],
    which: Which = ALL,
    *,
    service: str = "",
    group: Grouped | None = None,
    buckets: bool = True,
) -> Recorded:
    """Returns what the histograms of some metrics recorded in each step.

    The SQL has three parts: who the series are (`kernob_series`), when their senders were heard of,
    and the last histogram of each run in each step (`argMax` by count). Many series are read a
    share at a time, by ranges of their id. Differences and sums are numpy's.

    Args:
        reader: of the store.
        metrics: their names.
        grid: how time is divided; see `stepwise` and `whole`.
        labels: SQL over the columns of `kernob_series`, by the name it has in the answer.
        which: series of them.
        service: only of this one, which the tables are sorted by; empty for all.
        group: number of each series' group in `of_steps`, -1 for none; without it all are in one.
        buckets: are wanted, not only counts and sums.

    Raises:
        StoreError: as `Reader.read`.
    """
    question = Question(reader, tuple(metrics), grid, which, service)
    series = question.series(labels)
    groups = np.zeros(len(series.ids), np.intp) if group is None else group(series.labels)
    many = int(groups.max(initial=-1)) + 1
    frame = question.frame(len(series.ids) + many * grid.steps) if buckets else Frame(0, 0, 1)
    heard = question.heard(series)
    unknown = np.zeros(len(heard.first), np.bool_)
    counts, sums = np.zeros((2, len(series.ids), grid.steps))
    of_series = np.zeros((len(series.ids), frame.width))
    of_steps = np.zeros((many, grid.steps, frame.width))
    points = 0
    for found in question.histograms(series, frame, buckets=buckets):
        points += len(found.series)
        begins = found.first & ~found.delta
        begins &= found.start < grid.begin
        begins &= heard.first[series.sender[found.series]] >= found.time
        unknown[series.sender[found.series[begins]]] = True
        found.forget(begins & (found.step < grid.before), None)
        begins &= found.step >= grid.before
        found.forget(begins, question.lowest(series, found, begins, frame, buckets=buckets))
        np.add.at(counts, (found.series, found.step), found.count)
        np.add.at(sums, (found.series, found.step), found.sum)
        inside = found.step >= grid.before
        _add_rows(of_series, found.series[inside], found.cells[inside])
        grouped = groups[found.series] >= 0
        key = groups[found.series] * grid.steps + found.step
        _add_rows(of_steps.reshape(-1, frame.width), key[grouped], found.cells[grouped])
    return Recorded(
        labels=series.labels,
        before=grid.before,
        counts=counts,
        sums=sums,
        sender=series.sender,
        heard=heard.steps,
        unknown=unknown,
        snapshots=heard.snapshots,
        frame=frame,
        of_series=of_series,
        of_steps=of_steps,
        points=points,
    )


def _add_rows(
    total: NDArray[np.float64], key: NDArray[np.intp], values: NDArray[np.float64]
) -> None:
    """Adds the rows of `values` to the rows `key` of `total`."""
    if len(key):
        order = np.argsort(key, kind="stable")
        starts = np.flatnonzero(np.diff(key[order], prepend=-1))
        total[key[order[starts]]] += np.add.reduceat(values[order], starts, axis=0)
