"""Percentiles over time from exponential histograms, as exact as their buckets.

A bucket `i` of scale `s` holds what is in (base**i, base**(i + 1)], base = 2**(2**-s). Buckets of
one scale are added up; those of a finer scale are first put together, two by two for each step of
scale (OpenTelemetry specification 1.50, metrics data model, "Exponential Scale"). Within its bucket
a percentile lies where it would if values were spread evenly over the bucket's logarithm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from kernob.queries.rates import LOOK_BACK
from kernob.queries.runs import ALL, DELTA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from kernob.queries.model import Range
    from kernob.queries.runs import Which
    from kernob.store.engine import Reader

MOST_CELLS: Final = 8_000_000
"""Histograms times buckets that are added up; beyond that the scale is made coarser."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Percentiles over time.

    Attributes:
        labels: of each row, by name.
        counts: shape (rows, steps of the range): values recorded within each step.
        values: shape (rows, quantiles, steps of the range), in the metric's unit; NaN where nothing
            was recorded.
        scale: that they are exact to; the relative error is at most 2**(2**-scale) - 1.
    """

    labels: dict[str, list[Any]]
    counts: NDArray[np.float64]
    values: NDArray[np.float64]
    scale: int


def percentiles(
    reader: Reader,
    metric: str,
    asked: Range,
    quantiles: Sequence[float],
    labels: Mapping[str, str],
    which: Which = ALL,
) -> Percentiles:
    """Returns the quantiles of what a metric's histograms recorded in each step.

    The SQL takes the last histogram of each series and Start in each step (increments: all of
    them); differences, sums and quantiles are numpy's. Values below zero count as zero.

    Args:
        reader: of the store.
        metric: its name.
        asked: the range.
        quantiles: each from 0 to 1.
        labels: SQL over the columns of `otel_metrics_exponential_histogram`, by name.
        which: condition over the same columns.

    Raises:
        StoreError: as `Reader.read`.
    """
    steps = (asked.end - asked.start) // asked.step + LOOK_BACK
    begin = asked.start - LOOK_BACK * asked.step
    selected = "".join(f", {sql} AS label{n}" for n, sql in enumerate(labels.values()))
    found = reader.read(
        f"""
SELECT SeriesId, toUnixTimestamp64Milli(StartTimeUnix) AS start,
    intDiv(toUnixTimestamp64Milli(TimeUnix) - {{begin:Int64}}, {{step:Int64}}) AS bucket,
    AggregationTemporality = {DELTA} AS delta, Scale AS scale, PositiveOffset AS offset,
    ZeroCount + arraySum(NegativeBucketCounts) AS zeros, PositiveBucketCounts AS counts{selected}
FROM otel_metrics_exponential_histogram
WHERE MetricName = {{metric:String}} AND TimeUnix >= fromUnixTimestamp64Milli({{begin:Int64}})
    AND TimeUnix < fromUnixTimestamp64Milli({{end:Int64}}) AND ({which.sql})
ORDER BY SeriesId, start, TimeUnix DESC
LIMIT 1 BY SeriesId, start, if(delta, toUnixTimestamp64Nano(TimeUnix), bucket)""",
        metric=metric,
        begin=begin,
        end=asked.end,
        step=asked.step,
        **which.parameters,
    )
    rows: dict[tuple[Any, ...], int] = {}
    columns = [found[f"label{n}"].to_pylist() for n in range(len(labels))]
    keys = zip(*columns, strict=True) if columns else [()] * found.num_rows
    row = np.array([rows.setdefault(key, len(rows)) for key in keys], np.intp)
    named = {label: [key[n] for key in rows] for n, label in enumerate(labels)}
    if not len(row):
        empty = np.zeros((0, steps - LOOK_BACK))
        return Percentiles(named, empty, np.zeros((0, len(quantiles), empty.shape[1])), 0)
    scale, lowest, cells = _dense(found)
    counts = _counted(found, cells, begin)
    total = np.zeros((len(rows), steps, cells.shape[1]))
    np.add.at(total, (row, found["bucket"].to_numpy()), counts)
    total = total[:, LOOK_BACK:]
    values = _quantiles(total, np.asarray(quantiles), scale, lowest)
    return Percentiles(named, total.sum(axis=2), np.moveaxis(values, 2, 1), scale)


def _dense(found: pa.Table) -> tuple[int, int, NDArray[np.float64]]:
    """Returns histograms side by side: scale, number of the lowest bucket, and counts.

    The counts have the shape (histograms, 1 + buckets): zeros come first.
    """
    lists = found["counts"].combine_chunks()
    lengths = np.diff(lists.offsets.to_numpy())
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    starts = np.cumsum(lengths) - lengths
    index = (
        np.arange(len(flat)) - starts[owner] + found["offset"].to_numpy()[owner].astype(np.int64)
    )
    scales = found["scale"].to_numpy().astype(np.int64)
    owner, index, flat = owner[flat > 0], index[flat > 0], flat[flat > 0]
    scale = int(scales[owner].min(initial=scales.max()))
    index >>= scales[owner] - scale
    while len(index) and (int(np.ptp(index)) + 2) * len(lengths) > MOST_CELLS:
        index, scale = index >> 1, scale - 1
    lowest = int(index.min(initial=0 if not len(index) else int(index[0])))
    cells = np.zeros((len(lengths), 2 + int(np.ptp(index)) if len(index) else 1))
    np.add.at(cells, (owner, index - lowest + 1), flat)
    cells[:, 0] = found["zeros"].to_numpy()
    return scale, lowest, cells


def _counted(found: pa.Table, cells: NDArray[np.float64], begin: int) -> NDArray[np.float64]:
    """Returns by how much each histogram is more than the one before of its run.

    They are in order of runs, and backwards in time within each.
    """
    series, start = found["SeriesId"].to_numpy(), found["start"].to_numpy()
    follows = (series[:-1] == series[1:]) & (start[:-1] == start[1:])
    before = np.zeros_like(cells)
    before[:-1][follows] = cells[1:][follows]
    grew = np.maximum(cells - before, 0)
    # The first of a run that is older than what is read: it is unknown what came before.
    first = ~np.append(follows, False) & (start < begin)
    grew[first] = 0
    delta = found["delta"].to_numpy() > 0
    grew[delta] = cells[delta]
    return grew


def _quantiles(
    counts: NDArray[np.float64], quantiles: NDArray[np.float64], scale: int, lowest: int
) -> NDArray[np.float64]:
    """Returns quantiles, shape (rows, steps, quantiles), of counts (rows, steps, 1 + buckets)."""
    until = counts.cumsum(axis=2)
    # Never 0: the lowest value lies in the first bucket that holds something.
    rank = np.maximum(quantiles * until[:, :, -1:], 1e-9)
    # The bucket in which the rank lies: the first that reaches it.
    at = (until[:, :, None, :] < rank[:, :, :, None]).sum(axis=3).clip(max=counts.shape[2] - 1)
    reached = np.take_along_axis(until, at, 2)
    inside = np.take_along_axis(counts, at, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(inside > 0, 1 - (reached - rank) / inside, 0.0)
    values = np.exp2((at - 1 + lowest + share) * 2.0**-scale)
    values = np.where(at == 0, 0.0, values)
    known: NDArray[np.float64] = np.where(until[:, :, -1:] > 0, values, np.nan)
    return known
